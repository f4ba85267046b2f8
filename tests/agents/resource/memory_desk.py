"""A workload in front of stage `resource`: its memory, what is done about it, and a log of anything."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

from agents.resource.core.memory_state import ResourceSettings, ResourceState
from agents.resource.stages import resource_stage
from contracts.events import GATEWAY_CHANGE, Action, ActionKind, EndState, Finding, FleetEvent, Message, Sli, SliValue
from tests.agents.watching_desk import ms, ordered, outcome, tick, told

SETTINGS = ResourceSettings(context_tokens={"chat": 16_384})
STAGE = resource_stage(SETTINGS)
OURS = "scale-up-on-kv-pressure"


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
    pairs = {key: each if isinstance(each, tuple) else (each, 100) for key, each in values.items() if each is not None}
    samples = {key: SliValue(value=value, samples=many) for key, (value, many) in pairs.items()}
    return told(end_s, size_s, samples, many=2 if name is None else 1, instance_id=name)


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
    tuned: dict[str, Any] = {"settings": {"max_num_seqs": 64.0}, "by_replica": {"chat-0": 1.0}}
    one = ordered(at_s, kind, f"{rule} {at_s}", **(tuned if kind is ActionKind.TUNE else {}))
    return one.model_copy(update={"rule": rule})


def sets(
    value: float, kind: ActionKind = ActionKind.QUEUE, at_s: float = 130, rule: str = "queue-at-gateway"
) -> Action:
    """A limit at the gateway, by this rule."""
    told = action(at_s, rule=rule)
    spec = told.spec.model_copy(update={"kind": kind, "settings": {kind.gateway_setting: value}})
    return told.model_copy(update={"spec": spec, "target": f"chat/{kind.part}"})


def stands(at_s: float, in_flight: int) -> FleetEvent:
    """The gateway tells how many requests it lets through at once."""
    limits = {"max_in_flight": in_flight, "max_context_tokens": 0}
    return FleetEvent(workload="chat", name=GATEWAY_CHANGE, number=1, at_ms=ms(at_s), limits=limits)


def random_log(seed: int, seconds: int = 1500) -> list[Message]:
    """Memory that fills and empties, with windows missing, late, told again and of wrong clocks, engines that begin
    anew, and actions of which some are never heard again."""
    rng = random.Random(seed)
    log: list[Message] = []
    actions: list[Action] = []
    kv = rng.uniform(0.3, 0.9)
    for at_s in range(0, seconds, 10):
        kv = min(1.0, max(0.0, kv + rng.uniform(-0.04, 0.05)))
        wrong_s = rng.choice([0.0] * 30 + [-40.0, 40.0, 500.0])
        changes: dict[str, Any] = {
            "kv_cache_usage_ratio": rng.choice([kv] * 9 + [None]),
            "kv_cache_usage_max_ratio": min(1.0, kv * 1.05),
            "preemptions_per_s": rng.choice([0.0] * 9 + [0.4, None]),
            "kv_allocation_failures_per_s": rng.choice([None, 0.0, 0.2]),
            "restarts": rng.choice([0.0] * 20 + [1.0, 2.0]),
        }
        if rng.random() < 0.92:
            log.append(window(at_s + wrong_s, **changes))
        if at_s % 60 == 0:
            log += [window(at_s, size_s=60, name=f"chat-{each}") for each in range(2) if rng.random() < 0.8]
        if at_s % 300 == 0:
            lengths: dict[str, Any] = {
                f"request_tokens_{name}": (rng.uniform(100, 9000), 200) for name in ("mean", "p95", "p99")
            }
            log.append(window(at_s, size_s=300, prefix_cache_hit_ratio=(rng.random(), 20_000), **lengths))
        if rng.random() < 0.05:
            rule = rng.choice(["scale-up-on-kv-pressure", "scale-up-to-forecast"])
            actions.append(action(at_s, rule=rule, kind=rng.choice([ActionKind.SCALE_UP, ActionKind.TUNE])))
            log.append(actions[-1])
        if rng.random() < 0.05:
            actions.append(sets(rng.choice((0.0, 80.0, 96.0)), at_s=at_s))
            log.append(actions[-1])
        if rng.random() < 0.03:
            log.append(stands(at_s, rng.choice((0, 80, 96, 150))))
        if actions and rng.random() < 0.05:
            log.append(outcome(rng.choice(actions), at_s, rng.choice(list(EndState))))
        if log and rng.random() < 0.1:
            log.append(rng.choice(log[-8:]))
        if rng.random() < 0.95:
            log.append(tick(at_s))
    return log


def run(log: Iterable[Message]) -> tuple[ResourceState, list[Message]]:
    """The state after a log, and all that was told."""
    state, outputs = STAGE.step(None, list(log))
    assert isinstance(state, ResourceState)
    return state, outputs


def findings(log: Iterable[Message], kind: str = "pressure") -> list[Finding]:
    """What was found of this kind."""
    return [each for each in run(log)[1] if isinstance(each, Finding) and each.kind == kind]
