"""The audit chain: a line that was changed, dropped or put in is found, and named by its number."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.audit import chained, digest, verify
from contracts.events import AuditEntry


def chain(count: int) -> list[AuditEntry]:
    lines: list[AuditEntry] = []
    for number in range(1, count + 1):
        line = AuditEntry(
            number=1, workload="chat", subject=f"a{number}", what="planned", actor="x", at_ms=number, at_wall_ms=number
        )
        lines.append(chained(line, number=number, previous=lines[-1].hash if lines else ""))
    return lines


def test_a_chain_as_it_was_made_is_unbroken() -> None:
    lines = chain(5)
    assert verify(lines) is None
    assert verify([]) is None
    assert verify(lines[2:], last=lines[1]) is None
    assert [line.number for line in lines] == [1, 2, 3, 4, 5]


def test_the_hash_is_the_one_that_anybody_can_work_out() -> None:
    """A golden value: a chain that was written by an older version stays readable."""
    line = chained(
        AuditEntry(
            number=1, workload="chät", subject="s", what="kill", actor="ann", detail='"x"', at_ms=1, at_wall_ms=2
        ),
        number=7,
        previous="ab",
    )
    assert line.hash == digest(line) == "e5b9bf952cc2bf6de798d1e85521f317ec012dc91569066cbf5d281830b7e507"


@pytest.mark.parametrize(
    "change",
    [
        {"detail": "nothing happened"},
        {"actor": "somebody else"},
        {"workload": "other"},
        {"subject": "other"},
        {"what": "verified"},
        {"at_ms": 99},
        {"at_wall_ms": 99},
        {"previous": "0"},
        {"hash": "0"},
    ],
)
def test_a_changed_line_breaks_the_chain_where_it_stands(change: dict[str, Any]) -> None:
    lines = chain(5)
    lines[2] = lines[2].model_copy(update=change)
    assert verify(lines) == 3


def test_a_line_changed_with_its_hash_breaks_the_chain_at_the_next() -> None:
    lines = chain(5)
    lines[2] = chained(lines[2].model_copy(update={"actor": "nobody"}), number=3, previous=lines[2].previous)
    assert verify(lines) == 4


@given(st.integers(2, 8), st.data())
def test_a_dropped_or_inserted_or_swapped_line_breaks_it(count: int, data: st.DataObject) -> None:
    lines = chain(count)
    at = data.draw(st.integers(0, count - 2))
    assert verify(lines[:at] + lines[at + 1 :]) == at + 1
    stranger = chained(lines[at], number=at + 2, previous=lines[at].hash)
    assert verify([*lines[: at + 1], stranger, *lines[at + 1 :]]) == at + 3
    assert verify([*lines[:at], lines[at + 1], lines[at], *lines[at + 2 :]]) == at + 1
