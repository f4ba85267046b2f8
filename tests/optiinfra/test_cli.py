"""The command line: what it prints, its exit codes, and errors of one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from contracts.catalog.slis import SLIS
from contracts.topics import TOPICS
from optiinfra.cli import app
from optiinfra.statedir import StateDir


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA", "CLICKHOUSE", "REDIS", "CONFIG", "STATE"):
        monkeypatch.delenv(f"OPTIINFRA_{name}", raising=False)


def run(*words: str, **env: str) -> Result:
    return CliRunner().invoke(app, list(words), env=env)


COMMANDS = [
    ["up"],
    ["status"],
    ["doctor"],
    ["reset"],
    ["version"],
    ["config", "check"],
    ["topics", "list"],
    ["topics", "apply"],
    ["topics", "tail"],
    ["topics", "schema"],
    ["catalog", "metrics"],
    ["catalog", "slis"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example(words: list[str]) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"optiinfra {' '.join(words)}" in " ".join(result.output.split())


def test_an_error_is_one_line_with_its_exit_code_and_no_traceback() -> None:
    result = run("topics", "tail", "sli")
    assert result.exit_code == 2
    assert result.stderr == "topics: unknown topic 'sli'. Did you mean 'slis'?\n"
    assert result.stdout == ""


def test_wrong_settings_stop_every_command_with_all_mistakes() -> None:
    Path("optiinfra.yaml").write_text("scrap: 1\nspeed: fast\n")
    result = run("config", "check")
    assert result.exit_code == 2
    assert [line.split(":")[1] for line in result.stderr.splitlines()] == ["1", "2"]


def test_config_check_tells_value_and_origin_and_hides_passwords() -> None:
    result = run("config", "check", "--json", OPTIINFRA_REDIS="redis://:hush@cache:6379")
    told = json.loads(result.stdout)
    assert told["redis"] == {"value": "redis://:***@cache:6379", "origin": "env OPTIINFRA_REDIS"}
    assert told["speed"] == {"value": 1.0, "origin": "default"}
    assert "hush" not in result.output


def test_topics_and_catalog_print_the_contracts() -> None:
    assert [row["name"] for row in json.loads(run("topics", "list", "--json").stdout)] == [t.name for t in TOPICS]
    assert {row["name"] for row in json.loads(run("catalog", "slis", "--json").stdout)} == set(SLIS)
    assert "kv_cache_usage_ratio" in run("catalog", "metrics").stdout


def test_a_schema_is_that_of_the_message() -> None:
    assert json.loads(run("topics", "schema", "slis").stdout)["title"] == "Sli"
    assert set(json.loads(run("topics", "schema").stdout)) == {topic.name for topic in TOPICS}


def test_without_a_broker_topics_apply_says_how_to_name_one() -> None:
    result = run("topics", "apply")
    assert result.exit_code == 3
    assert "--kafka HOST:PORT" in result.stderr


def test_status_says_that_nothing_runs() -> None:
    result = run("status", "--json")
    assert result.exit_code == 3
    assert json.loads(result.stdout)["running"] is False


def test_doctor_names_what_is_broken_and_how_to_mend_it() -> None:
    result = run("doctor", "--json", OPTIINFRA_KAFKA="127.0.0.1:1", OPTIINFRA_TARGETS='["nowhere.json"]')
    found = {row["name"]: row for row in json.loads(result.stdout)}
    assert result.exit_code == 1
    assert found["kafka"]["grade"] == "broken"
    assert "OPTIINFRA_KAFKA" in found["kafka"]["fix"]
    assert found["targets nowhere.json"]["grade"] == "broken"
    assert found["python"]["grade"] == "ok"


def test_reset_asks_and_spares_what_is_not_ours(tmp_path: Path) -> None:
    other = tmp_path / "precious"
    other.mkdir()
    (other / "thesis.tex").write_text("")
    assert run("reset", "--yes", "--state", str(other)).exit_code == 3
    assert (other / "thesis.tex").exists()
    with StateDir(tmp_path / "ours").owned():
        assert run("reset", "--yes", "--state", "ours").exit_code == 4
    assert run("reset", "--state", "ours").exit_code == 1
    assert run("reset", "--yes", "--state", "ours").exit_code == 0
    assert list((tmp_path / "ours").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--for", "soon"], 2, "Write 90s, 2m or 1h"),
        (["--speed", "1000"], 2, "flag --speed"),
        (["--targets", "nowhere.json"], 2, "nowhere.json"),
    ],
)
def test_up_refuses_what_it_cannot_use(words: list[str], code: int, told: str) -> None:
    result = run("up", "--headless", *words)
    assert result.exit_code == code
    assert told in result.stderr


def test_up_says_that_kafka_does_not_answer() -> None:
    result = run("up", "--headless", OPTIINFRA_KAFKA="127.0.0.1:1")
    assert result.exit_code == 3
    assert "Kafka does not answer" in result.stderr


def test_a_second_up_is_refused() -> None:
    with StateDir(Path(".optiinfra")).owned():
        result = run("up", "--headless")
    assert result.exit_code == 4
    assert "already" in result.stderr
