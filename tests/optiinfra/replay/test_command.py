"""`optiinfra replay`: what it prints and writes, that it repeats, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from optiinfra.cli import app
from optiinfra.replay.registry import POLICIES
from tests.connectors.traces import tables


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    levels = [2, 6, 3, 8]
    rates = [f"chat,{600 * n},{level}" for n, level in enumerate(levels)]
    clients = [f"chat,a,{600 * n},{level},2.0,Gamma,0.3,1" for n, level in enumerate(levels)]
    return tables.servegen(tmp_path / "trace", [*rates, "code,0,1.0"], clients, packed=True)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(app, ["replay", *map(str, words)])


def written(*words: str | Path) -> dict[str, Any]:
    result = run(*words, "--json", "r.json")
    assert result.exit_code == 0, result.output
    data: dict[str, Any] = json.loads(Path("r.json").read_text())
    return data


def test_every_policy_is_run_at_every_start_up(folder: Path) -> None:
    data = written("--trace", folder, "--workload", "chat", "--startup", "1m", "--startup", "90s")
    named = {(row["policy"], row["startup_s"]) for row in data["results"]}
    assert named == {(name, s) for s in (60, 90) for name in ("oracle", "rules", *(policy.name for policy in POLICIES))}
    assert all(
        set(row)
        == {
            "policy",
            "workload",
            "startup_s",
            "cost_vs_oracle",
            "attainment",
            "knobs",
            "direction_changes_per_day",
        }
        for row in data["results"]
    )
    assert all(0 <= row["attainment"] <= 1 and row["cost_vs_oracle"] > 0 for row in data["results"])
    assert len(data["summary"]) == len(named)


def test_the_report_says_where_its_numbers_come_from(folder: Path) -> None:
    about = written("--trace", folder, "--workload", "chat", "--policy", "hpa", "--seed", "4")["meta"]
    assert about["trace"] == "servegen trace chat"
    assert about["seed"] == 4
    assert "10-minute" in about["generated"]
    assert about["span_s"] == 2400
    assert about["scored_s"] == [1200, 2400]
    assert "second half" in about["scored"]
    assert about["requests"] == 11_400
    assert about["instances"] == 15
    assert about["outages_s"] == []


def test_the_same_arguments_write_the_same_bytes_and_another_seed_does_not(folder: Path) -> None:
    asked = ("--trace", folder, "--workload", "chat", "--policy", "hpa,keda-waiting")
    texts = []
    for seed in ("1", "1", "2"):
        written(*asked, "--seed", seed)
        texts.append(Path("r.json").read_bytes())
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["results"] != json.loads(texts[2])["results"]


def test_a_table_is_printed_for_people(folder: Path) -> None:
    result = run("--trace", folder, "--workload", "chat", "--policy", "reactive")
    assert result.exit_code == 0
    assert "drawn with seed 0" in result.stdout
    assert "reactive" in result.stdout
    assert "180 s" in result.stdout


def test_an_outage_stands_in_the_report_with_what_was_given_up_in_it(folder: Path) -> None:
    data = written("--trace", folder, "--workload", "chat", "--policy", "hpa,reactive", "--outage", "peak/10m")
    assert len(data["meta"]["outages_s"]) == 1
    begin, end = data["meta"]["outages_s"][0]
    assert end - begin == 600
    assert {row["removed_blind"] for row in data["results"]} == {0}
    scalers = [row for row in data["results"] if row["policy"] != "oracle"]
    assert all(0 <= row["attainment_in_outage"] <= 1 for row in scalers)
    assert all("attainment_hour_after" in row for row in scalers), "None: the trace ends with the outage"


def test_the_whole_policy_stands_in_the_same_table_with_what_each_rule_did(folder: Path) -> None:
    words = ("--trace", folder, "--workload", "chat", "--policy", "rules", "--startup", "60s", "--counterfactuals")
    data = written(*words)
    (row,) = [each for each in data["results"] if each["policy"] == "rules"]
    (account,) = data["rules"]
    assert account["cost"]["replica_s"] > 0
    assert row["attainment"] == pytest.approx(account["cost"]["attainment_ratio"])
    assert {each["rule"] for each in account["without"]} == {
        "scale-up-to-forecast",
        "scale-up-on-burn",
        "scale-up-on-lasting-queue",
        "scale-up-on-queue",
        "scale-down-to-forecast",
        "scale-down-on-slack",
        "rebalance",
        "try-engine-setting",
        "roll-out-engine-setting",
        "take-back-engine-setting",
        "try-kv-tiers",
        "roll-out-kv-tiers",
        "take-back-kv-tiers",
        "scale-up-on-kv-pressure",
        "break-circuit-on-restarts",
        "queue-at-gateway",
        "release-gateway-queue",
        "cut-context-on-kv-pressure",
        "restore-context-at-gateway",
        "right-size-context",
    }
    first = Path("r.json").read_bytes()
    written(*words)
    assert Path("r.json").read_bytes() == first


def test_spot_zones_prices_tiers_and_own_cost_reach_the_account(folder: Path, tmp_path: Path) -> None:
    zones = tmp_path / "zones"
    zones.mkdir()
    for name, seen in (("east", "[1, 1, 1, 0, 1]"), ("west", "[1, 1, 1, 1, 1]")):
        (zones / f"{name}.json").write_text(f'{{"metadata": {{"gap_seconds": 500}}, "data": {seen}}}')
    prices = tmp_path / "prices.csv"
    prices.write_text("instance_type,gpu,gpu_count,region,on_demand_usd_h,spot_usd_h\nbig,H100,8,here,80,20\n")
    words = ("--trace", folder, "--workload", "chat", "--policy", "rules", "--startup", "60s")
    more = ("--spot", zones, "--spot-floor", "0.1", "--prices", f"{prices}:big:4", "--kv-hit", "0.3", "--own-cost", "2")
    (account,) = written(*words, *more)["rules"]
    (notice,) = account["notices"]
    assert (notice["zone"], notice["loss_s"], notice["at_s"]) == ("east", 1500, 1380)
    assert notice["replaced"] == notice["doomed"] > 0
    assert account["prices"].startswith("4 of 8 H100 of big, here")
    assert "0.3 of prompt work" in account["kv_tier"]
    assert account["savings"]["own_cost"]["usd"] == pytest.approx(-2 * 1200 / 3600)
    assert account["savings"]["spot"]["usd"] == pytest.approx(account["cost"]["spot_s"] / 3600 * (40 - 10))
    (ignored,) = written(*words, *more, "--no-spot-heed")["rules"]
    assert [each["replaced"] for each in ignored["notices"]] == [0]


def test_a_trace_of_single_requests_needs_no_workload(tmp_path: Path) -> None:
    lines = [f"{at / 3:.3f},m,1,1,2,log" for at in range(2400)]
    path = tables.write(
        tmp_path / "b.csv", ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type", *lines]
    )
    data = written("--trace", path, "--policy", "reactive", "--instances", "3")
    assert data["meta"]["generated"] is None
    assert data["meta"]["workload"] == "b"


def test_zero_is_a_fine_time_to_begin(folder: Path) -> None:
    words = ("--trace", folder, "--workload", "chat", "--policy", "static-peak")
    assert written(*words, "--from", "0", "--outage", "0h/10m")["meta"]["outages_s"] == [[0, 600]]


def test_what_is_asked_of_the_time_in_service_holds_for_everybody(folder: Path) -> None:
    words = ("--trace", folder, "--workload", "chat", "--policy", "hpa,rules", "--startup", "60s")
    asked = {text: written(*words, "--service", text) for text in ("3s", "30s")}
    for text, data in asked.items():
        assert data["meta"]["service_s"] == data["rules"][0]["service_s"] == float(text[:-1])
    short, long = (asked[text]["rules"][0]["deeds"] for text in ("3s", "30s"))
    assert [each["because"] for each in short] != [each["because"] for each in long]
    usual = written(*words)
    assert usual["meta"]["service_s"] == 8
    assert usual["rules"][0]["service_s"] == round(48 / usual["meta"]["capacity_rps"]), "a full replica holds 48"


def test_a_file_that_cannot_be_written_is_found_before_anything_is_read(tmp_path: Path) -> None:
    for option in ("--json", "--html"):
        result = run("--trace", "no such trace", "--policy", "static-peak", option, "x" * 300)
        assert result.exit_code == 2
        assert "cannot be written" in result.stderr
        assert "File name too long" in result.stderr


def test_a_run_that_fails_leaves_files_as_they_were(tmp_path: Path) -> None:
    Path("old.json").write_text("kept")
    Path("link.json").symlink_to("new.json")
    for name in ("old.json", "new.json", "link.json"):
        assert run("--trace", "no such trace", "--policy", "static-peak", "--json", name).exit_code == 2
    assert Path("old.json").read_text() == "kept"
    assert Path("link.json").is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link.json", "old.json"]


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["--service", "2s", "--level", "requests"], "--service: at level requests the engine says"),
        (["--service", "2h"], "--service: a request in service for more than an hour"),
        (["--outage", "0h/0m"], "--outage: '0m' is not a duration"),
        (["--review-record"], "--review-record: no file to record in"),
        (["--policy", "best"], "no policy 'best'"),
        (["--startup", "soon"], "--startup: 'soon' is not a duration"),
        (["--policy", "rules", "--prices", "aws.csv"], "--prices: 'aws.csv' names no price"),
        (["--policy", "rules", "--prices", "aws.csv:p5:4"], "aws.csv: cannot be read"),
        (["--policy", "rules", "--spot", "."], "no record of spot capacity"),
        (["--outage", "3m"], "--outage: '3m' is no outage"),
        (["--outage", "500h/3m"], "--outage: the trace ends"),
        (["--workload", "code"], "2 workloads for 1 traces"),
        (["--json", "no/such/folder.json"], "cannot be written"),
    ],
)
def test_what_cannot_be_run_is_refused_with_the_fix(folder: Path, words: list[str], what: str) -> None:
    result = run("--trace", folder, "--workload", "chat", "--policy", "static-peak", *words)
    assert result.exit_code == 2
    assert what in result.stderr


def test_a_workload_that_nobody_has_is_refused_with_those_there_are(folder: Path) -> None:
    result = run("--trace", folder, "--workload", "none", "--policy", "static-peak")
    assert result.exit_code == 2
    assert "Its workloads: chat, code" in result.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--policy", "rules", "--scrape", "5m"), "300 s between two scrapes"),
        (("--policy", "rules", "--scrape", "0.4s"), "0 s between two scrapes"),
        (("--policy", "rules", "--startup", "2d"), "more than a day"),
        (
            ("--policy", "hpa", "--kv-hit", "0.3", "--counterfactuals"),
            "--kv-hit, --counterfactuals would change nothing",
        ),
    ],
)
def test_what_the_whole_policy_cannot_play_or_nobody_would_heed_is_said_before_anything_runs(
    words: tuple[str, ...], said: str
) -> None:
    result = run("--trace", "generated", *words)
    assert result.exit_code == 2
    assert said in result.stderr.replace("\n", " ")
