"""What tiers of other models or releases left on the disk is told, and one's own is not."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from threading import Timer

import pytest

from kvtier.engine import home
from kvtier.engine.tier import DiskTier
from kvtier.serving.leftovers import leftovers, told
from tests.kvtier.engine.helpers import kept, settings


def test_folders_of_other_tiers_are_told_with_their_bytes_the_largest_first(tmp_path: Path) -> None:
    for name, blocks in (("aaaa", 2), ("bbbb", 9), ("cccc", 5), ("cccc-rank1", 5)):
        with DiskTier(tmp_path / name, settings(slots=16)) as tier:
            for number in range(blocks):
                kept(tier, number)
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").write_text("none of ours")
    os.truncate(tmp_path / "aaaa" / "slab-00000.kv", 0)
    os.utime(tmp_path / "aaaa" / "format.json", (1.7e9, 4e9))
    found = leftovers(tmp_path, "cccc")
    assert [each.folder.name for each in found] == ["bbbb", "cccc-rank1", "aaaa"]
    assert found[0].size_bytes == sum(path.stat().st_blocks * 512 for path in (tmp_path / "bbbb").iterdir())
    assert str(found[2]) == f"{tmp_path / 'aaaa'} (0.0 GB, last written 2096-10-02)"


def test_a_root_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert leftovers(tmp_path / "none", "cccc") == []


def test_a_folder_that_a_server_uses_is_not_named_and_its_server_goes_on(tmp_path: Path) -> None:
    with DiskTier(tmp_path / "aaaa", settings()), DiskTier(tmp_path / "bbbb", settings()) as live:
        assert told(tmp_path, "aaaa") == ""
        assert kept(live, 1) == "done"
    assert [each.folder.name for each in leftovers(tmp_path, "aaaa")] == ["bbbb"]


def test_a_server_that_starts_while_another_looks_at_its_folder_gets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    DiskTier(tmp_path, settings()).close()
    with (tmp_path / "lock").open() as glance:
        fcntl.flock(glance, fcntl.LOCK_SH)
        Timer(0.01, fcntl.flock, (glance.fileno(), fcntl.LOCK_UN)).start()
        monkeypatch.setattr(home, "_GLANCE_S", 0.3)
        with DiskTier(tmp_path, settings()) as tier:
            assert kept(tier, 1) == "done"


@pytest.mark.parametrize("error", [OSError(5, "Input/output error"), OSError(116, "Stale file handle")])
def test_a_disk_that_cannot_be_looked_through_raises_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    def glob(*_: object) -> object:
        raise error

    monkeypatch.setattr(Path, "glob", glob)
    assert str(error) in told(tmp_path, "aaaa")


def test_times_that_no_calendar_has_and_empty_folders_raise_nothing(tmp_path: Path) -> None:
    (tmp_path / "aaaa").mkdir()
    (tmp_path / "aaaa" / "format.json").write_text("{}")
    os.utime(tmp_path / "aaaa" / "format.json", (0, 2**40))
    assert str(tmp_path) in told(tmp_path, "cccc")
