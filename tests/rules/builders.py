"""What tests of rules are made of: small packs as text, SLI messages, ticks, and a workload that is folded along."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from pydantic import BaseModel

from contracts.events import CandidateSet, Finding, Message, Sli, SliValue, Tick
from rules.core import fold
from rules.core.fold import RuleSettings, RulesState
from rules.core.loader import load_pack
from rules.core.pack import Pack
from rules.core.reference import PythonEngine
from rules.core.ruleset import RuleSet, make_ruleset

START_MS = 1_700_000_100_000
WORKLOAD = "chat"

CASES = {
    "fires": {"given": [{"at": "0s", "values": {"replicas_up": 1}}], "until": "1s", "expect": {"fires_at": "0s"}},
    "stays": {"given": [{"at": "0s", "values": {"replicas_up": 1}}], "until": "1s", "expect": {"fires": "never"}},
}

WAITING = {"sli": "requests_waiting", "window": "latest", "above": 4, "on_missing": False, "doc": "a queue"}


def rule(**changes: Any) -> dict[str, Any]:
    """A sound rule that adds one replica; `changes` replace its fields, None drops one."""
    body: dict[str, Any] = {
        "version": 1,
        "priority": 100,
        "doc": "adds",
        "runbook": "look",
        "cooldown": "60s",
        "all": ["waiting"],
        "action": {"kind": "scale_up", "replicas": 1},
        "effect": {"expect": {"sli": "replicas_up", "window": "latest", "at_least": 1}, "by": "60s"},
        "undo": {"guards": [{"sli": "requests_waiting", "window": "latest", "at_most": 1}]},
        "tests": CASES,
    }
    return {name: value for name, value in (body | changes).items() if value is not None}


def down(**changes: Any) -> dict[str, Any]:
    """A sound rule that takes one replica."""
    effect = {
        "expect": {"sli": "replicas_up", "window": "latest", "at_most": 5},
        "by": "60s",
        "guards": [{"sli": "requests_waiting", "window": "latest", "at_most": 1}],
        "settle": "10s",
    }
    return rule(**({"action": {"kind": "scale_down", "replicas": 1}, "effect": effect, "undo": None} | changes))


def pack_text(rules: Mapping[str, Any] | None = None, conditions: Mapping[str, Any] | None = None, **top: Any) -> bytes:
    """A pack file; without rules one rule `up` on one condition `waiting`."""
    tree = {
        "pack": "demo",
        "version": 1,
        "doc": "a demo",
        "conditions": conditions or {"waiting": WAITING},
        "rules": rules or {"up": rule()},
    }
    # JSON is YAML, and a round trip rids it of aliases.
    return yaml.safe_dump(json.loads(json.dumps(tree | top)), sort_keys=False).encode()


def pack(rules: Mapping[str, Any] | None = None, conditions: Mapping[str, Any] | None = None, **top: Any) -> Pack:
    return load_pack(pack_text(rules, conditions, **top), "demo.yaml")


def sli(
    at_s: float,
    size_s: int = 0,
    *,
    instance_id: str | None = None,
    revision: int = 0,
    cause_s: float | None = None,
    freshness_s: float = 0.0,
    cause: str = "",
    **values: float | None,
) -> Sli:
    """The SLIs of a window that ends at `at_s` seconds from START_MS."""
    end_ms = START_MS + int(at_s * 1000)
    return Sli(
        workload=WORKLOAD,
        instance_id=instance_id,
        size_s=size_s,
        start_ms=end_ms - size_s * 1000,
        revision=revision,
        coverage_ratio=1.0,
        freshness_s=freshness_s,
        cause_ms=START_MS + int((at_s if cause_s is None else cause_s) * 1000),
        cause=cause,
        instances=1,
        instances_up=1,
        values={name: SliValue(value=value, samples=1) for name, value in values.items()},
    )


def sizing(at_s: float, *, freshness_s: float = 0.0, **values: float) -> Finding:
    """What the sizing agent found at `at_s` seconds from START_MS."""
    at_ms = START_MS + int(at_s * 1000)
    return Finding(
        workload=WORKLOAD, kind="sizing", at_ms=at_ms, cause_ms=at_ms - 500, freshness_s=freshness_s, values=values
    )


def tick(at_s: float) -> Tick:
    return Tick(at_ms=START_MS + int(at_s * 1000), partition=0)


class Workload:
    """A workload folded message by message, as the driver does it: its state goes through JSON in between."""

    def __init__(self, packs: Sequence[Pack], settings: RuleSettings | None = None) -> None:
        self.rules: RuleSet = make_ruleset(packs)
        self.settings = settings or RuleSettings()
        self.state: RulesState | None = None

    def tell(self, *messages: Message) -> list[Message]:
        outputs: list[Message] = []
        for message in messages:
            engine = PythonEngine(self.rules.shapes)
            self.state, made = fold.step(self.rules, engine, self.settings, self.state, [message])
            if self.state is not None:
                self.state = RulesState.model_validate_json(self.state.model_dump_json())
            outputs += made
        return outputs

    def fired(self, *messages: Message) -> list[tuple[float, tuple[str, ...]]]:
        """When rules fired, seconds from START_MS, and which."""
        return moments(self.tell(*messages))


def moments(outputs: Sequence[Message]) -> list[tuple[float, tuple[str, ...]]]:
    return [
        ((each.at_ms - START_MS) / 1000.0, tuple(c.rule for c in each.candidates))
        for each in outputs
        if isinstance(each, CandidateSet)
    ]


def dumped(model: BaseModel | None) -> Any:
    return None if model is None else model.model_dump()


def steered(second: int, rng: random.Random) -> list[Message]:
    """What stage `steering` finds in this second: shares that should move, and replicas to be set anew."""
    found: list[Message] = []
    if second % 30 == 0:
        uneven = {"imbalance_ratio": rng.choice((0.1, 0.5, 0.5, 0.5)), "share_moved_ratio": 0.05}
        shares = {"chat-0": 0.25, "chat-1": 0.375, "chat-2": 0.375}
        found.append(_finding("balance", second, shares, uneven))
    if second % 120 == 0:
        stage, of = float(rng.choice((0, 1, 1, 2, 2, 3, 3))), rng.choice(("trial_stage", "tier_stage"))
        stages = {"trial_stage": 0.0, "tier_stage": 0.0, of: stage}
        wanted = stages | {"seqs_wanted": 128.0, "batched_tokens_wanted": 512.0}
        wanted |= {"host_gib_wanted": 64.0, "disk_gb_wanted": 500.0}
        found.append(_finding("tuning", second, {"chat-0": 1.0} if stage else {}, wanted))
    return found


def remembered(second: int, rng: random.Random) -> list[Message]:
    """What stage `memory` finds in this second: what the gateway lets through and should, windows too large."""
    found: list[Message] = []
    if second % 45 == 0:
        told = {"kv_above_s": 90.0, "in_flight_wanted": 96.0, "context_cut_tokens": 13_107.0}
        told |= {"gateway_in_flight": 96.0, "gateway_context_tokens": 13_107.0, "breaker_advised": 1.0}
        told |= {"in_flight_restored": 0.0, "context_tokens_restored": 0.0}
        told = {name: value for name, value in told.items() if rng.random() < 0.7}
        found.append(_finding("pressure", second, {}, told))
    if second % 1200 == 0:
        worth = float(rng.choice((0, 1)))
        wanted = {"context_worth_setting": worth, "context_wanted_tokens": 4096.0}
        names = {"chat-0": 1.0, "chat-1": 1.0, "chat-2": 1.0} if worth else {}
        found.append(_finding("context", second, names, wanted))
    return found


def _finding(kind: str, second: int, by_replica: dict[str, float], values: dict[str, float]) -> Finding:
    at_ms = START_MS + second * 1000
    return Finding(workload=WORKLOAD, kind=kind, at_ms=at_ms, cause_ms=at_ms, values=values, by_replica=by_replica)


def random_log(seed: int, seconds: int = 400) -> list[Message]:
    """A workload's log: windows and latest values that rise and fall, findings of an agent that is down for a while,
    gaps, repeats, disorder, messages that do not count, a scraper whose clock is ahead for a while, and ticks that now
    and then fail to come."""
    rng, agent, steering = random.Random(seed), random.Random(f"agent {seed}"), random.Random(f"steering {seed}")
    memory = random.Random(f"memory {seed}")
    kv = memory.choice((0.4, 0.7, 0.93, 0.93))
    down_from, down_s = agent.choice((0, agent.randrange(seconds))), agent.choice((30, 150, seconds))
    wanted = 3
    log: list[Message] = []
    load, silent_until, ahead_until = 5.0, 0, 0
    for second in range(seconds):
        load = max(0.0, load + rng.uniform(-3, 3) + (30 if rng.random() < 0.02 else 0) - load * 0.03)
        if rng.random() < 0.01:
            silent_until = second + rng.randrange(5, 90)
        if second > 5 and rng.random() < 0.005:
            ahead_until = second + rng.randrange(5, 40)
        skew = rng.choice((3, 40, 500)) if second < ahead_until else 0
        if second >= silent_until:
            values: dict[str, Any] = {
                "requests_waiting": max(0.0, round(load - 10)),
                "load_per_replica": round(load, 3),
                "replicas_up": None if rng.random() < 0.02 else 3,
                "stalled": 0.0,
            }
            if second % 2 == 0:
                log.append(sli(second + skew, cause=str(rng.random()), **values))
                log.append(sli(second, instance_id="chat-0", **values))
            if second % 10 == 0:
                burn = None if load < 1 else max(0.0, load - 12)
                values["kv_cache_usage_ratio"] = kv + memory.uniform(-0.06, 0.06)
                log.append(sli(second, 10, cause_s=second + 2, ttft_burn_rate=burn, **values))
                del values["kv_cache_usage_ratio"]
            if second % 60 == 0:
                burn = None if load < 1 else max(0.0, load - 10)
                log.append(sli(second, 60, cause_s=second + 3, ttft_burn_rate=burn, **values))
                log.append(sli(second, 60, revision=1, ttft_burn_rate=20.0, **values))
            if second % 300 == 0:
                log.append(sli(second, 300, cause_s=second + 3, ttft_burn_rate=max(0.0, load - 10)))
        elif second % 10 == 0:
            log.append(sli(second, 10, cause_s=second + 2, kv_cache_usage_ratio=kv))
        log += steered(second, steering) + remembered(second, memory)
        if second % 15 == 0 and not down_from <= second < down_from + down_s:
            wanted = wanted if agent.random() < 0.7 else max(1, wanted + agent.choice((-2, 2)))
            found = {"replicas_short": max(0.0, wanted - 3.0), "replicas_spare": max(0.0, 3.0 - wanted)}
            found = {name: value for name, value in found.items() if agent.random() < 0.97}
            late_s = agent.choice((0, 0, 0, 20))
            log.append(sizing(second + skew, freshness_s=late_s, replicas_wanted=wanted, startup_s=60, **found))
        if rng.random() > 0.05:
            log.append(tick(second))
    for _ in range(len(log) // 20):
        at = rng.randrange(len(log) - 8)
        log.insert(at + rng.randrange(1, 8), log[at] if rng.random() < 0.5 else log.pop(at))
    return log
