"""A pack file as a whole: rules with their own tests, over the conditions of the same file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from contracts.catalog.findings import FINDINGS, KINDS, span_s
from contracts.catalog.slis import SLIS
from rules.core.actions import ActionClause, FindingKind
from rules.core.asking import EffectClause, Target, UndoClause
from rules.core.language import WINDOWS, Clause, Condition, Doc, Duration, Ident, Number, Whole, window_name, wrong

Names = Annotated[tuple[Ident, ...], Field(max_length=50)]


def place_of_value(text: str) -> tuple[str, int]:
    """The name and window size, seconds, of a value in a test: `ttft_burn_rate@10s`; an SLI without a window is the
    latest, and a number of a finding has none.

    >>> place_of_value("ttft_burn_rate@10s"), place_of_value("replicas_up"), place_of_value("replicas_short")
    (('ttft_burn_rate', 10), ('replicas_up', 0), ('replicas_short', 15))
    """
    sli, _, window = text.partition("@")
    if sli in FINDINGS:
        if "@" in text:
            raise wrong(f"the finding {sli!r} has no windows", fix=f"Write {sli}.")
        return sli, span_s(sli)
    if sli not in SLIS:
        raise wrong(f"unknown SLI {sli!r}", "values", "See optiinfra catalog slis and optiinfra catalog findings.")
    if window not in WINDOWS and "@" in text:
        raise wrong(f"{window!r} is no window", fix=f"There are {', '.join(WINDOWS)}.")
    if not WINDOWS.get(window, 0) and not SLIS[sli].latest:
        raise wrong(f"{sli!r} has no latest value", fix=f"Say which window: {sli}@10s.")
    if WINDOWS.get(window, 0) and not SLIS[sli].windows:
        raise wrong(f"{sli!r} has a latest value alone", fix=f"Write {sli}, without a window.")
    return sli, WINDOWS.get(window, 0)


class Given(Clause):
    """Values from a moment on. Each is told again whenever its window ends, until it is given anew; null is missing.

    A finding of which every number is null is told no more: its agent is down, and its last word grows old.
    `by_replica` has the replicas that a kind of finding names, and what it says of each."""

    at: Duration
    values: Annotated[dict[str, Number | None], Field(min_length=1, max_length=100)]
    by_replica: Annotated[dict[FindingKind, dict[str, Number]], Field(max_length=10)] = {}

    @field_validator("values")
    @classmethod
    def _known(cls, values: dict[str, float | None]) -> dict[str, float | None]:
        for text in values:
            place_of_value(text)
        return values

    @model_validator(mode="after")
    def _on_an_edge(self) -> Self:
        for text, size_s in self._sizes():
            if size_s and self.at % size_s:
                told = ", ".join(f"{n * size_s}s" for n in range(3))
                finding = size_s in KINDS.values()
                what = "no such finding is told" if finding else f"no {window_name(size_s)} window ends"
                raise wrong(
                    f"{text!r} changes at {self.at:g}s, where {what}",
                    fix=f"Such {'findings' if finding else 'windows'} are told at {told} and so on.",
                )
        return self

    def _sizes(self) -> Iterator[tuple[str, int]]:
        for text in self.values:
            yield text, place_of_value(text)[1]
        for kind in self.by_replica:
            yield f"by_replica of {kind}", KINDS[kind]


class Expect(Clause):
    """When the rule first fires, and with how many replicas, which settings or which of them; or that it never does."""

    fires_at: Duration | None = None
    fires: Literal["never"] | None = None
    replicas: Annotated[Whole, Field(ge=1)] | None = None
    settings: dict[str, Number] | None = None
    by_replica: dict[str, Number] | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.fires_at is None) == (self.fires is None):
            raise wrong("a test expects `fires_at: 10s` or `fires: never`", fix="Write one of them.")
        if self.fires and any(each is not None for each in (self.replicas, self.settings, self.by_replica)):
            raise wrong("what never fires has no replicas", fix="Leave them out.")
        return self


class Case(Clause):
    """One test of a rule: a series of values in event time, and what the rule makes of it."""

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


class Pack(Clause):
    """One file of the rule language."""

    pack: Ident
    version: Annotated[Whole, Field(ge=1)]
    doc: Doc
    conditions: Annotated[dict[Ident, Condition], Field(min_length=1, max_length=500)]
    rules: Annotated[dict[Ident, Rule], Field(min_length=1, max_length=500)]
