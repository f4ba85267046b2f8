"""Scrapes through `windows` and `slis` on a broker, workers killed with SIGKILL twenty times: the SLIs are those of the
pure fold, message for message, with their revisions and ids."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence

import pytest

from contracts.events import Alert, InstanceWindow, Sli, Tick
from contracts.topics import ALERTS, METRICS, PARTITIONS, SLIS, TICKS, WINDOWS, Topic, group_of
from streams.brokers.admin import group_lag
from tests.conftest import Broker
from tests.streams.chain import PureChain, RealWorker, by_workload, put_out
from tests.streams.faults import Producer, drained, until
from tests.streams.recording import record

pytestmark = [pytest.mark.broker, pytest.mark.slow, pytest.mark.timeout(600)]

KILLS = 20


def ticks_at(seconds: Sequence[int], newest_ms: int) -> list[Tick]:
    return [Tick(at_ms=newest_ms // 1000 * 1000 + s * 1000, partition=0) for s in seconds]


async def test_twenty_kills_change_no_sli(broker: Broker) -> None:
    name = f"sli-{uuid.uuid4().hex[:8]}"
    chance = random.Random(5)
    everything = record(3, workloads=(f"{name}-a", f"{name}-b"), instances=3, scrapes=150)
    withheld = f"{name}-a-2"  # the end of one instance's scrapes comes after its windows were told
    late = [m for m in everything[-200:] if m.instance_id == withheld]
    log = [m for m in everything if m not in late]
    assert len(log) >= KILLS
    newest_ms = max(m.at for m in log)
    told, final = ticks_at((11, 15), newest_ms), ticks_at((30, 60), newest_ms)

    pure = PureChain()
    pure.scrapes(log)
    pure.ticks(told)
    pure.scrapes(late)
    pure.ticks(final)

    broker.make_topics([f"{name}-windows", f"{name}-slis"])
    producer = Producer(broker.bootstrap)
    workers = [RealWorker(broker, stage, f"{name}-{stage}") for stage in ("windows", "slis")]

    async def settled(inputs: tuple[tuple[str, Topic], ...]) -> None:
        for stage, topic in inputs:
            await until(lambda s=stage, t=topic: drained(broker, group_of(f"{name}-{s}"), t.name))

    async def send_ticks(ticks: Sequence[Tick]) -> None:
        for number in range(PARTITIONS):
            for tick in ticks:
                producer.send_to(tick.model_copy(update={"partition": number}), number)
        producer.flush()
        await settled((("windows", TICKS), ("slis", TICKS)))

    data = {"windows": METRICS, "slis": WINDOWS}
    before = {"windows": 0, "slis": 0}

    def moved(worker: RealWorker) -> bool:
        """It has committed something since it was last killed: the kill is to hit a worker at work."""
        lag = group_lag(broker.bootstrap, group_of(worker.name), [data[worker.stage].name])
        committed = sum(done or 0 for done, _ in lag.values())
        if committed <= before[worker.stage] and (committed == 0 or any((d or 0) < end for d, end in lag.values())):
            return False
        before[worker.stage] = committed
        return True

    try:
        step = -(-len(log) // KILLS)
        for start in range(0, len(log), step):
            producer.send(log[start : start + step])
            producer.flush()
            victim = chance.choice(workers)
            await until(lambda v=victim: moved(v))
            await asyncio.sleep(chance.random() * 0.4)
            victim.kill_and_restart()
        await settled((("windows", METRICS), ("slis", WINDOWS)))
        await send_ticks(told)
        producer.send(late)
        producer.flush()
        await settled((("windows", METRICS), ("slis", WINDOWS)))
        await send_ticks(final)
    finally:
        for worker in workers:
            worker.stop()

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
    assert not any(isinstance(m, Alert) for m in pure.outputs) or (Alert.TYPE, f"{name}-a") in wanted
