"""What we change in Faust is in force when it runs, and is still needed."""

from __future__ import annotations

import inspect
from typing import Any

from faust.transport.drivers import aiokafka as driver

from streams.brokers.embedded import MockCluster
from streams.faust_app import App, make_app


async def running(mock_cluster: MockCluster, **settings: Any) -> App:
    mock_cluster.make_topics(["app"])
    app = make_app("optiinfra-app", bootstrap=mock_cluster.bootstrap, **settings)
    app.agent(app.topic("optiinfra.metrics.v1"), name="reader")(_nobody)
    await app.start()
    return app


async def _nobody(stream: Any) -> None:
    async for _ in stream:
        raise AssertionError("nobody wrote")


async def test_the_fetch_wait_and_the_producer_are_ours_in_the_running_clients(mock_cluster: MockCluster) -> None:
    app = await running(mock_cluster, fetch_wait_ms=33)
    consumer: Any = app.consumer
    producer: Any = app.producer
    try:
        fetcher = consumer._thread._consumer._fetcher
        assert fetcher._fetch_max_wait_ms == 33
        assert producer._producer._txn_manager is not None  # what makes aiokafka's producer idempotent
        assert producer._producer._sender._acks == -1
    finally:
        await app.stop()


def test_faust_still_hard_codes_what_we_override() -> None:
    source = inspect.getsource(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "fetch_max_wait_ms=1500" in source, "Faust lets one choose now: drop our subclass"


def test_a_queue_of_an_agent_survives_a_second_resume() -> None:
    app = make_app("optiinfra-queue", bootstrap="127.0.0.1:1")
    queue = app.FlowControlQueue(10, clear_on_resume=True)
    app.flow_control.resume()
    queue.put_nowait("fetched between the two resumes of a recovery")
    app.flow_control.resume()
    assert queue.qsize() == 1
