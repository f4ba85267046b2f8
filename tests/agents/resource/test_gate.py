"""What stands at a gateway by our doing, as outcomes tell it, and what it should let through next."""

from __future__ import annotations

from typing import Any

import pytest

from agents.resource.core.gate import STANDS_MS, Gate
from agents.resource.core.memory_state import ResourceSettings
from agents.resource.core.valves import Valves
from agents.resource.stages import resource_stage
from contracts.events import (
    GATEWAY_CHANGE,
    Action,
    ActionKind,
    Alert,
    EndState,
    Finding,
    FleetEvent,
    Message,
    Sli,
)
from tests.agents.resource.memory_desk import action, findings, sets, use, window
from tests.agents.resource.test_prevented import END_S, case, counts, seen
from tests.agents.watching_desk import ms, outcome

CUT = ActionKind.CONTEXT


def after(gate: Gate, told: Action, state: EndState) -> Gate:
    return gate.ended(outcome(told, 200, state))


@pytest.mark.parametrize(
    ("state", "set_to", "lifted_to"),
    [
        (EndState.VERIFIED, 96, 0),
        (EndState.HELD_UNVERIFIED, 96, 50),
        (EndState.UNDONE, 50, 50),
        (EndState.REFUSED, 50, 50),
        (EndState.FAILED, 50, 50),
    ],
)
def test_what_is_not_sure_to_be_lifted_stands(state: EndState, set_to: int, lifted_to: int) -> None:
    before = Gate(max_in_flight=50)
    assert after(before, sets(96), state).max_in_flight == set_to
    assert after(before, sets(0), state).max_in_flight == lifted_to


def test_each_limit_stands_by_itself_and_a_breaker_closes_by_itself() -> None:
    gate = after(after(Gate(), sets(96), EndState.VERIFIED), sets(9000, CUT), EndState.VERIFIED)
    assert (gate.max_in_flight, gate.max_context_tokens, gate.holds) == (96, 9000, True)
    assert after(gate, sets(120, ActionKind.BREAKER), EndState.VERIFIED) == gate
    assert after(gate, action(1), EndState.VERIFIED) == gate
    assert gate.explain() == (
        "the gateway lets 96 requests at once through; the gateway refuses requests of more than 9000 tokens"
    )


@pytest.mark.parametrize(
    ("kv", "running", "wanted"),
    [(0.9, 180.0, 160), (0.5, 100.0, 160), (0.49, 100.0, None), (None, 100.0, None), (0.9, None, None), (0.9, 1.0, 1)],
)
def test_so_many_requests_fit_as_fill_four_fifths_of_the_cache(
    kv: float | None, running: float | None, wanted: int | None
) -> None:
    assert Gate().values(kv, running).get("in_flight_wanted") == wanted


@pytest.mark.parametrize(
    ("gate", "least", "cut"),
    [
        (Gate(), 4096, 13_107),
        (Gate(max_context_tokens=13_107), 4096, 10_485),
        (Gate(max_context_tokens=5000), 4096, 4096),
        (Gate(max_context_tokens=4096), 4096, None),
    ],
)
def test_a_second_cut_is_a_fifth_of_what_is_left_and_none_goes_below_the_floor(
    gate: Gate, least: int, cut: int | None
) -> None:
    values = Valves(cut=True).values(0, gate.present(16_384), least)
    assert values.get("context_cut_tokens") == cut


def test_the_longest_requests_are_those_that_both_take() -> None:
    assert (Gate().present(None), Gate(max_context_tokens=9000).present(None)) == (None, 9000)
    assert Gate(max_context_tokens=20_000).present(16_384) == 16_384


def test_a_queue_that_answered_a_forecast_and_was_verified_is_counted() -> None:
    told = sets(96)
    account = case().acted(told).ended(outcome(told, 200)).looked(ms(END_S), seen(END_S), None)
    assert counts(account) == (1, 0, 0, 0, 0)


def test_what_is_lifted_at_the_gateway_answers_no_forecast() -> None:
    told = sets(0, rule="release-gateway-queue")
    account = case().acted(told).ended(outcome(told, 200)).looked(ms(END_S), seen(END_S), None)
    assert counts(account) == (0, 0, 1, 0, 0)


def test_a_forecast_while_the_gateway_holds_requests_back_is_nobodys() -> None:
    account = case(full_in_s=None).looked(ms(100), seen(100), 240.0, held=True)
    told = sets(96)
    account = account.acted(told).ended(outcome(told, 200)).looked(ms(END_S), seen(END_S), None)
    assert counts(account) == (0, 0, 0, 0, 0)


def queued(log: list[Message], at: int) -> list[Finding]:
    told = sets(96, at_s=at)
    place = len(log) // 2
    return findings([*log[:place], told, outcome(told, at + 10), *log[place:]])


