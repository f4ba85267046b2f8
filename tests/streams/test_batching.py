"""What a batch does to a stage, without Kafka: order, effects, refusals, held ticks, positions, states."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SerializerFunctionWrapHandler, model_serializer

from contracts.codec import MAX_VALUE_BYTES, Record, decode, encode, trace_of
from contracts.errors import OptiInfraError, Reason
from contracts.events import DeadLetter, Message, Tick
from contracts.stage import fold
from contracts.topics import ALERTS, DEADLETTER, METRICS, TICKS, WINDOWS
from streams.batching import AHEAD_MS, SHOWN, Batch, Effects, Incoming, TickGate
from streams.changelog import REWRITE_AFTER_BYTES, StateKeeper, dump
from streams.offset_gap import OffsetGap, Positions
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


class Log:
    """The data partitions of a gate: where each ends, as far as the broker told it, and a way to read on."""

    def __init__(self, end: int | None = 1000) -> None:
        self.ends = {METRICS.name: end, ALERTS.name: 1000}
        self.positions = Positions()
        self.positions.start(METRICS.name, 0, 10, 0)

    def highwater(self, topic: str, _: int) -> int | None:
        return self.ends[topic]


def gate(log: Log, *ticks_ms: int) -> TickGate[int]:
    held: TickGate[int] = TickGate(STAGE, log.positions, log.highwater)
    for at_ms in ticks_ms:
        held.hold(0, at_ms, at_ms)
    return held


def show(held: TickGate[int], *at_ms: int, topic: str = METRICS.name) -> None:
    """As many records as tell how far a partition has been read, of these times in turn."""
    for number in range(SHOWN):
        held.show(topic, 0, at_ms[number % len(at_ms)])


def test_ticks_wait_while_data_is_due_and_pass_when_it_has_come() -> None:
    log = Log(end=None)
    waiting = gate(log, 1000, 2000)
    assert waiting.release(0) == []  # nobody knows the end
    log.ends[METRICS.name] = 12
    assert waiting.release(0) == []
    assert waiting.holding == [0]
    log.positions.advance(METRICS.name, 0, 11)
    assert waiting.release(0) == [1000, 2000]
    assert waiting.holding == []


def test_under_a_load_that_never_lets_up_a_tick_waits_for_what_was_there_when_it_came() -> None:
    """The scrapers' clocks are all an hour behind, so no data ever reaches the tick's time, and the log grows on."""
    log, passed = Log(end=500), []
    waiting = gate(log, 3_700_000)
    for offset in range(10, 600):
        log.ends[METRICS.name] = offset + 490
        waiting.show(METRICS.name, 0, 100_000 + offset)
        log.positions.advance(METRICS.name, 0, offset)
        passed += [(offset, tick) for tick in waiting.release(0)]
    assert passed == [(499, 3_700_000)]


def test_data_of_a_later_time_lets_the_ticks_before_it_pass() -> None:
    waiting = gate(Log(), 1000, 2000, 3000)
    show(waiting, 2000)
    assert waiting.release(0) == [1000, 2000]
    assert waiting.release(1) == []


@pytest.mark.parametrize("ahead_ms", [30_000, 3_600_000])
def test_a_clock_that_is_ahead_opens_the_gate_for_nobody(ahead_ms: int) -> None:
    waiting = gate(Log(), 2_000_000)
    waiting.show(METRICS.name, 0, 2_000_000 + ahead_ms)
    assert waiting.release(0) == []
    for _ in range(5):
        show(waiting, 1_999_000, 1_999_000, 2_000_000 + ahead_ms)
        assert waiting.release(0) == []
    show(waiting, 2_000_500, 2_000_500, 2_000_000 + ahead_ms)
    assert waiting.release(0) == [2_000_000]


def test_nor_does_it_while_an_outage_is_caught_up_with() -> None:
    """All ticks of two hours have been read when the data begins to come: an hour ahead is not ahead of them."""
    waiting = gate(Log(), *range(60_000, 7_200_000, 60_000))
    show(waiting, 150_000, 150_000, 3_750_000)
    assert waiting.release(0) == [60_000, 120_000]


def test_data_that_is_all_ahead_of_the_newest_tick_does_not_count() -> None:
    waiting = gate(Log())
    show(waiting, 5_000_000)
    waiting.hold(0, 1000, 1000)
    show(waiting, 1001 + AHEAD_MS)
    assert waiting.release(0) == []
    show(waiting, 1000 + AHEAD_MS)
    assert waiting.release(0) == [1000]


def test_a_stage_with_two_data_topics_waits_for_both() -> None:
    log, stage = Log(), counting_stage("two")
    inputs = (METRICS, ALERTS, TICKS)
    two: TickGate[int] = TickGate(replace(stage, inputs=inputs), log.positions, log.highwater)
    two.hold(0, 1000, 1)
    show(two, 5000)
    assert two.release(0) == []
    show(two, 1000, topic=ALERTS.name)
    assert two.release(0) == [1]


def test_positions_know_what_was_lost_before_and_on_the_way() -> None:
    found = Positions()
    assert found.start("t", 0, 5, 9) == OffsetGap("t", 0, 5, 4)
    assert found.start("t", 1, None, 9) is None
    assert found.gap("t", 0, 9) is None
    found.advance("t", 0, 9)
    assert found.gap("t", 0, 12) == OffsetGap("t", 0, 10, 2)
    assert found.gap("t", 0, 3) is None
    found.advance("t", 0, 3)
    assert found.lag({("t", 0): 15, ("t", 1): 10}) == 6
    assert found.lag({("t", 0): None}) is None
    assert found.lag({("never", 0): 3}) is None


def test_what_was_settled_before_a_rebalance_is_not_due_again_where_the_partition_stayed() -> None:
    found = Positions()
    for partition in (0, 1):
        found.start("t", partition, 5, 0)
        found.settle("t", partition, 8)
    found.begin([("t", 0)])
    assert [found.start("t", partition, 5, 0) for partition in (0, 1)] == [None, None]
    assert found.gap("t", 0, 9) is None
    assert found.gap("t", 1, 9) == OffsetGap("t", 1, 5, 4)
    assert found.start("t", 0, 5, 20) == OffsetGap("t", 0, 9, 11)


def test_of_a_gap_only_what_lies_before_the_first_offset_held_is_lost() -> None:
    gap = OffsetGap("t", 0, expected=5, lost=4)
    held = {earliest: list(gap.still_held(earliest)) for earliest in (0, 5, 7, 9, 12)}
    assert held == {0: [5, 6, 7, 8], 5: [5, 6, 7, 8], 7: [7, 8], 9: [], 12: []}
    assert Positions().start("t", 0, 5, 7) == OffsetGap("t", 0, 5, 2)  # told when the worker has started again


def test_the_alert_of_a_gap_says_how_many_where_and_what_to_do() -> None:
    alert = OffsetGap("optiinfra.metrics.v1", 2, 100, 40).alert("slis", 7)
    assert (alert.name, alert.subject, alert.at_ms) == ("offset_gap", "slis:optiinfra.metrics.v1:2", 7)
    assert "lost 40 messages" in alert.summary
    assert "100 to 139" in alert.summary
    assert alert.fix


def test_a_keeper_recovers_forgets_and_hands_over_partitions() -> None:
    states = keeper()
    states.load(0, "a", dump(Count(seen=1)), 0)
    states.load(0, "a", dump(Count(seen=2)), 1)
    states.load(0, "b", dump(Count(seen=3)), 2)
    states.load(0, "b", None, 3)
    states.load(1, "c", dump(Count(seen=4)), 0)
    assert (states.get(0, "a"), states.keys(0), states.get(0, "b")) == (Count(seen=2), ["a"], None)
    states.keep_only([1])
    assert (states.keys(0), states.get(1, "c")) == ([], Count(seen=4))


def test_a_changelog_read_again_after_a_rebalance_reverts_no_key_and_brings_none_back() -> None:
    states = keeper()
    log = [("a", Count(seen=1)), ("b", Count(seen=1)), ("a", Count(seen=2)), ("b", None)]
    for offset, (key, state) in enumerate(log):
        states.put(0, key, state, dump(state) if state else None, offset)
    for offset, (key, state) in enumerate(log):
        states.load(0, key, dump(state) if state else None, offset)
        assert (states.get(0, "a"), states.keys(0)) == (Count(seen=2), ["a"])
    states.load(0, "a", dump(Count(seen=3)), 4)  # another worker's, written in between
    assert states.get(0, "a") == Count(seen=3)


def test_a_partition_that_comes_back_is_recovered_from_the_beginning() -> None:
    states = keeper()
    states.put(0, "a", Count(seen=5), dump(Count(seen=5)), 9)
    states.put(0, "gone", None, None, 10)
    states.keep_only([])
    states.load(0, "a", dump(Count(seen=1)), 2)
    states.load(0, "gone", dump(Count(seen=1)), 3)
    assert (states.get(0, "a"), states.keys(0)) == (Count(seen=1), ["a", "gone"])


def test_a_state_that_this_version_cannot_read_is_an_error_with_a_remedy() -> None:
    states = keeper()
    states.load(0, "a", json.dumps({"from": "the future"}).encode(), 0)
    with pytest.raises(OptiInfraError, match="reset"):
        states.get(0, "a")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=400))
def test_where_nothing_compacts_no_state_falls_further_behind_than_the_log_holds(writes: list[int]) -> None:
    states = StateKeeper(Count, rewrites=True)
    log: list[tuple[str, int]] = []

    def write(key: str, value: bytes, count: Count) -> None:
        states.put(0, key, count, value, len(log))
        log.append((key, len(key) + len(value)))

    fat = Count(ballast="x" * 100_000)
    write("quiet", dump(Count(seen=1)), Count(seen=1))
    for number in writes:
        write(f"busy{number}", dump(fat), fat)
        for key, value in states.due_for_rewrite(0, len(dump(fat))):
            states.put(0, key, value, value, len(log))
            log.append((key, len(key) + len(value)))
    behind = sum(size for _, size in log[max(n for n, (key, _) in enumerate(log) if key == "quiet") :])
    assert behind < 2 * REWRITE_AFTER_BYTES
    assert states.get(0, "quiet") == Count(seen=1)
