"""What a batch does to a stage, without Kafka: order, effects, refusals."""

from __future__ import annotations

from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st
from pydantic import SerializerFunctionWrapHandler, model_serializer

from contracts.codec import MAX_VALUE_BYTES, Record, decode, encode, trace_of
from contracts.errors import Reason
from contracts.events import DeadLetter, Message, Tick
from contracts.stage import fold
from contracts.topics import DEADLETTER, METRICS, WINDOWS
from streams.batching import Batch, Effects, Incoming
from streams.changelog import StateKeeper
from tests.streams.counting_stage import Count, counting_stage, expected, snapshot, ticking

STAGE = counting_stage("pure", fold(ticking, Count))


def key_of(instance: str) -> str:
    """Under which key the stage keeps an instance of workload `w`."""
    key = STAGE.state_key(snapshot("w", instance, 0))
    assert key is not None
    return key


def keeper() -> StateKeeper:
    return StateKeeper(Count, rewrites=False)


def incoming(message: Message, offset: int = 0, partition: int = 1) -> Incoming:
    return Incoming(encode(message, source="test"), partition, offset)


def run(messages: list[Message], states: StateKeeper, cuts: frozenset[int] = frozenset()) -> list[Record]:
    """Fold messages with a new batch at each of `cuts`; gives the outputs."""
    out: list[Record] = []
    batch = Batch(STAGE, states, source="w", at_ms=5)
    for number, message in enumerate(messages):
        if number in cuts:
            out += settle(batch.finish(), states).outputs
            batch = Batch(STAGE, states, source="w", at_ms=5)
        batch.take(incoming(message, number), message)
    return out + settle(batch.finish(), states).outputs


def settle(effects: Effects, states: StateKeeper) -> Effects:
    for place, (state, value) in effects.states.items():
        states.put(*place, state, value, -1)
    return effects


def some() -> list[Message]:
    mixed: list[Message] = [snapshot("w", f"i{n % 3}", n) for n in (0, 1, 2, 4, 3, 1, 6, 7, 9)]
    mixed.insert(5, Tick(at_ms=3_000, partition=1))
    mixed.append(Tick(at_ms=9_000, partition=1))
    return mixed


@given(st.frozensets(st.integers(0, 10)))
def test_where_the_log_is_cut_changes_neither_outputs_nor_states(cuts: frozenset[int]) -> None:
    whole, cut = keeper(), keeper()
    assert run(some(), cut, cuts) == run(some(), whole)
    assert [cut.get(1, key) for key in cut.keys(1)] == [whole.get(1, key) for key in whole.keys(1)]


def test_outputs_are_in_log_order_and_a_tick_visits_keys_in_order() -> None:
    found = [decode(record) for record in run(some(), keeper())]
    assert [message.at for message in found if message.key == "w"] == [0, 1000, 2000, 4000, 3000, 6000, 7000, 9000]
    ticked = [message.model_dump()["scrapes"] for message in found if message.key == "ticked"]
    assert ticked == [2, 2, 1, 4, 3, 1]


def test_a_tick_finds_the_keys_that_this_very_batch_made() -> None:
    states = keeper()
    run([snapshot("w", "new", 1), Tick(at_ms=2000, partition=1)], states)
    assert states.get(1, key_of("new")) == Count(instance="new", seen=1, newest=(1, 1), newest_ms=1000, ticked_ms=2000)
    assert states.keys(0) == []


def test_one_write_of_state_a_key_and_none_where_nothing_changed() -> None:
    states, batch = keeper(), Batch(STAGE, keeper(), source="w", at_ms=5)
    for seq in range(4):
        batch.take(incoming(snapshot("w", "a", seq), seq), snapshot("w", "a", seq))
    effects = settle(batch.finish(), states)
    assert list(effects.states) == [(1, key_of("a"))]
    assert effects.emitted == 4
    again = Batch(STAGE, states, source="w", at_ms=5)
    again.take(incoming(snapshot("w", "a", 3), 9), snapshot("w", "a", 3))
    assert again.finish() == Effects([], {}, 0, 0)


class Loud(Count):
    """A state that notes when it is written out."""

    written: ClassVar[list[int]] = []

    @model_serializer(mode="wrap")
    def _note(self, write: SerializerFunctionWrapHandler) -> dict[str, object]:
        self.written.append(self.seen)
        found: dict[str, object] = write(self)
        return found