def test_what_stands_at_the_gateway_is_told_with_the_next_look() -> None:
    found = queued(use([0.88] * 20, requests_running=100.0), 100)
    assert [each.value("gateway_in_flight") for each in found] == [0.0, 0.0, 96.0, 96.0]
    assert "the gateway lets 96 requests at once through" in found[-1].words


@pytest.mark.parametrize(("gateways", "fix"), [(None, "Rule queue-at-gateway"), (frozenset(), "No gateway is named")])
def test_the_alert_says_whether_there_is_a_gateway_to_do_it(gateways: Any, fix: str) -> None:
    _, told = resource_stage(ResourceSettings(gateways=gateways)).step(None, use([0.9] * 10))
    (alert,) = [each for each in told if isinstance(each, Alert)]
    assert alert.fix.startswith(fix)


def told(at_s: float, in_flight: int, name: str = GATEWAY_CHANGE) -> FleetEvent:
    limits = {"max_in_flight": in_flight, "max_context_tokens": 0, "breaker_until_ms": 0}
    return FleetEvent(workload="chat", name=name, number=1, at_ms=ms(at_s), limits=limits)


def test_what_the_gateway_itself_tells_stands_whoever_set_it_and_what_is_older_does_not() -> None:
    gate = Gate().heard(told(300, 70))
    assert gate.max_in_flight == 70
    assert after(gate, sets(96), EndState.VERIFIED) == gate, "it ended before"
    assert gate.heard(told(299, 40)) == gate
    assert gate.heard(told(400, 40, "manual_change")) == gate
    assert gate.heard(told(400, 0)).holds is False


def test_a_stage_that_begins_anew_knows_what_stands_from_the_gateway() -> None:
    (found, *_) = findings([told(-5, 70), *use([0.5] * 10)])
    assert "the gateway lets 70 requests at once through (not set by a rule, none lifts it)" in found.words
    assert found.value("gateway_in_flight") == 0


OURS = {"gateway_in_flight": 96, "in_flight_before": 0}
"""What a finding tells of a queue that we set where none was."""


def queue_of(gate: Gate) -> dict[str, float]:
    return {name: value for name, value in gate.values(None, None).items() if "in_flight" in name}


def set_to(gate: Gate, value: float, at_s: float, *heard: FleetEvent, state: EndState = EndState.VERIFIED) -> Gate:
    """After an action of ours that began at `at_s` and ended 100 s later, the gateway being heard in between."""
    acts = sets(value, at_s=at_s)
    gate = gate.acted(acts)
    for event in heard:
        gate = gate.heard(event)
    return gate.ended(outcome(acts, at_s + 100, state))


@pytest.mark.parametrize("heard", [(), (told(135, 96),)], ids=["outcome", "gateway"])
def test_what_we_set_is_ours_and_what_people_set_is_not(heard: tuple[FleetEvent, ...]) -> None:
    assert queue_of(Gate().heard(told(10, 50))) == {"gateway_in_flight": 0}
    gate = set_to(Gate(), 96, 130, *heard)
    assert queue_of(gate) == OURS
    assert queue_of(gate.heard(told(240, 96))) == OURS
    for value in (0, 50, 200):
        assert queue_of(gate.heard(told(300, value))) == {"gateway_in_flight": 0}
    assert queue_of(gate.heard(told(300, 50)).heard(told(400, 96))) == {"gateway_in_flight": 0}, "set by hand again"


@pytest.mark.parametrize("state", [EndState.HELD_UNVERIFIED, EndState.UNDONE, EndState.REFUSED, EndState.FAILED])
def test_only_what_was_verified_is_ours(state: EndState) -> None:
    assert queue_of(set_to(Gate(), 96, 130, state=state)) == {"gateway_in_flight": 0}


@pytest.mark.parametrize("heard", [False, True], ids=["outcomes", "gateway"])
def test_a_release_goes_back_to_what_people_had_set_before_the_first_of_ours(heard: bool) -> None:
    gate = Gate().heard(told(10, 200))
    for at_s, value in ((130, 96), (330, 80)):
        gate = set_to(gate, value, at_s, *([told(at_s + 5, value)] if heard else []))
        assert queue_of(gate) == {"gateway_in_flight": value, "in_flight_before": 200}
    undone = set_to(gate, 200, 530, told(535, 200), told(560, 80), state=EndState.UNDONE)
    assert queue_of(undone) == {"gateway_in_flight": 80, "in_flight_before": 200}
    released = set_to(gate, 200, 530, *([told(535, 200)] if heard else []))
    assert queue_of(released) == {"gateway_in_flight": 0}
    assert released.max_in_flight == 200


