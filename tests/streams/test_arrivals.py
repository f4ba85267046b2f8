"""Arrivals of an instance and a workload: what ended and the change of what is held, over intervals that are known."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.events import Message, MetricsSnapshot, Sli, SliValue, Tick
from contracts.stage import fold
from streams.core import latest
from tests.streams.recording import START_MS, Server, departure, snapshot

STEP = fold(latest.advance, latest.LatestState)


def scrape(i: int, finished: int, held: float, instance: str = "chat-0", *, restarted: bool = False) -> MetricsSnapshot:
    server = Server(random.Random(0), finished=finished, tokens=i)
    if restarted:
        server.incarnation_ms = START_MS + 1
    return snapshot(server, START_MS + 2000 * i, i, instance=instance, waiting=held, running=0)


def arrivals(*log: Message) -> SliValue | None:
    """Of the workload, as the last message tells."""
    told = [m for m in STEP(None, list(log))[1] if isinstance(m, Sli) and m.instance_id is None]
    return told[-1].values.get("arrivals_per_s")


def test_what_ended_and_the_change_of_what_is_held_have_arrived() -> None:
    assert arrivals(scrape(0, 10, 5), scrape(1, 16, 9)) == SliValue(value=5.0, samples=1)


def test_a_queue_that_is_worked_off_is_no_arrival() -> None:
    assert arrivals(scrape(0, 10, 6), scrape(1, 16, 0)) == SliValue(value=0.0, samples=1)


def test_an_instance_without_an_interval_is_not_among_the_samples() -> None:
    log = [scrape(0, 10, 5), scrape(1, 16, 9), scrape(1, 400, 90, "chat-1")]
    assert arrivals(*log[:1]) == SliValue(value=None)
    assert arrivals(*log) == SliValue(value=5.0, samples=1)
    assert arrivals(*log, scrape(2, 410, 90, "chat-1")) == SliValue(value=10.0, samples=2)


def test_the_message_tells_of_how_many_instances_the_samples_are() -> None:
    log = [scrape(0, 10, 5), scrape(1, 16, 9), scrape(1, 400, 90, "chat-1")]
    (*_, last) = (m for m in STEP(None, list(log))[1] if isinstance(m, Sli))
    assert (last.instances, last.coverage_ratio, last.values["arrivals_per_s"].samples) == (2, 1.0, 1)


def test_a_restart_and_a_counter_that_fell_leave_the_interval_unknown_and_the_next_one_known() -> None:
    for fallen in (scrape(1, 3, 0), scrape(1, 12, 0, restarted=True)):
        assert arrivals(scrape(0, 10, 5), fallen) == SliValue(value=None)
    again = [scrape(0, 10, 5), scrape(1, 3, 0), scrape(2, 7, 0)]
    assert arrivals(*again) == SliValue(value=2.0, samples=1)


def test_an_engine_that_comes_or_goes_brings_no_arrivals_of_its_whole_past() -> None:
    one, two = scrape(0, 10, 5), scrape(1, 12, 5)
    more = two.model_copy(update={"engines": two.engines | {"1": Server(random.Random(0), finished=900).sample()}})
    assert arrivals(one, more) == SliValue(value=None)


def test_a_missed_scrape_is_made_up_for_by_the_next_and_a_long_silence_is_not() -> None:
    down = snapshot(None, START_MS + 2000, 1)
    assert arrivals(scrape(0, 10, 0), down, scrape(2, 18, 0)) == SliValue(value=2.0, samples=1)
    assert arrivals(scrape(0, 10, 0), scrape(4, 18, 0)) == SliValue(value=None)


def test_what_an_instance_held_when_it_left_did_not_arrive_anew_at_the_others() -> None:
    log = [scrape(i, 10 * i, 8.0, name) for i in (0, 1) for name in ("chat-0", "chat-1")]
    taken_over = [departure(START_MS + 4000, 2, instance="chat-1"), scrape(2, 20, 16.0)]
    assert arrivals(*log, *taken_over) == SliValue(value=5.0, samples=1)
    assert arrivals(*log, *taken_over, scrape(3, 30, 16.0)) == SliValue(value=5.0, samples=1)


def test_one_that_did_not_answer_any_more_takes_nothing_along() -> None:
    log = [scrape(i, 10 * i, 8.0, name) for i in (0, 1) for name in ("chat-0", "chat-1")]
    gone = [snapshot(None, START_MS + 4000, 2, instance="chat-1"), departure(START_MS + 4000, 3, instance="chat-1")]
    assert arrivals(*log, *gone, scrape(2, 20, 8.0)) == SliValue(value=5.0, samples=1)


def test_a_page_without_the_counters_tells_no_arrivals() -> None:
    page = scrape(1, 12, 5)
    bare = page.engines["0"].model_copy(update={"counters": {}})
    assert arrivals(scrape(0, 10, 5), page.model_copy(update={"engines": {"0": bare}})) == SliValue(value=None)


def test_rejected_requests_arrived_too() -> None:
    pages = [scrape(0, 10, 5), scrape(1, 12, 5)]
    rejecting = [
        page.model_copy(
            update={
                "engines": {"0": engine.model_copy(update={"counters": engine.counters | {"requests_rejected": n}})}
            }
        )
        for page, n in zip(pages, (0.0, 6.0), strict=True)
        for engine in [page.engines["0"]]
    ]
    assert arrivals(*rejecting) == SliValue(value=4.0, samples=1)


def test_a_stale_instance_tells_no_arrivals() -> None:
    log = [scrape(i, 10 * i, 8.0, name) for i in (0, 1) for name in ("chat-0", "chat-1")]
    later = [scrape(i, 10 * i, 8.0) for i in range(2, 6)]
    assert arrivals(*log, *later, Tick(at_ms=START_MS + 10_000, partition=0)) == SliValue(value=5.0, samples=1)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=2, max_size=20))
def test_over_any_time_arrivals_sum_to_what_ended_and_what_is_held(seconds: list[tuple[int, int]]) -> None:
    """Requests arrive and end as they like: what a scrape tells is never more than was there."""
    finished, held, log, came = 0, 0, [], 0
    for i, (arrived, ended) in enumerate(seconds):
        done = min(ended, held + arrived)
        finished, held = finished + done, held + arrived - done
        came += arrived if i else 0
        log.append(scrape(i, finished, float(held)))
    told = [m for m in STEP(None, log)[1] if isinstance(m, Sli) and m.instance_id is None]
    assert sum(2.0 * (m.value("arrivals_per_s") or 0.0) for m in told) == pytest.approx(came)
