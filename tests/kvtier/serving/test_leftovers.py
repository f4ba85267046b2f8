"""What tiers of other models or releases left on the disk is told, and one's own is not."""

from __future__ import annotations

import os
from pathlib import Path

from kvtier.engine.tier import DiskTier
from kvtier.serving.leftovers import leftovers
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
    assert [each.folder.name for each in found] == ["bbbb", "aaaa"]
    assert found[0].size_bytes == sum(path.stat().st_blocks * 512 for path in (tmp_path / "bbbb").iterdir())
    assert str(found[1]) == f"{tmp_path / 'aaaa'} (0.0 GB, last written 2096-10-02)"


def test_a_root_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert leftovers(tmp_path / "none", "cccc") == []
