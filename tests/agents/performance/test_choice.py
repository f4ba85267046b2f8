"""Of the fleets on paper the cheapest that would have met the target is followed, and the budget steers it."""

import numpy as np
import pytest

from agents.performance.core.choice import CAUTIONS, KEPT_RATIO, RELUCTANCES, Chooser

SLOTS = 4 * 5760


def told(chooser: Chooser, late: np.ndarray, cost: np.ndarray, turned: np.ndarray, missed: float = 0.0) -> Chooser:
    for _ in range(SLOTS):
        chooser.add(100.0, late, cost, turned, missed)
    return chooser


def table(of_reluctance: list[float], of_caution: list[float]) -> np.ndarray:
    return np.add.outer(of_reluctance, of_caution).ravel()


LATE = np.tile([10 * 0.5**each for each in range(len(CAUTIONS))], len(RELUCTANCES))
DEARER = table([1.0 + each for each in range(len(RELUCTANCES))], [10 + each for each in range(len(CAUTIONS))])
CALM = np.zeros(len(LATE), dtype=bool)


def test_before_half_a_day_is_seen_the_prior_speaks_and_a_higher_target_is_more_careful() -> None:
    assert Chooser(0.999, 15).choose().caution > Chooser(0.99, 15).choose().caution > 1


def test_the_cheapest_reluctance_is_taken_with_the_caution_that_just_meets_the_target() -> None:
    choice = told(Chooser(0.99, 15), LATE, DEARER, CALM, missed=1.0).choose()
    assert choice.reluctance == RELUCTANCES[0]
    assert choice.allowed_ratio == pytest.approx(0.01 * (1 - KEPT_RATIO), rel=0.01)
    assert CAUTIONS[3] < choice.caution < CAUTIONS[5]


def test_a_fleet_that_would_turn_too_often_is_not_followed_however_cheap() -> None:
    turned = np.repeat([each < 2 for each in range(len(RELUCTANCES))], len(CAUTIONS))
    assert told(Chooser(0.99, 15), LATE, DEARER, turned, missed=1.0).choose().reluctance > RELUCTANCES[1]


def test_where_all_turn_too_often_the_most_reluctant_is_followed() -> None:
    choice = told(Chooser(0.99, 15), LATE, DEARER, ~CALM, missed=1.0).choose()
    assert choice.reluctance == RELUCTANCES[-1]


def test_a_spent_budget_asks_for_more_caution_and_an_unspent_one_for_less() -> None:
    spent, even, unspent = (told(Chooser(0.99, 15), LATE, DEARER, CALM, missed=each).choose() for each in (2, 1, 0))
    assert spent.caution > even.caution > unspent.caution
    assert spent.burn > 1.5 > 1.01 > even.burn > 0.99 > unspent.burn
