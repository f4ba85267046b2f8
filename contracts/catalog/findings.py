"""Findings: what agents conclude from SLIs, in numbers that rules may speak of beside the SLIs themselves."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf


@dataclass(frozen=True)
class FindingDef:
    """One number of a finding: its kind, unit, range, and meaning."""

    name: str
    kind: str
    unit: str
    doc: str
    high: float = inf


KINDS: dict[str, int] = {"sizing": 15}
"""Kinds of findings and how many seconds each speaks for: the next is due so much later. To rules and in bounds, that
is the length of its window, so no two kinds have the same, and none that of an SLI's window."""

_ALL = (
    FindingDef("replicas_wanted", "sizing", "replicas", "Replicas that there should be, serving or ordered."),
    FindingDef("replicas_ordered", "sizing", "replicas", "Replicas that serve, and those ordered that do not yet."),
    FindingDef("replicas_short", "sizing", "replicas", "Wanted and not ordered; 0 where there are enough."),
    FindingDef("replicas_spare", "sizing", "replicas", "Ordered and not wanted; 0 where there are too few."),
    FindingDef("expected_rps", "sizing", "1/s", "Requests expected when a replica ordered now begins to serve."),
    FindingDef("capacity_rps", "sizing", "1/s", "Requests that one replica serves within the objective, as learnt."),
    FindingDef("capacity_error_ratio", "sizing", "ratio", "How far off the learnt capacity usually is."),
    FindingDef("startup_s", "sizing", "s", "From the order of a replica until it serves: p90 of those seen."),
)

FINDINGS: dict[str, FindingDef] = {each.name: each for each in _ALL}


def span_s(name: str) -> int:
    """Seconds that a number of a finding speaks for. Raises KeyError for an unknown one."""
    return KINDS[FINDINGS[name].kind]
