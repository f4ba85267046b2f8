"""A message written by an older version stays readable: schemas and one encoded record a topic are kept as files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from contracts.codec import Record, decode, encode
from contracts.topics import DEADLETTER, TOPICS, Topic
from tests.contracts.messages import BY_TYPE
from tests.contracts.schemas import JsonObject, breaks, plain

GOLDEN = Path(__file__).parent / "golden"
REMEDY = "A change that older readers or writers cannot take needs a new version of the type, and with it a new topic."


@dataclass(frozen=True)
class Golden:
    """The files of a topic: its schema, renewed by `--update-golden`, and a record, which is never written again."""

    topic: Topic

    @property
    def schema(self) -> Path:
        return GOLDEN / f"{self.topic.name}.schema.json"

    @property
    def record(self) -> Path:
        return GOLDEN / f"{self.topic.name}.record.json"

    def update(self) -> None:
        GOLDEN.mkdir(exist_ok=True)
        _write(self.schema, today(self.topic))
        if not self.record.exists():
            record = encode(BY_TYPE[self.topic.message], source="golden")
            texts: JsonObject = {"key": record.key.decode(), "value": record.value.decode()}
            _write(self.record, texts | {"headers": [[name, value.decode()] for name, value in record.headers]})

    def read_record(self) -> Record:
        texts = json.loads(self.record.read_text())
        headers = tuple((name, value.encode()) for name, value in texts["headers"])
        return Record(self.topic.name, texts["key"].encode(), texts["value"].encode(), headers)


def _write(path: Path, found: Any) -> None:
    path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")


def today(topic: Topic) -> JsonObject:
    found: JsonObject = plain(topic.message.model_json_schema())
    return found


@pytest.fixture(scope="module", autouse=True)
def renewed(request: pytest.FixtureRequest) -> None:
    """With `--update-golden` the files are renewed first, unless that would hide a break."""
    if request.config.getoption("--update-golden", default=False):
        for golden in map(Golden, TOPICS):
            if golden.schema.exists():
                assert breaks(json.loads(golden.schema.read_text()), today(golden.topic)) == [], REMEDY
            golden.update()


@pytest.fixture(params=TOPICS, ids=lambda topic: topic.name)
def golden(request: pytest.FixtureRequest) -> Golden:
    return Golden(request.param)


def test_the_schema_of_a_topic_is_the_one_that_was_agreed(golden: Golden) -> None:
    agreed = json.loads(golden.schema.read_text())
    assert breaks(agreed, today(golden.topic)) == [], REMEDY
    assert agreed == today(golden.topic), "Nothing breaks: write the new schema with pytest --update-golden."


def test_a_record_of_an_older_writer_is_read_in_full(golden: Golden) -> None:
    record = golden.read_record()
    message = decode(record)
    again = encode(message, source="golden")
    assert json.loads(again.value) == json.loads(record.value)
    assert again.key == record.key
    if golden.topic is not DEADLETTER:  # who repeats what must agree on ids; a dead letter is for people
        assert message.id == record.header("ce_id")


def test_the_record_of_a_topic_says_all_that_could_be_said_when_it_was_written(golden: Golden) -> None:
    """A field left out at its default would be renamed unnoticed."""
    fields = json.loads(golden.schema.read_text())["properties"].keys()
    assert BY_TYPE[golden.topic.message].model_dump(exclude_defaults=True).keys() == fields


def test_every_topic_has_its_files_and_no_other_has() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == {
        path.name for topic in TOPICS for path in (Golden(topic).schema, Golden(topic).record)
    }
