"""Every action of the whole policy as a row of the report: what was done, why, how it ended and what came of it."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from contracts.events import ActionKind, EndState
from optiinfra.replay.account import Deed, PipelineResult
from optiinfra.replay.policy import DAY_S

FIRST, WORST = 15, 25
_SEVERE = (EndState.UNDONE, EndState.FAILED, EndState.HELD_UNVERIFIED)


@dataclass(frozen=True)
class Row:
    """One action. `took_s`: from the decision to its end. `late_before`, `late_after`: the share of requests late
    shortly before the decision and after the end, None where that is not known. `wrong`: why it should not have been
    done, or that it could not be seen to work; empty where all is well. `scored`: decided in the scored span."""

    deed: Deed
    change: str
    took_s: float | None
    late_before: float | None
    late_after: float | None
    wrong: str
    scored: bool


def rows(result: PipelineResult) -> list[Row]:
    """All actions, in order of time."""
    at_s = [moment.at_s for moment in result.timeline]

    def late(place: int) -> float | None:
        return result.timeline[place].late_ratio if 0 <= place < len(at_s) else None

    found = []
    for deed in sorted(result.deeds, key=lambda deed: deed.decided_s):
        sign = {ActionKind.SCALE_UP: "+", ActionKind.SCALE_DOWN: "−"}.get(ActionKind(deed.kind), "")
        ended = None if deed.ended_s is None else deed.ended_s
        found.append(
            Row(
                deed,
                f"{sign}{deed.replicas}",
                None if ended is None else ended - deed.decided_s,
                late(bisect_right(at_s, deed.decided_s) - 1),
                None if ended is None else late(bisect_left(at_s, ended)),
                _wrong(deed),
                deed.decided_s >= result.scored_from_s,
            )
        )
    return found


def worst(found: Sequence[Row], most: int = WORST) -> list[Row]:
    """Those that went wrong, the gravest first: undone, failed, not seen to work, then those that missed their goal. Of
    equal ones those of the scored span."""
    bad = [row for row in found if row.wrong]
    return sorted(bad, key=lambda row: (_rank(row.deed), not row.scored, -row.deed.replicas, row.deed.decided_s))[:most]


def time_line(at_s: float) -> str:
    """A moment of the trace.

    >>> time_line(7 * 86_400 + 3_661), time_line(61)
    ('day 8, 01:01:01', 'day 1, 00:01:01')
    """
    second = int(at_s)
    return f"day {second // DAY_S + 1}, {second % DAY_S // 3600:02}:{second % 3600 // 60:02}:{second % 60:02}"


def _rank(deed: Deed) -> int:
    states = [each.value for each in _SEVERE]
    return states.index(deed.end_state) if deed.end_state in states else len(states)


def _wrong(deed: Deed) -> str:
    words = {
        EndState.UNDONE.value: "taken back",
        EndState.FAILED.value: "could not be done",
        EndState.HELD_UNVERIFIED.value: "effect not seen in time",
    }
    if deed.end_state in words:
        return words[deed.end_state]
    if deed.needed is False:
        return "not needed in hindsight"
    return "goal missed" if deed.goal_met is False else ""
