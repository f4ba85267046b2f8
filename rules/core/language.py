"""The rule language: what a pack file may say. Data throughout: there is no expression to parse.

A pack has conditions over SLIs, and rules that combine conditions into one typed action. What holds between the parts
of a pack (names, priorities, what may rest on missing data) is checked in `rules.core.checks`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from contracts.catalog.slis import SLIS
from contracts.events import ActionKind
from contracts.laws.bounds import Bound, Comparator
from contracts.laws.ids import cause_id

WINDOWS: dict[str, int] = {"latest": 0, "10s": 10, "60s": 60, "300s": 300}
"""Windows by name, seconds; `latest` is the newest scrapes, with no window behind it."""

_UNITS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|h)", re.ASCII)
_SEES = "See optiinfra catalog slis."


def wrong(what: str, known: str = "", fix: str = "") -> PydanticCustomError:
    """A mistake in a value: `known` is the family of names to look for a similar one in, `fix` what else to say."""
    # Braces would be read as places for the context.
    return PydanticCustomError("rule", "{what}", {"what": what, "known": known, "fix": fix})


def seconds(text: object) -> float:
    """A duration as people write it, in seconds; it carries its unit.

    >>> seconds("20s"), seconds("1.5m")
    (20.0, 90.0)
    """
    found = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise wrong(f"{text!r} is no duration", fix="Write a number and its unit: 20s, 5m or 1h.")
    return float(found[1]) * _UNITS[found[2]]


def _window(text: object) -> int:
    if not isinstance(text, str) or text not in WINDOWS:
        raise wrong(f"{text!r} is no window", fix=f"There are {', '.join(WINDOWS)}.")
    return WINDOWS[text]


def _sli(text: object) -> object:
    if isinstance(text, str) and text not in SLIS:
        raise wrong(f"unknown SLI {text!r}", "slis", _SEES)
    return text


def _missing(told: object) -> object:
    """YAML reads a bare `true` and `false` as booleans; here they are words beside `keep`."""
    return {True: "true", False: "false"}.get(told, told) if isinstance(told, bool) else told


def _step(told: object) -> object:
    if told != "replicas" and (isinstance(told, bool) or not isinstance(told, int | float)):
        raise wrong(f"{told!r} is no number", fix="Write one, or `replicas` for those of the action.")
    return told


def window_name(size_s: int) -> str:
    """The name of a window, as it is written in a pack."""
    return f"{size_s}s" if size_s else "latest"


Ident = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
SliName = Annotated[str, BeforeValidator(_sli)]
WindowSize = Annotated[int, BeforeValidator(_window)]
Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Step = Annotated[float | Literal["replicas"], BeforeValidator(_step)]
Duration = Annotated[float, BeforeValidator(seconds), Field(le=86_400)]
Doc = Annotated[str, StringConstraints(strict=True, strip_whitespace=True, min_length=1, max_length=2000)]


class Clause(BaseModel):
    """Any part of a pack file: closed and frozen."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class OnMissing(StrEnum):
    """What a condition is while its value is missing or too old; `keep`: as it was, and its hold does not grow."""

    FALSE = "false"
    TRUE = "true"
    KEEP = "keep"


COMPARATORS: dict[str, Comparator] = {
    "above": Comparator.GT,
    "at_least": Comparator.GE,
    "below": Comparator.LT,
    "at_most": Comparator.LE,
}


def _one_comparator(clause: Any) -> tuple[str, Any]:
    told = [(name, value) for name in COMPARATORS if (value := getattr(clause, name)) is not None]
    if len(told) != 1:
        said = " and ".join(name for name, _ in told) or "none"
        raise wrong(f"one comparison is needed, not {said}", fix=f"Keep one of {', '.join(COMPARATORS)}.")
    return told[0]


def _has_window(sli: str, size_s: int) -> None:
    if size_s == 0 and not SLIS[sli].latest:
        windows = ", ".join(name for name, size in WINDOWS.items() if size)
        raise wrong(f"{sli!r} has no latest value", fix=f"Choose a window: {windows}.")
    if size_s and not SLIS[sli].windows:
        raise wrong(f"{sli!r} has a latest value alone", fix="Write `window: latest`.")


class Condition(Clause):
    """One comparison of an SLI, held for a while. Exactly one of `above`, `at_least`, `below`, `at_most`.

    `until` is hysteresis: once the comparison was true it is made with `until` in place of the bound, so it stays true
    until the value is back past it. `for` is Prometheus': true without a break for so long.
    """

    sli: SliName
    window: WindowSize
    above: Number | None = None
    at_least: Number | None = None
    below: Number | None = None
    at_most: Number | None = None
    until: Number | None = None
    for_s: Duration = Field(default=0.0, alias="for")
    on_missing: Annotated[OnMissing, BeforeValidator(_missing)]
    doc: Doc

    @model_validator(mode="after")
    def _sound(self) -> Self:
        name, value = _one_comparator(self)
        _has_window(self.sli, self.window)
        high = name in ("above", "at_least")
        if self.until is not None and (self.until >= value if high else self.until <= value):
            side = "below" if high else "above"
            raise wrong(
                f"until {self.until:g} is on the same side as {name} {value:g}", fix=f"It lies {side} {value:g}."
            )
        return self

    @property
    def bound(self) -> Bound:
        """What the value is held against."""
        name, value = _one_comparator(self)
        return Bound(sli=self.sli, size_s=self.window, comparator=COMPARATORS[name], value=value)

    @property
    def content(self) -> str:
        """A hash of all that changes what it means; its doc does not."""
        return cause_id(self.model_dump_json(exclude={"doc"}))[:8]


class Amount(Clause):
    """How many: `exactly` a number, or an SLI times a factor, over a divisor, plus a term, rounded, within limits.

    A bare number is short for `exactly`. Where the SLI is missing there is no number, and nothing is proposed.
    """

    exactly: Annotated[Whole, Field(ge=1, le=1000)] | None = None
    sli: SliName | None = None
    window: WindowSize = 0
    times: Number = 1.0
    over: Annotated[Number, Field(gt=0)] = 1.0
    plus: Number = 0.0
    round: Literal["up", "down"] = "up"
    least: Annotated[Whole, Field(ge=1, le=1000)] = 1
    most: Annotated[Whole, Field(ge=1, le=1000)] | None = None

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
        if self.sli is None or self.most is None:
            raise wrong("a number that is worked out needs `sli` and `most`", fix="Or write a plain number.")
        if self.most < self.least:
            raise wrong(f"most {self.most} is below least {self.least}")
        _has_window(self.sli, self.window)
        return self


class Level(Clause):
    """A value to expect: a number, or what an SLI is now, plus or minus a number or the action's `replicas`.

    `{now: replicas_up, plus: replicas}` is the replicas of the moment and those that the action adds.
    """

    value: Number | None = None
    now: SliName | None = None
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

    sli: SliName
    window: WindowSize
    above: Level | None = None
    at_least: Level | None = None
    below: Level | None = None
    at_most: Level | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        _, level = _one_comparator(self)
        _has_window(self.sli, self.window)
        if level.now is not None:
            _has_window(level.now, self.window)
        return self

    @property
    def comparison(self) -> tuple[Comparator, Level]:
        """How the SLI is compared, and with what."""
        name, level = _one_comparator(self)
        return COMPARATORS[name], level


class ActionClause(Clause):
    """What a rule asks for: a kind of action and how many replicas."""

    kind: ActionKind
    replicas: Amount


class EffectClause(Clause):
    """What the action is expected to do, as `contracts.events.Effect`; durations are event time."""

    expect: Target
    by: Annotated[Duration, Field(gt=0)]
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
