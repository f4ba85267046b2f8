"""Worker names: each once among all who share a broker, the same after a restart, and legal for Kafka."""

from __future__ import annotations

import re
import socket
from pathlib import Path

import pytest

from optiinfra.wiring import is_ours, worker_name


def test_a_name_is_the_same_after_a_restart_and_another_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = worker_name("windows", tmp_path)
    assert worker_name("windows", tmp_path / "x" / "..") == ours
    assert len({ours, worker_name("slis", tmp_path), worker_name("windows", tmp_path / "other")}) == 3
    monkeypatch.setattr(socket, "gethostname", lambda: "another-host")
    assert worker_name("windows", tmp_path) != ours
    assert not is_ours(ours, "windows")


@pytest.mark.parametrize("host", ["gpu-1.example.com", "R\u00e4chner @home", "h" * 300])
def test_kafka_takes_the_name_of_any_host(host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    name = worker_name("windows", tmp_path)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,200}", name)
    assert is_ours(name, "windows")
    assert not is_ours(name, "window")
