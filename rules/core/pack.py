"""A pack file as a whole: rules with their own tests, over the conditions of the same file."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from contracts.catalog.slis import SLIS
from rules.core.language import (
    WINDOWS,
    ActionClause,
    Amount,
    Clause,
    Condition,
    Doc,
    Duration,
    EffectClause,
    Ident,
    Number,
    Target,
    UndoClause,
    Whole,
    window_name,
    wrong,
)

Names = Annotated[tuple[Ident, ...], Field(max_length=50)]


def place_of_value(text: str) -> tuple[str, int]:
    """The SLI and window size, seconds, of a value in a test: `ttft_burn_rate@10s`; without a window the latest.

    >>> place_of_value("ttft_burn_rate@10s"), place_of_value("replicas_up")
    (('ttft_burn_rate', 10), ('replicas_up', 0))
    """
    sli, _, window = text.partition("@")
    if sli not in SLIS:
        raise wrong(f"unknown SLI {sli!r}", "slis", "See optiinfra catalog slis.")
    if window not in WINDOWS and "@" in text:
        raise wrong(f"{window!r} is no window", fix=f"There are {', '.join(WINDOWS)}.")
    if not WINDOWS.get(window, 0) and not SLIS[sli].latest:
        raise wrong(f"{sli!r} has no latest value", fix=f"Say which window: {sli}@10s.")
    if WINDOWS.get(window, 0) and not SLIS[sli].windows:
        raise wrong(f"{sli!r} has a latest value alone", fix=f"Write {sli}, without a window.")
    return sli, WINDOWS.get(window, 0)


class Given(Clause):
    """Values from a moment on. Each is told again whenever its window ends, until it is given anew; null is missing."""

    at: Duration
    values: Annotated[dict[str, Number | None], Field(min_length=1, max_length=100)]

    @field_validator("values")
    @classmethod
    def _known(cls, values: dict[str, float | None]) -> dict[str, float | None]:
        for text in values:
            place_of_value(text)
        return values

    @model_validator(mode="after")
    def _on_an_edge(self) -> Self:
        for text in self.values:
            _, size_s = place_of_value(text)
            if size_s and self.at % size_s:
                told = ", ".join(f"{n * size_s}s" for n in range(3))
                raise wrong(
                    f"{text!r} changes at {self.at:g}s, where no {window_name(size_s)} window ends",
                    fix=f"Such windows are told at {told} and so on.",
                )
        return self


class Expect(Clause):
    """When the rule first fires, and with how many replicas; or that it never does."""

    fires_at: Duration | None = None
    fires: Literal["never"] | None = None
    replicas: Annotated[Whole, Field(ge=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.fires_at is None) == (self.fires is None):
            raise wrong("a test expects `fires_at: 10s` or `fires: never`", fix="Write one of them.")
        if self.fires and self.replicas:
            raise wrong("what never fires has no replicas", fix="Leave them out.")
        return self


class Case(Clause):
    """One test of a rule: a series of SLI values in event time, and what the rule makes of it."""

    given: Annotated[tuple[Given, ...], Field(min_length=1, max_length=100)]
    until: Annotated[Duration, Field(gt=0, le=3600)]
    expect: Expect

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        moments = [each.at for each in self.given]
        if moments != sorted(set(moments)):
            raise wrong("the moments of `given` must rise", fix="Sort them, each once.")
        if max(moments[-1], self.expect.fires_at or 0) > self.until:
            raise wrong(f"the test ends at {self.until:g}s, before all of it has come", fix="Raise `until`.")
        return self


class Rule(Clause):
    """When all of `all`, one of `any` and none of `none` hold, propose `action`; again after `cooldown` at the soonest.

    Of rules that fire together the highest `priority` goes first.
    """

    version: Annotated[Whole, Field(ge=1)]
    priority: Annotated[Whole, Field(ge=0, le=65_535)]
    doc: Doc
    runbook: Doc
    cooldown: Annotated[Duration, Field(gt=0)]
    all: Names = ()
    any: Names = ()
    none: Names = ()
    action: ActionClause
    effect: EffectClause
    undo: UndoClause | None = None
    tests: Annotated[dict[Ident, Case], Field(max_length=100)]

    @property
    def targets(self) -> tuple[Target, ...]:
        """Every bound that it speaks of beside its conditions."""
        return (*self.effect.targets, *(self.undo.guards if self.undo else ()))

    @property
    def amount(self) -> Amount:
        """How many replicas it asks for."""
        return self.action.replicas


class Pack(Clause):
    """One file of the rule language."""

    pack: Ident
    version: Annotated[Whole, Field(ge=1)]
    doc: Doc
    conditions: Annotated[dict[Ident, Condition], Field(min_length=1, max_length=500)]
    rules: Annotated[dict[Ident, Rule], Field(min_length=1, max_length=500)]
