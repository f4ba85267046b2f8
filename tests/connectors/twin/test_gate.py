"""The twin's gateway lets requests wait, refuses long ones or all, counts them, and forgets nothing it was told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from connectors.twin.fleet import Fleet, WorkloadSpec
from connectors.twin.gate_routes import page
from connectors.twin.journal import Journal
from connectors.twin.load import LoadSpec
from connectors.twin.orders import CannotDo
from connectors.twin.router import in_flight
from contracts.errors import Conflict
from tests.connectors.twin.running import serving, until
from tests.connectors.twin.test_actuation import SPECS, START_MS, made

LOAD = LoadSpec(6.0, day_s=3e13, phase=0.3545)
CHAT = WorkloadSpec("chat", "a/chat", 2, LOAD)


def fleet(load: LoadSpec = LOAD, **limits: int) -> Fleet:
    made = Fleet((replace(CHAT, load=load),), seed=3, start_ms=START_MS)
    made.gates["chat"].set(limits)
    return made


def accounted(f: Fleet) -> bool:
    """Whether every request is somewhere."""
    router, gate = f.router["chat"], f.gates["chat"]
    counts = gate.counts
    turned = counts.broken + counts.too_long + counts.gave_up + gate.waiting
    return router.arrived == router.sent + router.unserved + router.refused + turned > 100


def test_without_limits_nothing_is_held_or_refused() -> None:
    free, closed = fleet(), fleet(max_in_flight=10**9, max_context_tokens=10**9, breaker_until_ms=START_MS)
    for each in (free, closed):
        each.advance(START_MS + 60_000)
    assert vars(free.router["chat"]) == vars(closed.router["chat"])
    assert set(vars(closed.gates["chat"].counts).values()) == {0}


def test_no_more_are_at_the_replicas_at_once_than_it_lets_through_and_the_others_follow_as_those_end() -> None:
    f, most = fleet(max_in_flight=20), 0
    for second in range(1, 61):
        f.advance(START_MS + second * 1000)
        most = max(most, in_flight(f.members("chat")))
        assert most <= 20
    gate = f.gates["chat"]
    assert (most, gate.waiting > 0, gate.counts.queued > 50) == (20, True, True)
    assert accounted(f)
    gate.set({"max_in_flight": 0})
    f.advance(START_MS + 61_000)
    assert gate.waiting == 0
    assert in_flight(f.members("chat")) > 20


def test_who_waits_too_long_gives_up() -> None:
    f = fleet(replace(LOAD, patience_s=5.0), max_in_flight=4)
    f.advance(START_MS + 60_000)
    assert f.gates["chat"].counts.gave_up > 50
    assert accounted(f)


def test_an_open_breaker_refuses_all_until_its_time_and_lets_in_nobody_who_waits() -> None:
    f = fleet(max_in_flight=4, breaker_until_ms=START_MS + 40_000)
    gate = f.gates["chat"]
    gate.set({"breaker_until_ms": 0})
    f.advance(START_MS + 10_000)
    held, sent = gate.waiting, f.router["chat"].sent
    gate.set({"breaker_until_ms": START_MS + 40_000})
    f.advance(START_MS + 39_900)
    assert (gate.waiting, f.router["chat"].sent) == (held, sent)
    refused = gate.counts.broken
    assert refused > 100
    f.advance(START_MS + 60_000)
    assert gate.counts.broken - refused < 3
    assert f.router["chat"].sent > sent
    assert accounted(f)


def test_requests_that_ask_for_too_much_are_refused_and_short_ones_are_not() -> None:
    f = fleet(max_context_tokens=2000)
    f.advance(START_MS + 60_000)
    assert 0.2 < f.gates["chat"].counts.too_long / f.router["chat"].arrived < 0.8
    assert accounted(f)


@pytest.mark.parametrize("steps", [[60_000], [1_000] * 60, [7, 333, 59_660]], ids=["once", "seconds", "odd"])
def test_how_time_is_cut_changes_nothing(steps: list[int]) -> None:
    f, at_ms = fleet(max_in_flight=12, max_context_tokens=6000), START_MS
    for step in steps:
        at_ms += step
        f.advance(at_ms)
    whole = fleet(max_in_flight=12, max_context_tokens=6000)
    whole.advance(START_MS + 60_000)
    assert vars(f.router["chat"]) == vars(whole.router["chat"])
    assert vars(f.gates["chat"].counts) == vars(whole.gates["chat"].counts)
    spoke = [[r.engine.meters.ttft_s.total for r in each.members("chat") if r.engine] for each in (f, whole)]
    assert spoke[0] == spoke[1]


def test_what_cannot_be_set_is_refused_and_changes_nothing() -> None:
    gate = fleet().gates["chat"]
    before = gate.state
    with pytest.raises(CannotDo, match="no limit 'max_requests'"):
        gate.set({"max_requests": 3})
    with pytest.raises(CannotDo, match="a note of"):
        gate.set({}, note="x" * 20_000)
    with pytest.raises(Conflict, match="version 9 is not 1"):
        gate.set({}, if_version=9)
    assert gate.state == before


def test_a_restart_forgets_no_limit(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    twin = made(Journal(path))
    state = twin.fleet.gates["chat"].set({"max_in_flight": 40}, note="of ours")
    twin.progress()
    again = made(Journal(path))
    assert again.fleet.gates["chat"].state == state
    assert {again.fleet.gates[spec.name].state.version for spec in SPECS[1:]} <= {0}


async def test_what_it_does_is_set_and_seen_over_http(tmp_path: Path) -> None:
    async with serving(tmp_path) as running:
        far_ms = 10**14
        status, told = await running.control("PUT", "/limits/chat", {"limits": {"breaker_until_ms": far_ms}})
        assert (status, told["version"], told["limits"]["breaker_until_ms"]) == (200, 1, far_ms)
        assert (await running.control("PUT", "/limits/chat", {"limits": {"breaker_until_ms": -1}}))[0] == 422

        async def refused() -> bool:
            async with running.session.get(f"{running.info.control_url}/metrics") as answer:
                text = await answer.text()
            lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
            return int(lines['gateway_requests_total{result="broken",workload="chat"}']) > 0

        await until(refused)
        _, state = await running.control("GET", "/fleet")
        assert state["workloads"]["chat"]["gateway"]["broken"] > 0
        assert state["workloads"]["code"]["gateway"]["broken"] == 0


def test_the_page_says_what_is_let_through() -> None:
    f = fleet(max_in_flight=12)
    f.advance(START_MS + 30_000)
    lines = page(f).splitlines()
    gate = f.gates["chat"]
    assert f'gateway_requests_waiting{{workload="chat"}} {gate.waiting}' in lines
    assert f'gateway_requests_total{{result="queued",workload="chat"}} {gate.counts.queued}' in lines
    assert 'gateway_limit{limit="max_in_flight",workload="chat"} 12' in lines
    assert lines.count("# TYPE gateway_requests_total counter") == 1
