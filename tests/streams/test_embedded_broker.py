"""The embedded broker as a process: ready when it says so, complete, gone with its parent, honest about itself."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from contracts.errors import ConfigError, Unavailable
from contracts.topics import PARTITIONS, TOPICS, changelog_of
from streams.brokers import admin
from streams.brokers.embedded import MockCluster, describe, find_library, main
from tests.streams.faults import ROOT

COMMAND = [sys.executable, "-m", "streams.brokers.embedded"]
PATIENCE_S = 30.0


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


@pytest.fixture
def ready_file(tmp_path: Path) -> Path:
    return tmp_path / "broker"


@pytest.fixture
def process(ready_file: Path) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([*COMMAND, "--ready-file", str(ready_file), "--stage", "windows"], cwd=ROOT) as running:
        until(ready_file.exists)
        yield running
        running.kill()


def test_when_it_is_ready_every_topic_and_changelog_is_there(
    process: subprocess.Popen[bytes], ready_file: Path
) -> None:
    found = {info.name: info.partitions for info in admin.list_topics(ready_file.read_text())}
    assert found == {topic.name: topic.partitions for topic in TOPICS} | {changelog_of("windows"): PARTITIONS}


def test_it_ends_cleanly_when_asked_and_takes_its_address_with_it(
    process: subprocess.Popen[bytes], ready_file: Path
) -> None:
    address = ready_file.read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_S) == 0
    assert not ready_file.exists()
    assert not admin.reachable(address, timeout_s=0.5)


def test_it_ends_when_its_parent_was_killed(ready_file: Path) -> None:
    script = f"import subprocess; subprocess.run({[*COMMAND, '--ready-file', str(ready_file)]!r})"
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) as parent:
        until(ready_file.exists)
        address = ready_file.read_text()
        os.kill(parent.pid, signal.SIGKILL)
    until(lambda: not ready_file.exists())
    assert not admin.reachable(address, timeout_s=0.5)


def test_without_librdkafka_it_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="pip install"):
        find_library("no_such_package_here")
    wrong = tmp_path / "librdkafka.so"
    wrong.write_bytes(b"not a library")
    with pytest.raises(Unavailable, match="confluent-kafka wheel"):
        MockCluster(library=wrong)


def test_the_command_line_reports_an_error_with_its_exit_code(
    ready_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("streams.brokers.embedded.find_library", lambda: ready_file)
    assert main(["--ready-file", str(ready_file)]) == 3
    assert "confluent-kafka" in capsys.readouterr().err


def test_it_says_what_it_is(mock_cluster: MockCluster) -> None:
    assert "in memory" in describe()
    assert "5 MiB" in describe()
    assert admin.is_embedded(mock_cluster.bootstrap)


def test_topics_of_the_embedded_broker_are_found_and_missing_ones_refused(mock_cluster: MockCluster) -> None:
    mock_cluster.make_topics(["known"])
    reports = admin.apply_topics(mock_cluster.bootstrap, ["known"])
    assert {report.outcome for report in reports} == {admin.Outcome.OK}
    assert [report.name for report in reports] == [*(topic.name for topic in TOPICS), changelog_of("known")]
    with pytest.raises(ConfigError, match="optiinfra-unknown-state-changelog"):
        admin.apply_topics(mock_cluster.bootstrap, ["known", "unknown"])


def test_a_broker_that_is_away_is_unavailable_to_every_question(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.brokers.client.CALL_TIMEOUT_S", 0.3)
    nobody = "127.0.0.1:1"
    assert not admin.reachable(nobody, timeout_s=0.3)
    questions: list[Callable[[], object]] = [
        lambda: admin.list_topics(nobody),
        lambda: admin.group_lag(nobody, "g", [TOPICS[0].name]),
        lambda: admin.apply_topics(nobody, []),
        lambda: next(admin.tail(nobody, TOPICS[0].name)),
    ]
    for question in questions:
        with pytest.raises(Unavailable, match="OPTIINFRA_KAFKA"):
            question()
