"""A workload in front of stage `resource`: SLIs, ticks, actions and outcomes, of which each test changes one thing."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agents.resource.core.memory_state import ResourceSettings, ResourceState
from agents.resource.stages import resource_stage
from contracts.events import (
    Action,
    ActionKind,
    ActionSpec,
    Effect,
    EndState,
    Finding,
    Message,
    Mode,
    Outcome,
    Sli,
    SliValue,
    Tick,
)
from contracts.laws.bounds import Bound, Comparator

START_MS = 1_700_000_000_000 // 3_600_000 * 3_600_000
SETTINGS = ResourceSettings(context_tokens={"chat": 16_384})
STAGE = resource_stage(SETTINGS)
OURS = "scale-up-on-kv-pressure"


def ms(at_s: float) -> int:
    return START_MS + round(at_s * 1000)


def window(end_s: float, *, size_s: int = 10, name: str | None = None, **changes: Any) -> Sli:
    """Two replicas with their KV cache half full, nobody pushed out; `changes` replace values, None: not told. A pair
    is a value with its samples."""
    values: dict[str, Any] = {
        "kv_cache_usage_ratio": 0.5,
        "kv_cache_usage_max_ratio": 0.6,
        "preemptions_per_s": 0.0,
        "requests_per_s": 4.0,
        "truncated_ratio": 0.0,
        "restarts": 0.0,
    } | changes
    told = {key: each if isinstance(each, tuple) else (each, 100) for key, each in values.items() if each is not None}
    return Sli(
        workload="chat",
        instance_id=name,
        size_s=size_s,
        start_ms=ms(end_s - size_s),
        coverage_ratio=1.0,
        freshness_s=0.0,
        cause_ms=ms(end_s),
        instances=2 if name is None else 1,
        instances_up=2 if name is None else 1,
        values={key: SliValue(value=value, samples=samples) for key, (value, samples) in told.items()},
    )


def tick(at_s: float) -> Tick:
    return Tick(at_ms=ms(at_s), partition=0)


def use(levels: Iterable[float], *, from_s: float = 0.0, size_s: int = 10, **changes: Any) -> list[Message]:
    """Windows in which the KV cache is as full as told, one after the other, each with a tick at its end."""
    log: list[Message] = []
    for place, level in enumerate(levels, start=1):
        end_s = from_s + place * size_s
        kv = {"kv_cache_usage_ratio": level, "kv_cache_usage_max_ratio": min(1.0, level)}
        log += [window(end_s, size_s=size_s, **(kv | changes)), tick(end_s)]
    return log


def action(at_s: float, *, rule: str = OURS, kind: ActionKind = ActionKind.SCALE_UP) -> Action:
    """One replica more, or all settings anew, by this rule."""
    expect = Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=1)
    tuned: dict[str, Any] = {"settings": {"max_num_seqs": 64.0}, "by_replica": {"chat-0": 1.0}}
    spec = ActionSpec(
        kind=kind, replicas=1, effect=Effect(expect=expect, by_s=600), **(tuned if kind is ActionKind.TUNE else {})
    )
    return Action(
        workload="chat",
        target=f"chat/{kind.part}",
        candidate_id=f"{rule} {at_s}",
        decision_id="decided",
        rule=rule,
        priority=600,
        spec=spec,
        mode=Mode.AUTONOMOUS,
        approved_by="mode:autonomous",
        at_ms=ms(at_s),
        cause_ms=ms(at_s),
        start_by_ms=ms(at_s + 60),
    )


def outcome(of: Action, at_s: float, end_state: EndState = EndState.VERIFIED) -> Outcome:
    return Outcome(action=of, end_state=end_state, at_ms=ms(at_s))


def run(log: Iterable[Message]) -> tuple[ResourceState, list[Message]]:
    """The state after a log, and all that was told."""
    state, told = STAGE.step(None, list(log))
    assert isinstance(state, ResourceState)
    return state, told


def findings(log: Iterable[Message], kind: str = "pressure") -> list[Finding]:
    """What was found of this kind."""
    return [each for each in run(log)[1] if isinstance(each, Finding) and each.kind == kind]
