"""What tests of the engines share: rules by chance, an engine whose troubles are kept, child processes."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psutil
from hypothesis import strategies as st

from rules.core.reference import fire
from rules.core.shapes import Facts, RuleShape
from rules.engines.durable import DurableEngine

PATIENCE_S = 30.0
CONDITIONS = tuple(f"condition-{n}" for n in range(30))

RULES = (
    RuleShape("burn", 900, all=("slow", "busy"), none=("held", "new")),
    RuleShape("queue", 800, any=("queue", "slow", "busy")),
    RuleShape("slack", 100, all=("idle",), any=("cheap", "held"), none=("queue",)),
)
NAMES = ("slow", "busy", "held", "new", "queue", "idle", "cheap")


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Troubles(list[tuple[str, str]]):
    """What an engine told."""

    def __call__(self, name: str, detail: str) -> None:
        self.append((name, detail))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self]


@contextmanager
def running(rules: Sequence[RuleShape] = RULES, **options: Any) -> Iterator[tuple[DurableEngine, Troubles, Clock]]:
    troubles, clock = Troubles(), Clock()
    engine = DurableEngine(rules, on_trouble=troubles, clock_s=clock, **options)
    try:
        yield engine, troubles, clock
    finally:
        engine.close()


def moment(*holding: str, names: Sequence[str] = NAMES) -> Facts:
    return {name: name in holding for name in names}


def every_moment() -> list[Facts]:
    """All that can be said of the conditions of RULES."""
    return [{name: bool(n >> bit & 1) for bit, name in enumerate(NAMES)} for n in range(2 ** len(NAMES))]


def right(rules: Sequence[RuleShape], moments: Sequence[Facts]) -> list[tuple[str, ...]]:
    return [fire(rules, facts) for facts in moments]


def script(text: str) -> tuple[str, ...]:
    """A child process other than the real one."""
    return (sys.executable, "-c", text)


def gone(pid: int) -> bool:
    """Neither running nor waiting to be noted as ended."""
    return not psutil.pid_exists(pid)


def until(seen: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not seen():
        assert time.monotonic() < deadline_s, "waited in vain"
        time.sleep(0.02)


def children() -> set[int]:
    """Child processes of this one, ended ones that nobody took note of too."""
    return {child.pid for child in psutil.Process(os.getpid()).children()}


@st.composite
def rule_sets(draw: st.DrawFn, *, most: int = 40) -> list[RuleShape]:
    """Up to `most` rules over the conditions, in any order, with priorities of their own; lists may repeat a name and
    contradict one another."""
    priorities = draw(st.lists(st.integers(0, 65_535), min_size=1, max_size=most, unique=True))
    names = st.lists(st.sampled_from(CONDITIONS), max_size=5).map(tuple)
    some = st.lists(st.sampled_from(CONDITIONS), min_size=1, max_size=5).map(tuple)
    made = []
    for n, priority in enumerate(priorities):
        every, any_of = draw(st.one_of(st.tuples(some, names), st.tuples(names, some)))
        made.append(RuleShape(f"rule-{n}", priority, every, any_of, draw(names)))
    return made


def facts() -> st.SearchStrategy[Facts]:
    """Moments of which all conditions are told; from none that holds to all."""
    return st.one_of(
        st.fixed_dictionaries({name: st.booleans() for name in CONDITIONS}),
        st.sets(st.sampled_from(CONDITIONS), max_size=3).map(lambda held: moment(*held, names=CONDITIONS)),
        st.sets(st.sampled_from(CONDITIONS), max_size=3).map(
            lambda out: {name: name not in out for name in CONDITIONS}
        ),
    )
