"""Until a replica was seen at its limit a fleet is let down step by step, and little is ordered on doubtful numbers."""

from __future__ import annotations

from dataclasses import replace

from contracts.events import EndState, Message
from tests.agents.performance.sizing_desk import LEARNT_S, SETTINGS, Sizer, action, window
from tests.agents.saga_help import TUNE
from tests.agents.saga_help import action as saga_action
from tests.agents.watching_desk import ms, outcome, tick


def unsure(*more: Message) -> Sizer:
    """Two requests a second were served in time of each of four replicas, and it is not known how many could be."""
    sizer = Sizer()
    sizer.at_s = LEARNT_S
    sizer.goes_on(60)
    sizer.send(window(sizer.at_s), *more, tick(sizer.at_s + 1))
    return sizer


def test_before_anything_was_proven_nothing_is_short_or_spare() -> None:
    sizer = Sizer()
    sizer.goes_on(60)
    sizer.send(window(60, 0.2, good=12, total=12), tick(61))
    found = sizer.goes_on(60, 0.2)[-1]
    assert found.words.startswith("how many replicas there should be is not known yet")
    assert found.values.keys() == {"startup_s", "replicas_ordered"}


def test_until_a_limit_was_seen_what_is_not_needed_by_what_was_served_in_time_is_spare() -> None:
    found = unsure().goes_on(1500, 3.0)[-1]
    assert "its limit was not seen yet, 2.00" in found.words
    assert "at 2.3" in found.words
    assert not {"expected_rps", "replicas_wanted"} & found.values.keys()  # rules on queue and slack have their say
    assert found.value("replicas_spare") == 2  # 3 a second with a margin, at some 2.3 a replica
    assert found.value("replicas_short") == 0


def test_until_a_limit_was_seen_a_steady_load_lets_a_fleet_down_as_well() -> None:
    sizer = Sizer()
    sizer.at_s = LEARNT_S
    sizer.goes_on(60)
    sizer.send(window(sizer.at_s), tick(sizer.at_s + 1))
    assert sizer.goes_on(1500)[-1].value("replicas_spare") == 0  # four times 2.3 are needed for 8 a second
    wide = {"replicas_up": 16.0, "instances": 16}
    assert sizer.goes_on(900, 32.0, **wide)[-1].value("replicas_spare") == 2  # fourteen times 2.3 for 32


def test_until_a_limit_was_seen_bounds_hold_too() -> None:
    sizer = Sizer(replace(SETTINGS, bounds={"chat": (3, 5)}))
    sizer.at_s = LEARNT_S
    sizer.goes_on(60)
    sizer.send(window(sizer.at_s), tick(sizer.at_s + 1))
    assert sizer.goes_on(60, 60.0)[-1].value("replicas_short") == 1
    assert sizer.goes_on(1800, 1.0)[-1].value("replicas_spare") == 1


def test_until_a_limit_was_seen_no_more_is_short_than_replicas_surely_cannot_do() -> None:
    assert unsure().goes_on(60, 14.0)[-1].value("replicas_short") == 0  # 3.5 of each, which may do three times 2
    much = unsure().goes_on(60, 60.0)[-1].value("replicas_short") or 0
    assert 6 <= much <= 12


def test_once_users_waited_at_what_is_planned_a_load_that_grows_makes_replicas_short() -> None:
    taken = action(-1, LEARNT_S + 55)
    sizer = unsure(taken, outcome(taken, LEARNT_S + 60, EndState.UNDONE, reasons=("guard_broken",)))
    last = sizer.goes_on(60, 14.0)[-1]
    assert (last.value("replicas_short") or 0) >= 3
    assert (last.value("expected_rps") or 0) > 8


def test_replicas_that_people_had_put_back_say_nothing_of_what_they_can_do() -> None:
    taken = action(-1, LEARNT_S + 55)
    sizer = unsure(taken, outcome(taken, LEARNT_S + 60, EndState.UNDONE, reasons=("kill_switch",)))
    assert sizer.goes_on(60, 14.0)[-1].value("replicas_short") == 0


def test_settings_that_were_taken_back_say_nothing_of_what_replicas_can_do() -> None:
    tune = saga_action(TUNE, at_ms=ms(LEARNT_S + 55), start_by_ms=ms(LEARNT_S + 85))
    sizer = unsure(tune, outcome(tune, LEARNT_S + 60, EndState.UNDONE, reasons=("guard_broken",)))
    assert sizer.goes_on(60, 14.0)[-1].value("replicas_short") == 0


def test_an_order_that_was_undone_says_nothing_of_what_replicas_can_do() -> None:
    order = action(1, LEARNT_S + 55)
    assert (
        unsure(order, outcome(order, LEARNT_S + 60, EndState.UNDONE)).goes_on(60, 14.0)[-1].value("replicas_short") == 0
    )
