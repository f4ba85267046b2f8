"""When a smaller context window is worth it: hardly ever on an engine that pages its KV, and what it would refuse."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.resource.core.context import HOUR_MS, Lengths, Proposal, proposal
from tests.agents.resource.memory_desk import window


def lengths(mean: float = 400.0, p95: float = 3000.0, p99: float = 12_000.0, *, at_s: float = 300) -> Lengths:
    """Short requests, and a few that are very long."""
    return Lengths().heard(told(mean, p95, p99, at_s=at_s))


def told(mean: float, p95: float, p99: float, *, at_s: float = 300, requests: int = 500) -> Any:
    return window(
        at_s,
        size_s=300,
        request_tokens_mean=(mean, requests),
        request_tokens_p95=(p95, requests),
        request_tokens_p99=(p99, requests),
    )


def asked(known: Lengths, now_tokens: int = 16_384, *, pressed: bool = True) -> Proposal:
    found = proposal(known, now_tokens, pressed)
    assert found is not None
    return found


def test_a_window_of_p95_and_a_fifth_is_worth_it_where_longer_requests_press_on_memory() -> None:
    found = asked(lengths())
    assert (found.wanted_tokens, found.worth) == (3840, True)
    assert found.wanted_tokens >= 1.2 * 3000
    assert found.refused_ratio == 0.05
    assert found.saving_ratio == pytest.approx(1 - 3840 / 16_384)


@pytest.mark.parametrize(
    ("known", "now_tokens", "pressed", "why"),
    [
        (lengths(), 16_384, False, "memory is not short"),
        (lengths(p99=3500), 16_384, True, "sets no memory aside"),
        (lengths(p95=12_000, p99=16_000), 16_384, True, "it saves 11%"),
        (lengths(mean=3000), 8192, True, "frees about 14%"),
    ],
    ids=["no pressure", "nobody is longer", "little saved", "long requests hold little"],
)
def test_where_it_would_not_help_it_says_no_and_why(known: Lengths, now_tokens: int, pressed: bool, why: str) -> None:
    found = asked(known, now_tokens, pressed=pressed)
    assert not found.worth
    assert found.why.startswith("no: ")
    assert why in found.explain()
    assert found.values()["context_worth_setting"] == 0.0


def test_a_window_that_is_too_small_already_refuses_and_saves_nothing_more() -> None:
    found = asked(lengths(), 2048)
    assert (found.saving_ratio, found.refused_ratio, found.room_ratio, found.guarantee_ratio) == (0, 0, 0, 0)


def test_without_lengths_there_is_no_proposal() -> None:
    assert proposal(Lengths(), 16_384, True) is None
    assert Lengths().heard(told(400, 3000, 9000, requests=19)) == Lengths()
    assert Lengths().heard(window(300, size_s=300)) == Lengths()


def test_the_longest_window_of_a_day_counts_and_the_mean_is_that_of_all_requests() -> None:
    known = lengths(mean=100, p95=1000, p99=2000)
    known = known.heard(told(400, 500, 900, at_s=600, requests=1000))
    assert known.mean == pytest.approx(300)
    assert asked(known).p95_tokens == 1000
    day_s = 24 * HOUR_MS / 1000
    assert asked(known.heard(told(400, 500, 900, at_s=600 + day_s))).p95_tokens == 500


def test_requests_above_the_largest_bucket_leave_the_window_unknown_and_the_mean_known() -> None:
    beyond = window(
        600,
        size_s=300,
        request_tokens_mean=(6000.0, 500),
        request_tokens_p95=(None, 500),
        request_tokens_p99=(None, 500),
    )
    known = lengths().heard(beyond)
    assert proposal(known, 16_384, True) is None
    assert known.mean == pytest.approx(3200)


def test_a_window_that_is_not_newer_changes_nothing() -> None:
    known = lengths()
    assert known.heard(told(9, 9, 9)) is known


positive = st.floats(min_value=1, max_value=1e6)


@given(positive, positive, positive, st.integers(min_value=1, max_value=10**6), st.booleans())
def test_whatever_was_seen_its_numbers_are_shares_and_a_yes_saves_more_than_a_fifth(
    mean: float, p95: float, more: float, now_tokens: int, pressed: bool
) -> None:
    found = asked(lengths(mean, p95, p95 + more), now_tokens, pressed=pressed)
    values = found.values()
    for name in ("context_saving_ratio", "context_refused_ratio", "context_room_ratio", "context_worth_setting"):
        assert 0 <= values[name] <= 1
    if found.worth:
        assert pressed
        assert min(found.saving_ratio, found.room_ratio) > 0.2
        assert found.wanted_tokens < now_tokens
