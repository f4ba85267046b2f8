"""The rule language: what a pack file may say. Data throughout: there is no expression to parse.

A pack has conditions over SLIs and findings, and rules that combine conditions into one typed action
(`rules.core.asking`). What holds between the parts of a pack (names, priorities, what may rest on missing data) is
checked in `rules.core.checks`.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from contracts.catalog.findings import FINDINGS, KINDS, span_s
from contracts.catalog.slis import SLIS
from contracts.laws.bounds import Bound, Comparator
from contracts.laws.ids import cause_id

WINDOWS: dict[str, int] = {"latest": 0, "10s": 10, "60s": 60, "300s": 300}
"""Windows by name, seconds; `latest` is the newest scrapes, with no window behind it."""

_UNITS = {"s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"(\d{1,9}(?:\.\d{1,3})?)(s|m|h)", re.ASCII)
SEE_SLIS = "See optiinfra catalog slis."
SEE_FINDINGS = "See optiinfra catalog findings."


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
    if isinstance(text, str) and text in FINDINGS:
        raise wrong(f"{text!r} is a number of a finding, not an SLI", fix=f"Write `finding: {text}`, without a window.")
    if isinstance(text, str) and text not in SLIS:
        raise wrong(f"unknown SLI {text!r}", "slis", SEE_SLIS)
    return text


def _finding(text: object) -> object:
    if isinstance(text, str) and text in SLIS:
        raise wrong(f"{text!r} is an SLI, not a number of a finding", fix=f"Write `sli: {text}` and a `window`.")
    if isinstance(text, str) and text not in FINDINGS:
        raise wrong(f"unknown finding {text!r}", "findings", SEE_FINDINGS)
    return text


def _missing(told: object) -> object:
    """YAML reads a bare `true` and `false` as booleans; here they are words beside `keep`."""
    return {True: "true", False: "false"}.get(told, told) if isinstance(told, bool) else told


def window_name(size_s: int) -> str:
    """The name of a window, as it is written in a pack; a finding has none."""
    if size_s in KINDS.values():
        return "finding"
    return f"{size_s}s" if size_s else "latest"


Ident = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
SliName = Annotated[str, BeforeValidator(_sli)]
FindingName = Annotated[str, BeforeValidator(_finding)]
WindowSize = Annotated[int, BeforeValidator(_window)]
Number = Annotated[float, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
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


def one_comparator(clause: Any) -> tuple[str, Any]:
    """The one comparison that a clause makes, and with what. Raises where there is none, or more than one."""
    told = [(name, value) for name in COMPARATORS if (value := getattr(clause, name)) is not None]
    if len(told) != 1:
        said = " and ".join(name for name, _ in told) or "none"
        raise wrong(f"one comparison is needed, not {said}", fix=f"Keep one of {', '.join(COMPARATORS)}.")
    return told[0]


def has_window(sli: str, size_s: int) -> None:
    """Raise where an SLI has no value over a window of this size."""
    if size_s == 0 and not SLIS[sli].latest:
        windows = ", ".join(name for name, size in WINDOWS.items() if size)
        raise wrong(f"{sli!r} has no latest value", fix=f"Choose a window: {windows}.")
    if size_s and not SLIS[sli].windows:
        raise wrong(f"{sli!r} has a latest value alone", fix="Write `window: latest`.")


class Source(Clause):
    """What is looked at: an SLI over a window, or a number of a finding, which speaks for a span of its own."""

    sli: SliName | None = None
    window: WindowSize | None = None
    finding: FindingName | None = None

    @property
    def name(self) -> str:
        """Of the SLI or of the finding's number; empty where neither is said."""
        return self.sli or self.finding or ""

    @property
    def size_s(self) -> int:
        """The window in seconds: that of an SLI (0: the latest value), or what a finding speaks for."""
        return span_s(self.finding) if self.finding else self.window or 0

    def look(self, *, windowed: bool) -> None:
        """Raise where it does not say one thing to look at; `windowed`: an SLI must name its window."""
        if self.finding is not None:
            if self.sli is not None:
                raise wrong("an SLI and a finding are two things to look at", fix="Keep `sli` or `finding`.")
            if self.window is not None:
                raise wrong(f"the finding {self.finding!r} has no windows", fix="Leave `window` out.")
            return
        if self.sli is None:
            raise wrong("it looks at nothing", fix="Write `sli` and `window`, or `finding`.")
        if windowed and self.window is None:
            raise wrong(f"nothing says over which window {self.sli!r} is", fix=f"Add `window`: {', '.join(WINDOWS)}.")
        has_window(self.sli, self.window or 0)


class Condition(Source):
    """One comparison of an SLI or a finding, held for a while. One of `above`, `at_least`, `below`, `at_most`.

    `until` is hysteresis: once the comparison was true it is made with `until` in place of the bound, so it stays true
    until the value is back past it. `for` is Prometheus': true without a break for so long.
    """

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
        name, value = one_comparator(self)
        self.look(windowed=True)
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
        name, value = one_comparator(self)
        return Bound(sli=self.name, size_s=self.size_s, comparator=COMPARATORS[name], value=value)

    @property
    def content(self) -> str:
        """A hash of all that changes what it means; its doc does not."""
        return cause_id(self.model_dump_json(exclude={"doc"}))[:8]
