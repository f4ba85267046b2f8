"""Shares of requests in life: what is told of replicas that have more or less to do than they can."""

from __future__ import annotations

from typing import Any

import pytest

from agents.performance.core import balancing
from agents.performance.core.balancing import LEARNT_LIMIT
from agents.performance.core.minutes import REPLICAS_LIMIT, Minutes, minute_of
from agents.performance.core.steering_state import BalanceState, SteeringState
from agents.performance.stages import steering_stage
from contracts.events import EndState, Message
from tests.agents.performance.steering_desk import NAMES, SETTINGS, Desk, latest, minute, route
from tests.agents.watching_desk import outcome, tick

WEAK = {"requests_per_s": 1.0, "generation_tokens_per_s": 210.0, "prompt_tokens_per_s": 1150.0}


def passes(desk: Desk, seconds: int, **loads: float) -> None:
    """Time in which chat-0, chat-1 and chat-2 have `a`, `b` and `c` requests."""
    for _ in range(0, seconds, 10):
        desk.at_s += 10
        for name, load in zip(NAMES, loads.values(), strict=True):
            desk.send(latest(desk.at_s, name, load=load))
        desk.send(latest(desk.at_s, None), tick(desk.at_s))


def learns(desk: Desk, minutes: int = 8) -> None:
    """Full minutes, in which chat-2 does half of what the others do."""
    for _ in range(minutes):
        passes(desk, 60, a=20, b=20, c=20)
        for name in NAMES:
            told: dict[str, Any] = WEAK if name == "chat-2" else {}
            desk.send(minute(desk.at_s, name, requests_waiting=20.0, **told))


def test_loads_that_are_alike_leave_all_shares_as_they_are() -> None:
    desk = Desk()
    passes(desk, 60, a=20, b=21, c=20)
    found = desk.asked("balance")
    assert found.value("imbalance_ratio") == pytest.approx(0, abs=0.01)
    assert found.value("share_moved_ratio") == 0
    assert found.by_replica == pytest.approx(dict.fromkeys(NAMES, 1 / 3))


def test_a_replica_that_is_known_to_do_half_gets_a_quarter_less_at_once() -> None:
    desk = Desk()
    learns(desk)
    passes(desk, 60, a=10, b=10, c=60)
    found = desk.asked("balance")
    assert found.value("imbalance_ratio") > 0.3  # type: ignore[operator]
    assert found.by_replica["chat-2"] == pytest.approx(0.25)
    assert sum(found.by_replica.values()) == pytest.approx(1)
    assert "capacities learnt" in found.words


def test_uneven_loads_of_replicas_that_are_not_known_to_differ_move_nothing() -> None:
    desk = Desk()
    passes(desk, 60, a=10, b=10, c=60)
    found = desk.asked("balance")
    assert found.value("imbalance_ratio") > 0.3  # type: ignore[operator]
    assert found.value("share_moved_ratio") == 0
    assert "taken as equal" in found.words


def test_the_next_step_goes_on_from_the_shares_that_were_set() -> None:
    desk, shares = Desk(), {"chat-0": 0.4, "chat-1": 0.4, "chat-2": 0.2}
    learns(desk)
    action = route(desk.at_s, shares)
    desk.send(action, outcome(action, desk.at_s))
    passes(desk, 60, a=10, b=10, c=60)
    assert desk.asked("balance").by_replica["chat-2"] == pytest.approx(0.2, abs=0.05)
    assert desk.asked("balance").by_replica["chat-2"] < 0.25


def test_shares_that_were_taken_back_are_not_gone_on_from() -> None:
    desk, shares = Desk(), {"chat-0": 0.6, "chat-1": 0.3, "chat-2": 0.1}
    action = route(0, shares)
    passes(desk, 30, a=20, b=20, c=20)
    desk.send(action, outcome(action, desk.at_s, EndState.UNDONE))
    passes(desk, 30, a=20, b=20, c=20)
    assert desk.asked("balance").by_replica == pytest.approx(dict.fromkeys(NAMES, 1 / 3))


@pytest.mark.parametrize(
    "fields",
    [{"instances": 4, "instances_up": 3}, {"instances": 4, "instances_up": 4}],
    ids=["one does not answer", "one has told nothing yet"],
)
def test_on_partial_evidence_nothing_is_told(fields: dict[str, Any]) -> None:
    desk = Desk()
    for at_s in range(10, 130, 10):
        for name in NAMES:
            desk.send(latest(at_s, name))
        desk.send(latest(at_s, None, **fields), tick(at_s))
    assert not [each for each in desk.found if each.kind == "balance"]


def test_on_old_evidence_nothing_is_told() -> None:
    desk = Desk()
    passes(desk, 60, a=20, b=20, c=20)
    told = len(desk.found)
    for at_s in range(100, 300, 10):
        desk.send(tick(at_s))
    assert not [each for each in desk.found[told:] if each.kind == "balance"]


def test_of_a_few_requests_nothing_is_told() -> None:
    desk = Desk()
    passes(desk, 60, a=5, b=0, c=1)
    assert not [each for each in desk.found if each.kind == "balance"]


def test_the_state_of_a_large_fleet_fits_a_message_and_its_capacities_count_as_equal() -> None:
    names = [f"chat-model-deployment-7c9f8d6b5-{n:05d}" for n in range(800)]
    log: list[Message] = []
    for at_s in range(60, 240, 60):
        log += [latest(at_s, name) for name in names]
        log.append(latest(at_s, None, instances=len(names), instances_up=len(names)))
        log += [minute(at_s, name, late=0.01, requests_waiting=1.0 / 3) for name in names]
        log.append(tick(at_s))
    state, _ = steering_stage(SETTINGS).step(None, log)
    assert isinstance(state, SteeringState)
    assert len(state.balance.capacity) == LEARNT_LIMIT
    assert len(state.model_dump_json()) < 900_000
    shares, words = balancing.capacities(state.balance, tuple(names))
    assert set(shares.values()) == {1.0}
    assert "of 800 are known, 100 at most" in words


def test_of_whom_capacity_is_learnt_stays_so_as_long_as_it_is_there() -> None:
    found = minute_of(minute(60), 0.95)
    assert found is not None
    first = {f"b-{n:03d}": found for n in range(LEARNT_LIMIT)}
    state = balancing.minute(BalanceState(), 60_000, first, 0.95)
    state = balancing.minute(state, 120_000, first | {"a-000": found}, 0.95)
    assert set(state.capacity) == set(first)


def test_a_canary_is_read_in_a_fleet_of_more_replicas_than_are_read() -> None:
    found = minute_of(minute(60), 0.95)
    assert found is not None
    minutes = Minutes(open={60_000: {f"b-{n}": found for n in range(REPLICAS_LIMIT)}})
    assert minutes.heard("a-0", 60_000, found) == minutes
    assert "a-0" in minutes.heard("a-0", 60_000, found, needed=True).open[60_000]
