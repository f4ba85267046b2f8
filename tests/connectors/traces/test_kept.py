"""Drawn arrivals are kept under all that they depend on, and are never trusted where they do not add up."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from connectors.traces import kept, reading, servegen
from connectors.traces.servegen import Windows
from tests.connectors.traces import tables


@pytest.fixture
def windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Windows:
    monkeypatch.setattr(kept, "LEAST_REQUESTS", 1000)
    folder = tables.servegen(tmp_path / "trace", ["chat,0,2.0", "chat,600,5.0"], ["chat,a,0,1.5,3.0,Gamma,0.1,6.0"])
    return servegen.read(folder, "chat")


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """How often arrivals were drawn."""
    drawn: list[int] = []
    really = servegen.arrivals

    def arrivals(windows: Windows, seed: int, *, raw: bool = False) -> object:
        drawn.append(seed)
        return really(windows, seed, raw=raw)

    monkeypatch.setattr(servegen, "arrivals", arrivals)
    return lambda: len(drawn)


def test_what_was_drawn_once_is_read_the_next_time(windows: Windows, draws: Callable[[], int], tmp_path: Path) -> None:
    drawn, read = (kept.arrivals(windows, 7, tmp_path / "kept") for _ in range(2))
    assert draws() == 1
    assert (read.per_second == drawn.per_second).all()
    assert read.per_second.dtype == drawn.per_second.dtype
    assert replace(read, per_second=drawn.per_second).__dict__ == drawn.__dict__


def test_other_rates_clients_seeds_or_ways_are_drawn_anew(
    windows: Windows, draws: Callable[[], int], tmp_path: Path
) -> None:
    kept.arrivals(windows, 7, tmp_path)
    kept.arrivals(windows, 8, tmp_path)
    kept.arrivals(windows, 7, tmp_path, raw=True)
    kept.arrivals(replace(windows, rate_rps=windows.rate_rps * 2), 7, tmp_path)
    kept.arrivals(replace(windows, clients=((), ())), 7, tmp_path)
    assert draws() == 5


def _harmed(path: Path, whole: np.ndarray, harm: str) -> None:
    match harm:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(path.read_bytes()[:-100])
        case "zip":
            path.write_bytes(b"PK\x03\x04" + bytes(40))
        case "header":
            path.write_bytes(path.read_bytes().replace(b"}", b"("))
        case "huge":
            path.write_bytes(path.read_bytes().replace(b"(1200,)", b"(9" + b"0" * 12 + b",)")[: path.stat().st_size])
        case "moved":
            np.save(path, np.concatenate(([whole[0] + 1], whole[1:-1], [whole[-1] + 1])).astype(np.uint16))
        case "negative":
            np.save(path, np.concatenate(([-5, whole[0] + whole[1] + 5], whole[2:])))
        case "float":
            np.save(path, whole + 0.3)
        case "table":
            np.save(path, whole.reshape(2, -1).astype(np.uint16))
        case "pickle":
            np.save(path, np.array([{}], dtype=object), allow_pickle=True)


HARMS = ["empty", "cut", "zip", "header", "huge", "moved", "negative", "float", "table", "pickle"]


@pytest.mark.parametrize("harm", HARMS)
def test_a_file_that_is_broken_or_does_not_add_up_is_drawn_anew_and_mended(
    windows: Windows, draws: Callable[[], int], tmp_path: Path, harm: str
) -> None:
    whole = kept.arrivals(windows, 7, tmp_path).per_second
    (path,) = tmp_path.glob("*.npy")
    _harmed(path, whole, harm)
    assert (kept.arrivals(windows, 7, tmp_path).per_second == whole).all()
    assert (kept.arrivals(windows, 7, tmp_path).per_second == whole).all()
    assert draws() == 2


def test_where_nothing_can_be_written_it_is_drawn_each_time(
    windows: Windows, draws: Callable[[], int], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("no folder")
    for _ in range(2):
        assert kept.arrivals(windows, 7, tmp_path / "file").per_second.sum() == 4200
    assert draws() == 2


def test_few_requests_are_not_kept(windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LEAST_REQUESTS", 5000)
    kept.arrivals(windows, 7, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_of_too_many_files_those_go_that_were_used_longest_ago(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FILES_LIMIT", 2)
    folder = tmp_path / "kept"

    def use(seed: int) -> Path:
        before = set(folder.glob("*"))
        kept.arrivals(windows, seed, folder)
        return next(iter(set(folder.glob("*")) - before), folder)

    first, second = use(0), use(1)
    for at_s, path in enumerate((first, second)):
        os.utime(path, (at_s, at_s))
    use(0)  # read once more, so the second is the one used longest ago
    third = use(2)
    assert set(folder.iterdir()) == {first, third}


def test_a_file_that_cannot_be_marked_as_used_is_read_all_the_same(
    windows: Windows, draws: Callable[[], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refuse)
    for _ in range(2):
        kept.arrivals(windows, 7, tmp_path)
    assert draws() == 1


def test_a_disk_that_is_full_leaves_no_half_file(
    windows: Windows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: IO[bytes], array: np.ndarray) -> None:
        file.write(b"half")
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr(np, "save", full)
    assert kept.arrivals(windows, 7, tmp_path / "kept").per_second.sum() == 4200
    assert list((tmp_path / "kept").iterdir()) == []


def test_who_has_no_home_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    assert kept.default_folder() is None


def test_a_trace_is_kept_where_the_reader_is_told_to(windows: Windows, tmp_path: Path) -> None:
    loads = [reading.load(tmp_path / "trace", "chat", 7, keep=each) for each in (None, tmp_path / "k", tmp_path / "k")]
    assert len(list((tmp_path / "k").iterdir())) == 1
    assert all((each.per_second == loads[0].per_second).all() for each in loads)
