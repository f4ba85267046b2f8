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

AHEAD_MS = 60_000
"""Data further ahead of the newest tick comes from a clock that is wrong: ticks and data are a second apart."""

SHOWN = 100
"""Records of a data partition whose median time says how far it has been read: some seconds of a small fleet."""


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
            if state is before:
                continue  # most keys of a tick: writing a state out costs more than the step did
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
        """The dead letter of a record; it fits a message, whatever stood in the record."""
        place = {"partition": incoming.partition, "offset": incoming.offset}
        letter = dead_letter(incoming.record, problem, source=self._stage.name, at_ms=self._at_ms, **place)
        record = encode(letter, source=self._source, trace_id=trace_of(incoming.record))
        return _Slot(incoming, letter, [record], 0, 1)


Held = TypeVar("Held")


@dataclass
class _Waiting(Generic[Held]):
    """A tick, and the end of each data partition when it came: None while nobody knew it."""

    at_ms: int
    held: Held
    ends: dict[str, int | None]


class TickGate(Generic[Held]):
    """Holds ticks back until the data before them has come, so that catching up does not close windows early.

    A tick passes when of every data partition of its number

    - all has come that the broker held when the tick came, or
    - the median time of the last `SHOWN` records has reached the tick's; records of more than `AHEAD_MS` after the
      newest tick do not count.

    A record from a clock that is wrong says nothing about how far the log has been read: an hour ahead it would open
    the gate for everybody. The first rule needs no clock and holds no tick for ever, whatever the load: its mark does
    not move. The second lets ticks pass in their place among the data while there is still much to read.
    """

    def __init__(self, stage: Stage, positions: Positions, highwater: Callable[[str, int], int | None]) -> None:
        """`highwater` is the end of a topic's partition as the broker last told it."""
        self._data = [topic.name for topic in stage.inputs if topic is not TICKS]
        self._positions, self._highwater = positions, highwater
        self._held: dict[int, deque[_Waiting[Held]]] = {}
        self._newest: dict[int, int] = {}
        self._shown: dict[tuple[str, int], deque[int]] = {}

    def clear(self) -> None:
        """Forget all: the partitions have been handed out anew, and unacknowledged ticks will come again."""
        self._held.clear()
        self._newest.clear()
        self._shown.clear()

    def hold(self, partition: int, at_ms: int, held: Held) -> None:
        """Queue a tick of event time `at_ms` behind those of its partition."""
        self._newest[partition] = max(at_ms, self._newest.get(partition, at_ms))
        ends = {topic: self._highwater(topic, partition) for topic in self._data}
        self._held.setdefault(partition, deque()).append(_Waiting(at_ms, held, ends))

    def show(self, topic: str, partition: int, at_ms: int) -> None:
        """Note the event time of a data record; before the first tick there is nothing to judge it by."""
        if at_ms <= self._newest.get(partition, -AHEAD_MS) + AHEAD_MS:
            self._shown.setdefault((topic, partition), deque(maxlen=SHOWN)).append(at_ms)

    @property
    def holding(self) -> Sequence[int]:
        """Partitions with ticks that wait."""
        return [partition for partition, queue in self._held.items() if queue]

    def release(self, partition: int) -> list[Held]:
        """The ticks that may pass now, in order."""
        queue, passing = self._held.get(partition), []
        while queue and all(self._ready(topic, partition, queue[0]) for topic in self._data):
            passing.append(queue.popleft().held)
        return passing

    def _ready(self, topic: str, partition: int, tick: _Waiting[Held]) -> bool:
        if tick.ends[topic] is None:
            tick.ends[topic] = self._highwater(topic, partition)
        if self._positions.drained(topic, partition, tick.ends[topic]):
            return True
        shown = self._shown.get((topic, partition), ())
        return len(shown) == SHOWN and sorted(shown)[SHOWN // 2] >= tick.at_ms
