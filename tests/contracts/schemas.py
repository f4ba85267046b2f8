"""What a change of a message's JSON schema means for messages and readers that are older than it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

JsonObject = dict[str, Any]

_PROSE = {"title", "description", "examples"}


def plain(schema: Any) -> Any:
    """A schema without its prose, and with what has no order sorted: what readers and writers must agree on."""
    if isinstance(schema, list):
        return [plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: JsonObject = {}
    for name, value in sorted(schema.items()):
        if name in _PROSE and isinstance(value, str | list):
            continue
        if name in ("properties", "$defs"):
            found[name] = {key: plain(each) for key, each in sorted(value.items())}
        elif name in ("required", "enum"):
            found[name] = sorted(value)
        else:
            found[name] = value if name == "default" else plain(value)
    return found


def breaks(old: JsonObject, new: JsonObject) -> list[str]:
    """Why an older message or an older reader would fail, in a sentence each; both schemas are `plain`.

    What is left is allowed: a new field that may be absent (it is not written while it has its default), and a new
    member of an enumeration, which older readers refuse one message at a time.
    """
    older, newer = old.get("$defs", {}), new.get("$defs", {})
    found = list(_of_one("", old, new))
    for name, schema in older.items():
        found += _of_one(f"{name}.", schema, newer[name]) if name in newer else [f"{name} is gone"]
    return found


def _of_one(where: str, old: JsonObject, new: JsonObject) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    for name, schema in before.items():
        if name not in after:
            yield f"{where}{name} is gone"
        elif schema != after[name]:
            yield f"{where}{name} has changed: {schema} is now {after[name]}"
    for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
        yield f"{where}{name} is required now"
    for name in sorted(set(old.get("required", ())) - set(new.get("required", ()))):
        yield f"{where}{name} is required no more: older readers refuse messages without it"
    for name in sorted(set(old.get("enum", ())) - set(new.get("enum", ()))):
        yield f"{where}{name} is no member any more"
    rest = {"properties", "required", "enum", "$defs"}
    for name in sorted((old.keys() | new.keys()) - rest):
        if old.get(name) != new.get(name):
            yield f"{where}{name} of the whole has changed: {old.get(name)} is now {new.get(name)}"
