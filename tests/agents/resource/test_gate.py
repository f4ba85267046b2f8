"""What stands at a gateway by our doing, as outcomes tell it, and what it should let through next."""

from __future__ import annotations

from typing import Any

import pytest

from agents.resource.core.gate import Gate
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
)
from tests.agents.resource.memory_desk import action, findings, use
from tests.agents.resource.test_prevented import END_S, case, counts, seen
from tests.agents.watching_desk import ms, outcome

CUT = ActionKind.CONTEXT


def sets(
    value: float, kind: ActionKind = ActionKind.QUEUE, at_s: float = 130, rule: str = "queue-at-gateway"
) -> Action:
    told = action(at_s, rule=rule)
    spec = told.spec.model_copy(update={"kind": kind, "settings": {kind.gateway_setting: value}})
    return told.model_copy(update={"spec": spec, "target": f"chat/{kind.part}"})


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
    assert found.value("gateway_in_flight") == 70
