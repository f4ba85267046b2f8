"""A scaler is a value: copied, packed into text, and told new facts, it goes on as if nothing had happened."""

import base64
import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.performance.core.folding import fold, unfold
from agents.performance.core.scaler import PredictiveScaler
from contracts.errors import ConfigError
from contracts.scaling import FleetFacts, LoadSeen
from tests.agents.performance.fleet_help import CAPACITY_RPS, Run, facts, restless

LOAD = restless(6)


def looks(scaler: PredictiveScaler, load: list[int], begin: int, end: int, have: int = 8) -> list[int]:
    """Answers from look `begin` to look `end`; each tenth look in a hundred is blind."""
    answers = []
    for look in range(begin, end):
        arrived = load[15 * look : 15 * look + 15]
        dark = look % 100 == 57
        seen = LoadSeen(15 * look + 15, None if dark else arrived, None if dark else 0.0, 0.0, have, 0, 100.0, 1.0)
        have = scaler.decide(seen)
        answers.append(have)
    return answers


@cache
def experienced(slots: int) -> PredictiveScaler:
    scaler = PredictiveScaler(facts())
    looks(scaler, LOAD, 0, slots)
    return scaler


@given(st.sampled_from([0, 1, 3, 59, 61, 250, 700]), st.lists(st.integers(0, 300), min_size=1, max_size=90))
@settings(max_examples=40, deadline=None)
def test_what_was_packed_goes_on_exactly(slots: int, rates: list[int]) -> None:
    first = experienced(slots).copy()
    again = PredictiveScaler.unpack(facts(), json.loads(json.dumps(first.pack())))
    assert again.last == first.last
    load = [rate for rate in rates for _ in range(15)]
    assert looks(again, load, 0, len(rates)) == looks(first, load, 0, len(rates))
    assert again.last == first.last
    assert again.pack() == first.pack()


@given(st.sampled_from([0, 3, 300, 700]), st.lists(st.integers(0, 300), min_size=1, max_size=90))
@settings(max_examples=20, deadline=None)
def test_a_copy_goes_on_alike_and_leaves_the_first_as_it_was(slots: int, rates: list[int]) -> None:
    first = experienced(slots)
    text, load = first.pack(), [rate for rate in rates for _ in range(15)]
    one, other = first.copy(), first.copy()
    assert looks(one, load, 0, len(rates)) == looks(other, load, 0, len(rates))
    assert one.pack() == other.pack()
    assert first.pack() == text


def test_a_day_is_packed_into_sixty_kilobytes() -> None:
    scaler = PredictiveScaler(facts(180.0))
    load = restless(25)
    looks(scaler, load, 0, len(load) // 15)
    assert len(scaler.pack()) <= 60_000


def broken(text: str) -> list[str]:
    arrays = unfold(text)
    less = {name: each for name, each in arrays.items() if name != "minutes"}
    wild = arrays | {"rate": np.array([np.nan])}
    small = arrays | {"ahead.level.gram": np.zeros((2, 2))}
    narrow = arrays | {"ahead.level.gram": np.zeros(1)}
    below = arrays | {"long": -arrays["long"] - 1.0}
    fewer = arrays | {"sums": arrays["sums"][:, :-8]}
    none, endless = arrays | {"facts": np.zeros(6)}, arrays | {"facts": np.full(6, np.inf)}
    head, body = text.split(":")
    other = base64.b64encode(base64.b64decode(body)[:-40]).decode()
    return [
        "",
        "x",
        f"{head}:x",
        f"scaler0:{body}",
        f"{head}:{other}",
        *map(fold, (less, wild, small, narrow, below, fewer, none, endless, {})),
    ]


@pytest.mark.parametrize("number", range(14))
def test_any_other_text_is_refused(number: int) -> None:
    with pytest.raises(ConfigError, match="scaler"):
        PredictiveScaler.unpack(facts(), broken(experienced(61).pack())[number])


def test_the_same_facts_told_again_change_nothing() -> None:
    told, left = experienced(700).copy(), experienced(700).copy()
    told.relearn(facts())
    assert looks(told, LOAD, 700, 900) == looks(left, LOAD, 700, 900)


@pytest.mark.parametrize("ratio", [0.5, 0.8, 1.25, 2.0])
def test_twice_the_capacity_needs_half_the_replicas_and_nothing_learnt_anew(ratio: float) -> None:
    told, left = experienced(700).copy(), experienced(700).copy()
    told.relearn(replace(facts(), capacity_rps=CAPACITY_RPS * ratio))
    answers = looks(told, LOAD, 700, 1000, round(left.last.replicas / ratio)), looks(left, LOAD, 700, 1000)
    assert np.mean(answers[0]) * ratio == pytest.approx(np.mean(answers[1]), rel=0.12)
    assert told.last.expected_rps == left.last.expected_rps
    assert told.last.caution == pytest.approx(left.last.caution, abs=0.6)


@pytest.mark.parametrize("startup_s", [0.0, 30.0, 300.0, 1200.0])
def test_another_start_up_is_planned_with_and_what_is_known_is_kept(startup_s: float) -> None:
    scaler = experienced(700).copy()
    scaler.relearn(facts(startup_s))
    answers = looks(scaler, LOAD, 700, 1300)
    assert 4 <= min(answers) <= max(answers) <= 40
    assert scaler.pack() != PredictiveScaler(facts(startup_s)).pack()


def test_facts_that_changed_while_it_was_packed_are_relearnt() -> None:
    scaler = experienced(700).copy()
    changed = replace(facts(90.0), capacity_rps=7.0, most=50)
    again = PredictiveScaler.unpack(changed, scaler.pack())
    scaler.relearn(changed)
    assert looks(again, LOAD, 700, 800) == looks(scaler, LOAD, 700, 800)


@pytest.mark.parametrize(
    "changed", [replace(facts(), decide_s=30), replace(facts(), capacity_rps=0.0), replace(facts(), startup_s=-1.0)]
)
def test_facts_it_cannot_go_on_with_are_refused(changed: FleetFacts) -> None:
    with pytest.raises(ConfigError):
        experienced(61).copy().relearn(changed)


def test_a_fleet_whose_start_up_was_learnt_in_mid_life_still_meets_its_target() -> None:
    load = restless(30)
    scaler = PredictiveScaler(facts(30.0), target=0.98)
    half = len(load) // 30 * 15
    Run(scaler, load[:half], startup_s=120)
    scaler.relearn(facts(120.0))
    assert Run(scaler, load[half:], startup_s=120).attained > 0.97
