"""Several traces and spans of traces in one command, at both levels: rows, tables, means, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from optiinfra.cli import app
from optiinfra.replay import report, several
from optiinfra.replay.frontier import Point
from tests.connectors.traces import tables
from tests.optiinfra.replay import singles, traffic


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def azure(tmp_path: Path) -> Path:
    return singles.azure(tmp_path / "a.csv", singles.requests(480, 3.0))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tables.servegen(tmp_path / "trace", [f"chat,{600 * n},{2 + n % 3}" for n in range(6)], None)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, words)])


def written(*words: str | Path) -> dict[str, Any]:
    result = run(*words, "--json", "r.json")
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(Path("r.json").read_text())
    return data


def test_each_row_says_of_which_trace_it_is_and_the_mean_is_over_all_of_them(folder: Path, azure: Path) -> None:
    data = written(
        "--trace", folder, "--trace", azure, "--policy", "static-peak", "--workload", "chat", "--workload", "-"
    )
    assert {row["workload"] for row in data["results"]} == {"chat", "a"}
    assert [each["workload"] for each in data["meta"]["traces"]] == ["chat", "a"]
    assert data["meta"]["seed"] == 0
    rows = {row["workload"]: row for row in data["summary"] if row["policy"] == "static-peak"}
    (mean,) = [row for row in data["mean"] if row["policy"] == "static-peak"]
    assert mean["traces"] == 2
    assert mean["cost_at_0.99"] == pytest.approx((rows["chat"]["cost_at_0.99"] + rows["a"]["cost_at_0.99"]) / 2)


def test_each_trace_comes_to_what_it_comes_to_alone(folder: Path, azure: Path) -> None:
    both = written("--trace", folder, "--trace", azure, "--policy", "hpa")["results"]
    alone = [written("--trace", each, "--policy", "hpa")["results"] for each in (folder, azure)]
    assert both == alone[0] + alone[1]


def test_the_table_for_people_names_each_trace_and_the_mean(folder: Path, azure: Path) -> None:
    result = run("--trace", folder, "--trace", azure, "--policy", "static-peak")
    assert result.exit_code == 0
    table = result.stdout.splitlines()
    assert any(line.startswith("workload") for line in table)
    assert [sum(line.startswith(name) for line in table) for name in ("chat ", "a ", "mean of 2")] == [2, 2, 2]


def test_a_policy_that_misses_an_objective_on_one_trace_has_no_mean_there() -> None:
    race = traffic.race()
    runs = [
        several.Run(race, [Point("p", 60.0, {}, cost, attainment, 0.0, 0)], [], {})
        for cost, attainment in ((1.1, 0.9995), (1.3, 0.995))
    ]
    rows = [row for each in runs for row in report.summary(race, each.found)]
    (mean,) = several.mean(rows)
    assert mean["cost_at_0.99"] == pytest.approx(1.2)
    assert mean["cost_at_0.999"] is None
    assert several.table(runs)[1][-1][:5] == ("mean of 2", "p", "60 s", "1.200", "never")


def test_a_span_is_cut_out_and_its_second_half_is_scored(folder: Path) -> None:
    about = written("--trace", folder, "--policy", "static-peak", "--from", "20m", "--for", "30m")["meta"]
    assert about["span_s"] == 1800
    assert about["scored_s"] == [900, 1800]
    assert about["trace"] == "servegen trace chat, seconds 1200 to 3000"
    assert about["requests"] == 600 * (4 + 2 + 3)


def test_request_by_request_every_row_tells_of_tokens_and_twice_it_is_the_same(tmp_path: Path) -> None:
    azure = singles.azure(tmp_path / "a.csv", singles.requests(260, 2.0))
    words = ("--trace", azure, "--policy", "keda-waiting", "--level", "requests", "--startup", "60s")
    data = written(*words)
    rows = [row for row in data["results"] if row["policy"] != "oracle"]
    for row in rows:
        assert row["ttft_p50_s"] <= row["ttft_p95_s"] <= row["ttft_p99_s"]
        assert row["itl_p50_s"] <= row["itl_p99_s"]
        assert {"preemptions", "prefix_hit_ratio", "goodput_rps", "unanswered"} < set(row)
    about = data["meta"]
    assert (about["level"], about["engine"]) == ("requests", singles.ENGINE)
    assert "fluid oracle" in about["oracle"]
    (unit,) = [row for row in data["results"] if row["policy"] == "oracle"]
    assert (unit["cost_vs_oracle"], unit["attainment"]) == (1.0, 1.0)
    assert 0.9 < unit["attainment_played"] <= 1.0
    first = Path("r.json").read_bytes()
    written(*words)
    assert Path("r.json").read_bytes() == first


def test_request_by_request_people_are_told_of_the_replica_and_of_latencies(azure: Path) -> None:
    result = run("--trace", azure, "--policy", "static-peak", "--level", "requests", "--capacity", "2.5")
    assert result.exit_code == 0
    assert f"on {singles.ENGINE}: 2.5 req/s a replica (given)" in result.stdout
    assert "TTFT p50" in result.stdout


def test_what_was_drawn_of_single_requests_is_told(folder: Path) -> None:
    words = ("--trace", folder, "--policy", "static-peak", "--level", "requests", "--capacity", "2.5", "--for", "10m")
    told = written(*words)["meta"]["generated"]
    assert "10-minute window" in told
    assert "lengths by the mean and percentiles of Azure" in told


def test_mooncake_tells_how_much_of_its_prompts_was_found(tmp_path: Path) -> None:
    path = singles.mooncake(tmp_path / "m.jsonl", singles.requests(480, 3.0, shared=True))
    data = written("--trace", path, "--policy", "static-peak", "--level", "requests", "--capacity", "2.5")
    assert data["meta"]["prefix_blocks"]
    assert all(row["prefix_hit_ratio"] > 0.3 for row in data["results"] if row["policy"] == "static-peak")


def test_an_outage_hides_the_load_request_by_request_too(azure: Path) -> None:
    words = ("--trace", azure, "--policy", "reactive", "--level", "requests", "--capacity", "2.5")
    data = written(*words, "--outage", "300s/60s")
    assert data["meta"]["outages_s"] == [[300, 360]]
    assert {row["removed_blind"] for row in data["results"]} == {0}


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--level", "tokens"], "Write fluid or requests"),
        (["--level", "requests", "--policy", "rules"], "fluid fleet only"),
        (["--level", "requests", "--engine", "gpt"], "Profiles: bloom-176b"),
        (["--trace", "again.csv"], "cannot be opened"),
        (["--workload", "a", "--workload", "b"], "2 workloads for 1 traces"),
        (["--from", "3d"], "the trace ends"),
        (["--for", "soon"], "not a duration"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_fix(azure: Path, words: list[str], what: str) -> None:
    result = run("--trace", azure, *(words if "--policy" in words else ["--policy", "static-peak", *words]))
    assert result.exit_code == 2
    assert what in result.stderr


def test_two_traces_under_one_name_are_refused(azure: Path) -> None:
    result = run("--trace", azure, "--trace", azure, "--policy", "static-peak")
    assert result.exit_code == 2
    assert "two traces stand under the name 'a'" in result.stderr
