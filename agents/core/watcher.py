"""One shell for every stage that watches a workload: what is told is folded in, and ticks are looks at what is known.

Time is what ticks say. An SLI that is far from the newest tick is of a wrong clock, or too late to count.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Generic, Protocol, Self, TypeVar

from contracts.clock import AHEAD_S
from contracts.events import Action, Message, Outcome, Sli, Tick


@dataclass(frozen=True, kw_only=True)
class Patience:
    """Limits of every watcher, event seconds, as in stage `rules`: an SLI `park_s` past the newest tick is of a wrong
    clock, and a first one `ahead_s` past the first tick too; a workload without SLIs for `forget_s` is forgotten."""

    ahead_s: float = AHEAD_S
    park_s: float = 60.0
    forget_s: float = 3600.0


class Known(Protocol):
    """What every watcher knows of a workload: `heard_ms` is the end of the newest SLI, `tick_ms` the newest tick."""

    @property
    def workload(self) -> str: ...

    @property
    def heard_ms(self) -> int: ...

    @property
    def tick_ms(self) -> int | None: ...

    def __init__(self, *, workload: str, heard_ms: int) -> None: ...

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self: ...


State = TypeVar("State", bound=Known)


class Watcher(ABC, Generic[State]):
    """The fold; a core says what is heard, and what a look finds. `kind`: what it keeps of a workload. `reach_s`: SLIs
    that end longer before the newest tick come too late."""

    def __init__(self, kind: type[State], patience: Patience, *, reach_s: float = inf) -> None:
        self._kind, self._patience, self._reach_s = kind, patience, reach_s

    def advance(self, state: State | None, message: Message) -> tuple[State | None, list[Message]]:
        """Fold one message. A workload is known from the first SLI on that is for this watcher."""
        match message:
            case Sli():
                return self._sli(state, message), []
            case Tick() if state is not None:
                return self._tick(state, message)
            case Action() if state is not None:
                return self.acted(state, message), []
            case Outcome() if state is not None:
                return self.ended(state, message), []
            case _:
                return state, []

    @abstractmethod
    def hears(self, state: State | None, sli: Sli) -> bool:
        """Whether an SLI is for this watcher."""

    @abstractmethod
    def heard(self, state: State, sli: Sli) -> State:
        """With what such an SLI tells."""

    @abstractmethod
    def acted(self, state: State, action: Action) -> State:
        """With an action that was approved."""

    @abstractmethod
    def ended(self, state: State, outcome: Outcome) -> State:
        """With how an action ended."""

    @abstractmethod
    def look(self, state: State, last_ms: int, at_ms: int) -> tuple[State, list[Message]]:
        """At a tick: what is found and told. `last_ms` is the tick before."""

    def began(self, state: State) -> State:
        """After the first tick, which is no look."""
        return state

    def anew(self, state: State, at_ms: int) -> State:
        """After the clock of the scraper that spoke first turned out to be wrong: nothing that it told counts."""
        return self._kind(workload=state.workload, heard_ms=at_ms)

    def left(self, state: State, at_ms: int) -> State | None:
        """What is kept of a workload of which nobody has spoken for long: by default, nothing."""
        return None

    def _sli(self, state: State | None, sli: Sli) -> State | None:
        tick_ms = state.tick_ms if state is not None else None
        if sli.revision or not self.hears(state, sli):
            return state
        if tick_ms is not None and not -self._reach_s <= (sli.end_ms - tick_ms) / 1000 <= self._patience.park_s:
            return state
        if state is None:
            state = self._kind(workload=sli.workload, heard_ms=sli.end_ms)
        elif sli.end_ms > state.heard_ms:
            state = state.model_copy(update={"heard_ms": sli.end_ms})
        return self.heard(state, sli)

    def _tick(self, state: State, tick: Tick) -> tuple[State | None, list[Message]]:
        last_ms, at_ms = state.tick_ms, tick.at_ms
        if last_ms is not None and at_ms <= last_ms:
            return state, []
        if at_ms - state.heard_ms > self._patience.forget_s * 1000:
            return self.left(state, at_ms), []
        if last_ms is None and state.heard_ms > at_ms + self._patience.ahead_s * 1000:
            state = self.anew(state, at_ms)
        state = state.model_copy(update={"tick_ms": at_ms})
        return (self.began(state), []) if last_ms is None else self.look(state, last_ms, at_ms)


def due(every_ms: int, last_ms: int, at_ms: int) -> bool:
    """Whether a multiple of `every_ms` was passed since `last_ms`.

    >>> due(15_000, 14_000, 15_000), due(15_000, 15_000, 29_000)
    (True, False)
    """
    return at_ms // every_ms > last_ms // every_ms


def age_s(then_ms: int, at_ms: int) -> float:
    """How old what was told at `then_ms` is; a clock that is a little ahead makes nothing younger than new."""
    return max(0, at_ms - then_ms) / 1000
