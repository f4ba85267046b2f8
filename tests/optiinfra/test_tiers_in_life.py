"""Declared KV tiers are rolled out in life, on the twin, by the real stages, rules, arbiter and executor: one replica
has them first, and what was measured of it decides whether the rest gets them or it loses them."""

from __future__ import annotations

import pytest

from connectors.twin.load import Lengths, LoadSpec
from connectors.twin.spec import EngineSpec
from connectors.twin.tiers import TierSpec
from contracts.events import DeadLetter, EndState, Finding, Outcome
from contracts.objectives import Objectives
from optiinfra.settings import TierSettings
from rules.book import BUILT_IN
from tests.optiinfra.life import Life, Shape

pytestmark = pytest.mark.timeout(120)

DECLARED = TierSettings(kv_offloading_size=16, kv_disk_gb=200, warm_s=120, watch_s=300)
NAMES = {"chat-0", "chat-1", "chat-2"}


def shape(*, disk_gb_per_s: float = 7.0, shared: float = 0.95, tiers: TierSettings = DECLARED) -> Shape:
    """Sixty documents of some 5,500 tokens, asked about again and again: 330,000 tokens, where the GPUs have room for
    82,000."""
    prompt, answer = Lengths(6000, 5500, 9000, 14_050), Lengths(60, 40, 120, 300)
    return Shape(
        max_num_seqs=64,
        load=LoadSpec(
            2.8, prompt, answer, cv=1.0, day_s=3e13, phase=0.3545, shared_ratio=shared, prefixes=60, error_ratio=0
        ),
        engine=EngineSpec(
            max_num_batched_tokens=2048, kv_blocks=5120, below=TierSpec(disk_bytes_per_s=disk_gb_per_s * 1e9)
        ),
        objectives=Objectives(ttft_s=5.0, itl_s=0.3),
        rules=(BUILT_IN / "tuning.yaml", BUILT_IN / "tiers.yaml"),
        tiers=tiers,
    )


def tiers(life: Life) -> dict[str, tuple[float, float]]:
    found = life.actuation.observe("chat").settings
    return {name: (each.get("kv_offloading_size", 0), each.get("kv_disk_gb", 0)) for name, each in found.items()}


def stages(life: Life) -> list[float]:
    found = [each.values.get("tier_stage", 0.0) for each in life.told(Finding) if each.kind == "tuning"]
    return [stage for n, stage in enumerate(found) if n == 0 or found[n - 1] != stage]


def asked_for(life: Life, stage: float) -> Finding:
    return next(each for each in life.told(Finding) if each.values.get("tier_stage") == stage)


def waited(life: Life) -> tuple[int, float]:
    """First tokens of the present processes, and their TTFT in sum, seconds."""
    engines = [each.engine for each in life.fleet.members("chat") if each.engine is not None]
    return sum(e.meters.ttft_s.count for e in engines), sum(e.meters.ttft_s.total for e in engines)


def mean_ttft_s(life: Life, seconds: int) -> float:
    """Over so many seconds from now on, in which nobody restarts."""
    count, total = waited(life)
    life.goes_on(seconds)
    later, sum_s = waited(life)
    return (sum_s - total) / (later - count)


def tried(life: Life, seconds: int = 120) -> str:
    """One replica is set anew, and comes to serve; its name."""
    life.goes_on(seconds)
    (outcome,) = life.told(Outcome)
    assert (outcome.action.rule, outcome.end_state) == ("try-kv-tiers", EndState.VERIFIED)
    (canary,) = outcome.action.spec.by_replica
    assert tiers(life) == {name: (16, 200) if name == canary else (0, 0) for name in NAMES}
    return canary


def test_tiers_that_give_tokens_sooner_than_they_are_computed_are_kept_and_given_to_the_rest() -> None:
    with Life(shape()) as life:
        life.goes_on(120)
        before_s = mean_ttft_s(life, 180)
        canary = tried(life)
        life.goes_on(660)
        _, rolled = life.told(Outcome)
        assert (rolled.action.rule, rolled.end_state) == ("roll-out-kv-tiers", EndState.VERIFIED)
        assert set(rolled.action.spec.by_replica) == NAMES - {canary}
        assert set(tiers(life).values()) == {(16, 200)}
        assert stages(life) == [1, 0, 2, 0]
        kept = asked_for(life, 2)
        assert kept.values["tier_tokens_ratio"] > 0.2
        assert "first tokens come sooner" in kept.words
        life.goes_on(180)
        after_s = mean_ttft_s(life, 180)
        assert after_s < 0.8 * before_s
        assert not life.told(DeadLetter)


def test_tiers_on_a_disk_slower_than_computing_are_taken_back_and_left_alone() -> None:
    with Life(shape(disk_gb_per_s=0.5)) as life:
        life.goes_on(300)
        canary = tried(life)
        life.goes_on(540)
        _, back = life.told(Outcome)
        assert (back.action.rule, back.end_state) == ("take-back-kv-tiers", EndState.VERIFIED)
        assert set(back.action.spec.by_replica) == {canary}
        assert set(tiers(life).values()) == {(0, 0)}
        assert stages(life) == [1, 0, 3, 0]
        hurt = asked_for(life, 3)
        assert hurt.values["canary_ttft_ratio"] > 1.25
        life.goes_on(60)
        last = [each for each in life.told(Finding) if each.kind == "tuning"][-1]
        assert "were tried and taken back, and are left alone until others are declared: it is worse" in last.words


def test_tiers_from_which_nothing_comes_are_taken_back_after_the_watch() -> None:
    with Life(shape(shared=0.0)) as life:
        life.goes_on(300)
        canary = tried(life)
        life.goes_on(660)
        _, back = life.told(Outcome)
        assert (back.action.rule, set(back.action.spec.by_replica)) == ("take-back-kv-tiers", {canary})
        assert set(tiers(life).values()) == {(0, 0)}
        useless = asked_for(life, 3)
        assert useless.values["tier_tokens_ratio"] == 0.0
        assert "of no use, its tiers gave less than 1%" in useless.words


def test_a_canary_that_never_comes_to_serve_is_set_back_and_its_tiers_are_left_alone() -> None:
    too_much = TierSettings(kv_offloading_size=4096)
    with Life(shape(tiers=too_much)) as life:
        life.goes_on(600)
        (died,) = life.told(Outcome)
        assert (died.action.rule, died.end_state) == ("try-kv-tiers", EndState.FAILED)
        assert set(tiers(life).values()) == {(0, 0)}
        assert set(life.actuation.observe("chat").serving) == NAMES
        assert stages(life) == [1, 0], "and is not asked for again"
