"""What agents find: evidence worked into numbers, on which rules may rest."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from contracts.catalog.findings import FINDINGS, KINDS
from contracts.events.base import Message, Name
from contracts.laws.ids import cause_id

WORDS_LIMIT = 2000
"""Longest words of a finding, characters."""


class Finding(Message):
    """One conclusion of an agent about a workload, with every number that made it.

    Topic `optiinfra.findings.v1`, key workload, public. Written by stages of `agents`, read by stage `rules`, anyone.
    At least once; a repeat carries the same id. `values` are those of its `kind` in `optiinfra catalog findings`; one
    that is not known is left out, never zero. `freshness_s` is how old the evidence behind it was at `at_ms`,
    `cause_ms` the event time of the scrape that made the newest of it. `words` explain it to people, decide nothing.
    `by_replica` is one number for each replica that it speaks of: the share of requests that it should have (balance),
    or 1 for each whose settings are to be changed (tuning).
    """

    TYPE: ClassVar[str] = "optiinfra.findings.v1"

    workload: Name
    kind: Name
    at_ms: int
    cause_ms: int
    freshness_s: float = Field(default=0.0, ge=0)
    values: dict[str, float] = {}
    words: str = Field(default="", max_length=WORDS_LIMIT)
    by_replica: dict[Name, float] = Field(default={}, max_length=1000)

    @model_validator(mode="after")
    def _known(self) -> Finding:
        if self.kind not in KINDS:
            raise ValueError(f"no kind of finding {self.kind!r}: there are {', '.join(KINDS)}")
        for name in self.values:
            if name not in FINDINGS or FINDINGS[name].kind != self.kind:
                raise ValueError(f"{name!r} is no number of a finding of kind {self.kind}")
        return self

    @property
    def size_s(self) -> int:
        """Seconds that it speaks for: its window, as rules see it."""
        return KINDS[self.kind]

    @property
    def end_ms(self) -> int:
        """When it was found: the end of its window."""
        return self.at_ms

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("finding", self.workload, self.kind, self.at_ms)

    def value(self, name: str) -> float | None:
        """One of its numbers, None when it is not known."""
        return self.values.get(name)
