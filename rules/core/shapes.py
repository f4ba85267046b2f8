"""The shape of a rule that an engine needs: names of conditions, and nothing of what they mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Facts = Mapping[str, bool]
"""The conditions of one workload at one moment: every condition that the rules name is in it."""


@dataclass(frozen=True)
class RuleShape:
    """A rule fires when all of `all`, at least one of `any` (if any are named) and none of `none` hold. At least one
    of `all` and `any` is not empty. `priority` is unique in a set of rules; the higher one is told first."""

    name: str
    priority: int
    all: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    none: tuple[str, ...] = ()


class Engine(Protocol):
    """Decides which rules fire. For each set of facts: the names of the rules that fire, highest priority first.

    Every member gives the same answer as `rules.core.reference.fire`; how it got there is its own affair.
    """

    name: str

    def fire(self, moments: Sequence[Facts]) -> list[tuple[str, ...]]: ...

    def close(self) -> None: ...
