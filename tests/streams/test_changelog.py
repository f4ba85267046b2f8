"""States that a stage keeps in a changelog: recovered, forgotten, handed over, rewritten."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import OptiInfraError
from streams.changelog import REWRITE_AFTER_BYTES, StateKeeper, dump
from tests.streams.counting_stage import Count


def test_a_keeper_recovers_forgets_and_hands_over_partitions() -> None:
    states = StateKeeper(Count, rewrites=False)
    states.load(0, "a", dump(Count(seen=1)), 0)
    states.load(0, "a", dump(Count(seen=2)), 1)
    states.load(0, "b", dump(Count(seen=3)), 2)
    states.load(0, "b", None, 3)
    states.load(1, "c", dump(Count(seen=4)), 0)
    assert (states.get(0, "a"), states.keys(0), states.get(0, "b")) == (Count(seen=2), ["a"], None)
    states.keep_only([1])
    assert (states.keys(0), states.get(1, "c")) == ([], Count(seen=4))


def test_a_changelog_read_again_after_a_rebalance_reverts_no_key_and_brings_none_back() -> None:
    states = StateKeeper(Count, rewrites=False)
    log = [("a", Count(seen=1)), ("b", Count(seen=1)), ("a", Count(seen=2)), ("b", None)]
    for offset, (key, state) in enumerate(log):
        states.put(0, key, state, dump(state) if state else None, offset)
    for offset, (key, state) in enumerate(log):
        states.load(0, key, dump(state) if state else None, offset)
        assert (states.get(0, "a"), states.keys(0)) == (Count(seen=2), ["a"])
    states.load(0, "a", dump(Count(seen=3)), 4)  # another worker's, written in between
    assert states.get(0, "a") == Count(seen=3)


def test_a_partition_that_comes_back_is_recovered_from_the_beginning() -> None:
    states = StateKeeper(Count, rewrites=False)
    states.put(0, "a", Count(seen=5), dump(Count(seen=5)), 9)
    states.put(0, "gone", None, None, 10)
    states.keep_only([])
    states.load(0, "a", dump(Count(seen=1)), 2)
    states.load(0, "gone", dump(Count(seen=1)), 3)
    assert (states.get(0, "a"), states.keys(0)) == (Count(seen=1), ["a", "gone"])


def test_a_state_that_this_version_cannot_read_is_an_error_with_a_remedy() -> None:
    states = StateKeeper(Count, rewrites=False)
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
