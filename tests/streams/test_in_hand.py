"""How far a group may be moved while messages are done out of order."""

from __future__ import annotations

from aiokafka import ConsumerRecord, TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from streams.in_hand import InHand


def record(partition: int, offset: int) -> ConsumerRecord:
    return ConsumerRecord("t", partition, offset, 0, 0, None, None, None, 0, 0, ())


@given(order=st.permutations([(p, o) for p in (0, 1) for o in range(6)]), commits=st.sets(st.integers(0, 11)))
def test_the_group_never_stands_past_what_is_not_done_and_in_the_end_past_all(
    order: list[tuple[int, int]], commits: set[int]
) -> None:
    in_hand = InHand()
    items = {(p, o): in_hand.take(record(p, o)) for p in (0, 1) for o in range(6)}
    stands: dict[TopicPartition, int] = {}
    for number, place in enumerate(order):
        items[place].done = True
        if number in commits:
            due = in_hand.due()
            assert all(offset > stands.get(tp, 0) for tp, offset in due.items())
            in_hand.committed(due)
            stands |= due
            assert all(items[tp.partition, o].done for tp, offset in stands.items() for o in range(offset))
        assert in_hand.unfinished == len(order) - number - 1
    assert stands | in_hand.due() == {TopicPartition("t", 0): 6, TopicPartition("t", 1): 6}


def test_what_was_done_while_a_commit_was_on_its_way_is_still_due() -> None:
    in_hand = InHand()
    first, second = in_hand.take(record(0, 7)), in_hand.take(record(0, 8))
    first.done = True
    on_its_way = in_hand.due()
    second.done = True
    assert in_hand.due() == {TopicPartition("t", 0): 9}
    in_hand.committed(on_its_way)
    assert in_hand.due() == {TopicPartition("t", 0): 9}
