"""What one instance's windows say: sums of pairs, right across restarts, gaps and clock steps."""

from __future__ import annotations

import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import InstanceWindow, MetricsSnapshot, Tick
from contracts.stage import fold
from streams.core.windows import InstanceState, windows_advance
from tests.streams.recording import START_MS, Server, departure, record, snapshot

STEP = fold(windows_advance((10, 60)), InstanceState)


def windows(log: Sequence[MetricsSnapshot], size_s: int = 10) -> list[InstanceWindow]:
    _, outputs = STEP(None, list(log))
    return [m for m in outputs if isinstance(m, InstanceWindow) and m.size_s == size_s]


def steady(n: int, per_scrape: int = 2, start_ms: int = START_MS + 500) -> tuple[list[MetricsSnapshot], Server]:
    """A scrape every 2 s, `per_scrape` requests between two of them."""
    server, log = Server(random.Random(0)), []
    for i in range(n):
        log.append(snapshot(server, start_ms + 2000 * i, i))
        server.serve(per_scrape)
    return log, server


def test_a_steady_server_yields_its_rate_and_full_coverage() -> None:
    closed = windows(steady(20)[0])
    inner = closed[1]
    assert inner.start_ms == START_MS + 10_000
    assert inner.counters["requests_finished"] == 10
    assert inner.span_ms == 10_000
    assert inner.covered_ms == 10_000
    assert inner.histograms["ttft_s"].count == 10
    assert (inner.scrapes, inner.revision, inner.resets) == (5, 0, 0)


def test_a_window_closes_with_the_first_scrape_after_its_end_and_not_before() -> None:
    log, _ = steady(6)
    assert windows(log[:5]) == []
    (only,) = windows(log)
    assert only.cause_ms == log[5].scraped_at_ms


def test_growth_to_the_first_scrape_is_unknown_and_not_counted() -> None:
    server = Server(random.Random(0))
    server.serve(1000)
    log = [snapshot(server, START_MS + 500 + 2000 * i, i) for i in range(7)]
    assert windows(log)[0].counters["requests_finished"] == 0


@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_short_windows_add_up_to_the_long_one(seed: int) -> None:
    log = [m for m in record(seed, workloads=("chat",), instances=1, scrapes=200, faults=False) if m.up]
    short, long = windows(log, 10), windows(log, 60)
    for whole in long:
        parts = [w for w in short if whole.start_ms <= w.start_ms < whole.end_ms]
        if len(parts) == 6 and whole.revision == 0:
            assert sum(w.counters.get("requests_finished", 0) for w in parts) == whole.counters["requests_finished"]
            assert sum(w.histograms["ttft_s"].count for w in parts if w.histograms) == whole.histograms["ttft_s"].count


def test_a_restart_counts_what_came_after_it() -> None:
    log, server = steady(7)
    server.restart(START_MS + 12_600)
    server.serve(3)
    log += [snapshot(server, START_MS + 14_500, 7), snapshot(server, START_MS + 21_000, 8)]
    second = windows(log)[1]
    # Two pairs of 2 before the restart, 3 since.
    assert second.counters["requests_finished"] == 2 + 2 + 3
    assert second.resets == 1


def test_a_quick_restart_is_seen_by_the_start_time_even_when_counters_are_higher() -> None:
    server = Server(random.Random(0))
    server.serve(2)
    log = [snapshot(server, START_MS + 500, 0), snapshot(server, START_MS + 2500, 1)]
    server.restart(START_MS + 3000)
    server.serve(100)
    log += [snapshot(server, START_MS + 4500, 2), snapshot(server, START_MS + 10_500, 3)]
    (only,) = windows(log)
    assert only.counters["requests_finished"] == 100
    assert only.resets == 1


def test_missing_scrapes_lower_coverage_and_are_counted() -> None:
    log, _ = steady(30)
    silent = range(6, 12)
    log = [snapshot(None, m.scraped_at_ms, m.seq) if i in silent else m for i, m in enumerate(log)]
    second = windows(log)[1]
    assert (second.scrapes, second.scrapes_failed) == (1, 4)
    assert second.covered_ms < 5000
    assert sum(w.counters.get("requests_finished", 0) for w in windows(log)) == 2 * (len(log) - 1) - 2 * 5


