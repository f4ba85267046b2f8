"""A folder belongs to the process that opened it first: another stays out, and harms nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvtier.engine.errors import TierError
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import content, exit_of, kept, loaded, settings


def test_a_second_process_finds_the_folder_locked_and_the_first_goes_on(tmp_path: Path) -> None:
    def second() -> bool:
        with pytest.raises(TierError, match=r"another process holds it\..*Give each server a folder of its own"):
            DiskTier(tmp_path, settings())
        return True

    with DiskTier(tmp_path, settings()) as tier:
        kept(tier, 1)
        assert exit_of(second) == 0
        assert loaded(tier, 1) == content(1)
        kept(tier, 2)
    with DiskTier(tmp_path, settings()) as tier:
        assert [loaded(tier, 1), loaded(tier, 2)] == [content(1), content(2)]


def test_a_holder_that_was_killed_holds_nothing(tmp_path: Path) -> None:
    def first() -> bool:
        return kept(DiskTier(tmp_path, settings()), 1) == "done"  # ends without a word

    assert exit_of(first) == 0
    with DiskTier(tmp_path, settings()) as tier:
        assert loaded(tier, 1) == content(1)
