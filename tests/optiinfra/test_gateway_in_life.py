"""A fleet that runs out of memory is held by its gateway, on the twin, by the real stages, rules, arbiter and executor:
requests queue there, long ones are refused, all are while engines die; and what that prevented is counted."""

from __future__ import annotations

import pytest

from connectors.twin.load import Lengths, LoadSpec
from connectors.twin.spec import EngineSpec
from contracts.events import Action, ActionKind, Alert, Answer, Decision, EndState, Finding, Outcome
from contracts.objectives import Objectives
from rules.book import BUILT_IN
from tests.optiinfra.life import Life, Shape

pytestmark = pytest.mark.timeout(120)

LENGTHS = Lengths(400, 400, 440, 600)
LOAD = LoadSpec(10.0, LENGTHS, LENGTHS, cv=0.5, day_s=3e13, phase=0.3545, shared_ratio=0.0, error_ratio=0.0)


def shape(pack: str = "resource", replicas: int = 2) -> Shape:
    """Replicas whose KV cache is full with about 106 requests, while 256 fit in the batch."""
    engine = EngineSpec(max_num_seqs=256, max_num_batched_tokens=1024, max_model_len=16_384, kv_blocks=4000)
    return Shape(
        max_num_seqs=256,
        replicas=replicas,
        load=LOAD,
        engine=engine,
        rules=(BUILT_IN / f"{pack}.yaml",),
        objectives=Objectives(ttft_s=10.0, itl_s=0.1),
    )


def rises(life: Life, steps: int, each: float) -> None:
    """The load grows every half minute, from two fifths of what is too much."""
    life.goes_on(60, 0.4)
    for step in range(1, steps + 1):
        life.goes_on(30, 0.4 + step * each)


def preempted(life: Life, *of: str) -> int:
    """Requests pushed out at these replicas, all where none is named, since each began."""
    members = [each for each in life.fleet.members("chat") if not of or each.replica_id in of]
    return sum(replica.engine.meters.preemptions for replica in members if replica.engine)


def account(life: Life) -> tuple[float, ...]:
    """Prevented, not prevented, and forecasts that nobody answered: false ones, true ones."""
    names = ("oom_prevented", "oom_not_prevented", "oom_forecasts_false", "oom_forecasts_true")
    last = [each for each in life.told(Finding) if each.kind == "pressure"][-1]
    return tuple(last.values[name] for name in names)


def ended(life: Life) -> list[tuple[str, EndState]]:
    return [(each.action.rule, each.end_state) for each in life.told(Outcome)]


def test_requests_that_queue_at_the_gateway_prevent_that_memory_runs_out() -> None:
    with Life(shape()) as life:
        rises(life, 11, 0.02)
        gate = life.fleet.gates["chat"]
        assert gate.state.limits["max_in_flight"] > 100
        life.goes_on(150, 0.66)
        assert ended(life) == [("queue-at-gateway", EndState.VERIFIED)]
        assert gate.counts.queued > 100
        life.goes_on(330, 0.5)
        assert preempted(life) == 0
        assert account(life) == (1, 0, 0, 0)
        life.goes_on(240, 0.4)
        assert ended(life)[1:] == [("release-gateway-queue", EndState.VERIFIED)]
        assert (gate.state.limits["max_in_flight"], gate.waiting) == (0, 0), "who waited was let in or gave up"
        assert gate.counts.broken == gate.counts.too_long == 0, "nobody was refused"


def test_the_same_load_fills_memory_where_nobody_acts() -> None:
    with Life(shape("tuning")) as life:
        rises(life, 11, 0.02)
        life.goes_on(60, 0.66)
        assert preempted(life) > 50
        assert account(life) == (0, 0, 0, 1)
        assert not life.told(Action)
        assert "gateway_queue_advised" in [each.name for each in life.told(Alert)]


def test_where_memory_fills_at_once_long_requests_are_refused_too_and_taken_again_when_it_is_eased() -> None:
    with Life(shape()) as life:
        life.goes_on(60, 0.4)
        life.goes_on(75, 1.0)
        limits = life.fleet.gates["chat"].state.limits
        assert limits["max_context_tokens"] == 13_107, "a fifth less than 16 384"
        life.goes_on(480, 0.4)
        assert life.fleet.gates["chat"].state.limits["max_context_tokens"] == 0
        rules = dict(ended(life))
        assert rules["cut-context-on-kv-pressure"] is rules["restore-context-at-gateway"] is EndState.VERIFIED


def test_who_waits_at_the_gateway_is_not_let_in_at_once_when_engines_that_crashed_come_back_empty() -> None:
    with Life(shape(replicas=4)) as life:
        life.goes_on(60, 0.4)
        for step in range(14):
            life.goes_on(30, 0.8 + step * 0.05)
        gate = life.fleet.gates["chat"]
        queue = gate.state.limits["max_in_flight"]
        assert queue > 0
        back = ("chat-0", "chat-1", "chat-2")
        for name in back:
            life.fleet.reset(name, 5.0)
        life.goes_on(75, 1.3)
        assert (gate.state.limits["max_in_flight"], preempted(life, *back)) == (queue, 0)
        assert gate.waiting > 400
        assert "release-gateway-queue" not in [each.rule for each in life.told(Action)]


def test_while_engines_die_every_request_is_refused_for_two_minutes() -> None:
    with Life(shape(replicas=3)) as life:
        life.goes_on(60, 0.4)
        life.goes_on(75, 1.0)
        for name in ("chat-0", "chat-1", "chat-2"):
            life.fleet.reset(name, 5.0)
        life.goes_on(75, 0.1)
        action = life.told(Action)[-1]
        assert (action.rule, action.spec.kind) == ("break-circuit-on-restarts", ActionKind.BREAKER)
        gate = life.fleet.gates["chat"]
        assert gate.state.limits["breaker_until_ms"] == action.at_ms + 120_000
        life.goes_on(180, 0.1)
        assert ("break-circuit-on-restarts", EndState.VERIFIED) in ended(life)
        refused = gate.counts.broken
        assert refused > 20
        life.goes_on(30, 0.1)
        assert gate.counts.broken == refused, "it ends by itself"
        breakers = [each for each in life.told(Decision) if each.candidate.spec.kind is ActionKind.BREAKER]
        assert [each.answer for each in breakers] == [Answer.APPROVED]
