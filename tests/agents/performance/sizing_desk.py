"""A workload in front of stage `sizing`: what its SLIs tell, orders of replicas, and a log of anything."""

from __future__ import annotations

import random
from typing import Any

from agents.performance.core.sizing_state import SizingSettings, SizingState
from agents.performance.stages import stages
from contracts.events import Action, ActionKind, EndState, Finding, Message, Sli, SliValue
from contracts.laws.attainment import Attainment
from tests.agents.watching_desk import Desk, ordered, outcome, tick, told

SETTINGS = SizingSettings(target=0.99, default_bounds=(1, 20), startup_s=60.0)


def latest(at_s: float, rps: float | None = 8.0, *, samples: int | None = None, **changes: Any) -> Sli:
    """Four replicas that serve what comes; `changes` replace values, or the fields that are named like them."""
    fields = {name: changes.pop(name) for name in ("instances", "coverage_ratio", "freshness_s") if name in changes}
    numbers: dict[str, Any] = {"replicas_up": 4.0, "requests_waiting": 0.0, "requests_running": 20.0} | changes
    instances = int(fields.get("instances", numbers["replicas_up"] or 0))
    values = {name: SliValue(value=value, samples=instances) for name, value in numbers.items()}
    values["arrivals_per_s"] = SliValue(value=rps, samples=instances if samples is None else samples)
    return told(at_s, 0, values, many=instances, cause=f"{rps} {samples}", **fields)


def window(
    end_s: float, rps: float | None = 8.0, *, size_s: int = 60, good: int = 476, total: int = 480, waiting: float = 0.0
) -> Sli:
    """Four replicas with room left: two requests a second each, no queue, and no more late than may be."""
    values = {"requests_per_s": rps, "replicas_up": 4.0, "requests_running": 20.0, "requests_waiting": waiting}
    samples = {name: SliValue(value=value, samples=1) for name, value in values.items()}
    return told(end_s, size_s, samples, many=4, attainment={"ttft": Attainment(good=good, total=total)})


def action(change: int, at_s: float, name: str = "one") -> Action:
    """Adds replicas, or takes some where `change` is below 0."""
    kind = ActionKind.SCALE_UP if change > 0 else ActionKind.SCALE_DOWN
    return ordered(at_s, kind, name, replicas=abs(change), by_s=120)


def random_log(seed: int, seconds: int = 600) -> list[Message]:
    """A load that wanders, replicas that come and go, with scrapes missing and late, clocks that are wrong now and
    then, messages told again, and actions of which some are never heard again."""
    rng = random.Random(seed)
    log: list[Message] = []
    actions: list[Action] = []
    rps, up, scrape_s = rng.uniform(1, 20), 4, rng.choice([2, 5, 5, 15])
    for at_s in range(0, seconds, scrape_s):
        rps = max(0.0, rps * rng.uniform(0.8, 1.25))
        up = max(1, min(9, up + rng.choice([0] * 12 + [-1, 1])))
        wrong_s = rng.choice([0.0] * 30 + [-40.0, 3.0, 40.0, 500.0])
        if rng.random() < 0.92:
            told = rng.choice([up] * 9 + [max(0, up - 1), 0])
            known = None if rng.random() < 0.03 else rps
            shares = {"coverage_ratio": rng.choice([1.0] * 9 + [0.3]), "freshness_s": rng.choice([0.0] * 9 + [50.0])}
            log.append(latest(at_s + wrong_s, known, samples=told, instances=up, replicas_up=float(up), **shares))
        for size_s in (10, 60, 300):
            if at_s % size_s == 0 and rng.random() < 0.9:
                log.append(window(at_s, rps, size_s=size_s, good=rng.randrange(400, 481)))
        if rng.random() < 0.05:
            actions.append(action(rng.choice([-2, -1, 1, 2, 3]), at_s, f"number {at_s}"))
            log.append(actions[-1])
        if actions and rng.random() < 0.05:
            log.append(outcome(rng.choice(actions), at_s, rng.choice(list(EndState))))
        if log and rng.random() < 0.1:
            log.append(rng.choice(log[-8:]))
        if rng.random() < 0.95:
            log.append(tick(at_s))
    return log


LEARNT_S = 300
"""By then it is known what a replica can do."""


class Sizer(Desk[SizingState]):
    """The running stage."""

    def __init__(self, settings: SizingSettings = SETTINGS) -> None:
        super().__init__(stages(settings)[0], SizingState)

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
