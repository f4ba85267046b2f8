"""What the doctor finds: one thing looked at, how it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Grade(StrEnum):
    """`missing` is something that `up` can do without, and says what; `broken` must be mended first."""

    OK = "ok"
    MISSING = "missing"
    BROKEN = "broken"


@dataclass(frozen=True)
class Finding:
    """One thing looked at; `fix` is what to do about it."""

    name: str
    grade: Grade
    detail: str
    fix: str = ""
