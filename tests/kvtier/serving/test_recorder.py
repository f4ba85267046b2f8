"""What is recorded of requests is a trace of lengths and ids that tells equal beginnings, and no more than its cap."""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from kvtier.serving import recorder as recorders
from kvtier.serving.recorder import Recorder
from tests.kvtier.engine.helpers import exit_of

CAP = 1 << 20


def _keys(*numbers: int) -> tuple[bytes, ...]:
    return tuple(number.to_bytes(36, "big") for number in numbers)


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_request_is_a_line_of_when_how_long_and_which_blocks(tmp_path: Path) -> None:
    path = tmp_path / "kv" / "requests.jsonl"
    recorder = Recorder(path, 64, CAP, 64)
    recorder.note(1.7e9, _keys(1, 2, 3), 128)
    recorder.note(1.7e9 + 0.25, _keys(1, 2, 9, 10), 0)
    recorder.note(1.7e9 + 1, (), 64)
    recorder.close()
    first, second = _lines(path)
    assert [first["timestamp"], second["timestamp"]] == [1_700_000_000_000, 1_700_000_000_250]
    assert [first["input_length"], first["output_length"], first["block_tokens"]] == [192, 128, 64]
    assert first["hash_ids"][:2] == second["hash_ids"][:2]
    assert len({*first["hash_ids"], *second["hash_ids"]}) == 5
    assert recorder.unrecorded == 0


def test_short_blocks_are_recorded_as_blocks_of_512_tokens(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r.jsonl", 64, CAP)
    recorder.note(0.0, _keys(*range(20)), 0)
    recorder.note(0.0, _keys(*range(16), 99), 0)
    recorder.close()
    long, short = _lines(tmp_path / "r.jsonl")
    assert [long["block_tokens"], long["input_length"]] == [512, 1280]
    assert len(long["hash_ids"]) == len(short["hash_ids"]) == 3
    assert long["hash_ids"][:2] == short["hash_ids"][:2]
    assert long["hash_ids"][2] != short["hash_ids"][2]


def test_blocks_that_do_not_divide_512_stay_as_they_are(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "r.jsonl", 96, CAP)
    recorder.note(0.0, _keys(1, 2), 0)
    recorder.close()
    assert _lines(tmp_path / "r.jsonl")[0]["block_tokens"] == 96


def test_ids_of_one_recording_say_nothing_in_another(tmp_path: Path) -> None:
    for _ in range(2):
        recorder = Recorder(tmp_path / "r.jsonl", 64, CAP)
        recorder.note(0.0, _keys(1), 0)
        recorder.close()
    now, former = _lines(tmp_path / "r.jsonl"), _lines(tmp_path / "r.jsonl.1")
    assert now[0]["hash_ids"] != former[0]["hash_ids"]
    assert _keys(1)[0].hex() not in (tmp_path / "r.jsonl").read_text()


def test_a_recording_ends_with_its_last_whole_line_at_its_cap(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    recorder = Recorder(tmp_path / "r.jsonl", 64, 1000)
    with caplog.at_level(logging.WARNING):
        for number in range(100):
            recorder.note(float(number), _keys(number, number + 1), 0)
        recorder.close()
    lines = _lines(tmp_path / "r.jsonl")
    assert 5 < len(lines) < 20
    assert (tmp_path / "r.jsonl").stat().st_size <= 1000
    assert recorder.unrecorded == 100 - len(lines)
    assert len(caplog.records) == 1


def test_a_disk_without_room_ends_the_recording_and_nothing_else(tmp_path: Path) -> None:
    def work() -> bool:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
        recorder = Recorder(tmp_path / "r.jsonl", 64, CAP)
        for number in range(100):
            recorder.note(float(number), _keys(number, number + 1), 0)
        recorder.close()
        return recorder.unrecorded == 100 - len(_lines(tmp_path / "r.jsonl"))

    assert exit_of(work) == 0
    assert 5 < len(_lines(tmp_path / "r.jsonl")) < 20


def test_a_file_that_cannot_be_made_is_no_recording(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    recorder = Recorder(tmp_path / "file" / "r.jsonl", 64, CAP)
    recorder.note(0.0, _keys(1), 0)
    recorder.close()
    assert recorder.unrecorded == 1
    assert "ends" in caplog.text


def test_ids_of_a_length_that_blocks_do_not_make_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no multiple of 64"):
        Recorder(tmp_path / "r.jsonl", 64, CAP, 100)
    assert not list(tmp_path.iterdir())


def test_a_disk_that_answers_nothing_keeps_no_server_from_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go, write = Event(), os.write
    monkeypatch.setattr(recorders, "_CLOSE_S", 0.05)
    monkeypatch.setattr(recorders, "_WAITING", 1)
    monkeypatch.setattr(os, "write", lambda fd, data: go.wait(5) and write(fd, data))
    recorder = Recorder(tmp_path / "r.jsonl", 64, CAP)
    for number in range(9):
        recorder.note(0.0, _keys(number), 0)
    recorder.close()
    assert "does not answer" in caplog.text
    go.set()
