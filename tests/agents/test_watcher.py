"""What holds of every stage that watches a workload: whose clock counts, what is not read, and when it is forgotten."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from contracts.events import ActionKind
from contracts.topics import ACTIONS, ALERTS, FINDINGS, OUTCOMES, SLIS, TICKS
from tests.agents.watched import WATCHED, Watched
from tests.agents.watching_desk import Desk, ms, ordered, outcome, tick

every = pytest.mark.parametrize("one", WATCHED.values(), ids=WATCHED)
FACTS = {"workload", "heard_ms", "tick_ms"}


def at_work(one: Watched) -> Desk[BaseModel]:
    """A minute of what it reads, with a tick every five seconds."""
    desk = Desk(one.stage, one.stage.state)
    for at_s in range(5, 65, 5):
        desk.send(one.one(at_s), tick(at_s))
    assert desk.state is not None
    assert set(desk.state.model_dump(exclude_defaults=True)) > FACTS
    return desk


@every
def test_it_reads_slis_and_what_is_done_and_writes_findings(one: Watched) -> None:
    assert set(one.stage.inputs) >= {SLIS, ACTIONS, OUTCOMES, TICKS}
    assert one.stage.outputs[0] is FINDINGS
    assert set(one.stage.outputs) <= {FINDINGS, ALERTS}


@every
def test_an_sli_of_a_clock_far_ahead_is_no_evidence_and_a_later_revision_is_none(one: Watched) -> None:
    desk = at_work(one)
    before = desk.state
    desk.send(one.one(60 + 61), one.one(61).model_copy(update={"revision": 1}))
    assert desk.state == before
    desk.send(one.one(60 + 60))
    assert desk.state != before


@every
def test_the_clock_of_the_scraper_that_spoke_first_may_be_wrong(one: Watched) -> None:
    desk = Desk(one.stage, one.stage.state)
    desk.send(one.one(5.0), tick(0.0))
    assert desk.state is not None
    assert desk.state.model_dump()["heard_ms"] == ms(5)
    desk = Desk(one.stage, one.stage.state)
    desk.send(one.one(5.1), tick(0.0))
    assert desk.state is not None
    facts = desk.state.model_dump(exclude_defaults=True, exclude={"looked_ms"})
    assert facts.keys() == FACTS
    assert (facts["heard_ms"], facts["tick_ms"]) == (ms(0), ms(0))


@every
def test_ticks_that_go_back_tell_nothing_and_change_nothing(one: Watched) -> None:
    desk = at_work(one)
    before = desk.state
    assert desk.send(tick(15), tick(30), tick(60)) == []
    assert desk.state == before


@every
def test_an_hour_without_slis_is_forgotten(one: Watched) -> None:
    desk = at_work(one)
    desk.send(tick(60 + 3600))
    assert desk.state is not None
    desk.send(tick(61 + 3600))
    assert desk.state is None


@every
def test_actions_of_a_workload_of_which_nothing_is_known_leave_nothing_behind(one: Watched) -> None:
    order = ordered(0, ActionKind.SCALE_UP, "one")
    desk = Desk(one.stage, one.stage.state)
    desk.send(order, outcome(order, 60), tick(60))
    assert desk.state is None
