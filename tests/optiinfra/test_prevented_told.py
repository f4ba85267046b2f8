"""`optiinfra audit prevented` tells the newest account of each workload, read off the log of findings."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from contracts.events import Finding
from optiinfra.cli import app
from streams.brokers.embedded import MockCluster
from tests.streams.faults import Producer

AT_MS = 1_700_000_000_000


def found(workload: str, after_ms: int, prevented: float, kind: str = "pressure") -> Finding:
    values = {"oom_prevented": prevented, "oom_forecasts_false": 1.0} if kind == "pressure" else {}
    at_ms = AT_MS + after_ms
    return Finding(workload=workload, kind=kind, at_ms=at_ms, cause_ms=at_ms, values=values)


def test_the_newest_account_of_each_workload_is_told(mock_cluster: MockCluster) -> None:
    mock_cluster.make_topics([])
    producer = Producer(mock_cluster.bootstrap)
    producer.send([found("chat", 2, 3.0), found("chat", 1, 2.0), found("code", 1, 0.0), found("chat", 3, 9.0, "tiers")])
    producer.flush()
    result = CliRunner().invoke(app, ["audit", "prevented", "--kafka", mock_cluster.bootstrap, "--json"])
    assert result.exit_code == 0, result.output
    nothing = {"prevented": 0, "not_prevented": 0, "unanswered_false": 1, "unanswered_true": 0, "unforeseen": 0}
    assert json.loads(result.stdout) == {"chat": nothing | {"prevented": 3}, "code": nothing}
