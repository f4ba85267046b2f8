"""The latest value: told with every scrape, stale when ticks say so, stalled when work makes no tokens."""

from __future__ import annotations

import random
from collections.abc import Sequence

from contracts.catalog.slis import SLIS
from contracts.events import Message, MetricsSnapshot, Sli, Tick
from contracts.stage import fold
from streams.core import latest
from tests.streams.recording import START_MS, Server, departure, snapshot

STEP = fold(latest.advance, latest.LatestState)


def slis(log: Sequence[Message]) -> list[Sli]:
    return [m for m in STEP(None, list(log))[1] if isinstance(m, Sli)]


def scrape(i: int, instance: str = "chat-0", *, server: Server | None = None, waiting: float = 3) -> MetricsSnapshot:
    server = server or Server(random.Random(0), tokens=i)
    return snapshot(server, START_MS + 2000 * i, i, instance=instance, waiting=waiting)


def test_every_scrape_tells_its_instance_and_its_workload() -> None:
    first, second = slis([scrape(0)])
    assert (first.instance_id, second.instance_id) == ("chat-0", None)
    assert second.size_s == 0
    assert second.value("requests_waiting") == 3


def test_the_workload_sums_its_fresh_instances() -> None:
    last = slis([scrape(0), scrape(0, "chat-1", waiting=4)])[-1]
    assert (last.value("requests_waiting"), last.value("kv_cache_usage_ratio")) == (7, 0.5)
    assert (last.instances, last.coverage_ratio) == (2, 1.0)


def test_load_is_shared_by_the_replicas_that_answer() -> None:
    down = snapshot(None, START_MS, 1, instance="chat-2")
    last = slis([scrape(0), scrape(0, "chat-1", waiting=4), down])[-1]
    assert (last.value("replicas_up"), last.value("load_per_replica")) == (2, (3 + 1 + 4 + 1) / 2)
    first = slis([scrape(0)])[0]
    assert (first.instance_id, first.value("replicas_up"), first.value("load_per_replica")) == ("chat-0", 1, 4)


def test_the_names_told_are_those_of_the_catalogue() -> None:
    assert slis([scrape(0)])[-1].values.keys() == {name for name, sli in SLIS.items() if sli.latest}


def test_a_tick_tells_what_has_become_stale_once() -> None:
    stale_s = latest.STALE_INTERVALS * 2.0
    ticks = [Tick(at_ms=START_MS + int(stale_s * 1000) + s * 1000, partition=0) for s in (0, 1, 2)]
    after = slis([scrape(0), *ticks])[2:]
    assert [m.instance_id for m in after] == ["chat-0", None]
    assert after[-1].coverage_ratio == 0
    assert after[-1].value("requests_waiting") is None


def test_a_target_that_does_not_answer_is_down_not_idle() -> None:
    down = snapshot(None, START_MS + 2000, 1)
    last = slis([scrape(0), down])[-1]
    assert (last.instances_up, last.value("requests_waiting"), last.value("up_ratio")) == (0, None, 0.0)


def test_work_without_tokens_is_stalled_after_a_while_and_tokens_end_it() -> None:
    stuck = Server(random.Random(0), tokens=7)
    log = [scrape(i, server=stuck) for i in range(7)]
    assert not slis(log[:4])[-1].stalled
    assert slis(log)[-1].stalled
    assert not slis([*log, scrape(8, server=Server(random.Random(0), tokens=8))])[-1].stalled


def test_an_idle_server_is_not_stalled() -> None:
    idle = Server(random.Random(0))
    log = [snapshot(idle, START_MS + 2000 * i, i, waiting=0, running=0) for i in range(9)]
    assert not any(m.stalled for m in slis(log))


def test_too_few_fresh_instances_are_no_answer_for_the_workload() -> None:
    fleet = [scrape(0, f"chat-{n}") for n in range(5)]
    down = [snapshot(None, START_MS + 2000, 1, instance=f"chat-{n}") for n in range(1, 5)]
    last = slis([*fleet, *down])[-1]
    assert last.coverage_ratio == 0.2
    assert last.value("requests_waiting") is None
    assert last.value("replicas_up") is None
    assert last.value("load_per_replica") is None


