"""Draws docs/scenarios: plays each scenario, writes its picture and its figures, and puts its table into the README.

`python -m bench.scenarios [NAME …]`, by default all. Nothing is read but the README: the traffic is drawn.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from optiinfra.replay import charts, curves, staged
from optiinfra.replay.curves import Curve, Line
from optiinfra.replay.quiet import quiet
from optiinfra.replay.registry import STATIC_P99, WHOLE, chosen
from optiinfra.replay.report import knobs_line, share_cell
from optiinfra.replay.scenarios import DEFAULT_POLICIES, SCENARIOS, Scenario, scenario
from optiinfra.replay.whole import Asked, Whole
from optiinfra.replay.whole import run as run_whole

DOCS = Path(__file__).parent.parent / "docs" / "scenarios"
SEED = 0
MOST_POINTS = 240
"""Of each line in a picture: a file stays small, and a picture is no wider."""

MARKS = "<!-- figures of {name}: written by make scenarios -->", "<!-- end of {name} -->"
HEAD = "| policy | replica-hours | bill, of static p99 | in time | in the hours watched | turns a day |"


def play(what: Scenario) -> tuple[str, dict[str, Any]]:
    """The picture of a scenario as SVG, and its figures."""
    race = staged.stage(what, Asked(), SEED)
    startup_s = float(what.startup_s)
    whole = run_whole(race, race.asked, startup_s)
    drawn = [replace(curves.of_account(whole.result, WHOLE), note="the whole policy")]
    rows = [_row(WHOLE, "", whole.point.attainment, whole.point.direction_changes_per_day, whole.point.measures)]
    a_day = 86_400 / (race.scored.end_s - race.scored.begin_s)
    with quiet():
        for policy in chosen(DEFAULT_POLICIES)[0]:
            (knobs,) = race.tried(policy, startup_s).grid
            outcome = race.run(policy, knobs, startup_s)
            drawn.append(curves.of_outcome(race, outcome, policy.name, knobs_line(knobs), startup_s))
            turns = outcome.turns * a_day
            rows.append(_row(policy.name, knobs_line(knobs), outcome.attainment_ratio, turns, outcome.measures))
        replicas, static = race.static(startup_s)
    drawn.append(curves.of_outcome(race, static, STATIC_P99, f"{replicas} replicas", startup_s))
    rows.append(_row(STATIC_P99, f"replicas={replicas}", static.attainment_ratio, 0.0, static.measures))
    svg = charts.timeline_svg(
        _thin(_demand(race)),
        [_thinner(each) for each in drawn],
        what.name,
        outages_s=what.bands_s,
        losses_s=sorted({at_s for at_s, _ in whole.result.spot_losses}),
        alone=True,
    )
    return svg, _figures(what, race, whole, rows)


def _figures(what: Scenario, race: staged.StagedRace, whole: Whole, rows: list[dict[str, Any]]) -> dict[str, Any]:
    result = whole.result
    return {
        "scenario": what.name,
        "title": what.title,
        "story": what.story,
        "command": f"optiinfra replay --scenario {what.name}",
        "seed": SEED,
        "startup_s": what.startup_s,
        "scored_s": [race.scored.begin_s, race.scored.end_s],
        "watched_s": [what.watched_s.begin_s, what.watched_s.end_s],
        "requests": int(race.load.per_second[race.scored.begin_s :].sum()),
        "policies": rows,
        WHOLE: {
            "actions": result.actions,
            "actions_by_rule": {name: ends for name, ends in result.actions_by_rule.items() if ends},
            "most_billed": max(each.billed for each in result.timeline if each.at_s >= result.scored_from_s),
            "undone": result.undone,
            "held": result.held,
            "false_positives": result.false_positives,
            "false_positive_ratio": round(result.false_positive_ratio, 4),
            "interrupted": round(result.cost.interrupted),
            "removed_blind": sum(each.removed_blind for each in result.outages),
            "alerts": result.alerts,
        },
    }


def _row(name: str, knobs: str, attainment: float, turns_per_day: float, measures: Any) -> dict[str, Any]:
    row = {"policy": name, "knobs": knobs, "attainment": round(attainment, 6), "turns_per_day": round(turns_per_day, 1)}
    return row | dict(measures)


def section(figures: dict[str, Any]) -> str:
    """A scenario as it stands in the README: what happens, the command, the picture and the figures."""
    name, rules = figures["scenario"], figures[WHOLE]
    lines = [
        *textwrap.wrap(figures["story"], 120),
        "",
        f"    {figures['command']}",
        "",
        f"![{figures['title']}: load, replicas, who waits and what share is late]({name}.svg)",
        "",
        HEAD,
        "|" + "---|" * HEAD.count(" | ") + "---|",
    ]
    for row in figures["policies"]:
        who = f"**`{WHOLE}`**" if row["policy"] == WHOLE else row["policy"]
        told = f"{who} ({row['knobs']})" if row["knobs"] else who
        shares = (row[staged.COST], row["attainment"], row[staged.WATCHED])
        cells = [told, f"{row[staged.HOURS]:,.1f}", *map(share_cell, shares), f"{row['turns_per_day']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    ends = ", ".join(f"{count} {name}" for name, count in rules["actions"].items()) or "none"
    watched, scored = figures["watched_s"], figures["scored_s"]
    told = (
        f"Scored: hours {scored[0] / 3600:g} to {scored[1] / 3600:g}; watched: {watched[0] / 3600:g} to "
        f"{watched[1] / 3600:g}. Actions of `{WHOLE}`: {ends}; {rules['undone']} undone, {rules['held']} held, "
        f"{rules['false_positives']} undone or not needed in hindsight ({rules['false_positive_ratio']:.0%}), "
        f"{rules['most_billed']} replicas at the most."
    )
    return "\n".join([*lines, "", *textwrap.wrap(told, 120)])


def put(text: str, name: str, told: str) -> str:
    """The README with this between the marks of a scenario. Raises ValueError where it has none."""
    begin, end = (mark.format(name=name) for mark in MARKS)
    found = re.subn(
        f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: f"{begin}\n{told}\n{end}", text, flags=re.DOTALL
    )
    if found[1] != 1:
        raise ValueError(f"{begin} and {end} must stand in the README once")
    return found[0]


def _demand(race: staged.StagedRace) -> Line:
    """Replicas that the load keeps busy: more of them while they are slow."""
    line, mishaps = curves.demand(race), race.asked.mishaps
    return Line(line.at_s, line.value / [mishaps.pace(int(at_s)) for at_s in line.at_s])


def _thinner(curve: Curve) -> Curve:
    lines = {name: getattr(curve, name) for name in ("ready", "billed", "waiting", "late_ratio")}
    thin: dict[str, Any] = {name: None if line is None else _thin(line) for name, line in lines.items()}
    return replace(curve, **thin)


def _thin(line: Line) -> Line:
    return curves.thinned(line.at_s, line.value, MOST_POINTS)


def main(names: Sequence[str]) -> None:
    """Each less than a minute, but for the week."""
    for what in map(scenario, names) if names else SCENARIOS:
        svg, figures = play(what)
        (DOCS / f"{what.name}.svg").write_text(svg + "\n", encoding="utf-8")
        (DOCS / f"{what.name}.json").write_text(
            json.dumps(figures, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
        )
        readme = DOCS / "README.md"
        readme.write_text(put(readme.read_text(encoding="utf-8"), what.name, section(figures)), encoding="utf-8")
        print(f"{what.name}: {len(svg) / 1000:.0f} kB\n{section(figures)}\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
