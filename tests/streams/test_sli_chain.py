"""Scrapes through `windows`, `slis` and `latest` on a broker, workers killed with SIGKILL twenty times: what comes out
is what the pure fold makes, message for message, with revisions and ids."""

from __future__ import annotations

import asyncio
import contextlib
import random
import uuid
from collections.abc import Sequence
from functools import partial

import pytest

from contracts.events import InstanceWindow, Sli, Tick
from contracts.topics import ALERTS, METRICS, PARTITIONS, SLIS, TICKS, WINDOWS, group_of
from streams.brokers.admin import group_lag
from tests.conftest import Broker
from tests.streams.chain import PureChain, RealWorker, by_workload, put_out
from tests.streams.faults import Producer, drained, until
from tests.streams.recording import record

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = 20


def ticks_at(seconds: Sequence[int], newest_ms: int) -> list[Tick]:
    return [Tick(at_ms=newest_ms // 1000 * 1000 + s * 1000, partition=0) for s in seconds]


async def test_twenty_kills_change_no_sli(own_broker: Broker) -> None:
    broker = own_broker
    name = f"sli-{uuid.uuid4().hex[:8]}"
    chance = random.Random(5)
    everything = record(3, workloads=(f"{name}-a", f"{name}-b"), instances=3, scrapes=150)
    withheld = f"{name}-a-2"  # the end of one instance's scrapes comes after its windows were told
    late = [m for m in everything[-200:] if m.instance_id == withheld]
    log = [m for m in everything if m not in late]
    assert len(log) >= KILLS
    newest_ms = max(m.at for m in log)
    told, final = ticks_at((11, 15), newest_ms), ticks_at((30, 60), newest_ms)

    data = {"windows": METRICS, "slis": WINDOWS, "latest": METRICS}
    pure = PureChain()
    pure.scrapes(log)
    pure.ticks(told)
    pure.scrapes(late)
    pure.ticks(final)

    broker.make_topics([f"{name}-{stage}" for stage in data])
    producer = Producer(broker.bootstrap)
    living = contextlib.ExitStack()
    workers = [living.enter_context(RealWorker(broker, stage, f"{name}-{stage}")) for stage in data]

    async def settled() -> None:
        for stage, topic in data.items():  # in the order of the pipeline
            await until(partial(drained, broker, group_of(f"{name}-{stage}"), topic.name), *workers)

    async def send_ticks(ticks: Sequence[Tick]) -> None:
        for number in range(PARTITIONS):
            for tick in ticks:
                producer.send_to(tick.model_copy(update={"partition": number}), number)
        producer.flush()
        for worker in workers:
            await until(partial(drained, broker, group_of(worker.name), TICKS.name), *workers)

    before = dict.fromkeys(data, 0)

    def moved(worker: RealWorker) -> bool:
        """It has committed something since it was last killed: the kill is to hit a worker at work."""
        lag = group_lag(broker.bootstrap, group_of(worker.name), [data[worker.stage].name])
        committed = sum(done for done, _ in lag.values())
        if committed <= before[worker.stage] and (committed == 0 or any(d < end for d, end in lag.values())):
            return False
        before[worker.stage] = committed
        return True

    with living:
        step = -(-len(log) // KILLS)
        for start in range(0, len(log), step):
            producer.send(log[start : start + step])
            producer.flush()
            victim = chance.choice(workers)
            await until(partial(moved, victim), *workers)
            await asyncio.sleep(chance.random() * 0.4)
            victim.kill_and_restart()
        await settled()
        await send_ticks(told)
        producer.send(late)
        producer.flush()
        await settled()
        await send_ticks(final)

    names = {worker.name for worker in workers}
    real = by_workload(m for topic in (WINDOWS, SLIS, ALERTS) for m in put_out(broker, topic, names))
    wanted = by_workload(pure.outputs)
    mine = {place: messages for place, messages in real.items() if place[1].startswith(name)}
    assert mine.keys() == wanted.keys()
    for place, messages in wanted.items():
        assert mine[place] == messages, place
    slis = [m for m in pure.outputs if isinstance(m, Sli)]
    assert {m.revision for m in slis} >= {0, 1}, "late data and clock steps must have made revisions"
    assert any(m.resets for m in pure.outputs if isinstance(m, InstanceWindow))
    assert any(m.left for m in pure.outputs if isinstance(m, InstanceWindow))
