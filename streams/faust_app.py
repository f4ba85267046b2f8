"""Faust as this project uses it: subclasses that mend client settings which Faust does not let one choose, and its end.

Faust 0.15.3 waits up to 1.5 s in every fetch (`fetch_max_wait_ms=1500` in its aiokafka driver), which five hops in a
row would add up to seconds; it never produces idempotently outside transactions; and it empties queues that hold
records which it will not fetch again, and leaves a connection open where it is stopped while it recovers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import faust
from faust.transport.drivers import aiokafka as driver
from yarl import URL

from streams.leaving import disconnected

FETCH_WAIT_MS = 20
"""Default wait of a fetch that finds nothing. Figures for 5, 20 and 50 ms: docs/adr/0003."""

SESSION_TIMEOUT_S = 6.0
"""How long a lost worker keeps its partitions; the least that Kafka grants (`group.min.session.timeout.ms`)."""

EMBEDDED_SESSION_TIMEOUT_S = 3.0
"""The mock cluster grants less, and knows no static members: a killed worker is waited for this long."""

REQUEST_TIMEOUT_S = 10.0
"""After this long without an answer to a produce request the worker gives up and is restarted."""


class _ConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Read when the consumer starts and builds its fetcher, so setting it here is in time.
        consumer._fetch_max_wait_ms = cast(App, self.app).fetch_wait_ms
        return consumer

    async def on_thread_stop(self) -> None:
        try:
            await super().on_thread_stop()
        finally:  # a recovery that goes on asks a consumer that has stopped where the group stands
            if self._consumer is not None:
                await disconnected(self._consumer._client)


class _Consumer(driver.Consumer):
    def _new_consumer_thread(self) -> Any:
        return _ConsumerThread(self, loop=self.loop, beacon=self.beacon)


class _Producer(driver.Producer):
    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": True}


class _Transport(driver.Transport):
    Consumer = _Consumer
    Producer = _Producer


class App(faust.App):
    """A Faust app whose fetch wait can be chosen and whose producer is idempotent with acks=all."""

    fetch_wait_ms: int = FETCH_WAIT_MS

    def FlowControlQueue(self, maxsize: int | None = None, *, clear_on_resume: bool = False) -> Any:
        """Queues that are never emptied behind their reader's back.

        Faust resumes the flow twice when it recovers a table, and empties the queues of agents each time: what was
        fetched between the two is gone. Records from before
        a rebalance are told by their generation instead.
        """
        return super().FlowControlQueue(maxsize, clear_on_resume=False)

    def _create_directories(self) -> None:
        """Tables live in memory and recover from Kafka: there is nothing to put on a disk."""

    def _new_transport(self) -> Any:
        return _Transport(self.conf.broker_consumer, self)

    def _new_producer_transport(self) -> Any:
        return _Transport(self.conf.broker_producer, self)


def make_app(
    app_id: str,
    *,
    bootstrap: str,
    fetch_wait_ms: int = FETCH_WAIT_MS,
    session_timeout_s: float = SESSION_TIMEOUT_S,
    group_instance_id: str | None = None,
) -> App:
    """An app that reads from the earliest offset, keeps tables in memory, declares no topics and serves no web page.

    `group_instance_id` makes the member static: a restart within the session takes its partitions back at once.
    """
    app = App(
        app_id,
        broker=[URL(f"kafka://{address}") for address in bootstrap.split(",")],
        store="memory://",
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        consumer_group_instance_id=group_instance_id,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=session_timeout_s / 4,
        broker_request_timeout=REQUEST_TIMEOUT_S,
        broker_commit_livelock_soft_timeout=10.0**9,  # the driver commits; Faust's own watch would see nothing move
        producer_request_timeout=REQUEST_TIMEOUT_S,
        producer_linger=0,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        agent_supervisor="mode.CrashingSupervisor",
    )
    app.fetch_wait_ms = fetch_wait_ms
    return app
