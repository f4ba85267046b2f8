"""Which changes of a schema break older readers and writers, and which do not."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from contracts.events import Alert
from tests.contracts.schemas import JsonObject, breaks, plain


def _optional(schema: JsonObject) -> None:
    schema["properties"]["note"] = {"default": "", "type": "string"}


def _required(schema: JsonObject) -> None:
    schema["properties"]["note"] = {"type": "string"}
    schema["required"].append("note")


def _renamed(schema: JsonObject) -> None:
    schema["properties"]["repair"] = schema["properties"].pop("fix")


def _retyped(schema: JsonObject) -> None:
    schema["properties"]["at_ms"]["type"] = "number"


def _other_default(schema: JsonObject) -> None:
    schema["properties"]["workload"]["default"] = "platform"


def _narrowed(schema: JsonObject) -> None:
    schema["properties"]["summary"]["maxLength"] = 10


def _no_longer_required(schema: JsonObject) -> None:
    schema["required"].remove("summary")


def _member_gone(schema: JsonObject) -> None:
    schema["$defs"]["Severity"]["enum"].remove("info")


def _member_more(schema: JsonObject) -> None:
    schema["$defs"]["Severity"]["enum"].append("debug")


def _part_gone(schema: JsonObject) -> None:
    del schema["$defs"]["Severity"]


def _opened(schema: JsonObject) -> None:
    schema["additionalProperties"] = True


def _reworded(schema: JsonObject) -> None:
    schema["description"] = schema["properties"]["subject"]["description"] = "in other words"


@pytest.mark.parametrize(
    ("change", "complaints"),
    [
        (_optional, []),
        (_member_more, []),
        (_reworded, []),
        (_required, ["note is required now"]),
        (_renamed, ["fix is gone"]),
        (_retyped, ["at_ms has changed"]),
        (_other_default, ["workload has changed"]),
        (_narrowed, ["summary has changed"]),
        (_no_longer_required, ["summary is required no more"]),
        (_member_gone, ["Severity.info is no member any more"]),
        (_part_gone, ["Severity is gone"]),
        (_opened, ["additionalProperties of the whole has changed"]),
    ],
)
def test_what_breaks_and_what_does_not(change: Callable[[JsonObject], None], complaints: list[str]) -> None:
    schema = Alert.model_json_schema()
    change(schema)
    found = breaks(plain(Alert.model_json_schema()), plain(schema))
    assert [each.startswith(wanted) for each, wanted in zip(found, complaints, strict=True)] == [True] * len(complaints)
