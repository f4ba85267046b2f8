"""What all tests share: the broker of the shared suite, embedded by default, Apache Kafka with `--broker kafka`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from streams.brokers.admin import apply_topics
from streams.brokers.embedded import MockCluster

os.environ.setdefault("JDK_JAVA_OPTIONS", "-XX:TieredStopAtLevel=1")  # a broker of a test lives too short for more


@dataclass(frozen=True)
class Broker:
    """A running broker with every topic of the table. Topics and groups are shared with other tests on Apache Kafka:
    tests use stage, worker and workload names of their own."""

    bootstrap: str
    embedded: bool
    make_topics: Callable[[Sequence[str]], object]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--broker", choices=("embedded", "kafka"), default="embedded", help="what the shared suite runs against"
    )
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew from what the code says")


def pytest_xdist_auto_num_workers() -> int:
    """For `-n auto`; each worker has a Kafka of its own, so not without end."""
    return min((os.cpu_count() or 1) + 1, 8)


@pytest.fixture(scope="session")
def apache_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One Apache Kafka for the whole run; gives its bootstrap address."""
    from streams.brokers.apache import ApacheKafka  # here: most runs need neither Java nor the jars

    kafka = ApacheKafka(tmp_path_factory.mktemp("kafka"), port=0)
    kafka.start()
    apply_topics(kafka.bootstrap, [])
    yield kafka.bootstrap
    kafka.stop()


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> Iterator[Broker]:
    """The broker of the shared suite. The embedded one is fresh for every test: it starts in milliseconds."""
    if request.config.getoption("--broker") == "kafka":
        bootstrap: str = request.getfixturevalue("apache_kafka")
        yield Broker(bootstrap, False, lambda stages: apply_topics(bootstrap, stages))
        return
    cluster = MockCluster()
    yield Broker(cluster.bootstrap, True, cluster.make_topics)
    cluster.close()


@pytest.fixture
def own_broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    """A broker for a test that must be alone with its topics: real stages heed every tick there is."""
    if request.config.getoption("--broker") == "embedded":
        yield request.getfixturevalue("broker")
        return
    from streams.brokers.apache import ApacheKafka  # here: most runs need neither Java nor the jars

    kafka = ApacheKafka(tmp_path, port=0)
    kafka.start()
    yield Broker(kafka.bootstrap, False, lambda stages: apply_topics(kafka.bootstrap, stages))
    kafka.stop()


@pytest.fixture
def mock_cluster() -> Iterator[MockCluster]:
    """An embedded broker with its fault switches, whatever `--broker` says."""
    cluster = MockCluster()
    yield cluster
    cluster.close()
