"""How far limits of ours at the gateway may be loosened, and when nobody can say so."""

from __future__ import annotations

from typing import Any

import pytest

from agents.resource.core.gate import Gate, Ours
from agents.resource.core.loosening import loosened
from agents.resource.core.readings import Reading
from agents.resource.core.valves import BREAKER_MS
from contracts.events import GATEWAY_CHANGE, ActionKind, FleetEvent, Message
from contracts.laws.gateway_limits import BREAKER_S
from rules.book import RuleBook
from tests.agents.resource.memory_desk import findings, run, sets, stands, use
from tests.agents.watching_desk import ms, outcome

NOBODY: dict[str, Any] = {"requests_running": 0.0, "requests_waiting": 0.0}
BUSY: dict[str, Any] = {"requests_running": 96.0, "requests_waiting": 0.0}


def queue(value: int = 100, before: int = 0) -> Gate:
    return Gate(max_in_flight=value, ours={"max_in_flight": Ours(value=value, before=before, since_ms=0)})


def reading(at_s: int, kv: float | None, running: float | None, waiting: float | None = 0.0, up: int = 2) -> Reading:
    return Reading(end_ms=ms(at_s), size_s=10, cause_ms=0, kv=kv, running=running, waiting=waiting, up=up)


def restored(gate: Gate, *readings: Reading, replicas: int = 2) -> float | None:
    return loosened(gate, readings, replicas).get("in_flight_restored")


@pytest.mark.parametrize("before", [0, 400])
def test_a_queue_that_holds_nobody_back_goes_to_what_stood_before(before: int) -> None:
    assert restored(queue(before=before), reading(10, 0.6, 70.0, 9.0)) == before
    assert restored(queue(before=before), reading(10, 0.7, 70.0, 10.0)) != before, "so many wait at the replicas"
    assert restored(queue(), reading(10, 0.7, 95.0), reading(60, 0.6, 70.0)) is None, "it did within the minute"
    assert restored(queue(), reading(10, 0.7, 95.0), reading(70, 0.6, 70.0)) == 0


@pytest.mark.parametrize(
    ("kv", "before", "raised"),
    [(0.6, 0, 125.0), (0.3, 0, 150.0), (0.3, 120, 120.0), (0.72, 0, None), (0.9, 0, None)],
    ids=["what fits", "half more at most", "what people had set at most", "hardly more", "less"],
)
def test_a_queue_that_holds_requests_back_is_raised_by_what_fits(kv: float, before: int, raised: float | None) -> None:
    assert restored(queue(before=before), reading(10, kv, 100.0)) == raised


def test_requests_that_have_just_begun_count_as_those_before_them() -> None:
    assert restored(queue(), reading(10, 0.8, 100.0), reading(100, 0.3, 100.0)) is None


def test_new_replicas_make_room_for_as_many_more() -> None:
    readings = (reading(10, 0.8, 100.0), reading(100, 0.4, 100.0, up=4))
    assert restored(queue(), *readings, replicas=4) == 150


@pytest.mark.parametrize(
    "told",
    [reading(10, 0.5, None), reading(10, 0.5, 20.0, None), reading(10, 0.5, 20.0, up=1)],
    ids=["running", "waiting", "a replica"],
)
def test_where_nobody_knows_how_many_are_at_the_replicas_it_stays(told: Reading) -> None:
    assert restored(queue(), told) is None
    assert restored(queue(), reading(10, None, 100.0)) is None


def test_what_people_set_is_not_loosened() -> None:
    assert loosened(Gate(max_in_flight=100, max_context_tokens=9000), (reading(10, 0.3, 20.0),), 2) == {}


def both() -> list[Message]:
    """A queue and a shorter context of ours."""
    acts = (sets(96, at_s=5), sets(9000, ActionKind.CONTEXT, at_s=5))
    return [*use([0.95], **BUSY), *acts, *(outcome(each, 9) for each in acts)]


def loosens(log: list[Message]) -> dict[float, set[str]]:
    """Which limits may be loosened, by the second of each look."""
    names = {"in_flight_restored", "context_tokens_restored"}
    return {(each.at_ms - ms(0)) / 1000: names & each.values.keys() for each in findings(log)}


BOTH = {"in_flight_restored", "context_tokens_restored"}


def test_a_cache_that_is_empty_because_requests_are_refused_is_no_relief() -> None:
    limits = {"max_in_flight": 96, "max_context_tokens": 9000, "breaker_until_ms": ms(200)}
    opened = FleetEvent(workload="chat", name=GATEWAY_CHANGE, number=3, at_ms=ms(80), limits=limits)
    found = loosens([*both(), *use([0.1] * 7, from_s=10, **NOBODY), opened, *use([0.1] * 25, from_s=80, **NOBODY)])
    length = {"context_tokens_restored"}
    assert found == {50: length, 90: set(), 140: set(), 180: set(), 230: set(), 270: BOTH, 320: BOTH}


def test_a_cache_that_is_empty_because_engines_died_is_no_relief() -> None:
    died = use([0.1], from_s=10, restarts=1.0, **NOBODY)
    found = loosens([*both(), *died, *use([0.1] * 38, from_s=20, **NOBODY)])
    assert [at_s for at_s, told in found.items() if told] == [320.0, 360.0], "five minutes after"


def test_after_an_advised_breaker_both_wait_for_a_minute() -> None:
    died = use([0.1] * 3, from_s=10, restarts=1.0, **NOBODY)
    found = loosens([*both(), *died, *use([0.1] * 30, from_s=40, **NOBODY)])
    assert [at_s for at_s, told in found.items() if told] == [230.0, 270.0, 320.0], "advised from 50 to 170"


@pytest.mark.parametrize("first", [[], use([0.5])], ids=["before the first tick", "after it"])
def test_a_gateway_that_is_told_of_by_a_clock_ahead_is_heard_all_the_same_later(first: list[Message]) -> None:
    log = [*use([0.5])[:1], *first, stands(3600, 50), *use([0.5] * 10, from_s=20), stands(120, 0)]
    state, _ = run(log)
    assert state.gate.max_in_flight == 0


def test_the_rule_opens_the_breaker_for_as_long_as_the_stage_advises_it() -> None:
    (rule,) = [each.rule for each in RuleBook().rules.rules if each.name == "break-circuit-on-restarts"]
    assert (rule.action.settings or {})["breaker_s"].exactly == BREAKER_S == BREAKER_MS / 1000
