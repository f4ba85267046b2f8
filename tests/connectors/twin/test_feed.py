"""A recorded trace on the live twin: every request at its moment, round and round, wherever the twin is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.twin.feed import Feed, FeedSource
from connectors.twin.request import Request
from connectors.twin.trace import Trace
from contracts.errors import ConfigError
from tests.connectors.twin.running import serving, until

ORIGIN_MS = 1_700_000_000_000

gaps = st.lists(st.floats(0, 5), min_size=1, max_size=30)


def trace(*arrival_s: float) -> Trace:
    return Trace(arrival_s, [100 + n for n in range(len(arrival_s))], [5] * len(arrival_s))


def told(source: FeedSource, *to_s: float) -> list[Request]:
    return [each for at_s in to_s for each in source.arrivals(ORIGIN_MS + at_s * 1000.0)]


def test_it_begins_anew_in_the_second_after_its_last_request_with_new_ids() -> None:
    source = FeedSource(Feed(trace(0.5, 2.0, 2.5)), ORIGIN_MS, ORIGIN_MS)
    found = told(source, 9.0)
    assert [(each.arrival_ms - ORIGIN_MS) / 1000 for each in found] == [0.5, 2.0, 2.5, 3.5, 5.0, 5.5, 6.5, 8.0, 8.5]
    assert [each.request_id for each in found] == list(range(1, 10))
    assert [each.prompt_tokens for each in found[3:6]] == [100, 101, 102]


def test_at_twice_its_speed_it_takes_half_as_long() -> None:
    source = FeedSource(Feed(trace(0.5, 2.0, 2.5), speed=2.0), ORIGIN_MS, ORIGIN_MS)
    assert [(each.arrival_ms - ORIGIN_MS) / 1000 for each in told(source, 3.0)] == [0.25, 1.0, 1.25, 1.75, 2.5, 2.75]
    assert source.rate_per_s(ORIGIN_MS + 2000.0) == 2


@given(gaps=gaps, start_s=st.floats(0, 60), cuts=st.lists(st.floats(0, 60), max_size=5), speed=st.floats(0.5, 3))
def test_started_again_it_goes_on_where_it_would_have_been_wherever_time_is_cut(
    gaps: list[float], start_s: float, cuts: list[float], speed: float
) -> None:
    feed = Feed(trace(*(sum(gaps[: n + 1]) for n in range(len(gaps)))), speed)
    whole = told(FeedSource(feed, ORIGIN_MS, ORIGIN_MS), 60.0)
    again = FeedSource(feed, ORIGIN_MS + start_s * 1000.0, ORIGIN_MS)
    late = told(again, *sorted(each for each in cuts if each >= start_s), 60.0)
    since_ms = ORIGIN_MS + start_s * 1000.0
    assert [each for each in late if each.arrival_ms > since_ms + 1] == [
        each for each in whole if each.arrival_ms > since_ms + 1
    ]
    assert all(each.arrival_ms > since_ms - 1 for each in late)


def test_a_feed_of_nothing_or_at_no_speed_is_refused_and_its_rate_cannot_be_changed() -> None:
    with pytest.raises(ConfigError, match="Name a trace with requests"):
        Feed(trace())
    with pytest.raises(ConfigError, match="speed above 0"):
        Feed(trace(1.0), speed=0.0)
    with pytest.raises(ConfigError, match="the rate it had"):
        FeedSource(Feed(trace(1.0)), 0.0, 0.0).set_factor(2.0, 0.0)


class Hand:
    """Event time that the test moves on."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def now_ms(self) -> int:
        return self.at_ms

    def wall_s(self, event_s: float) -> float:
        return 0.0


async def test_the_live_twin_takes_a_workloads_requests_from_its_feed_and_the_others_from_their_load(
    tmp_path: Path,
) -> None:
    hand, feed = Hand(ORIGIN_MS), Feed(trace(*(0.4 * n for n in range(100))), speed=2.0)
    async with serving(tmp_path, clock=hand, feeds={"chat": feed}, day_origin_ms=ORIGIN_MS) as running:
        hand.at_ms += 19_900

        async def caught_up() -> bool:
            return bool((await running.control("GET", "/fleet"))[1]["now_ms"] == hand.at_ms)

        await until(caught_up)
        _, state = await running.control("GET", "/fleet")
        assert state["workloads"]["chat"]["arrived"] == 100
        assert state["workloads"]["code"]["arrived"] not in (0, 100)
        status, answer = await running.control("PUT", "/load/chat", {"factor": 2.0})
        assert (status, "the rate it had" in str(answer)) == (404, True)
