"""Fleets on paper start, queue and turn as real ones do."""

import math

import numpy as np
import pytest

from agents.performance.core.fleets import Fleets, Habits
from agents.performance.core.forecast import Outlook
from agents.performance.core.regression import Guess
from tests.agents.performance.fleet_help import facts

NEVER_S = 1e12


def outlook(need_rps: float, peak_rps: float = 0.0) -> Outlook:
    return Outlook(need_rps, Guess(math.log(need_rps), 0.1), Guess(math.log(max(peak_rps, need_rps)), 0.1))


def fleets(startup_s: float = 60.0) -> Fleets:
    made = Fleets(facts(startup_s), np.zeros(2), np.zeros(2), Habits(clear_s=NEVER_S))
    made.real(5, 0, 0.0)
    made.decide(outlook(50))
    return made


def test_what_was_ordered_serves_only_after_its_start_up() -> None:
    made = fleets(startup_s=60.0)
    made.decide(outlook(200))
    assert made.size[1] == 20
    lates = []
    for _ in range(64):
        made.decide(outlook(200))
        lates.append(made.serve(np.full(15, 190.0))[1])
    assert all(each > 0 for each in lates[:3])
    assert lates[-1] == 0


def test_lateness_is_that_of_a_queue_first_come_first_served() -> None:
    made = fleets()
    late = made.serve(np.array([50.0] * 5 + [170.0] + [0.0] * 9))
    assert late[1] == pytest.approx(170 - 2 * 50)


def test_a_queue_that_will_be_left_is_worked_off_within_its_time() -> None:
    made = Fleets(facts(60.0), np.zeros(2), np.zeros(2), Habits(clear_s=60.0))
    made.real(5, 0, 0.0)
    made.decide(outlook(50))
    made.serve(np.full(15, 170.0))
    made.decide(outlook(50))
    assert made.left[1] == pytest.approx(15 * (170 - 50))
    assert made.size[1] == 5 + math.ceil(15 * 120 / (10 * 60))


def test_what_is_no_longer_needed_goes_after_the_hold_and_not_before() -> None:
    made = Fleets(facts(), np.zeros(2), np.zeros(2), Habits(hold_s=60.0, clear_s=NEVER_S))
    made.real(20, 0, 0.0)
    made.decide(outlook(200))
    sizes = []
    for _ in range(6):
        made.decide(outlook(175))
        sizes.append(made.size[1])
    assert sizes == [20, 20, 20, 20, 18, 18]


def sizes_after(caution: float, needs: tuple[float, ...]) -> list[float]:
    """Of a fleet to which so much is needed with its caution, each time."""
    habits = Habits(hold_s=15.0, turn_ratio=0.1, turn_share=0.5, clear_s=NEVER_S)
    made = Fleets(facts(), np.full(2, caution), np.zeros(2), habits)
    made.real(20, 0, 0.0)
    sizes = []
    for need in needs:
        made.decide(outlook(need * math.exp(-0.1 * caution), peak_rps=need))
        sizes.append(float(made.size[1]))
    return sizes


def test_a_fleet_that_shrank_does_not_turn_round_for_a_little() -> None:
    assert sizes_after(3.0, (200, 185, 185, 185, 208, 210, 185, 225, 235)) == [20, 20, 19, 19, 19, 21, 21, 23, 24]


def test_a_fleet_that_adds_little_turns_round_for_less() -> None:
    assert sizes_after(0.4, (200, 185, 185, 185, 193, 195)) == [20, 20, 19, 19, 19, 20]


def test_no_guess_plans_for_less_than_the_present_rate() -> None:
    made = fleets()
    made.decide(Outlook(100.0, Guess(math.log(50), 0.0), Guess(math.log(50), 0.0)))
    assert made.size[1] == 10


def test_a_peak_to_come_keeps_what_the_need_would_let_go() -> None:
    made = fleets()
    for _ in range(20):
        made.decide(outlook(20, peak_rps=45))
    assert made.size[1] == 5


def test_a_turn_is_counted_once_each_way() -> None:
    made = fleets()
    turns = 0
    for need in [50] * 9 + [20] * 20 + [80] * 9 + [100] * 3 + [20] * 20:
        made.decide(outlook(need))
        turns += int(made.turned[1])
    assert turns == 3
