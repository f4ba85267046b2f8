"""When tiers are worth a trial: reuse that was measured says so, little of it is a no, and unknown is neither."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.resource.core.tiers import Reuse, Verdict, verdict
from tests.agents.resource.memory_desk import window


def reuse(*, at_s: float = 300, **changes: Any) -> Reuse:
    """A window of five minutes in which so much was found again."""
    return Reuse().heard(window(at_s, size_s=300, **changes))


def hits(ratio: float, tokens: int = 50_000, **changes: Any) -> Reuse:
    return reuse(prefix_cache_hit_ratio=(ratio, tokens), **changes)


def test_measured_reuse_is_worth_a_trial() -> None:
    found = verdict(hits(0.3), None)
    assert found.worth is True
    assert found.values() == {"tier_gpu_hit_ratio": 0.3, "tiers_there": 0.0, "tier_worth_trying": 1.0}


@pytest.mark.parametrize(
    ("known", "context_ratio", "worth", "why"),
    [
        (hits(0.01), 0.9, False, "tiers cost where nothing is"),
        (hits(0.05), 0.3, False, "10% are asked for"),
        (hits(0.05), 0.6, True, "contexts are long"),
        (hits(0.05), None, False, "10% are asked for"),
        (hits(0.3, kv_idle_before_evict_mean_s=(5000.0, 40)), None, False, "keeps unused blocks for 5000 s"),
        (hits(0.3, kv_idle_before_evict_mean_s=(40.0, 40)), None, True, "given up after 40 s"),
        (hits(0.3, tokens=500), 0.9, None, "not known"),
        (Reuse(), 0.9, None, "not known"),
    ],
    ids=["nothing reused", "little", "little but long", "little, length unknown", "kept long", "soon", "few", "none"],
)
def test_the_verdict_says_yes_no_or_not_known_and_why(
    known: Reuse, context_ratio: float | None, worth: bool | None, why: str
) -> None:
    found = verdict(known, context_ratio)
    assert found.worth is worth
    assert why in found.explain()
    assert ("tier_worth_trying" in found.values()) is (worth is not None)


def test_tiers_that_are_there_are_told_and_not_tried_again() -> None:
    known = hits(0.3, host_hit_ratio=(0.0, 400), disk_hit_ratio=(0.96, 400), external_hit_ratio=(0.7, 44_000))
    found = verdict(known, 0.8)
    assert found.worth is False
    assert found.values() == {
        "tier_gpu_hit_ratio": pytest.approx(0.3),
        "tier_external_hit_ratio": pytest.approx(0.7),
        "tier_host_hit_ratio": 0.0,
        "tier_disk_hit_ratio": pytest.approx(0.96),
        "tier_context_ratio": 0.8,
        "tiers_there": 1.0,
        "tier_worth_trying": 0.0,
    }


def test_ratios_weigh_by_what_was_looked_up_and_fade() -> None:
    known = hits(0.0, tokens=60_000).heard(window(600, size_s=300, prefix_cache_hit_ratio=(0.6, 60_000)))
    assert known.ratio("prefix_cache_hit_ratio") == pytest.approx(0.3, abs=0.01)
    later = known.heard(window(600 + 12 * 3600, size_s=300, prefix_cache_hit_ratio=(0.6, 60_000)))
    assert later.ratio("prefix_cache_hit_ratio") == pytest.approx(0.5, abs=0.01)


def test_a_window_that_is_not_newer_changes_nothing() -> None:
    known = hits(0.3)
    assert known.heard(window(300, size_s=300, prefix_cache_hit_ratio=(0.9, 10**9))) is known


def test_what_nobody_looked_up_leaves_what_is_known_as_it_is() -> None:
    known = hits(0.3).heard(window(600, size_s=300, prefix_cache_hit_ratio=(None, 0)))
    assert known.ratio("prefix_cache_hit_ratio") == pytest.approx(0.3)


@given(st.floats(0, 1), st.floats(0, 1), st.none() | st.floats(0, 1))
def test_more_reuse_never_turns_a_yes_into_a_no(low: float, high: float, context_ratio: float | None) -> None:
    def yes(ratio: float) -> Verdict:
        return verdict(hits(ratio), context_ratio)

    low, high = sorted((low, high))
    assert not (yes(low).worth and not yes(high).worth)
