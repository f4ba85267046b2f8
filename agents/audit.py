"""The audit chain: every line carries a hash over itself and the line before, so that no line changes unseen.

Who can write to the ledger can also make the whole chain anew: topic `audit` is the second copy to compare with. A line
missing at the end is seen only by who knows how many there were.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

from contracts.events import AuditEntry

DETAIL_CHARS = 500
"""A line tells what happened; the record has the rest."""


def digest(entry: AuditEntry) -> str:
    """SHA-256, in hex, over `previous` and the line in canonical JSON: keys sorted, no spaces, UTF-8."""
    return _digest(entry, entry.number, entry.previous)


def chained(entry: AuditEntry, *, number: int, previous: str) -> AuditEntry:
    """The line in its place: after `number - 1` others, the newest of which has the hash `previous`."""
    place = {"number": number, "previous": previous, "hash": _digest(entry, number, previous)}
    return entry.model_copy(update=place)


def _digest(entry: AuditEntry, number: int, previous: str) -> str:
    """What `digest` gives once the line stands there."""
    line = entry.model_dump(mode="json", exclude={"previous", "hash"}) | {"number": number}
    text = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(f"{previous}\n{text}".encode()).hexdigest()


def verify(entries: Iterable[AuditEntry], *, last: AuditEntry | None = None) -> int | None:
    """The first number at which the chain is broken, or None. `entries` follow `last`; without it they are the first.

    A line dropped or put in breaks the chain at the number that should have stood there.
    """
    number, previous = (last.number, last.hash) if last else (0, "")
    for entry in entries:
        number += 1
        if entry.number != number or entry.previous != previous or entry.hash != digest(entry):
            return number
        previous = entry.hash
    return None


def unplaced(
    *, workload: str, subject: str, what: str, actor: str, detail: str, at_ms: int, at_wall_ms: int
) -> AuditEntry:
    """A line that has no place in a chain yet: `chained` gives it one. `detail` is cut to DETAIL_CHARS."""
    return AuditEntry(
        number=1,
        workload=workload,
        subject=subject,
        what=what,
        actor=actor,
        detail=detail[:DETAIL_CHARS],
        at_ms=at_ms,
        at_wall_ms=at_wall_ms,
    )
