"""The report of a replay that a person reads: one HTML file with its pictures in it, no network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from contracts.errors import Unavailable
from optiinfra.replay import actions, charts, compared, curves
from optiinfra.replay.course import Race
from optiinfra.replay.frontier import AT_COST, GOALS, Point
from optiinfra.replay.policy import Policy
from optiinfra.replay.registry import OURS, WHOLE
from optiinfra.replay.report import ORACLE, knobs_line
from optiinfra.replay.staged import COLUMNS, StagedRace, table
from optiinfra.replay.whole import Whole

_MINUS = "−"


@dataclass(frozen=True)
class Other:
    """The run to compare with: what its file holds, and the name of the file."""

    name: str
    saved: compared.Saved


@dataclass(frozen=True)
class Replayed:
    """One trace that was replayed. `saved`: what `--json` writes of it; `other`: the run to show beside it."""

    race: Race
    policies: Sequence[Policy]
    found: Sequence[Point]
    wholes: Sequence[Whole]
    saved: compared.Saved
    other: Other | None = None


def check_installed() -> None:
    """Before weeks are replayed: raises Unavailable without the extra."""
    try:
        import jinja2  # noqa: F401
        import matplotlib  # noqa: F401
    except ImportError as error:
        fix = "pip install 'optiinfra[report]'"
        raise Unavailable(f"{error.name} is not installed", where="--html", fix=fix) from error


def render(runs: Sequence[Replayed], command: str) -> str:
    """The page of some runs, and of the command that makes it again. The same arguments give the same text. Each scaler
    that is drawn runs once more."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    sheet = Environment(
        loader=PackageLoader("optiinfra.replay", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sheet.filters |= {"number": number, "change": change, "percent": percent, "time": actions.time_line}
    return sheet.get_template("report.html.j2").render(
        command=command,
        goals=[f"{goal * 100:g}" for goal in GOALS],
        at_cost=AT_COST,
        columns=(*compared.COSTS, compared.AT, compared.TURNS),
        met_columns=COLUMNS,
        first=actions.FIRST,
        runs=[_run(each, f"r{place}") for place, each in enumerate(runs)],
    )


def summary_rows(told: Replayed, startup_s: float) -> list[dict[str, Any]]:
    """Rows of the summary with `best`, the columns in which one is ahead of all who cannot know the future."""
    rows = [row for row in compared.standing(told.saved) if row["startup_s"] == startup_s]
    apart = {ORACLE, *told.saved.meta["clairvoyant"]}
    for row in rows:
        row |= {"knobs": knobs_line(row["knobs"]), "ours": row["policy"] in (OURS.name, WHOLE)}
        row |= {"reference": row["policy"] in apart, "best": []}
    for column, best_of in (*((cost, min) for cost in compared.COSTS), (compared.AT, max), (compared.TURNS, min)):
        runners = [row for row in rows if not row["reference"] and row[column] is not None]
        best = best_of((row[column] for row in runners), default=None)
        for row in runners:
            row["best"] += [column] if row[column] == best else []
    return rows


def met_rows(race: StagedRace, found: Sequence[Point], startup_s: float) -> list[dict[str, Any]]:
    """Rows of a scenario's table: cells of `staged.COLUMNS`, and whether they are ours."""
    rows = table(race, found, startup_s)
    return [{"cells": [str(cell) for cell in row], "ours": row[0] in (OURS.name, WHOLE)} for row in rows]


def drawn(found: Sequence[Point], policies: Sequence[Policy], startup_s: float) -> list[tuple[Policy, Point]]:
    """Our scaler and the best peer that cannot know the future, each where it keeps the first objective cheapest."""
    chosen: list[tuple[tuple[bool, float], Policy, Point]] = []
    for policy in policies:
        points = [each for each in found if (each.policy, each.startup_s) == (policy.name, startup_s)]
        if points and not policy.clairvoyant:
            best = min(points, key=_standing)
            chosen.append((_standing(best), policy, best))
    ours = [each[1:] for each in chosen if each[1] is OURS]
    peers = sorted((each for each in chosen if each[1] is not OURS), key=lambda each: each[0])
    return ours + [each[1:] for each in peers[:1]]


def number(value: float | None, kind: str) -> str:
    """As it stands in a table: `–` for what is missing."""
    if value is None:
        return "–"
    if kind == "ratio":
        return percent(value)
    if kind == "cost":
        return f"{value:.3f}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,.0f}"


def change(value: float | None, kind: str) -> str:
    """A difference, with its sign."""
    if value is None:
        return "–"
    sign = "+" if value > 0 else _MINUS if value < 0 else "±"
    size = abs(value) * (100 if kind == "ratio" else 1)
    text = f"{size:.2f}" if kind == "ratio" else number(size, kind)
    if value and not float(text.replace(",", "")):
        text = f"{size:.1g}"
    return sign + text + (" points" if kind == "ratio" else "")


def percent(ratio: float) -> str:
    """Two places, and more where two would say that all is well and it is not.

    >>> percent(0.9921), percent(0.99999)
    ('99.21 %', '99.999 %')
    """
    text = f"{ratio * 100:.2f}"
    return f"{ratio * 100:.6g} %" if text == "100.00" and ratio < 1 else f"{text} %"


def _run(told: Replayed, name: str) -> dict[str, Any]:
    startups_s = list(dict.fromkeys(point.startup_s for point in told.found))
    scene = told.race if isinstance(told.race, StagedRace) else None
    return {
        "meta": told.saved.meta,
        "scene": None if scene is None else scene.scenario,
        "met": [(startup_s, met_rows(scene, told.found, startup_s)) for startup_s in startups_s] if scene else [],
        "summaries": [] if scene else [(startup_s, summary_rows(told, startup_s)) for startup_s in startups_s],
        "pictures": [_pictures(told, startup_s, f"{name}s{place}") for place, startup_s in enumerate(startups_s)],
        "wholes": [_whole(each) for each in told.wholes],
        "other": None if told.other is None else _compared(told.saved, told.other),
    }


def _standing(point: Point) -> tuple[bool, float]:
    meets = point.attainment >= GOALS[0]
    return not meets, point.cost_vs_oracle if meets else -point.attainment


def _pictures(told: Replayed, startup_s: float, name: str) -> dict[str, Any]:
    found = [point for point in told.found if point.startup_s == startup_s]
    shown = [curves.of_scaler(told.race, *each) for each in drawn(found, told.policies, startup_s)]
    accounts = [each.result for each in told.wholes if each.startup_s == startup_s]
    shown[1:1] = [curves.of_account(result, WHOLE) for result in accounts]
    shown.append(curves.of_oracle(told.race, startup_s))
    begin_s, end_s = told.race.scored.begin_s, told.race.scored.end_s
    lost = {at_s for result in accounts for at_s, _ in result.spot_losses}
    outages_s = [(span.begin_s, span.end_s) for span in told.race.blind]
    if isinstance(told.race, StagedRace):
        lost |= {each.at_s for each in told.race.scenario.mishaps.losses}
        outages_s = list(told.race.scenario.bands_s)
    losses_s = sorted(at_s for at_s in lost if begin_s <= at_s < end_s)
    return {
        "startup_s": startup_s,
        "frontier": charts.frontier_svg(found, f"{name}f"),
        "left_out": charts.left_out(found),
        "timeline": charts.timeline_svg(
            curves.demand(told.race),
            shown,
            f"{name}t",
            outages_s=[(max(a, begin_s), min(b, end_s)) for a, b in outages_s if b > begin_s and a < end_s],
            losses_s=losses_s,
        ),
        "outages": len(outages_s),
        "losses": len(losses_s),
    }


def _whole(each: Whole) -> dict[str, Any]:
    row, rows = each.row(), actions.rows(each.result)
    without = [(one["rule"], one["replica_s"] / 3600, one) for one in row["without"]]
    # To the cent: what is below comes of adding floats.
    saved = [(name, round(one["usd"], 2) + 0.0, one["replica_s"] / 3600) for name, one in row["savings"].items()]
    return {
        "row": row,
        "startup_s": each.startup_s,
        "actions": rows,
        "worst": actions.worst(rows),
        "without": [
            (rule, hours, one, width)
            for (rule, hours, one), width in zip(without, _widths([hours for _, hours, _ in without]), strict=True)
        ],
        "savings": [(*one, width) for one, width in zip(saved, _widths([usd for _, usd, _ in saved]), strict=True)],
        "static_share": each.result.cost.replica_s / max(1, each.result.static_p99.cost.replica_s),
    }


def _widths(values: Sequence[float]) -> list[float]:
    """Of bars, in percent of half the room: a bar goes left below 0 and right above."""
    longest = max(chain(map(abs, values), (0.0,))) or 1.0
    return [round(50 * abs(value) / longest, 2) for value in values]


def _compared(here: compared.Saved, other: Other) -> dict[str, Any]:
    return {
        "name": other.name,
        "meta": other.saved.meta,
        "differences": compared.differences(here.meta, other.saved.meta),
        "pairs": compared.pairs(here, other.saved),
        "accounts": compared.accounts(here, other.saved),
    }
