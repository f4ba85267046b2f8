"""A workload in front of stage `sizing`: SLIs, ticks, actions and outcomes, of which each test changes one thing."""

from __future__ import annotations

from typing import Any

from agents.performance.core.sizing_state import SizingSettings, SizingState
from agents.performance.stages import stages
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

START_MS = 1_700_000_100_000 // 60_000 * 60_000
SETTINGS = SizingSettings(target=0.99, default_bounds=(1, 20), startup_s=60.0)


def ms(at_s: float) -> int:
    return START_MS + round(at_s * 1000)


def latest(at_s: float, rps: float | None = 8.0, *, samples: int | None = None, **changes: Any) -> Sli:
    """Four replicas that serve what comes; `changes` replace values, or the fields that are named like them."""
    fields = {name: changes.pop(name) for name in ("instances", "coverage_ratio", "freshness_s") if name in changes}
    values: dict[str, Any] = {"replicas_up": 4.0, "requests_waiting": 0.0, "requests_running": 20.0} | changes
    instances = int(fields.get("instances", values["replicas_up"] or 0))
    told = {name: SliValue(value=value, samples=instances) for name, value in values.items()}
    told["arrivals_per_s"] = SliValue(value=rps, samples=instances if samples is None else samples)
    base: dict[str, Any] = {"coverage_ratio": 1.0, "freshness_s": 0.0, "instances": instances}
    return Sli(
        workload="chat",
        size_s=0,
        start_ms=ms(at_s),
        cause_ms=ms(at_s),
        instances_up=instances,
        values=told,
        cause=f"{rps} {samples}",
        **(base | fields),
    )


def window(
    end_s: float, rps: float | None = 8.0, *, size_s: int = 60, good: int = 476, total: int = 480, waiting: float = 0.0
) -> Sli:
    """Four replicas with room left: two requests a second each, no queue, and no more late than may be."""
    values = {"requests_per_s": rps, "replicas_up": 4.0, "requests_running": 20.0, "requests_waiting": waiting}
    return Sli(
        workload="chat",
        size_s=size_s,
        start_ms=ms(end_s - size_s),
        coverage_ratio=1.0,
        freshness_s=0.0,
        cause_ms=ms(end_s),
        instances=4,
        instances_up=4,
        values={name: SliValue(value=value, samples=1) for name, value in values.items()},
        attainment={"ttft": Attainment(good=good, total=total)},
    )


def tick(at_s: float) -> Tick:
    return Tick(at_ms=ms(at_s), partition=0)


def action(change: int, at_s: float, name: str = "one") -> Action:
    """Adds replicas, or takes some where `change` is below 0."""
    kind = ActionKind.SCALE_UP if change > 0 else ActionKind.SCALE_DOWN
    expect = Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=1)
    return Action(
        workload="chat",
        target="chat/replicas",
        candidate_id=name,
        decision_id=name,
        rule="a-rule",
        priority=1,
        spec=ActionSpec(kind=kind, replicas=abs(change), effect=Effect(expect=expect, by_s=120)),
        mode=Mode.AUTONOMOUS,
        approved_by="mode:autonomous",
        at_ms=ms(at_s),
        cause_ms=ms(at_s),
        start_by_ms=ms(at_s + 30),
    )


def outcome(
    of: Action,
    at_s: float,
    state: EndState = EndState.VERIFIED,
    began_s: float | None = None,
    reasons: tuple[str, ...] = (),
) -> Outcome:
    began_ms = None if state is EndState.REFUSED else of.at_ms if began_s is None else ms(began_s)
    return Outcome(action=of, end_state=state, at_ms=ms(at_s), began_ms=began_ms, reasons=reasons)


LEARNT_S = 300
"""By then it is known what a replica can do."""


class Sizer:
    """The running stage. Between any two messages its state goes through JSON, as it does between batches."""

    def __init__(self, settings: SizingSettings = SETTINGS) -> None:
        (self.stage,) = stages(settings)
        self.state: SizingState | None = None
        self.at_s = 0.0

    def send(self, *messages: Message) -> list[Finding]:
        found: list[Finding] = []
        for message in messages:
            state, outputs = self.stage.step(self.state, [message])
            self.state = SizingState.model_validate_json(state.model_dump_json()) if state is not None else None
            found += [each for each in outputs if isinstance(each, Finding)]
        return found

    def goes_on(self, seconds: int, rps: float | None = 8.0, **changes: Any) -> list[Finding]:
        """Scrapes and ticks every 5 s. Windows tell of a queue from the second to the fifth minute: then it is known
        what a replica can do."""
        found: list[Finding] = []
        for _ in range(0, seconds, 5):
            self.at_s += 5
            found += self.send(latest(self.at_s, rps, **changes))
            if self.at_s in (120, 180, 240, 300):
                found += self.send(window(self.at_s, waiting=40.0, good=240))
            found += self.send(tick(self.at_s))
        return found
