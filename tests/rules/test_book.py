"""The rules in force: files that change are taken over, files with errors never are, and engines follow the rules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from contracts.errors import ConfigError
from rules.book import EngineSeat, RuleBook, pack_files
from rules.core.fold import RuleSettings
from rules.core.reference import PythonEngine
from rules.core.shapes import RuleShape
from rules.stages import stages
from tests.rules.builders import moments, pack_text, rule, sli, tick


@pytest.fixture
def file(tmp_path: Path) -> Path:
    made = tmp_path / "demo.yaml"
    made.write_bytes(pack_text())
    return made


def names(book: RuleBook) -> list[str]:
    return [each.name for each in book.rules.rules]


def test_without_paths_the_built_in_packs_are_in_force() -> None:
    assert "scale-up-on-burn" in names(RuleBook())


def test_a_directory_stands_for_its_packs(file: Path) -> None:
    (file.parent / "notes.txt").write_text("no pack")
    assert pack_files([file.parent, file]) == (file,)
    with pytest.raises(ConfigError, match="no pack in this directory"):
        pack_files([file.parent / ".."])


def test_files_with_errors_are_told_at_the_start(file: Path) -> None:
    file.write_text("pack: demo")
    with pytest.raises(ConfigError, match="field 'version' is missing"):
        RuleBook([file])
    with pytest.raises(ConfigError, match="no such file"):
        RuleBook([file.parent / "other.yaml"])


def test_a_changed_file_is_taken_over(file: Path) -> None:
    book = RuleBook([file])
    before = book.rules
    assert book.reload_if_changed() is None
    assert book.rules is before
    file.write_bytes(pack_text({"down-the-road": rule()}))
    assert book.reload_if_changed() is None
    assert names(book) == ["down-the-road"]


def test_a_file_with_errors_changes_nothing_and_is_told_once(file: Path) -> None:
    book = RuleBook([file])
    before = book.rules
    file.write_bytes(pack_text({"up": rule(cooldown="soon")}))
    error = book.reload_if_changed()
    assert error is not None
    assert "'soon' is no duration" in str(error)
    assert book.reload_if_changed() is None
    assert book.rules is before
    file.write_text("pack: [")
    assert "not YAML" in str(book.reload_if_changed())
    file.write_bytes(pack_text({"again": rule()}))
    assert book.reload_if_changed() is None
    assert names(book) == ["again"]


def test_a_file_that_is_away_changes_nothing_until_it_is_back(file: Path) -> None:
    book = RuleBook([file])
    raw = file.read_bytes()
    for _ in range(2):
        file.unlink()
        assert "no such file" in str(book.reload_if_changed())
        assert book.reload_if_changed() is None
        file.write_bytes(raw)
        assert book.reload_if_changed() is None
    assert names(book) == ["up"]


class Counting(PythonEngine):
    """The reference evaluator, which writes down its beginning and its end."""

    def __init__(self, rules: Sequence[RuleShape], log: list[str]) -> None:
        super().__init__(rules)
        self._log, self._rules_told = log, ",".join(each.name for each in rules)
        log.append(f"made {self._rules_told}")

    def close(self) -> None:
        self._log.append(f"closed {self._rules_told}")


def test_new_rules_have_an_engine_of_their_own_and_the_old_one_is_closed(file: Path) -> None:
    log: list[str] = []
    book = RuleBook([file])
    seat = EngineSeat(lambda rules: Counting(rules, log))
    (stage,) = stages(book, seat, RuleSettings())
    state, outputs = stage.step(None, [sli(0, requests_waiting=9.0), tick(0), tick(1)])
    assert moments(outputs) == [(0, ("up",))]
    file.write_bytes(pack_text({"two": rule()}))
    book.reload_if_changed()
    _, outputs = stage.step(state, [tick(2)])
    assert moments(outputs) == [(2, ("two",))]
    seat.close()
    seat.close()
    assert log == ["made up", "closed up", "made two", "closed two"]
