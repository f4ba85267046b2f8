"""Two runs of replay side by side: another run's file is read, refused where it is of other traffic, and paired."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.errors import ConfigError
from optiinfra.replay.frontier import AT_COST, GOALS
from optiinfra.replay.report import ORACLE

SAME = ("trace", "workload", "span_s", "scored_s", "instances", "service_s")
"""What two runs must have in common for a difference between them to be the policy's."""

TOLD = ("seed", "startups_s", "requests", "outages_s", "version")
"""What may differ, and is told where it does."""

COSTS = tuple(f"cost_at_{goal:g}" for goal in GOALS)
AT = f"attainment_at_{AT_COST:g}"
TURNS = "turns"


class Saved(BaseModel):
    """The file that `--json` writes, as far as a page needs it: rows are as `report.py` makes them."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    meta: dict[str, Any]
    summary: list[dict[str, Any]]
    results: list[dict[str, Any]]
    rules: list[dict[str, Any]] = []


@dataclass(frozen=True)
class Number:
    """One number of both runs. `kind`: cost, ratio or count, which is how it is written; None where a run has none."""

    label: str
    kind: str
    here: float | None
    there: float | None

    @property
    def change(self) -> float | None:
        """This run less the other."""
        return None if self.here is None or self.there is None else self.here - self.there


@dataclass(frozen=True)
class Pair:
    """One policy of this run beside one of the other; a name is empty where a run has none."""

    here: str
    there: str
    numbers: tuple[Number, ...]


def read(path: Path) -> Saved:
    """A run that was kept with `--json`. Raises ConfigError for a file that is none."""
    fix = "Name a file that optiinfra replay --json has written."
    try:
        saved = Saved.model_validate(json.loads(path.read_text(encoding="utf-8")))
        pairs(saved, saved)  # a row that lacks something is found now, not after weeks have been replayed
        accounts(saved, saved)
        return saved
    except OSError as error:
        raise ConfigError(f"cannot be read: {error.strerror or error}", where=str(path), fix=fix) from error
    except (ValueError, ValidationError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError("this is no run of replay", where=str(path), fix=fix) from error


def check(here: Mapping[str, Any], there: Mapping[str, Any], where: str) -> None:
    """Raises ConfigError where the runs, by their meta, are not of the same traffic and fleet."""
    other = [
        f"{name} {there.get(name)!r} there and {here.get(name)!r} here" for name in SAME if _differ(here, there, name)
    ]
    if other:
        fix = "Compare runs of one trace, or say --compare-anyway to see them side by side all the same."
        raise ConfigError(f"a run of something else: {'; '.join(other)}", where=where, fix=fix)


def differences(here: Mapping[str, Any], there: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """What the runs were told differently: name, here, there."""
    return [(name, here.get(name), there.get(name)) for name in (*SAME, *TOLD) if _differ(here, there, name)]


def standing(saved: Saved) -> list[dict[str, Any]]:
    """The summary, each row with knobs and turns a day of its cheapest point that keeps the first objective."""
    rows = []
    for row in saved.summary:
        best = next((each for each in saved.results if _is(each, row)), None)
        turns = None if best is None else best["direction_changes_per_day"]
        rows.append({**row, "knobs": {} if best is None else best["knobs"], TURNS: turns})
    return rows


def pairs(here: Saved, there: Saved) -> list[Pair]:
    """Policies of the same name and start-up; where the runs share none of these, of the same name; where each has but
    one policy, those two."""
    ours, theirs = _named(here), _named(there)
    for key in (lambda row: (row["policy"], row["startup_s"]), lambda row: row["policy"], lambda row: ""):
        mine, other = {key(row): row for row in ours}, {key(row): row for row in theirs}
        if len(mine) == len(ours) and len(other) == len(theirs) and set(mine) & set(other):
            return [_pair(mine.get(each), other.get(each)) for each in dict.fromkeys([*mine, *other])]
    return [_pair(row, None) for row in ours] + [_pair(None, row) for row in theirs]


def accounts(here: Saved, there: Saved) -> list[Pair]:
    """The whole policy of both runs, start-up by start-up; where each has one, those two."""
    if len(here.rules) == len(there.rules) == 1:
        return [_account(here.rules[0], there.rules[0])]
    ours, theirs = ({row["startup_s"]: row for row in each.rules} for each in (here, there))
    return [_account(ours[startup_s], theirs[startup_s]) for startup_s in ours if startup_s in theirs]


def _differ(here: Mapping[str, Any], there: Mapping[str, Any], name: str) -> bool:
    return bool(here.get(name) != there.get(name))


def _is(point: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    return (point["policy"], point["startup_s"], point["cost_vs_oracle"]) == (
        row["policy"],
        row["startup_s"],
        row[COSTS[0]],
    )


def _named(saved: Saved) -> list[dict[str, Any]]:
    return [row for row in standing(saved) if row["policy"] != ORACLE]


def _pair(here: Mapping[str, Any] | None, there: Mapping[str, Any] | None) -> Pair:
    labels = [(name, f"cost at ≥{goal * 100:g} %", "cost") for name, goal in zip(COSTS, GOALS, strict=True)]
    labels += [(AT, f"in time at {AT_COST:g}×", "ratio"), (TURNS, "turns a day", "count")]
    numbers = [
        Number(label, kind, *(None if row is None else row[name] for row in (here, there)))
        for name, label, kind in labels
    ]
    names = ["" if row is None else f"{row['policy']}, start-up {row['startup_s']:g} s" for row in (here, there)]
    return Pair(names[0], names[1], tuple(numbers))


def _account(here: Mapping[str, Any], there: Mapping[str, Any]) -> Pair:
    both = (here, there)
    numbers = [
        Number("replica-hours billed", "cost", *(row["cost"]["replica_s"] / 3600 for row in both)),
        Number("US dollars", "cost", *(row["cost"]["usd"] for row in both)),
        Number("in time", "ratio", *(row["cost"]["attainment_ratio"] for row in both)),
        Number("turns a day", "count", *(row["turns_per_day"] for row in both)),
    ]
    for word, name in (("actions", "actions"), ("decisions", "decisions")):
        ends: Sequence[str] = sorted({end for row in both for end in row[name]})
        numbers += [Number(f"{word}: {end}", "count", *(row[name].get(end, 0) for row in both)) for end in ends]
    numbers += [
        Number("goals missed", "count", *(row["goals_missed"] for row in both)),
        Number("interrupted by spot losses", "count", *(row["cost"]["interrupted"] for row in both)),
    ]
    return Pair(f"start-up {here['startup_s']:g} s", f"start-up {there['startup_s']:g} s", tuple(numbers))
