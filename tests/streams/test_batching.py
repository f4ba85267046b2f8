"""What a batch does to a stage, without Kafka: order, effects, refusals, held ticks, positions, states."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.codec import MAX_VALUE_BYTES, Record, decode, encode, trace_of
from contracts.errors import OptiInfraError, Reason
from contracts.events import DeadLetter, Message, Tick
from contracts.stage import fold
from contracts.topics import ALERTS, DEADLETTER, METRICS, TICKS, WINDOWS
from streams.batching import Batch, Effects, Incoming, TickGate
from streams.changelog import REWRITE_AFTER_BYTES, StateKeeper, dump
from streams.offset_gap import OffsetGap, Positions
from tests.streams.counting_stage import Count, advance, counting_stage, expected, snapshot, ticking

STAGE = counting_stage("pure", fold(ticking))


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
        states.put(*place, state, value)
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
    assert states.get(1, "w/new") == Count(instance="new", seen=1, newest=(1, 1), newest_ms=1000, ticked_ms=2000)
    assert states.keys(0) == []


def test_one_write_of_state_a_key_and_none_where_nothing_changed() -> None:
    states, batch = keeper(), Batch(STAGE, keeper(), source="w", at_ms=5)
    for seq in range(4):
        batch.take(incoming(snapshot("w", "a", seq), seq), snapshot("w", "a", seq))
    effects = settle(batch.finish(), states)
    assert list(effects.states) == [(1, "w/a")]
    assert effects.emitted == 4
    again = Batch(STAGE, states, source="w", at_ms=5)
    again.take(incoming(snapshot("w", "a", 3), 9), snapshot("w", "a", 3))
    assert again.finish() == Effects([], {}, 0, 0)


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
    stage = counting_stage("pure", fold(lambda state, message: (state, [message])))
    batch = Batch(stage, keeper(), source="w", at_ms=5)
    batch.take(incoming(snapshot("w", "a", 1)), snapshot("w", "a", 1))
    assert [x.reason for x in refusals(batch.finish())] == [Reason.STEP_FAILED]


def test_a_poison_record_with_huge_headers_still_fits_a_dead_letter() -> None:
    record = Record(METRICS.name, b"k" * 900_000, b"\xff", (("note", b"x" * 600_000),))
    batch = Batch(STAGE, keeper(), source="w", at_ms=5)
    assert batch.decode(Incoming(record, 0, 7)) is None
    (letter,) = refusals(batch.finish())
    assert (letter.reason, letter.raw_bytes, letter.offset) == (Reason.MISSING_HEADER, 1, 7)


@pytest.fixture
def positions() -> Positions:
    found = Positions()
    found.start(METRICS.name, 0, 10, 0)
    return found


def gate(positions: Positions, *ticks_ms: int) -> TickGate[int]:
    held: TickGate[int] = TickGate(STAGE, positions)
    for at_ms in ticks_ms:
        held.hold(0, at_ms, at_ms)
    return held


def test_ticks_wait_while_data_is_due_and_pass_when_it_is_drained(positions: Positions) -> None:
    waiting = gate(positions, 1000, 2000)
    assert waiting.release(0, lambda *_: 12) == []
    assert waiting.release(0, lambda *_: None) == []
    assert waiting.holding == [0]
    positions.advance(METRICS.name, 0, 11)
    assert waiting.release(0, lambda *_: 12) == [1000, 2000]
    assert waiting.holding == []


def test_data_of_a_later_time_lets_the_ticks_before_it_pass(positions: Positions) -> None:
    waiting = gate(positions, 1000, 2000, 3000)
    waiting.show(METRICS.name, 0, 2000)
    waiting.show(METRICS.name, 0, 500)
    assert waiting.release(0, lambda *_: 99) == [1000, 2000]
    assert waiting.release(1, lambda *_: 99) == []


def test_a_stage_with_two_data_topics_waits_for_both(positions: Positions) -> None:
    stage = counting_stage("two")
    two: TickGate[str] = TickGate(
        type(stage)("two", (METRICS, ALERTS, TICKS), (), stage.scope, Count, fold(advance), "two"), positions
    )
    two.hold(0, 1000, "tick")
    two.show(METRICS.name, 0, 5000)
    assert two.release(0, lambda *_: 1) == []
    two.show(ALERTS.name, 0, 1000)
    assert two.release(0, lambda *_: 1) == ["tick"]


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


def test_the_alert_of_a_gap_says_how_many_where_and_what_to_do() -> None:
    alert = OffsetGap("optiinfra.metrics.v1", 2, 100, 40).alert("slis", 7)
    assert (alert.name, alert.subject, alert.at_ms) == ("offset_gap", "slis:optiinfra.metrics.v1:2", 7)
    assert "lost 40 messages" in alert.summary
    assert "100 to 139" in alert.summary
    assert alert.fix


def test_a_keeper_recovers_forgets_and_hands_over_partitions() -> None:
    states = keeper()
    states.load(0, "a", dump(Count(seen=1)))
    states.load(0, "a", dump(Count(seen=2)))
    states.load(0, "b", dump(Count(seen=3)))
    states.load(0, "b", None)
    states.load(1, "c", dump(Count(seen=4)))
    assert (states.get(0, "a"), states.keys(0), states.get(0, "b")) == (Count(seen=2), ["a"], None)
    states.keep_only([1])
    assert (states.keys(0), states.get(1, "c")) == ([], Count(seen=4))


def test_a_state_that_this_version_cannot_read_is_an_error_with_a_remedy() -> None:
    states = keeper()
    states.load(0, "a", json.dumps({"from": "the future"}).encode())
    with pytest.raises(OptiInfraError, match="reset"):
        states.get(0, "a")


@given(st.lists(st.integers(0, 9), min_size=1, max_size=400))
def test_where_nothing_compacts_no_state_falls_further_behind_than_the_log_holds(writes: list[int]) -> None:
    states = StateKeeper(Count, rewrites=True)
    log: list[tuple[str, int]] = []

    def write(key: str, value: bytes, count: Count) -> None:
        states.put(0, key, count, value)
        log.append((key, len(key) + len(value)))

    fat = Count(ballast="x" * 100_000)
    write("quiet", dump(Count(seen=1)), Count(seen=1))
    for number in writes:
        write(f"busy{number}", dump(fat), fat)
        for key, value in states.due_for_rewrite(0, len(dump(fat))):
            states.load(0, key, value)
            log.append((key, len(key) + len(value)))
    behind = sum(size for _, size in log[max(n for n, (key, _) in enumerate(log) if key == "quiet") :])
    assert behind < 2 * REWRITE_AFTER_BYTES
    assert states.get(0, "quiet") == Count(seen=1)