def test_a_state_that_nothing_changed_is_not_even_written_out() -> None:
    states = StateKeeper(Loud, rewrites=False)
    states.put(1, key_of("a"), Loud(instance="a", seen=3, newest=(1, 3), ticked_ms=5), b"", 0)
    batch = Batch(STAGE, states, source="w", at_ms=5)
    batch.take(incoming(snapshot("w", "a", 2)), snapshot("w", "a", 2))
    batch.take(incoming(Tick(at_ms=4, partition=1)), Tick(at_ms=4, partition=1))
    assert batch.finish() == Effects([], {}, 0, 0)
    assert Loud.written == []
    batch.take(incoming(Tick(at_ms=9, partition=1)), Tick(at_ms=9, partition=1))
    assert list(batch.finish().states) == [(1, key_of("a"))]
    assert Loud.written == [3]


def test_an_output_keeps_the_trace_of_its_cause() -> None:
    cause = encode(snapshot("w", "a", 1), source="test", trace_id="cd" * 16)
    batch = Batch(STAGE, keeper(), source="w", at_ms=5)
    batch.take(Incoming(cause, 1, 0), snapshot("w", "a", 1))
    assert [trace_of(record) for record in batch.finish().outputs] == ["cd" * 16]


def refusals(effects: Effects) -> list[DeadLetter]:
    letters = [decode(record) for record in effects.outputs if record.topic == DEADLETTER.name]
    return [letter for letter in letters if isinstance(letter, DeadLetter)]


def test_a_failing_message_is_left_out_and_the_rest_is_as_if_it_had_never_been() -> None:
    messages = [snapshot("w", "a", seq, error="raise" if seq == 2 else None) for seq in range(5)]
    batch = Batch(STAGE, keeper(), source="w", at_ms=5)
    for offset, message in enumerate(messages):
        batch.take(incoming(message, offset), message)
    effects = batch.finish()
    good = [decode(record) for record in effects.outputs if record.topic == WINDOWS.name]
    assert good == expected([m for m in messages if m is not messages[2]])["a"]
    assert [(x.reason, x.offset, x.partition, x.at_ms) for x in refusals(effects)] == [(Reason.STEP_FAILED, 2, 1, 5)]
    assert (effects.emitted, effects.dead_letters) == (4, 1)


def test_the_message_that_makes_a_state_too_large_is_left_out() -> None:
    messages = [snapshot("w", "a", seq, error="fat" if seq in (1, 3) else None) for seq in range(5)]
    batch = Batch(STAGE, keeper(), source="w", at_ms=5)
    for offset, message in enumerate(messages):
        batch.take(incoming(message, offset), message)
    effects = batch.finish()
    assert [(x.reason, x.offset) for x in refusals(effects)] == [(Reason.STATE_TOO_LARGE, 3)]
    ((state, value),) = effects.states.values()
    assert isinstance(state, Count)
    assert (state.seen, len(value or b"") < MAX_VALUE_BYTES) == (4, True)


def test_an_output_on_an_undeclared_topic_is_a_bug_of_the_step() -> None:
    stage = counting_stage("pure", fold(lambda state, message: (state, [message]), Count))
    batch = Batch(stage, keeper(), source="w", at_ms=5)
    batch.take(incoming(snapshot("w", "a", 1)), snapshot("w", "a", 1))
    assert [x.reason for x in refusals(batch.finish())] == [Reason.STEP_FAILED]


def test_a_poison_record_with_huge_headers_and_key_still_fits_a_dead_letter() -> None:
    headers = tuple((f"{n:02}" + "\x00" * 5_000, b"\x00" * 60_000) for n in range(90))  # six bytes each in JSON
    record = Record(METRICS.name, b"\x00" * 900_000, b"\xff" * 500_000, headers)
    batch = Batch(STAGE, keeper(), source="w", at_ms=5)
    assert batch.decode(Incoming(record, 0, 7)) is None
    (letter,) = refusals(batch.finish())
    assert (letter.reason, letter.raw_bytes, letter.offset) == (Reason.MISSING_HEADER, 500_000, 7)
    assert len(letter.headers) > 1
