"""Three replicas in front of stage `steering`: SLIs of each, ticks, actions and outcomes, of which each test changes
one thing."""

from __future__ import annotations

from typing import Any

from agents.performance.core.steering_state import SteeringSettings, SteeringState
from agents.performance.core.trials import Setting
from agents.performance.stages import steering_stage
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
from contracts.laws.attainment import Attainment
from contracts.laws.bounds import Bound, Comparator
from contracts.objectives import Objectives

START_MS = 1_700_000_100_000 // 60_000 * 60_000
PRESENT = Setting(64, 512, 1)
SETTINGS = SteeringSettings(engines={"chat": PRESENT}, default=Objectives(ttft_s=1.0, itl_s=0.1))
NAMES = ("chat-0", "chat-1", "chat-2")


def ms(at_s: float) -> int:
    return START_MS + round(at_s * 1000)


def latest(at_s: float, name: str | None = "chat-0", *, load: float = 20.0, up: int = 1, **fields: Any) -> Sli:
    """The newest scrape of a replica, or of all three (None)."""
    many = len(NAMES) if name is None else 1
    values = {"requests_running": load, "requests_waiting": 0.0, "replicas_up": float(up)}
    base: dict[str, Any] = {"instances": many, "instances_up": many if up else 0, "coverage_ratio": 1.0}
    return Sli(
        workload="chat",
        instance_id=name,
        size_s=0,
        start_ms=ms(at_s),
        freshness_s=0.0,
        cause_ms=ms(at_s),
        values={key: SliValue(value=value, samples=many) for key, value in values.items()} if up else {},
        **(base | fields),
    )


def minute(
    end_s: float,
    name: str = "chat-0",
    *,
    busy: bool = True,
    late: float = 0.0,
    done: int | None = None,
    looked: int = 1,
    **changes: Any,
) -> Sli:
    """A minute of a replica: in a `busy` one the batch is full, with room in its memory; in another half is done.
    `late`: share of its requests that are, with first and further tokens alike. `done`: how many had a first token.
    `looked`: of how many tokens its hit ratios tell."""
    share, count = (1.0, 120) if busy else (0.5, 60)
    count = count if done is None else done
    values = {
        "requests_per_s": 2.0 * share,
        "requests_running": 62.0 if busy else 25.0,
        "requests_waiting": 1.0 if busy else 0.0,
        "requests_waiting_max": 6.0 if busy else 0.0,
        "kv_cache_usage_max_ratio": 0.4 * share,
        "preemptions_per_s": 0.0,
        "prompt_tokens_per_s": 2300.0 * share,
        "generation_tokens_per_s": 420.0 * share,
        "ttft_p95_s": 0.4 * share,
        "itl_p95_s": 0.05 * share,
    } | changes
    good = round(count * (1 - late))
    return Sli(
        workload="chat",
        instance_id=name,
        size_s=60,
        start_ms=ms(end_s - 60),
        coverage_ratio=1.0,
        freshness_s=0.0,
        cause_ms=ms(end_s),
        instances=1,
        instances_up=1,
        values={key: SliValue(value=value, samples=looked if "hit" in key else 1) for key, value in values.items()},
        attainment={"ttft": Attainment(good=good, total=count), "itl": Attainment(good=count * 200, total=count * 200)},
    )


def tick(at_s: float) -> Tick:
    return Tick(at_ms=ms(at_s), partition=0)


def tune(at_s: float, setting: Setting, *names: str, tiers: bool = False) -> Action:
    """`tiers`: its KV tiers are set as well."""
    expect = Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=3)
    return Action(
        workload="chat",
        target="chat/engine",
        candidate_id=f"tune at {at_s}",
        decision_id=f"tune at {at_s}",
        rule="a-rule",
        priority=1,
        spec=ActionSpec(
            kind=ActionKind.TUNE,
            replicas=len(names),
            effect=Effect(expect=expect, by_s=600),
            settings={
                "max_num_seqs": float(setting.max_num_seqs),
                "max_num_batched_tokens": float(setting.max_num_batched_tokens),
            }
            | ({"kv_offloading_size": float(setting.tiers[0]), "kv_disk_gb": float(setting.tiers[1])} if tiers else {}),
            by_replica=dict.fromkeys(names, 1.0),
        ),
        mode=Mode.AUTONOMOUS,
        approved_by="mode:autonomous",
        at_ms=ms(at_s),
        cause_ms=ms(at_s),
        start_by_ms=ms(at_s + 30),
    )


def route(at_s: float, shares: dict[str, float]) -> Action:
    one = tune(at_s, PRESENT, *shares)
    spec = one.spec.model_copy(update={"kind": ActionKind.ROUTE, "settings": {}, "by_replica": shares})
    return one.model_copy(update={"spec": spec, "target": "chat/router", "candidate_id": f"route at {at_s}"})


def outcome(of: Action, at_s: float, state: EndState = EndState.VERIFIED) -> Outcome:
    return Outcome(action=of, end_state=state, at_ms=ms(at_s), began_ms=of.at_ms, steps_applied=of.spec.replicas)


class Desk:
    """The running stage. Between any two messages its state goes through JSON, as it does between batches."""

    def __init__(self, settings: SteeringSettings = SETTINGS) -> None:
        self.stage = steering_stage(settings)
        self.state: SteeringState | None = None
        self.at_s = 0.0
        self.found: list[Finding] = []

    def send(self, *messages: Message) -> None:
        for message in messages:
            state, outputs = self.stage.step(self.state, [message])
            self.state = SteeringState.model_validate_json(state.model_dump_json()) if state is not None else None
            self.found += [each for each in outputs if isinstance(each, Finding)]

    def goes_on(
        self,
        minutes: int,
        *,
        load: float = 20.0,
        every: int = 4,
        silent: tuple[str, ...] = (),
        **by_name: dict[str, Any],
    ) -> None:
        """Scrapes and ticks every 10 s, and a minute of each replica, a busy one in `every`; those that are `silent` do
        not answer, and `chat_0={...}` changes what that one tells."""
        answer = [name for name in NAMES if name not in silent]
        for _ in range(minutes * 6):
            self.at_s += 10
            for name in NAMES:
                self.send(latest(self.at_s, name, load=load, up=int(name in answer)))
            self.send(latest(self.at_s, None, load=len(answer) * load, instances_up=len(answer)))
            if self.at_s % 60 == 0:
                for name in answer:
                    told = {"busy": self.at_s // 60 % every == 0} | by_name.get(name.replace("-", "_"), {})
                    self.send(minute(self.at_s, name, **told))
            self.send(tick(self.at_s))

    def asked(self, kind: str = "tuning") -> Finding:
        """The newest finding of a kind."""
        return [each for each in self.found if each.kind == kind][-1]

    def does(
        self,
        *,
        setting: Setting,
        names: tuple[str, ...],
        state: EndState = EndState.VERIFIED,
        tiers: bool = False,
    ) -> None:
        """An action that sets replicas anew, and how it ended a minute later."""
        action = tune(self.at_s, setting, *names, tiers=tiers)
        self.send(action)
        self.goes_on(1)
        self.send(outcome(action, self.at_s, state))
