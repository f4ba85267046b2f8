"""What a batch of records does to a stage: pure bookkeeping around `step`, without Kafka and without a clock.

Records are taken in log order and each is one step, so that an output can carry the trace of the very record that
caused it and a record that makes a step fail stands alone. State is loaded and written once per key and batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from pydantic import BaseModel

from contracts.codec import MAX_VALUE_BYTES, Record, dead_letter, decode, encode, trace_of
from contracts.errors import BadMessage, Reason
from contracts.events import Message
from contracts.stage import Stage
from contracts.topics import BY_MESSAGE, TICKS
from streams.changelog import StateKeeper, dump
from streams.offset_gap import Positions

_SHORT = 1000  # characters of a key that could itself be megabytes


@dataclass(frozen=True)
class Incoming:
    """A record and where it stood."""

    record: Record
    partition: int
    offset: int


@dataclass
class _Slot:
    """One record and one key: what it put out, kept in place so that a second look can replace it."""

    incoming: Incoming
    message: Message
    outputs: list[Record] = field(default_factory=list)
    emitted: int = 0
    dead: int = 0


@dataclass(frozen=True)
class Effects:
    """What must become true, in this order: `outputs` written, then `states` (None: forget the key)."""

    outputs: list[Record]
    states: dict[tuple[int, str], tuple[BaseModel | None, bytes | None]]
    emitted: int
    dead_letters: int


class Batch:
    """Collects records of one stage and works out their effects; the keeper stays as it was until they are done."""

    def __init__(self, stage: Stage, keeper: StateKeeper, *, source: str, at_ms: int) -> None:
        """`source` goes to the headers of outputs (the worker), `at_ms` (event time) to dead letters."""
        self._stage, self._keeper, self._source, self._at_ms = stage, keeper, source, at_ms
        self._slots: list[_Slot] = []
        self._by_key: dict[tuple[int, str], list[_Slot]] = {}
        self._states: dict[tuple[int, str], BaseModel | None] = {}
        self._allowed = {topic.name for topic in stage.outputs}

    def take(self, incoming: Incoming, message: Message) -> None:
        """Fold in one record and the message that `decode` made of it; a tick goes to every key with state."""
        key = self._stage.state_key(message)
        keys = self._keys_of(incoming.partition) if key is None else [key]
        for each in keys:
            place = (incoming.partition, each)
            slot = _Slot(incoming, message)
            self._slots.append(slot)
            self._by_key.setdefault(place, []).append(slot)
            state = self._states[place] if place in self._states else self._keeper.get(*place)
            self._states[place] = self._step(slot, state, each, sized=False)

    def decode(self, incoming: Incoming) -> Message | None:
        """The message of a record; one that cannot be read is dead-lettered, with its bytes, and gives None."""
        try:
            return decode(incoming.record)
        except BadMessage as problem:
            self._slots.append(self._refused(incoming, problem))
            return None

    def finish(self) -> Effects:
        """The effects of all that was taken. States too large for a changelog record are found out here."""
        states: dict[tuple[int, str], tuple[BaseModel | None, bytes | None]] = {}
        for place, state in self._states.items():
            before = self._keeper.get(*place)
            value = None if state is None else dump(state)
            if value is not None and len(value) > MAX_VALUE_BYTES:
                state = self._again(place, before)
                value = None if state is None else dump(state)
            if state is not before:
                states[place] = (state, value)
        return Effects(
            [record for slot in self._slots for record in slot.outputs],
            states,
            sum(slot.emitted for slot in self._slots),
            sum(slot.dead for slot in self._slots),
        )

    def _keys_of(self, partition: int) -> list[str]:
        """Keys that have state by now, sorted: those of the keeper with what this batch added or forgot."""
        keys = set(self._keeper.keys(partition))
        for (number, key), state in self._states.items():
            if number == partition:
                (keys.discard if state is None else keys.add)(key)
        return sorted(keys)

    def _again(self, place: tuple[int, str], state: BaseModel | None) -> BaseModel | None:
        """Fold the key once more, leaving out each record that would make its state too large."""
        for slot in self._by_key[place]:
            state = self._step(slot, state, place[1], sized=True)
        return state

    def _step(self, slot: _Slot, state: BaseModel | None, key: str, *, sized: bool) -> BaseModel | None:
        """One step; on any failure the state stays as it was and the record is dead-lettered."""
        try:
            after, messages = self._stage.step(state, [slot.message])
            trace_id = trace_of(slot.incoming.record) or slot.message.id
            outputs = [self._encode(message, trace_id) for message in messages]
            if sized and after is not None and (size := len(dump(after))) > MAX_VALUE_BYTES:
                raise BadMessage(Reason.STATE_TOO_LARGE, f"state of {key!r}: {size} > {MAX_VALUE_BYTES} B")
        except BadMessage as problem:
            failed = problem
        except Exception as error:  # noqa: BLE001  # a step's bug, whatever it raises, must cost one record, not the log
            failed = BadMessage(
                Reason.STEP_FAILED, f"stage {self._stage.name}, key {key!r}: {type(error).__name__}: {error}"
            )
        else:
            slot.outputs, slot.emitted, slot.dead = outputs, len(outputs), 0
            return after
        refused = self._refused(slot.incoming, failed)
        slot.outputs, slot.emitted, slot.dead = refused.outputs, 0, 1
        return state

    def _encode(self, message: Message, trace_id: str) -> Record:
        if BY_MESSAGE[type(message)].name not in self._allowed:
            raise BadMessage(Reason.STEP_FAILED, f"stage {self._stage.name} does not declare {message.TYPE} as output")
        return encode(message, source=self._source, trace_id=trace_id)

    def _refused(self, incoming: Incoming, problem: BadMessage) -> _Slot:
        """The dead letter of a record, cut short where its headers and key alone would not fit a message."""
        place = {"partition": incoming.partition, "offset": incoming.offset}
        letter = dead_letter(incoming.record, problem, source=self._stage.name, at_ms=self._at_ms, **place)
        trace_id = trace_of(incoming.record)
        try:
            record = encode(letter, source=self._source, trace_id=trace_id)
        except BadMessage:
            short = letter.model_copy(update={"headers": {}, "message_key": letter.message_key[:_SHORT]})
            record = encode(short, source=self._source, trace_id=trace_id)
        return _Slot(incoming, letter, [record], 0, 1)


Held = TypeVar("Held")


class TickGate(Generic[Held]):
    """Holds ticks back until the data before them has come, so that catching up does not close windows early.

    A tick passes when every data partition of its number is drained, or has shown data of the tick's time or later.
    """

    def __init__(self, stage: Stage, positions: Positions) -> None:
        self._data = [topic.name for topic in stage.inputs if topic is not TICKS]
        self._positions = positions
        self._held: dict[int, deque[tuple[int, Held]]] = {}
        self._shown: dict[tuple[str, int], int] = {}

    def clear(self) -> None:
        """Forget all: the partitions have been handed out anew, and unacknowledged ticks will come again."""
        self._held.clear()
        self._shown.clear()

    def hold(self, partition: int, at_ms: int, held: Held) -> None:
        """Queue a tick of event time `at_ms` behind those of its partition."""
        self._held.setdefault(partition, deque()).append((at_ms, held))

    def show(self, topic: str, partition: int, at_ms: int) -> None:
        """Note that a data partition has reached an event time."""
        self._shown[topic, partition] = max(at_ms, self._shown.get((topic, partition), at_ms))

    @property
    def holding(self) -> Sequence[int]:
        """Partitions with ticks that wait."""
        return [partition for partition, queue in self._held.items() if queue]

    def release(self, partition: int, highwater: Callable[[str, int], int | None]) -> list[Held]:
        """The ticks that may pass now, in order."""
        queue, passing = self._held.get(partition), []
        while queue and all(self._ready(topic, partition, queue[0][0], highwater) for topic in self._data):
            passing.append(queue.popleft()[1])
        return passing

    def _ready(self, topic: str, partition: int, at_ms: int, highwater: Callable[[str, int], int | None]) -> bool:
        shown = self._shown.get((topic, partition))
        if shown is not None and shown >= at_ms:
            return True
        return self._positions.drained(topic, partition, highwater(topic, partition))