def test_older_and_repeated_scrapes_change_nothing() -> None:
    log, _ = steady(12)
    twice = [m for m in log for _ in (0, 1)]
    shuffled = [*log[:3], log[1], *log[3:9], log[4], log[2], *log[9:]]
    assert windows(twice) == windows(shuffled) == windows(log)


def test_a_clock_that_steps_back_loses_one_pair_and_revises_what_it_reaches_again() -> None:
    log, server = steady(12)
    back = [snapshot(server, log[-1].scraped_at_ms - 15_000 + 2000 * i, i, epoch=2) for i in range(14)]
    closed = windows([*log, *back])
    keys = [(w.start_ms, w.revision) for w in closed]
    assert len(keys) == len(set(keys))
    assert {revision for _, revision in keys} == {0, 1}
    assert all(w.counters.get("requests_finished", 0) >= 0 for w in closed)


def test_a_clock_that_jumps_ahead_leaves_a_gap_and_no_flood() -> None:
    log, server = steady(12)
    day_ms = 86_400_000
    ahead = [snapshot(server, log[-1].scraped_at_ms + day_ms + 2000 * i, 12 + i) for i in range(1, 8)]
    closed = windows([*log, *ahead])
    assert len(closed) <= 5
    landing = next(w for w in closed if w.start_ms > START_MS + day_ms // 2)
    assert landing.covered_ms < 10_000


def test_work_without_tokens_is_stalled_and_idleness_is_not() -> None:
    server = Server(random.Random(0))
    stuck = [snapshot(server, START_MS + 500 + 2000 * i, i, waiting=4) for i in range(8)]
    idle = [snapshot(server, START_MS + 500 + 2000 * i, i, waiting=0, running=0) for i in range(8)]
    assert windows(stuck)[0].stalled
    assert not windows(idle)[0].stalled
    assert not windows(steady(8)[0])[0].stalled


def test_windows_too_short_for_two_scrapes_are_not_made() -> None:
    server = Server(random.Random(0))
    log = [snapshot(server, START_MS + 500 + 15_000 * i, i, interval_s=15) for i in range(12)]
    assert windows(log, 10) == []
    assert windows(log, 60)


def test_an_engine_that_vanishes_does_not_look_like_a_restart() -> None:
    one, other = Server(random.Random(0)), Server(random.Random(1))
    one.serve(100)
    other.serve(100)
    log = []
    for i in range(8):
        scrape = snapshot(one, START_MS + 500 + 2000 * i, i)
        engines = {"0": one.sample(), "1": other.sample()} if i < 3 else {"0": one.sample()}
        log.append(scrape.model_copy(update={"engines": engines}))
        one.serve(1)
    assert windows(log)[0].counters["requests_finished"] == 4
    assert windows(log)[0].resets == 0


def without(scrape: MetricsSnapshot, counter: str) -> MetricsSnapshot:
    sample = scrape.engines["0"]
    counters = {name: value for name, value in sample.counters.items() if name != counter}
    return scrape.model_copy(update={"engines": {"0": sample.model_copy(update={"counters": counters})}})


def test_a_sample_that_one_scrape_lacks_is_made_up_by_the_next() -> None:
    log, _ = steady(20)
    holed = [without(m, "requests_finished") if i == 7 else m for i, m in enumerate(log)]
    assert [w.counters["requests_finished"] for w in windows(holed)] == [
        w.counters["requests_finished"] for w in windows(log)
    ]


def test_an_engine_that_one_scrape_lacks_is_made_up_by_the_next() -> None:
    one, other = Server(random.Random(0)), Server(random.Random(1))
    log = []
    for i in range(12):
        engines = {"0": one.sample(), "1": other.sample()} if i != 3 else {"0": one.sample()}
        log.append(snapshot(one, START_MS + 500 + 2000 * i, i).model_copy(update={"engines": engines}))
        one.serve(1)
        other.serve(1)
    assert [w.counters["requests_finished"] for w in windows(log)] == [4 * 2, 5 * 2]


def test_a_counter_that_dips_restarts_alone() -> None:
    log, _ = steady(12)
    dipped = [m.engines["0"].counters | {"requests_failed": 4.0 if i >= 5 else 5.0} for i, m in enumerate(log)]
    log = [
        m.model_copy(update={"engines": {"0": m.engines["0"].model_copy(update={"counters": counters})}})
        for m, counters in zip(log, dipped, strict=True)
    ]
    assert [w.counters["requests_finished"] for w in windows(log)] == [8, 10]


def test_where_tokens_are_not_told_nobody_is_called_stalled() -> None:
    server = Server(random.Random(0))
    log = [without(snapshot(server, START_MS + 500 + 2000 * i, i, waiting=4), "generation_tokens") for i in range(8)]
    assert not windows(log)[0].stalled


def test_an_earlier_time_within_a_scrapers_life_is_no_clock_step() -> None:
    log, _ = steady(20)
    late = [
        m.model_copy(update={"scraped_at_ms": m.scraped_at_ms - 5000}) if i in (3, 7) else m for i, m in enumerate(log)
    ]
    closed = windows(late)
    assert {w.revision for w in closed} == {0}
    assert sum(w.counters["requests_finished"] for w in closed) == sum(
        w.counters["requests_finished"] for w in windows(log)
    )


def test_a_longer_scrape_interval_does_not_swallow_the_open_window() -> None:
    log, server = steady(8)
    rare = [snapshot(server, log[-1].scraped_at_ms + 30_000 * i, 8 + i, interval_s=30) for i in (1, 2)]
    assert [w.start_ms for w in windows([*log, *rare])] == [START_MS, START_MS + 10_000]


def test_an_instance_nobody_scrapes_is_forgotten() -> None:
    state, _ = STEP(None, list(steady(12)[0]))
    assert isinstance(state, InstanceState)
    assert STEP(state, [Tick(at_ms=state.clock_ms + 1000, partition=0)]) == (state, [])
    assert STEP(state, [Tick(at_ms=state.clock_ms + 2 * 3_600_000, partition=0)]) == (None, [])


def test_a_departure_closes_every_window_there_and_then() -> None:
    log, _ = steady(9)
    outputs = [m for m in STEP(None, [*log, departure(START_MS + 17_000, 9)])[1] if isinstance(m, InstanceWindow)]
    assert [(w.size_s, w.start_ms - START_MS, w.left) for w in outputs] == [
        (10, 0, False),
        (10, 10_000, True),
        (60, 0, True),
    ]
    _, short, long = outputs
    assert (short.counters["requests_finished"], long.counters["requests_finished"]) == (2 * 4, 2 * 8)
    assert (short.covered_ms, short.scrapes, short.scrapes_failed) == (6_500, 4, 0)
    assert (short.there_ms, long.there_ms) == (7_000, 17_000)


def test_a_departure_past_the_end_of_the_open_window_closes_it_as_any_scrape_does() -> None:
    log, _ = steady(5)
    outputs = [m for m in STEP(None, [*log, departure(START_MS + 11_000, 5)])[1] if isinstance(m, InstanceWindow)]
    whole, empty, long = outputs
    assert (whole.start_ms, whole.left, whole.counters["requests_finished"]) == (START_MS, False, 8)
    assert (empty.start_ms, empty.left, empty.scrapes, empty.there_ms) == (START_MS + 10_000, True, 0, 1_000)
    assert (long.size_s, long.left) == (60, True)


def test_after_a_departure_older_scrapes_and_repeats_change_nothing() -> None:
    log, _ = steady(9)
    state, _ = STEP(None, [*log, departure(START_MS + 17_000, 9)])
    again = [log[7], departure(START_MS + 17_000, 9), log[8], departure(START_MS + 16_000, 8)]
    assert STEP(state, again) == (state, [])
    later, outputs = STEP(state, [departure(START_MS + 18_000, 10)])
    assert outputs == []
    assert STEP(later, [snapshot(Server(random.Random(0)), START_MS + 17_500, 9)]) == (later, [])


def test_one_that_comes_back_begins_anew_and_revises_the_windows_it_left() -> None:
    log, server = steady(7)
    server.serve(1000)
    back = [snapshot(server, START_MS + 16_500 + 2000 * i, 8 + i) for i in range(4)]
    closed = windows([*log, departure(START_MS + 14_000, 7), *back])
    assert [(w.start_ms - START_MS, w.revision, w.left) for w in closed] == [
        (0, 0, False),
        (10_000, 0, True),
        (10_000, 1, False),
    ]
    assert [w.counters["requests_finished"] for w in closed] == [8, 4, 0]


def test_a_departure_of_one_never_seen_is_only_remembered() -> None:
    state, outputs = STEP(None, [departure(START_MS, 4)])
    assert outputs == []
    assert STEP(state, [snapshot(Server(random.Random(0)), START_MS - 500, 3)]) == (state, [])
