"""What a rule asks for: how many replicas, what is expected of them and by when, and what must hold meanwhile.

How many, and by when, may rest on what agents find. What verifies and guards an action may not: that is what users and
scrapes see, or an agent would grade its own work.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from contracts.catalog.findings import FINDINGS
from contracts.events import ActionKind
from contracts.laws.bounds import Comparator
from rules.core.language import (
    COMPARATORS,
    Clause,
    Duration,
    FindingName,
    Number,
    SliName,
    Source,
    Whole,
    WindowSize,
    has_window,
    one_comparator,
    wrong,
)

_SEEN = "What verifies or guards an action is an SLI: what users and scrapes see, never what an agent thinks of it."


def _step(told: object) -> object:
    if told != "replicas" and (isinstance(told, bool) or not isinstance(told, int | float)):
        raise wrong(f"{told!r} is no number", fix="Write one, or `replicas` for those of the action.")
    return told


def _seen(text: object) -> object:
    if isinstance(text, str) and text in FINDINGS:
        raise wrong(f"{text!r} is a number of a finding", fix=_SEEN)
    return text


Step = Annotated[float | Literal["replicas"], BeforeValidator(_step)]
SeenName = Annotated[SliName, BeforeValidator(_seen)]


class Amount(Source):
    """How many: `exactly` a number, or an SLI or finding times a factor, over a divisor, plus a term, rounded, within
    limits. `share` is one: of the replicas that answer now, rounded down, one at least.

    A bare number is short for `exactly`. Where the value is missing there is no number, and nothing is proposed.
    """

    exactly: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    times: Number = 1.0
    over: Annotated[Number, Field(gt=0)] = 1.0
    plus: Number = 0.0
    round: Literal["up", "down"] = "up"
    least: Annotated[Whole, Field(ge=1, le=1000)] = 1
    most: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    share: Annotated[Number, Field(gt=0, le=10)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, told: object) -> object:
        return {"exactly": told} if isinstance(told, int) and not isinstance(told, bool) else told

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.exactly is not None:
            if len(self.model_fields_set) > 1:
                raise wrong("a fixed number is not worked out as well", fix="Keep `exactly`, or the SLI and its terms.")
            return self
        if not self.name or self.most is None:
            raise wrong("a number that is worked out needs `sli` and `most`", fix="Or write a plain number.")
        if self.most < self.least:
            raise wrong(f"most {self.most} is below least {self.least}")
        self.look(windowed=False)
        return self


class Span(Clause):
    """How long: `exactly` so many seconds, or a finding in seconds times a factor plus a term, between `least` and
    `most`. Where the finding is missing it is `on_missing`, else `most`: doubt gives time and stops nothing.

    A bare duration is short for `exactly`.
    """

    exactly: Annotated[Duration, Field(gt=0)] | None = None
    finding: FindingName | None = None
    times: Annotated[Number, Field(gt=0)] = 1.0
    plus: Duration = 0.0
    least: Annotated[Duration, Field(gt=0)] | None = None
    most: Annotated[Duration, Field(gt=0)] | None = None
    on_missing: Annotated[Duration, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, told: object) -> object:
        return told if isinstance(told, Mapping) else {"exactly": told}

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.exactly is not None:
            if len(self.model_fields_set) > 1:
                raise wrong("a fixed time is not worked out as well", fix="Keep the duration, or the finding.")
            return self
        if self.finding is None or self.least is None or self.most is None:
            raise wrong("a time that is worked out needs `finding`, `least` and `most`", fix="Or write a duration.")
        if (unit := FINDINGS[self.finding].unit) != "s":
            known = ", ".join(name for name, each in FINDINGS.items() if each.unit == "s")
            raise wrong(f"{self.finding!r} is no time: its unit is {unit}", fix=f"There is {known}.")
        if not self.least <= (self.most if self.on_missing is None else self.on_missing) <= self.most:
            raise wrong("least, on_missing and most do not rise", fix="Put them in order.")
        return self

    @property
    def shortest_s(self) -> float:
        """The least that it can be, seconds."""
        return self.exactly or self.least or 0.0


class Level(Clause):
    """A value to expect: a number, or what an SLI is now, plus or minus a number or the action's `replicas`.

    `{now: replicas_up, plus: replicas}` is the replicas of the moment and those that the action adds.
    """

    value: Number | None = None
    now: SeenName | None = None
    plus: Step | None = None
    minus: Step | None = None

    @model_validator(mode="before")
    @classmethod
    def _bare(cls, told: object) -> object:
        return {"value": told} if isinstance(told, int | float) and not isinstance(told, bool) else told

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.value is not None and len(self.model_fields_set) > 1:
            raise wrong("a fixed value is not worked out as well", fix="Keep the number, or `now` with plus or minus.")
        if self.value is None and (self.now is None or (self.plus is None) == (self.minus is None)):
            raise wrong(
                "a value is a number, or `now` with one of plus and minus", fix="As {now: replicas_up, plus: replicas}."
            )
        return self


class Target(Clause):
    """A bound of an effect: an SLI over a window against a Level. Exactly one of the four comparisons."""

    sli: SeenName
    window: WindowSize
    above: Level | None = None
    at_least: Level | None = None
    below: Level | None = None
    at_most: Level | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_finding(cls, told: object) -> object:
        if isinstance(told, Mapping) and "finding" in told:
            raise wrong("an effect does not rest on a finding", fix=_SEEN)
        return told

    @model_validator(mode="after")
    def _sound(self) -> Self:
        _, level = one_comparator(self)
        has_window(self.sli, self.window)
        if level.now is not None:
            has_window(level.now, self.window)
        return self

    @property
    def comparison(self) -> tuple[Comparator, Level]:
        """How the SLI is compared, and with what."""
        name, level = one_comparator(self)
        return COMPARATORS[name], level


class ActionClause(Clause):
    """What a rule asks for: a kind of action and how many replicas. A scale-up whose number leaves out what is ordered
    already may say that it `stacks`."""

    kind: ActionKind
    replicas: Amount
    stacks: bool = False

    @model_validator(mode="after")
    def _only_scale_ups_stack(self) -> Self:
        if self.stacks and self.kind is not ActionKind.SCALE_UP:
            raise wrong(f"a {self.kind} does not stack", fix="Leave `stacks` out: it is for scale-ups.")
        return self


class EffectClause(Clause):
    """What the action is expected to do, as `contracts.events.Effect`; durations are event time."""

    expect: Target
    by: Span
    goal: Target | None = None
    guards: Annotated[tuple[Target, ...], Field(max_length=20)] = ()
    settle: Duration = 0.0

    @property
    def targets(self) -> tuple[Target, ...]:
        """All bounds of it."""
        return (self.expect, *((self.goal,) if self.goal else ()), *self.guards)


class UndoClause(Clause):
    """What must hold on fresh evidence before an undo may take capacity away."""

    guards: Annotated[tuple[Target, ...], Field(min_length=1, max_length=20)]
