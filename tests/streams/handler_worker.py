"""A handler worker as a process that can kill itself: `python -m tests.streams.handler_worker --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys

from contracts.events import Alert, FleetEvent, Message
from contracts.topics import EVENTS
from streams.handler import run_handler
from streams.publisher import KafkaPublisher
from tests.streams.handling import CLOCK, Answering, options


class Mortal(Answering):
    """Dies with SIGKILL in the middle of its `after`-th event."""

    def __init__(self, workloads: list[str], after: int) -> None:
        super().__init__(*workloads)
        self.after = after

    async def work(self, message: FleetEvent) -> None:
        await asyncio.sleep(0.002)
        if 0 < self.after <= len(self.given):
            os.kill(os.getpid(), signal.SIGKILL)


class MortalPublisher(KafkaPublisher):
    """Dies with SIGKILL when the broker has acknowledged its `after`-th alert."""

    def __init__(self, bootstrap: str, source: str, after: int) -> None:
        super().__init__(bootstrap, source)
        self.left = after

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        await super().publish(message, trace_id=trace_id)
        if isinstance(message, Alert):
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


async def run(given: argparse.Namespace) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with MortalPublisher(given.bootstrap, given.name, given.die_published) as publisher:
        await run_handler(
            given.name,
            (EVENTS,),
            Mortal(given.workloads, given.die_handling),
            bootstrap=given.bootstrap,
            embedded=given.embedded,
            publisher=publisher,
            clock=CLOCK,
            worker=given.worker or given.name,
            stop=stop,
            concurrency=given.concurrency,
            # The mock cluster grants a shorter session than Kafka, and a test need not wait for Kafka's.
            options=options(1.5 if given.embedded else None),
        )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--name", required=True, help="names the group")
    parser.add_argument("--worker", help="names the worker, by default as the group")
    parser.add_argument("--workloads", nargs="+", required=True)
    parser.add_argument("--embedded", action="store_true")
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--die-handling", type=int, default=0, help="in the middle of this event")
    parser.add_argument("--die-published", type=int, default=0, help="once this output is acknowledged")
    asyncio.run(run(parser.parse_args()))
    sys.exit(0)


if __name__ == "__main__":
    main()
