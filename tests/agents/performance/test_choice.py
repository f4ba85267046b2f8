"""Of the fleets on paper those are followed that would have met the target and seldom turned; the budget steers."""

import numpy as np
import pytest

from agents.performance.core.choice import (
    CAUTIONS,
    FALL,
    KEPT_RATIO,
    LATE_RATIO,
    RELUCTANCES,
    TURNS_A_DAY,
    TURNS_FALL,
    Chooser,
)

SLOTS = 4 * 5760


def told(
    late: np.ndarray, turns_a_day: np.ndarray, missed: float = 1.0, target: float = 0.99, most: float = TURNS_A_DAY
) -> Chooser:
    """One that has seen four days of 100 requests a slot."""
    chooser = Chooser(target, 15, most)
    chance = np.random.default_rng(1)
    for _ in range(SLOTS):
        chooser.add(100.0, late, chance.random(len(late)) < turns_a_day / 5760, missed)
    return chooser


def of_reluctance(values: list[float]) -> np.ndarray:
    return np.repeat(np.array(values), len(CAUTIONS))


LATE = np.tile(100 * LATE_RATIO * np.exp(-FALL * np.array(CAUTIONS)), len(RELUCTANCES))
CALM, BUSY = np.zeros(len(LATE)), np.full(len(LATE), 4 * TURNS_A_DAY)


def test_before_half_a_day_is_seen_the_prior_speaks_and_a_higher_target_is_more_careful() -> None:
    low, high = Chooser(0.99, 15).choose(), Chooser(0.999, 15).choose()
    assert high.caution > low.caution > 1
    assert high.reluctance > low.reluctance > 1


def test_before_half_a_day_is_seen_who_may_turn_oftener_is_less_reluctant_and_as_careful() -> None:
    calm, free = Chooser(0.99, 15).choose(), Chooser(0.99, 15, 8 * TURNS_A_DAY).choose()
    assert free.caution == calm.caution
    assert free.reluctance == pytest.approx(calm.reluctance - np.log(8) / TURNS_FALL)


def test_where_all_is_as_supposed_the_caution_is_that_of_the_law() -> None:
    choice = told(LATE, CALM).choose()
    assert choice.allowed_ratio == pytest.approx(0.01 * (1 - KEPT_RATIO), rel=0.01)
    assert LATE_RATIO * np.exp(-FALL * choice.caution) == pytest.approx(choice.allowed_ratio)


@pytest.mark.parametrize("target", [0.98, 0.999])
def test_where_more_is_late_than_supposed_the_caution_grows_to_meet_the_target(target: float) -> None:
    missed = 100 * (1 - target)
    usual, worse = (told(late, CALM, missed, target).choose() for late in (LATE, 3 * LATE))
    assert worse.caution - usual.caution == pytest.approx(np.log(3) / FALL, rel=0.1)


def test_the_least_reluctance_is_taken_where_none_turns_often() -> None:
    assert told(LATE, CALM).choose().reluctance == RELUCTANCES[0]


def test_a_fleet_that_would_turn_too_often_is_not_followed() -> None:
    turns = of_reluctance([TURNS_A_DAY * each for each in (9, 8, 4, 2, 0.5, 0.2, 0.1)])
    assert RELUCTANCES[3] < told(LATE, turns).choose().reluctance < RELUCTANCES[4]


def test_who_may_turn_oftener_is_less_reluctant() -> None:
    turns = of_reluctance([TURNS_A_DAY * each for each in (9, 8, 4, 2, 0.5, 0.2, 0.1)])
    calm, free = (told(LATE, turns, most=most).choose().reluctance for most in (TURNS_A_DAY, 10 * TURNS_A_DAY))
    assert RELUCTANCES[0] == free < calm


def test_each_reluctance_has_the_caution_that_its_own_fleets_ask_for() -> None:
    turns = of_reluctance([4 * TURNS_A_DAY] * 6 + [0.0])
    late = LATE * of_reluctance([1.0] * 6 + [4.0])
    choice = told(late, turns).choose()
    assert choice.reluctance > RELUCTANCES[5]
    assert choice.caution > told(LATE, turns).choose().caution


def test_where_all_turn_too_often_the_most_reluctant_is_followed() -> None:
    assert told(LATE, BUSY).choose().reluctance == RELUCTANCES[-1]


def test_a_spent_budget_asks_for_more_caution_and_an_unspent_one_for_less() -> None:
    spent, even, unspent = (told(LATE, CALM, missed).choose() for missed in (2.0, 1.0, 0.0))
    assert spent.caution > even.caution > unspent.caution
    assert spent.burn > 1.5 > 1.01 > even.burn > 0.99 > unspent.burn
