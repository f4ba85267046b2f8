"""What only a real Kafka can show of handlers: two workers of one group that come, go and are killed."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from contracts.events import FleetEvent
from contracts.topics import PARTITIONS
from tests.conftest import Broker
from tests.streams.faults import Feeder, until
from tests.streams.handling import Answering, answers, beats, caught_up, event, handling, life

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]


class Slow(Answering):
    async def work(self, message: FleetEvent) -> None:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("concurrency", [1, 3])
async def test_what_one_worker_leaves_or_drops_the_other_handles(own_broker: Broker, concurrency: int) -> None:
    """One worker stays, another joins and leaves cleanly, then joins as a process and is killed."""
    broker, name = own_broker, f"handlers-{uuid.uuid4().hex[:8]}"
    broker.make_topics([])
    workloads = [f"{name}-{n}" for n in range(4 * PARTITIONS)]
    feeder = Feeder(broker.bootstrap, [event(w, n) for n in range(120) for w in workloads], per_s=100)
    steady, guest = Slow(*workloads), Slow(*workloads)
    feeder.start()
    async with handling(broker, name, steady, concurrency=concurrency):
        await until(lambda: bool(steady.given))
        async with handling(broker, name, guest, concurrency=concurrency, worker=f"{name}-guest"):
            await until(lambda: len(guest.given) > 50)
        with life(broker, name, workloads, "--worker", f"{name}-process", "--concurrency", str(concurrency)) as doomed:
            await until(lambda: any(beat.handled > 20 for beat in beats(broker, f"{name}-process")))
            doomed.kill()
        await until(lambda: not feeder.is_alive() and caught_up(broker, name))
    for workload in workloads:
        assert set(answers(broker, workload)) == set(range(120))
