"""The Stage: one shape for all work on a topic. A step is a pure, total fold; a driver does everything else.

`step(state, batch) -> (state, outputs)` where `batch` holds messages of one state key in log order. Two laws, both
property-tested for every registered stage:

- *cuts do not matter*: folding a log in one batch or in many gives the same state and the same outputs in order;
- *repeats do not matter*: a message already folded in changes nothing and emits nothing new.

A step takes no clock: time is in the messages (`at`), ticks among them. See docs/adr/0001.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from pydantic import BaseModel

from contracts.events import Message, Tick
from contracts.topics import Topic


class Scope(StrEnum):
    """Under which key a stage keeps state; all of them live on the partition of their workload."""

    INSTANCE = "instance"
    WORKLOAD = "workload"


State = TypeVar("State", bound=BaseModel)
Step = Callable[[BaseModel | None, Sequence[Message]], tuple[BaseModel | None, list[Message]]]


@dataclass(frozen=True)
class Stage:
    """A unit of work that both drivers run.

    `state` is the frozen pydantic model kept per scope key (None before the first message, and to forget a key).
    `step` gets a Tick for every key that has state. Outputs go to the topic of their type, in order.
    """

    name: str
    inputs: tuple[Topic, ...]
    outputs: tuple[Topic, ...]
    scope: Scope
    state: type[BaseModel]
    step: Step
    doc: str

    def state_key(self, message: Message) -> str | None:
        """The key of the state that a message belongs to; None for a tick, which belongs to all of its partition."""
        if isinstance(message, Tick):
            return None
        if self.scope is Scope.WORKLOAD:
            return message.key
        # Names are untrusted and may hold a slash; a unit separator keeps ("a/b", "c") and ("a", "b/c") apart.
        return f"{message.key}\x1f{getattr(message, 'instance_id', '')}"


def fold(advance: Callable[[State | None, Message], tuple[State | None, list[Message]]], kind: type[State]) -> Step:
    """Make a step from a function of one message and of states of this kind: cuts cannot matter, by construction."""

    def step(state: BaseModel | None, batch: Sequence[Message]) -> tuple[BaseModel | None, list[Message]]:
        assert state is None or isinstance(state, kind)  # noqa: S101 — narrows the driver's untyped state
        outputs: list[Message] = []
        for message in batch:
            state, out = advance(state, message)
            outputs.extend(out)
        return state, outputs

    return step
