"""Logs that stage `arbiter` may meet: sets and reviews in any order, people who answer, forget and contradict each
other, outcomes that come late or never, clocks that are wrong, and repeats of all of it."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from agents.core.arbiter_settings import ArbiterSettings, Limits
from contracts.events import (
    Action,
    Candidate,
    CandidateSet,
    ControlKind,
    Decision,
    EndState,
    Message,
    Mode,
    Risk,
    Verdict,
)
from tests.agents.arbiter_desk import Desk, answer, by_hand, control, down, ended, found, judged, settings, tick, up

SETTINGS: tuple[ArbiterSettings, ...] = (
    settings(approval_ttl_wall_s=8.0, manual_hold_s=60.0, overdue_s=5.0),
    settings(approval_ttl_wall_s=8.0, default_mode=Mode.SEMI_AUTONOMOUS, manual_hold_s=20.0),
    settings(approval_ttl_wall_s=3.0, default_mode=Mode.ADVISORY),
    settings(has_controller=False, default_mode=Mode.AUTONOMOUS, approval_ttl_wall_s=8.0),
    settings(
        default_limits=Limits(min_replicas=1, max_replicas=12, up_cooldown_s=0, down_cooldown_s=0),
        manual_hold_s=0.0,
        approval_ttl_wall_s=20.0,
    ),
    settings(default_limits=Limits(max_step_down_ratio=0.5), approval_ttl_wall_s=8.0),
)


class Scribe:
    """Writes a log step by step, with a desk beside it so that people and executors react to what was decided."""

    def __init__(self, seed: int, with_settings: ArbiterSettings) -> None:
        self.rng, self.desk = random.Random(seed), Desk(with_settings)
        self.settings = with_settings
        self.log: list[Message] = []
        self.at_s = 0.0
        self.sets: list[CandidateSet] = []

    def write(self, message: Message | None) -> None:
        if message is not None:
            self.log.append(message)
            self.desk.send(message)

    def candidate(self, replicas: int | None) -> Candidate:
        """One of a few rules; those that take capacity have the lower priority as a rule."""
        rng = self.rng
        make: Callable[..., Candidate] = rng.choice([up, down])
        more: dict[str, Any] = {} if make is up else {"value": None if rng.random() < 0.1 else 1.5}
        rule = f"{make.__name__}-{rng.randrange(3)}"
        priority = rng.randrange(400, 1000) if make is up else rng.randrange(600)
        asks, seen = rng.choice([1, 1, 2, 5]), 4 if replicas is None else replicas
        made = make(asks=asks, seen=seen, rule=rule, priority=priority, **more)
        soon = made.spec.effect.model_copy(update={"by_s": 2.0})  # so that some are overdue before the log ends
        stacks = make is up and rng.random() < 0.4
        return made.model_copy(update={"spec": made.spec.model_copy(update={"effect": soon, "stacks": stacks})})

    def candidates(self) -> CandidateSet:
        replicas = self.rng.choice([3, 4, 4, 5, 5, 6, 7] * 2 + [None, 0, 1, 9])
        count = self.rng.choice([1, 1, 2, 3])
        rules = {each.rule: each for each in (self.candidate(replicas) for _ in range(count))}
        coverage = 0.4 if self.rng.random() < 0.1 else 1.0
        made = found(*rules.values(), at_s=self.at_s, replicas=replicas, coverage_ratio=coverage)
        self.sets.append(made)
        return made

    def review(self) -> Message | None:
        rng = self.rng
        if not self.sets:
            return None
        waiting = self.desk.state.pending if self.desk.state else ()
        asked = rng.choice(waiting or self.sets[-1:]) if rng.random() < 0.9 else rng.choice(self.sets)
        rules = [each.rule for each in asked.candidates if rng.random() < 0.95]
        return judged(
            asked,
            only=rules,
            verdict=rng.choice([Verdict.APPROVE] * 7 + [Verdict.DEMOTE, Verdict.DEMOTE, Verdict.VETO]),
            confidence=rng.choice([0.99, 0.99, 0.95, 0.7, 0.3]),
            risk=rng.choice([Risk.LOW] * 4 + [Risk.MEDIUM, Risk.HIGH]),
            failure="timed out" if rng.random() < 0.05 else "",
            degraded=rng.random() < 0.05,
        )

    def approval(self) -> Message | None:
        rng, told = self.rng, self.desk.decisions
        if not told:
            return None
        asked = [each for each in told if each.expires_wall_ms is not None]
        decision: Decision = rng.choice(asked[-4:] if asked and rng.random() < 0.9 else told)
        late_s = rng.choice([0.0, 0.0, 0.0, 500.0, -500.0])
        actor = rng.choice(["ann", "bob", "eve"])
        return answer(decision, actor, approve=rng.random() < 0.8, at_s=self.at_s + late_s, reason="so it is")

    def control(self) -> Message:
        rng = self.rng
        kind = rng.choice([ControlKind.MODE, ControlKind.KILL, *[ControlKind.RESUME] * 8])
        mode = rng.choice(list(Mode)) if kind is ControlKind.MODE else None
        return control(kind, mode=mode, at_s=self.at_s - rng.choice([0.0] * 5 + [90.0]), actor=rng.choice("ab"))

    def outcome(self) -> Message | None:
        flights = self.desk.state.flights if self.desk.state else ()
        actions = [each.action for each in flights if each.told or not self.lost(each.action)]
        if not actions:
            return None
        action: Action = self.rng.choice(actions)
        after = self.rng.choice([{}, {}, {"replicas_up": 5.0}])
        return ended(action, self.rng.choice(list(EndState)), at_s=self.at_s, after=after)

    def lost(self, action: Action) -> bool:
        """Of some actions nobody says how they ended, until people were told of it."""
        return self.settings.overdue_s < 60 and int(action.id, 16) % 4 == 0

    def step(self) -> None:
        rng = self.rng
        self.at_s += rng.choice([0.0, 0.2, 0.5, 1.0])
        what = rng.random()
        if what < 0.22:
            self.at_s = float(int(self.at_s) + rng.choice([1] * 5 + [2] * 5 + [5, 5, 20, 20, 150]))
            self.write(tick(self.at_s))
        elif what < 0.38:
            made = self.candidates()
            if rng.random() < 0.9:
                self.write(made)
        elif what < 0.64:
            self.write(self.review())
        elif what < 0.74:
            self.write(self.approval())
        elif what < 0.79:
            self.write(self.control())
        elif what < 0.80:
            self.write(by_hand(self.at_s + rng.choice([0.0, 0.0, 400.0]), number=len(self.log)))
        elif what < 0.94:
            self.write(self.outcome())
        elif self.log:
            self.write(rng.choice(self.log[-20:]))


def played(seed: int, steps: int = 200) -> tuple[Desk, ArbiterSettings, list[Message]]:
    """A desk that was told a log message by message, under which people and executors reacted as it says; the last
    ticks end what waits."""
    with_settings = SETTINGS[seed % len(SETTINGS)]
    scribe = Scribe(seed, with_settings)
    scribe.write(found(at_s=0))
    for _ in range(steps):
        scribe.step()
    scribe.write(tick(scribe.at_s + 60))
    return scribe.desk, with_settings, scribe.log


def recorded(seed: int, steps: int = 200) -> tuple[ArbiterSettings, list[Message]]:
    """The log alone, and the settings."""
    return played(seed, steps)[1:]