def test_an_instance_that_does_not_answer_grows_stale() -> None:
    down = [snapshot(None, START_MS + 2000 * i, i) for i in range(1, 60)]
    assert slis([scrape(0), *down])[-1].freshness_s == 118.0


def test_an_engine_that_does_not_tell_tokens_is_not_stalled() -> None:
    def untold(i: int) -> MetricsSnapshot:
        seen = scrape(i)
        sample = seen.engines["0"].model_copy(update={"counters": {}})
        return seen.model_copy(update={"engines": {"0": sample}})

    assert not slis([untold(i) for i in range(12)])[-1].stalled


def test_an_older_scrape_says_nothing() -> None:
    assert slis([scrape(3), scrape(2), scrape(3)]) == slis([scrape(3)])


def test_what_is_told_of_other_fresh_instances_has_another_id() -> None:
    late = Tick(at_ms=START_MS + 9_000, partition=0)
    log = [scrape(0, "chat-1"), scrape(4)]
    without, together = slis([log[0], late, log[1]])[-1], slis(log)[-1]
    assert (without.coverage_ratio, together.coverage_ratio) == (0.5, 1.0)
    assert without.id != together.id


def test_an_instance_unheard_of_for_long_leaves() -> None:
    gone = Tick(at_ms=START_MS + int(latest.LEAVE_AFTER_S * 1000) + 10_000, partition=0)
    newcomer = snapshot(Server(random.Random(0)), gone.at_ms, 0, instance="chat-1")
    last = slis([scrape(0), gone, newcomer])[-1]
    assert (last.instances, last.coverage_ratio) == (1, 1.0)


def test_a_departure_takes_the_instance_out_at_once_and_tells_the_workload_without_it() -> None:
    log = [scrape(0, waiting=9), scrape(0, "chat-1")]
    after = slis([*log, departure(START_MS + 700, 1)])[4:]
    assert [m.instance_id for m in after] == [None]
    (told,) = after
    assert (told.instances, told.coverage_ratio, told.value("replicas_up")) == (1, 1.0, 1)
    assert (told.value("requests_waiting"), told.cause_ms) == (3, START_MS + 700)


def test_a_departed_instance_never_grows_stale() -> None:
    ticks = [Tick(at_ms=START_MS + s * 1000, partition=0) for s in range(1, 400, 7)]
    assert slis([scrape(0), departure(START_MS + 700, 1), *ticks])[3:] == []


def test_a_scrape_from_before_the_departure_does_not_bring_the_instance_back() -> None:
    log = [scrape(0), scrape(0, "chat-1"), departure(START_MS + 7000, 3)]
    late = [scrape(2), scrape(1), departure(START_MS + 7000, 3), departure(START_MS + 5000, 2)]
    assert slis([*log, *late]) == slis(log)
    assert slis([departure(START_MS + 7000, 3), *late]) == []


def test_a_scrape_after_the_departure_makes_a_new_member() -> None:
    stuck = Server(random.Random(0), tokens=7)
    log = [scrape(i, server=stuck) for i in range(7)]
    first, last = slis([*log, departure(START_MS + 13_000, 7), scrape(8, server=stuck)])[-2:]
    assert slis(log)[-1].stalled
    assert (first.instance_id, first.stalled) == ("chat-0", False)
    assert (last.instances, last.value("replicas_up")) == (1, 1)


def test_when_the_last_one_leaves_the_workload_has_no_values_that_could_pass_for_idleness() -> None:
    last = slis([scrape(0), departure(START_MS + 700, 1)])[-1]
    assert (last.instances, last.coverage_ratio) == (0, 0.0)
    assert [last.value(name) for name in ("replicas_up", "load_per_replica", "requests_waiting")] == [None] * 3


def test_one_that_was_given_up_is_not_brought_back_by_a_scrape_from_before() -> None:
    """A late scrape of a clock that runs ahead is not too old by its date."""
    given_up = Tick(at_ms=START_MS + int(latest.LEAVE_AFTER_S * 1000) + 10_000, partition=0)
    late = scrape(1).model_copy(update={"scraped_at_ms": START_MS + 50_000})
    assert slis([scrape(2), given_up, late]) == slis([scrape(2), given_up])
