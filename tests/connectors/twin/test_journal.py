"""The journal keeps changes whole or not at all, ignores a torn end, and stays short."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from connectors.twin.journal import Change, Journal
from contracts.errors import ConfigError, Unavailable

KEYS = st.sampled_from("abc")
CHANGES = st.lists(
    st.dictionaries(
        st.sampled_from(["x", "y"]), st.dictionaries(KEYS, st.none() | st.integers() | st.text()), min_size=1
    )
)


def kept(journal: Journal) -> dict[str, dict[str, object]]:
    return {name: values for name, values in journal.state.items() if values}


@given(changes=CHANGES, reopen=st.sets(st.integers(0, 10)))
@settings(max_examples=60, deadline=None)
def test_what_was_appended_is_there_after_it_is_opened_again(
    tmp_path_factory: pytest.TempPathFactory, changes: list[Change], reopen: set[int]
) -> None:
    path, memory = tmp_path_factory.mktemp("journal") / "j.jsonl", Journal()
    journal = Journal(path)
    for number, change in enumerate(changes):
        if number in reopen:
            journal = Journal(path)
        journal.append(change)
        memory.append(change)
    assert kept(Journal(path)) == kept(journal) == kept(memory)


@pytest.mark.parametrize("kept_bytes", range(24))
def test_a_line_torn_anywhere_is_as_if_never_written(tmp_path: Path, kept_bytes: int) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append({"x": {"a": 1}})
    whole = path.stat().st_size
    journal.append({"x": {"a": 2, "bb": 333333}})
    assert path.stat().st_size - whole > kept_bytes + 1
    os.truncate(path, whole + kept_bytes)
    again = Journal(path)
    assert again.state == {"x": {"a": 1}}
    again.append({"x": {"c": 4}})
    assert Journal(path).state == {"x": {"a": 1, "c": 4}}


@pytest.mark.parametrize("junk", [b"\x00\x00\x00", b"\xff\xfe", b"{}{}", b"[1]\n", b'{"x": 1}\n', b"null\n"])
def test_junk_at_the_end_is_ignored(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "j.jsonl"
    Journal(path).append({"x": {"a": 1}})
    with path.open("ab") as file:
        file.write(junk)
    assert Journal(path).state == {"x": {"a": 1}}


def test_a_line_that_is_no_change_in_the_middle_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"x":{"a":1}}\nnonsense\n{"x":{"a":2}}\n')
    with pytest.raises(ConfigError, match="line 2 is not a change") as caught:
        Journal(path)
    assert "Delete the file" in str(caught.value)
    assert path.read_text().count("\n") == 3, "nothing was changed"


class Point(BaseModel):
    x: int


def test_values_of_another_shape_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "j.jsonl"
    path.write_text('{"points":{"a":{"x":1},"b":{"x":"far"}},"counts":{"c":"many"}}\n')
    journal = Journal(path)
    with pytest.raises(ConfigError, match="section 'points'"):
        journal.models("points", Point)
    with pytest.raises(ConfigError, match="section 'counts'"):
        journal.numbers("counts")
    assert journal.models("nothing", Point) == {}


def test_opening_it_makes_one_line_of_many(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "j.jsonl"
    journal = Journal(path)
    for number in range(50):
        journal.append({"x": {"a": number}})
    assert len(path.read_text().splitlines()) == 51
    assert Journal(path).state == {"x": {"a": 49}}
    assert path.read_text() == '{"x":{"a":49}}\n'
    assert [p.name for p in path.parent.iterdir()] == ["j.jsonl"]


def test_a_long_one_is_compacted_while_it_is_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.twin.journal._COMPACT_AFTER", 10)
    journal = Journal(tmp_path / "j.jsonl")
    for number in range(95):
        journal.append({"x": {"a": number}})
        assert len((tmp_path / "j.jsonl").read_text().splitlines()) <= 11
    assert Journal(tmp_path / "j.jsonl").state == {"x": {"a": 94}}


def test_each_change_is_on_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, synced, whole = tmp_path / "j.jsonl", list[int](), os.fsync
    journal = Journal(path)

    def fsync(descriptor: int) -> None:
        whole(descriptor)
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", fsync)
    for number in range(3):
        journal.append({"x": {"a": number}})
        assert synced[number:] == [path.stat().st_size]


def test_a_disk_that_takes_half_a_line_leaves_nothing_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "j.jsonl"
    journal = Journal(path)
    journal.append({"x": {"a": 1}})
    whole = os.write

    def full(descriptor: int, data: bytes) -> int:
        whole(descriptor, bytes(data)[:5])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for _ in range(2):
        with pytest.raises(Unavailable, match="No space left") as caught:
            journal.append({"x": {"a": 2}})
        assert "disk" in str(caught.value)
    monkeypatch.undo()
    assert journal.state == {"x": {"a": 1}}
    journal.append({"x": {"b": 3}})
    assert Journal(path).state == {"x": {"a": 1, "b": 3}}


def test_a_path_that_cannot_be_used_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        Journal(tmp_path / "file" / "j.jsonl")
    with pytest.raises(Unavailable):
        Journal(tmp_path)
