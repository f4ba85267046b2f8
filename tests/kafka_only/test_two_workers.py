"""What only a real Kafka can show: two workers of one stage, rebalances under fire, a long recovery."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Sequence

import pytest

from contracts.events import MetricsSnapshot
from contracts.topics import METRICS, WINDOWS, group_of
from tests.conftest import Broker
from tests.streams.chain import PureChain, RealWorker, by_workload, put_out
from tests.streams.faults import Feeder, Producer, drained, until
from tests.streams.recording import START_MS, Server, record, snapshot

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(600)]

ACTS = 8


@pytest.fixture
def name() -> str:
    """A stage, worker and workload name that no other test has."""
    return f"two-{uuid.uuid4().hex[:8]}"


def pure_windows(log: Sequence[MetricsSnapshot]) -> dict[tuple[str, str], list[object]]:
    """What stage `windows` makes of a log, by workload."""
    chain = PureChain()
    chain.scrapes(log)
    return {place: list(found) for place, found in by_workload(chain.outputs).items() if place[0] == WINDOWS.name}


async def test_two_workers_share_a_stage_through_kills_leaves_and_joins(own_broker: Broker, name: str) -> None:
    broker = own_broker
    broker.make_topics([name])
    log = record(9, workloads=[f"{name}-{i}" for i in range(8)], instances=3, scrapes=160)
    living = contextlib.ExitStack()
    workers = [living.enter_context(RealWorker(broker, "windows", name, f"{name}-{side}")) for side in "ab"]
    chance, part = random.Random(1), len(log) // ACTS
    with living:
        for first in range(0, len(log), part):  # each act falls while a part of the log is fed
            feeder = Feeder(broker.bootstrap, log[first : first + part], per_s=60)
            feeder.start()
            worker = chance.choice(workers)
            await until(worker.works, *workers)
            await asyncio.sleep(4 * chance.random())
            await asyncio.to_thread(chance.choice((worker.kill_and_restart, worker.leave_and_join)))
            await asyncio.to_thread(feeder.join)
        await until(lambda: drained(broker, group_of(name), METRICS.name), *workers)
    found = by_workload(put_out(broker, WINDOWS, {worker.name for worker in workers}))
    mine = {place: list(messages) for place, messages in found.items() if place[1].startswith(name)}
    assert mine == pure_windows(log)
    assert all(put_out(broker, WINDOWS, {worker.name}) for worker in workers), "both must have worked"


async def test_after_a_long_recovery_every_key_has_its_state(own_broker: Broker, name: str) -> None:
    broker = own_broker
    broker.make_topics([name])
    fleet = 3000
    servers = [Server(random.Random(i)) for i in range(fleet)]

    def scrape(n: int) -> list[MetricsSnapshot]:
        for server in servers:
            server.serve(2)
        return [
            snapshot(s, START_MS + 500 + 2000 * n, n, workload=f"{name}-{i % 5}", instance=f"{name}-{i}")
            for i, s in enumerate(servers)
        ]

    first, last = [m for n in range(3) for m in scrape(n)], [m for n in (3, 4, 5) for m in scrape(n)]
    producer = Producer(broker.bootstrap)
    with RealWorker(broker, "windows", name) as worker:
        for part in (first, last):
            producer.send(part)
            producer.flush()
            await until(lambda: drained(broker, group_of(name), METRICS.name), worker)
            worker.kill_and_restart()
    found = by_workload(put_out(broker, WINDOWS, {worker.name}))
    mine = {place: list(messages) for place, messages in found.items() if place[1].startswith(name)}
    assert mine == pure_windows([*first, *last])
    assert sum(map(len, mine.values())) == fleet
