"""A folder of a former format starts anew; one of another layout, or of a later version, is left as it is."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from kvtier.engine.errors import TierError
from kvtier.engine.home import VERSION
from kvtier.engine.terms import Why
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import content, exit_of, kept, key, loaded, made_read_only, settings


def _stored(root: Path, **format_: object) -> None:
    """A folder with three blocks, said to be of another format."""
    with DiskTier(root, settings()) as tier:
        assert [kept(tier, number) for number in range(3)] == [Why.DONE] * 3
    path = root / "format.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | format_))


def test_blocks_of_a_former_version_are_given_up_and_the_folder_is_used_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _stored(tmp_path, version=VERSION - 1)
    with DiskTier(tmp_path, settings()) as tier:
        assert (tier.blocks(), tier.fill().bad_slots, tier.counters().corrupt_blocks) == ([], 0, 0)
        assert [loaded(tier, number) for number in range(3)] == [None] * 3
        assert kept(tier, 1) == Why.DONE
    assert "former version" in caplog.text
    with DiskTier(tmp_path, settings()) as tier:  # it is of this version now
        assert (tier.blocks(), loaded(tier, 1)) == ([key(1)], content(1))


def test_an_index_goes_before_the_folder_says_that_it_is_of_this_version(tmp_path: Path) -> None:
    _stored(tmp_path, version=VERSION - 1)
    half = tmp_path / "format.new"
    half.mkdir()  # what would be renamed cannot be written: as if it died there
    with pytest.raises(TierError):
        DiskTier(tmp_path, settings())
    assert not (tmp_path / "index.kv").exists()
    half.rmdir()
    with DiskTier(tmp_path, settings()) as tier:
        assert tier.blocks() == []


@pytest.mark.parametrize(
    "other", [{"version": VERSION + 1}, {"version": VERSION - 1, "layout": "other"}, {"version": None}]
)
def test_what_may_be_of_use_to_another_is_refused_and_left(tmp_path: Path, other: dict[str, object]) -> None:
    _stored(tmp_path, **other)
    before = (tmp_path / "index.kv").read_bytes()
    with pytest.raises(TierError, match="it holds blocks of"):
        DiskTier(tmp_path, settings())
    assert (tmp_path / "index.kv").read_bytes() == before


def test_a_former_version_that_may_only_be_read_is_refused(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    _stored(tmp_path, version=VERSION - 1)
    made_read_only(tmp_path, tmp_path_factory.getbasetemp())

    def work() -> bool:
        if os.geteuid() == 0:  # whom no mode keeps out
            os.setuid(65_534)
        with pytest.raises(TierError, match="it holds blocks of"):
            DiskTier(tmp_path, settings())
        return True

    assert exit_of(work) == 0
