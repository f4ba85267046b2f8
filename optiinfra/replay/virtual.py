"""The second driver of the stages: no broker and no waiting, every message in one order, time is the data's own.

Messages are handled by event time, then topic rank, then key; of equal ones first those from outside, by id, then those
that were made here, or by one source, in the order in which they were made, as in a log. What is made later than its
own event time comes next. So a replay has one outcome, whatever order its sources were read in.

It does what `streams/faust_driver.py` does for a stage: state by key, ticks to every key that has state, outputs that
were declared, a dead letter for a message that makes a step fail. Messages are handed over as objects; `coded` sends
each through its bytes, as a broker would, for whoever doubts that this makes no difference.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

from pydantic import BaseModel

from contracts.codec import dead_letter, decode, encode
from contracts.errors import BadMessage, Reason
from contracts.events import Message
from contracts.stage import Stage
from contracts.topics import BY_MESSAGE, Topic

_OUTSIDE = -1
_RANKS = {kind: topic.rank for kind, topic in BY_MESSAGE.items()}


@dataclass(frozen=True)
class Reader:
    """Work on topics that is no stage: `take` is given each message and returns what is published because of it."""

    name: str
    inputs: tuple[Topic, ...]
    take: Callable[[Message], Sequence[Message]]


class _ById:
    """Compares messages by id, which is a hash: worked out only where two are otherwise equal."""

    __slots__ = ("message",)

    def __init__(self, message: Message) -> None:
        self.message = message

    def __lt__(self, other: _ById) -> bool:
        return self.message.id < other.message.id

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _ById) and self.message.id == other.message.id

    __hash__ = None  # type: ignore[assignment]


_Entry = tuple[int, int, str, int, "_ById | int", int, Message]


class StageSeat:
    """One stage with the states of its keys."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.states: dict[str, BaseModel] = {}
        self._allowed = {topic.message for topic in stage.outputs}

    def take(self, message: Message) -> list[Message]:
        """Fold one message in; a tick goes to every key that has state, in the order of keys."""
        key = self.stage.state_key(message)
        if key is not None:
            return self._step(key, message)
        states = self.states
        if len(states) > 1:
            return [made for each in sorted(states) for made in self._step(each, message)]
        return self._step(next(iter(states)), message) if states else []

    def _step(self, key: str, message: Message) -> list[Message]:
        try:
            state, outputs = self.stage.step(self.states.get(key), [message])
            for output in outputs:
                if type(output) not in self._allowed:
                    what = f"stage {self.stage.name} does not declare {output.TYPE} as output"
                    raise BadMessage(Reason.STEP_FAILED, what)
        except Exception as error:  # noqa: BLE001 - a step's bug, whatever it raises, costs one message, as in life
            return [self._refused(key, message, error)]
        if state is None:
            self.states.pop(key, None)
        else:
            self.states[key] = state
        return outputs

    def _refused(self, key: str, message: Message, error: Exception) -> Message:
        problem = error if isinstance(error, BadMessage) else None
        if problem is None:
            what = f"stage {self.stage.name}, key {key!r}: {type(error).__name__}: {error}"
            problem = BadMessage(Reason.STEP_FAILED, what)
        return dead_letter(encode(message, source="replay"), problem, source=self.stage.name, at_ms=message.at)


class VirtualDriver:
    """Runs stages and readers on messages. `heard` is told of every message as it is handled."""

    def __init__(
        self,
        stages: Iterable[Stage],
        readers: Iterable[Reader] = (),
        *,
        heard: Callable[[Message], None] | None = None,
        coded: bool = False,
    ) -> None:
        self.now_ms = 0
        self.handled: Counter[str] = Counter()
        self.seats = {stage.name: StageSeat(stage) for stage in stages}
        self._heard, self._coded = heard, coded
        self._queue: list[_Entry] = []
        self._taken = self._put = 0
        self._takers: dict[type[Message], list[Callable[[Message], Sequence[Message]]]] = {}
        for seat in self.seats.values():
            for topic in seat.stage.inputs:
                self._takers.setdefault(topic.message, []).append(seat.take)
        for reader in readers:
            for topic in reader.inputs:
                self._takers.setdefault(topic.message, []).append(reader.take)

    def put(self, messages: Iterable[Message]) -> None:
        """Hand in messages from outside, in any order."""
        for message in messages:
            self._push(message, _OUTSIDE, _ById(message))

    def put_in_order(self, messages: Iterable[Message]) -> None:
        """Hand in messages of one source that wrote them in this order, as a log keeps it."""
        self._taken += 1
        for place, message in enumerate(messages):
            self._push(message, self._taken, place)

    def run(self, until_ms: int) -> None:
        """Handle everything up to event time `until_ms`, with all that comes of it."""
        queue = self._queue
        while queue and queue[0][0] <= until_ms:
            entry = heappop(queue)
            at_ms, message = entry[0], entry[6]
            if at_ms > self.now_ms:
                self.now_ms = at_ms
            self._handle(message)

    def _handle(self, message: Message) -> None:
        if self._coded:
            message = decode(encode(message, source="replay"))
        self._taken += 1
        self.handled[message.TYPE] += 1
        if self._heard is not None:
            self._heard(message)
        cause, place = self._taken, 0
        for take in self._takers.get(type(message), ()):
            for output in take(message):
                self._push(output, cause, place)
                place += 1

    def _push(self, message: Message, cause: int, place: _ById | int) -> None:
        self._put += 1
        rank = _RANKS[type(message)]
        heappush(self._queue, (message.at, rank, message.key, cause, place, self._put, message))


class VirtualClock:
    """A driver's time as the clock of everybody who works under it: a wall second lasts an event second."""

    def __init__(self) -> None:
        self.driver: VirtualDriver | None = None

    def now_ms(self) -> int:
        """The event time that the driver has reached, ms."""
        return self.driver.now_ms if self.driver is not None else 0

    def wall_s(self, event_s: float) -> float:
        return event_s

    def __call__(self) -> float:
        """Wall seconds."""
        return self.now_ms() / 1000.0
