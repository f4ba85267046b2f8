"""The report for people: self-contained, the same each time, hostile names as text, two runs side by side."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from contracts.events import EndState
from optiinfra.cli import app
from optiinfra.replay import actions, compared, page, report, whole
from optiinfra.replay.account import Deed
from optiinfra.replay.frontier import Point
from optiinfra.replay.registry import POLICIES
from optiinfra.replay.whole import Whole
from tests.connectors.traces import tables
from tests.optiinfra.replay import loads
from tests.optiinfra.replay.html import Seen
from tests.optiinfra.replay.traffic import race

HOSTILE = "<script>alert('$1$')</script>"
ASKED = ("--startup", "1m", "--policy", "hpa,optiinfra,rules", "--instances", "6")


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def trace(path: Path, workload: str) -> Path:
    levels = [2, 9, 3, 8]
    rates = [f"{workload},{600 * n},{level}" for n, level in enumerate(levels)]
    clients = [f"{workload},a,{600 * n},{level},2.0,Gamma,0.3,1" for n, level in enumerate(levels)]
    return tables.servegen(path, rates, clients)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, words)])


def ran(*words: str | Path) -> None:
    result = run(*words)
    assert result.exit_code == 0, result.output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, dict[str, Any]]:
    """One run: its trace, its page and its r.json."""
    folder = tmp_path_factory.mktemp("made")
    words = ["--workload", HOSTILE, *ASKED, "--outage", "1500/1m", "--counterfactuals"]
    made_of = trace(folder / "trace", HOSTILE)
    ran("--trace", made_of, "--json", folder / "r.json", "--html", folder / "r.html", *words)
    return folder, (folder / "r.html").read_text(), json.loads((folder / "r.json").read_text())


def test_a_page_is_balanced_names_no_id_twice_and_asks_for_nothing_elsewhere(
    made: tuple[Path, str, dict[str, Any]],
) -> None:
    seen = Seen(made[1])
    assert seen.wrong == []
    assert len(seen.ids) == len(set(seen.ids))
    assert all(link.startswith("#") for link in seen.links)
    assert seen.tags.count("svg") == 2
    assert seen.tags.count("script") == 1
    assert "url(http" not in made[1]
    assert "default-src 'none'" in made[1]


def test_a_hostile_workload_is_text(made: tuple[Path, str, dict[str, Any]]) -> None:
    assert "<script>alert" not in made[1]
    assert f"Replay of {HOSTILE}" in Seen(made[1]).text


def test_every_number_of_the_summary_is_there(made: tuple[Path, str, dict[str, Any]]) -> None:
    rows = {row[0]: row for row in Seen(made[1]).cells if len(row) == 6}
    for told in made[2]["summary"]:
        row = rows[told["policy"]]
        cost = told["cost_at_0.99"]
        assert row[1] == ("never" if cost is None else f"{cost:.3f}")
        cost = told["cost_at_0.999"]
        assert row[2] == ("never" if cost is None else f"{cost:.3f}")
        share = told["attainment_at_1.2"]
        assert row[3] == ("–" if share is None else page.percent(share))


def test_every_action_and_every_counterfactual_is_there(made: tuple[Path, str, dict[str, Any]]) -> None:
    account = made[2]["rules"][0]
    assert account["deeds"]
    cells = Seen(made[1]).cells
    assert len([row for row in cells if len(row) == 9 and row[0].startswith("day ")]) >= len(account["deeds"])
    assert all(any(row[0] == each["rule"] for row in cells) for each in account["without"])
    told = [line for deed in account["deeds"] for line in deed["because"]]
    assert len(told) >= len(account["deeds"])
    text = Seen(made[1]).text
    assert all(" ".join(line.split()) in text for line in told)


def test_the_command_on_the_page_makes_the_same_page_again(made: tuple[Path, str, dict[str, Any]]) -> None:
    folder, text, _ = made
    command = text.split("<pre>")[1].split("</pre>")[0]
    for sign, name in (("&lt;", "<"), ("&gt;", ">"), ("&#39;", "'"), ("&#34;", '"'), ("&amp;", "&")):
        command = command.replace(sign, name)
    words = shlex.split(command)
    assert words[:2] == ["optiinfra", "replay"]
    before = (folder / "r.html").read_bytes()
    ran(*words[2:])
    assert (folder / "r.html").read_bytes() == before


def test_two_runs_of_one_trace_stand_side_by_side_with_their_differences(tmp_path: Path) -> None:
    words = ("--trace", trace(tmp_path / "t", "chat"), "--workload", "chat", "--policy", "hpa", "--startup")
    ran(*words, "1m", "--json", "a.json")
    ran(*words, "2m", "--seed", "3", "--json", "b.json", "--html", "b.html", "--compare", "a.json")
    here, there = (
        next(row for row in json.loads(Path(name).read_text())["summary"] if row["policy"] == "hpa")["cost_at_0.99"]
        for name in ("b.json", "a.json")
    )
    cells = Seen(Path("b.html").read_text()).cells
    row = next(row for row in cells if row[0] == "cost at ≥99 %" and len(row) == 4)
    assert row == ["cost at ≥99 %", f"{here:.3f}", f"{there:.3f}", page.change(here - there, "cost")]
    assert ["seed", "3", "0"] in cells
    assert ["startups_s", "[120]", "[60]"] in cells


def test_runs_of_different_traffic_are_refused_unless_told(tmp_path: Path) -> None:
    for name in ("chat", "code"):
        trace(tmp_path / name, name)
    ran("--trace", "chat", "--workload", "chat", "--policy", "static-peak", "--json", "a.json")
    words = ("--trace", "code", "--workload", "code", "--policy", "static-peak", "--html", "b.html")
    refused = run(*words, "--compare", "a.json")
    assert refused.exit_code == 2
    assert "--compare-anyway" in str(refused.output)
    assert not Path("b.html").exists()
    ran(*words, "--compare", "a.json", "--compare-anyway")
    assert "Beside a.json" in Path("b.html").read_text()


@pytest.mark.parametrize("text", ["", "[]", '{"meta": 3}', "\x00", '{"meta": {}, "summary": [{}], "results": []}'])
def test_a_file_that_is_no_run_is_refused(text: str) -> None:
    Path("x.json").write_text(text)
    refused = run("--trace", "generated", "--html", "r.html", "--compare", "x.json")
    assert refused.exit_code == 2
    assert "no run of replay" in refused.output


def test_a_comparison_without_a_page_and_a_page_that_cannot_be_written_are_refused() -> None:
    assert "--html" in run("--trace", "generated", "--compare", "x.json").output
    assert "cannot be written" in run("--trace", "generated", "--html", "nowhere/r.html").output


def test_without_the_extra_the_error_comes_first_and_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    refused = run("--trace", "nowhere", "--html", "r.html")
    assert refused.exit_code == 3
    assert "pip install 'optiinfra[report]'" in refused.output


def deed(number: int, end: EndState, goal_met: bool | None = True, kind: str = "scale_up") -> Deed:
    return Deed(
        action_id=f"a{number}",
        rule="r",
        kind=kind,
        replicas=1,
        decided_s=60.0 * number,
        ended_s=60.0 * number + 30,
        end_state=end.value,
        goal_met=goal_met,
    )


def test_what_went_wrong_is_told_the_gravest_first_and_what_went_well_is_not() -> None:
    result, _ = loads.played(loads.steady(6, 600))
    deeds = (
        deed(1, EndState.VERIFIED),
        deed(2, EndState.VERIFIED, goal_met=False),
        deed(3, EndState.HELD_UNVERIFIED),
        deed(4, EndState.UNDONE, kind="scale_down"),
        deed(5, EndState.REFUSED, goal_met=None),
    )
    rows = actions.rows(result.model_copy(update={"deeds": deeds[::-1]}))
    assert [row.deed.action_id for row in rows] == ["a1", "a2", "a3", "a4", "a5"]
    assert [row.wrong for row in rows] == ["", "goal missed", "effect not seen in time", "taken back", ""]
    assert [row.deed.action_id for row in actions.worst(rows)] == ["a4", "a3", "a2"]
    late = result.model_copy(
        update={"deeds": (deed(1, EndState.UNDONE), deed(9, EndState.UNDONE)), "scored_from_s": 120}
    )
    assert [row.deed.action_id for row in actions.worst(actions.rows(late))] == ["a9", "a1"]
    assert [row.change for row in rows] == ["+1", "+1", "+1", "−1", "+1"]
    assert {row.took_s for row in rows} == {30.0}
    needless = deed(1, EndState.VERIFIED).model_copy(update={"needed": False})
    told = actions.rows(result.model_copy(update={"deeds": (needless,)}))
    assert told[0].wrong == "not needed in hindsight"


def test_late_shares_beside_an_action_are_those_of_the_moments_about_it() -> None:
    result, _ = loads.played(loads.steps((6, 300), (30, 300)))
    row = actions.rows(result.model_copy(update={"deeds": (deed(6, EndState.VERIFIED),)}))[0]
    shares = {moment.at_s: moment.late_ratio for moment in result.timeline}
    assert (row.late_before, row.late_after) == (shares[360], shares[420])
    last = actions.rows(result.model_copy(update={"deeds": (deed(99, EndState.VERIFIED),)}))[0]
    assert last.late_after is None


def point(policy: str, cost: float, attainment: float) -> Point:
    return Point(policy, 60.0, {}, cost, attainment, 0.0, 0)


def test_drawn_are_ours_and_the_cheapest_peer_that_keeps_the_objective_and_no_clairvoyant() -> None:
    found = [
        point("optiinfra", 1.3, 0.995),
        point("optiinfra", 1.1, 0.98),
        point("hpa", 1.0, 0.97),
        point("kpa", 1.5, 0.999),
        point("kpa", 1.4, 0.991),
        point("perfect-minute", 1.0, 0.999),
    ]
    names = {each.name for each in POLICIES if each.clairvoyant}
    assert names >= {"perfect-minute"}
    shown = page.drawn(found, POLICIES, 60.0)
    assert [(policy.name, each.cost_vs_oracle) for policy, each in shown] == [("optiinfra", 1.3), ("kpa", 1.4)]
    assert page.drawn(found[2:3], POLICIES, 60.0)[0][1].attainment == 0.97


def test_a_difference_has_a_sign_and_a_missing_number_is_a_dash() -> None:
    assert page.change(0.0123, "cost") == "+0.012"
    assert page.change(-0.0123, "ratio") == "−1.23 points"
    assert page.change(-0.00002, "ratio") == "−0.002 points"
    assert page.change(-0.00002, "cost") == "−2e-05"
    assert page.change(0, "count") == "±0"
    assert page.change(1234.5, "cost") == "+1,234"
    assert page.change(None, "cost") == page.number(None, "ratio") == "–"
    assert page.percent(1.0) == "100.00 %"
    assert page.percent(0.999999) == "99.9999 %"


def saved(*rows: tuple[str, float, float]) -> compared.Saved:
    summary = [
        {"policy": name, "startup_s": startup_s, "cost_at_0.99": cost, "cost_at_0.999": None, "attainment_at_1.2": 0.5}
        for name, startup_s, cost in rows
    ]
    results: list[dict[str, Any]] = [
        {**row, "cost_vs_oracle": row["cost_at_0.99"], "knobs": {}, "direction_changes_per_day": 2.0} for row in summary
    ]
    return compared.Saved(meta={}, summary=summary, results=results)


def paired(here: compared.Saved, there: compared.Saved) -> list[tuple[str, str]]:
    return [(pair.here.split(",")[0], pair.there.split(",")[0]) for pair in compared.pairs(here, there)]


def test_runs_are_paired_by_policy_and_start_up_then_by_policy_then_as_the_only_ones() -> None:
    both = saved(("hpa", 60, 1.1), ("kpa", 60, 1.2))
    assert paired(both, saved(("kpa", 60, 1.3), ("oracle", 60, 1.0))) == [("hpa", ""), ("kpa", "kpa")]
    assert paired(both, saved(("hpa", 180, 1.3))) == [("hpa", "hpa"), ("kpa", "")]
    assert paired(saved(("hpa", 60, 1.1)), saved(("kpa", 180, 1.3))) == [("hpa", "kpa")]
    assert paired(both, saved(("reactive", 60, 1.3))) == [("hpa", ""), ("kpa", ""), ("", "reactive")]
    number = compared.pairs(both, saved(("hpa", 60, 1.3)))[0].numbers[0]
    assert number.change == pytest.approx(-0.2)
    assert number.here == 1.1


class Saving(Whole):
    """A whole policy whose account tells what each strategy saved."""

    def row(self) -> dict[str, Any]:
        parts = {"autoscaling": {"usd": 300.0, "replica_s": 7200}, "spot": {"usd": -150.0, "replica_s": 0}}
        parts["prices"] = {"usd": -2e-12, "replica_s": 0}
        return super().row() | {"savings": parts}


def test_several_traces_and_what_each_strategy_saved_stand_on_one_page() -> None:
    runs = []
    for instances in (4.0, 6.0):
        run_of = race(1200, instances=instances)
        account = whole.run(run_of, whole.Asked(), 60.0)
        saving = Saving(account.startup_s, account.service_s, account.point, account.result, ())
        found = [report.oracle_point(run_of, 60.0), account.point]
        about = report.meta(run_of, {"rules": "all of it"}, (), [60.0], 0)
        rows = {"summary": report.summary(run_of, found), "results": report.results(run_of, found)}
        kept = compared.Saved.model_validate({"meta": about, **rows, "rules": [saving.row()]})
        runs.append(page.Replayed(run_of, (), found, [saving], kept))
    text = page.render(runs, "optiinfra replay")
    seen = Seen(text)
    assert seen.wrong == []
    assert len(seen.ids) == len(set(seen.ids))
    assert seen.tags.count("article") == 2
    parts = ("autoscaling", "spot", "prices")
    assert [row[:3] for row in seen.cells if row[0] in parts] == 2 * [
        ["autoscaling", "+300", "+2.000"],
        ["spot", "−150", "±0.000"],
        ["prices", "±0.000", "±0.000"],
    ]
    assert text.count('class="less" style="width:50.0%"') == text.count('class="more" style="width:25.0%"') == 2
