"""How many scrapes a second one worker of stage `windows` takes, against a stock Faust agent with the same fold."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import confluent_kafka
from pydantic import BaseModel

from bench.load import scrapes
from bench.report import Row, report
from contracts.clock import ClockAnchor, EventClock
from contracts.codec import Record, decode, encode, headers_of
from contracts.stage import Stage
from contracts.topics import METRICS, PARTITIONS, changelog_of, group_of
from streams.brokers.admin import group_lag
from streams.brokers.embedded import MockCluster
from streams.core.slis import SliSettings
from streams.stages import stages

MESSAGES = 16_000
ROUNDS = 3
WARM = 500
PATIENCE_S = 120


def windows_stage(name: str) -> Stage:
    """Stage `windows` under a group of the benchmark's own, without ticks."""
    stage = next(stage for stage in stages(SliSettings()) if stage.name == "windows")
    return dataclasses.replace(stage, name=name, inputs=(METRICS,))


def run_ours(bootstrap: str, name: str) -> None:
    """The project's driver."""
    from streams.faust_driver import run_stage_process

    clock = EventClock(ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0), time.time, time.monotonic)
    run_stage_process(
        windows_stage(name), bootstrap=bootstrap, embedded=True, clock=clock, worker_name=name, session_timeout_s=1.5
    )


def run_stock(bootstrap: str, name: str) -> None:
    """Faust as its manual has it: one event at a time, state in a table, the table written for every event."""
    from streams.faust_app import make_app

    stage = windows_stage(name)
    app: Any = make_app(group_of(name), bootstrap=bootstrap, session_timeout_s=1.5)
    raw = {"key_type": bytes, "value_type": bytes, "key_serializer": "raw", "value_serializer": "raw"}
    source = app.topic(METRICS.name, **raw)
    changelog = app.topic(changelog_of(name), partitions=PARTITIONS, compacting=True, **raw)
    table = app.Table("state", changelog_topic=changelog, partitions=PARTITIONS, key_type=bytes, value_type=bytes)

    async def read(stream: Any) -> None:
        async for event in stream.events():
            message = decode(
                Record(METRICS.name, event.message.key, event.message.value, headers_of(event.message.headers))
            )
            key = (stage.state_key(message) or "").encode()
            kept = table.get(key)
            state: BaseModel | None = stage.state.model_validate_json(kept) if kept else None
            state, outputs = stage.step(state, [message])
            for output in outputs:
                record = encode(output, source=name)
                await app.producer.send_and_wait(
                    record.topic, record.key, record.value, None, None, list(record.headers)
                )
            if state is not None:
                table[key] = state.model_dump_json().encode()

    app.agent(source, name=f"{name}-reader", concurrency=1)(read)
    logging.basicConfig(level=logging.ERROR)
    from mode import Worker

    Worker(app, loglevel="error").execute_from_commandline()


def handled(bootstrap: str, name: str) -> int:
    """Messages that the group has committed."""
    return sum(done for done, _ in group_lag(bootstrap, group_of(name), [METRICS.name]).values())


def messages_per_s(kind: str, records: Sequence[Record], name: str) -> float:
    """Start a worker on a full topic of a fresh embedded broker; count from its first commits to its last."""
    cluster = MockCluster([name])
    producer = confluent_kafka.Producer(
        {"bootstrap.servers": cluster.bootstrap, "partitioner": "murmur2_random", "log_level": 0}
    )
    for record in records:
        producer.produce(record.topic, record.value, record.key, headers=list(record.headers))
        producer.poll(0)
    producer.flush()
    command = [sys.executable, "-m", "bench.slis", "--worker", kind, "--bootstrap", cluster.bootstrap, "--name", name]
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_S
        began_at, began, done = 0.0, 0, 0
        while done < len(records):
            if time.monotonic() > deadline or worker.poll() is not None:
                raise RuntimeError(f"the {kind} worker stopped at {done} of {len(records)} messages")
            time.sleep(0.5)  # each look asks the broker, which shares our cores
            done = handled(cluster.bootstrap, name)
            if not began_at and done >= WARM:
                began_at, began = time.monotonic(), done
        return (done - began) / (time.monotonic() - began_at) if done > began else float("nan")
    finally:
        worker.kill()
        worker.wait()
        cluster.close()


def fold_per_s(records: Sequence[Record]) -> float:
    """Decode, fold and encode alone, on one core."""
    stage = windows_stage("fold")
    states: dict[str, BaseModel | None] = {}
    began = time.process_time()
    for record in records:
        message = decode(record)
        key = stage.state_key(message) or ""
        states[key], outputs = stage.step(states.get(key), [message])
        for output in outputs:
            encode(output, source="bench")
    return len(records) / (time.process_time() - began)


def median(values: Sequence[float]) -> float:
    """The middle one."""
    return sorted(values)[len(values) // 2]


def main() -> None:
    """Ours and the stock agent in turns, so that a busy machine slows both."""
    records = [encode(scrape, source="bench") for scrape in scrapes(MESSAGES)]
    rates: dict[str, list[float]] = {"ours": [], "stock": []}
    for round_no in range(ROUNDS):
        for kind, seen in rates.items():
            seen.append(messages_per_s(kind, records, f"bench-{kind}-{round_no}"))
            print(f"  {kind} round {round_no + 1}: {seen[-1]:,.0f} messages/s", flush=True)
    ours, stock = median(rates["ours"]), median(rates["stock"])
    rows: list[Row] = [
        {
            "name": "scrapes through stage windows, one worker, embedded broker",
            "value": ours,
            "unit": "messages/s",
            "peer": "stock Faust agent, table write per event",
            "peer_value": stock,
            "ratio": ours / stock,
        },
        {
            "name": "decode, fold and encode alone",
            "value": fold_per_s(records),
            "unit": "messages/s/core",
            "peer": None,
            "peer_value": None,
            "ratio": None,
        },
    ]
    report("slis", rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worker", choices=("ours", "stock"), required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--name", required=True)
    options = parser.parse_args()
    {"ours": run_ours, "stock": run_stock}[options.worker](options.bootstrap, options.name)