def test_a_queue_that_is_raised_is_ours_still_and_a_release_goes_back_to_what_was_found() -> None:
    gate = set_to(set_to(Gate().heard(told(10, 200)), 96, 130, told(135, 96)), 144, 330, told(335, 144))
    assert queue_of(gate) == {"gateway_in_flight": 144, "in_flight_before": 200}
    assert queue_of(set_to(gate, 200, 530, told(535, 200))) == {"gateway_in_flight": 0}


def test_an_outcome_changes_nothing_that_the_gateway_told_since_the_action_began() -> None:
    gate = set_to(Gate(), 96, 130, told(135, 96), told(200, 40))
    assert (gate.max_in_flight, queue_of(gate)) == (40, {"gateway_in_flight": 0})
    gate = set_to(Gate().heard(told(10, 96)), 96, 130, told(135, 96))
    assert queue_of(gate) == {"gateway_in_flight": 0}, "a person had set the same"


@pytest.mark.parametrize(("standing", "wanted"), [(0, 160), (161, 160), (160, None), (70, None)])
def test_what_is_wanted_is_never_looser_than_what_stands(standing: int, wanted: int | None) -> None:
    assert Gate(max_in_flight=standing).values(0.9, 180.0).get("in_flight_wanted") == wanted


def test_a_cut_is_never_looser_than_what_stands() -> None:
    gate = Gate(max_context_tokens=3000)
    assert "context_cut_tokens" not in Valves(cut=True).values(0, gate.present(16_384), 4096)


def test_first_slis_of_a_wrong_clock_leave_what_is_known_of_the_gateway() -> None:
    log = [told(-5, 70), window(5000), *use([0.5] * 10)]
    (found, *_) = findings(log)
    assert "the gateway lets 70 requests at once through" in found.words


def test_a_queue_of_ours_that_stands_for_long_is_told_once() -> None:
    (alert,) = stood_long(EndState.VERIFIED)
    assert (alert.name, alert.at_ms) == ("gateway_queue_stands", ms(990))
    assert alert.summary.startswith("our queue at the gateway has stood for")
    assert "users wait before the gateway; the SLIs do not count them" in alert.summary


def stood_long(state: EndState, *heard: FleetEvent) -> list[Alert]:
    """What people are told of a queue of ours that ended so a quarter of an hour ago."""
    acts = sets(96, at_s=41)
    log = [*use([0.8] * 4), acts, *use([0.8] * 2, from_s=40), *heard, outcome(acts, 60, state)]
    _, outputs = resource_stage(ResourceSettings(gateways=None)).step(None, [*log, *use([0.8] * 200, from_s=60)])
    return [each for each in outputs if isinstance(each, Alert)]


@pytest.mark.parametrize("heard", [(), (told(55, 96),)], ids=["outcome", "gateway"])
def test_a_queue_that_nobody_verified_is_told_too_and_people_must_lift_it(heard: tuple[FleetEvent, ...]) -> None:
    (alert,) = stood_long(EndState.HELD_UNVERIFIED, *heard)
    assert alert.name == "gateway_queue_stands"
    assert "that an action of ours set, which nobody verified, and no rule lifts" in alert.summary
    assert alert.fix.startswith("Set max_in_flight by hand")
    gate = set_to(Gate(), 96, 130, *([told(135, 96)] if heard else []), state=EndState.HELD_UNVERIFIED)
    assert "(set by an action of ours that was not verified: no rule lifts it)" in gate.explain()
    assert not gate.stands_long(gate.at_ms + STANDS_MS - 31_000)
    assert gate.stands_long(gate.at_ms + STANDS_MS + 100_000)
    assert not gate.heard(told(300, 50)).stands_long(ms(9000)), "people have set another"


def test_what_was_not_verified_is_no_rules_to_go_back_from() -> None:
    held = set_to(Gate().heard(told(10, 200)), 96, 130, told(135, 96), state=EndState.HELD_UNVERIFIED)
    assert queue_of(set_to(held, 80, 330, told(335, 80))) == {"gateway_in_flight": 80, "in_flight_before": 96}


@pytest.mark.parametrize(("up", "scrapes", "wanted"), [(2, 4, True), (1, 4, False), (2, 5, False)])
def test_how_many_fit_is_not_told_where_a_replica_did_not_say_how_many_run(up: int, scrapes: int, wanted: bool) -> None:
    minutes = [window(0, size_s=60, name=f"chat-{each}") for each in range(2)]
    told = use([0.9] * 5, requests_running=(100.0, 4), replicas_up=(float(up), scrapes))
    few = [each.model_copy(update={"instances_up": up}) if isinstance(each, Sli) else each for each in told]
    (found,) = findings([*minutes, *few])
    assert ("in_flight_wanted" in found.values) is wanted
