"""The command line: what it prints, its exit codes, and errors of one line."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.text import Text
from typer.testing import CliRunner, Result

from contracts.catalog.findings import FINDINGS
from contracts.catalog.slis import SLIS
from contracts.topics import TOPICS
from optiinfra.cli import app
from optiinfra.commands.common import print_table
from optiinfra.statedir import StateDir
from tests.agents.redis_process import RedisProcess, plan_of


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("KAFKA", "CLICKHOUSE", "REDIS", "CONFIG", "STATE", "RULES"):
        monkeypatch.delenv(f"OPTIINFRA_{name}", raising=False)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


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
    ["catalog", "findings"],
    ["decisions"],
    ["approve"],
    ["reject"],
    ["explain"],
    ["mode", "set"],
    ["kill"],
    ["resume"],
    ["replay"],
    ["rules", "check"],
    ["rules", "test"],
    ["rules", "list"],
    ["audit", "show"],
    ["audit", "verify"],
    ["audit", "prevented"],
]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_of_every_command_has_an_example(words: list[str]) -> None:
    result = run(*words, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"optiinfra {' '.join(words)}" in " ".join(result.output.split())


def test_help_asks_for_no_value_of_a_flag() -> None:
    for words, flag in ((["decisions"], "--waiting"), (["topics", "tail"], "--from-beginning"), (["reset"], "--yes")):
        [line] = [one for one in run(*words, "--help").output.splitlines() if one.startswith("│") and flag in one]
        assert "<" not in line
    assert "--json <bool>" not in " ".join(run("decisions", "--help").output.split())


@pytest.mark.parametrize("width", [70, 80, 100, 140])
def test_a_table_cuts_no_word_and_wraps_sentences(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"COLUMNS": str(width), "FORCE_COLOR": "1", "TERM": "xterm"}.items():
        monkeypatch.setenv(name, value)
    detail = "mode semi_autonomous; a quarter of scale-up-on-burn was too little to catch up"
    row = ("1234", "12:58:40", "chat", "9f3a1c7e21", "held_unverified", "executor", detail)
    print_table(("no", "at", "workload", "subject", "what", "by", "detail"), [row, row])
    lines = Text.from_ansi(capsys.readouterr().out).plain.splitlines()
    assert all(len(line.rstrip()) <= width for line in lines)
    assert sorted(" ".join(lines[1:]).replace("detail", "").split()) == sorted(" ".join(2 * row).split())


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
    assert told["redis"] == {"value": "redis://***@cache:6379", "origin": "env OPTIINFRA_REDIS"}
    assert told["speed"] == {"value": 1.0, "origin": "default"}
    assert "hush" not in result.output
    Path("optiinfra.yaml").write_text("targets: [a.json]\ngateways: {chat: {url: 'http://me:hush@router:9000'}}\n")
    named = run("config", "check", "--json")
    assert json.loads(named.stdout)["gateways.chat.url"]["value"] == "http://***@router:9000"
    assert "hush" not in named.output


def test_topics_and_catalog_print_the_contracts() -> None:
    assert [row["name"] for row in json.loads(run("topics", "list", "--json").stdout)] == [t.name for t in TOPICS]
    assert {row["name"] for row in json.loads(run("catalog", "slis", "--json").stdout)} == set(SLIS)
    assert {row["name"] for row in json.loads(run("catalog", "findings", "--json").stdout)} == set(FINDINGS)
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


def test_the_doctor_looks_at_rules_and_at_who_judges_without_calling_anybody() -> None:
    def found(**env: str) -> dict[str, dict[str, str]]:
        return {row["name"]: row for row in json.loads(run("doctor", "--json", **env).stdout)}

    plain = found(OPTIINFRA_RULE_ENGINE="python")
    assert plain["rules"]["detail"].startswith("performance (")
    assert plain["rule engine"] == {
        "name": "rule engine",
        "grade": "ok",
        "detail": "the reference evaluator, as rule_engine says",
        "fix": "",
    }
    assert plain["reviewer"]["detail"] == "deterministic: neither key nor base URL is set"

    Path("bad.yaml").write_text("pack: bad\nversion: 1\n")
    asked = found(OPTIINFRA_RULES="bad.yaml", OPENAI_API_KEY="sk-hush", OPENAI_BASE_URL="http://127.0.0.1:1/v1")
    assert (asked["rules"]["grade"], "rules check" in asked["rules"]["fix"]) == ("broken", True)
    assert asked["reviewer"]["detail"] == "gpt-5-mini at http://127.0.0.1:1/v1, with a key; not called"
    assert "sk-hush" not in json.dumps(asked)

    assert "OPENAI_API_KEY" in found(OPTIINFRA_REVIEW__REVIEWER="llm")["reviewer"]["fix"]
    assert found(OPENAI_BASE_URL="ftp://there")["reviewer"]["grade"] == "broken"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisProcess]:
    server = RedisProcess(plan_of("system"), tmp_path)
    server.start()
    yield server
    server.kill()


def test_the_doctor_says_what_a_redis_would_forget(redis_server: RedisProcess) -> None:
    def grades() -> dict[str, str]:
        rows = json.loads(run("doctor", "--json", OPTIINFRA_REDIS=redis_server.url).stdout)
        told = [(row["name"].partition(" "), row["grade"]) for row in rows]
        return {what: grade for (about, _, what), grade in told if about == "redis" and what}

    with redis_server.client() as client:
        assert grades() == dict.fromkeys(("appendonly", "appendfsync", "maxmemory-policy"), "ok")
        client.config_set("appendonly", "no")
        client.config_set("appendfsync", "everysec")
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert grades() == {"appendonly": "broken", "appendfsync": "missing", "maxmemory-policy": "broken"}
        client.acl_setuser("default", enabled=True, nopass=True, commands=["+@all", "-config"], keys=["*"])
        assert grades() == {"settings": "missing"}


@pytest.mark.parametrize(
    "words", [["decisions"], ["approve", "abcdef"], ["kill"], ["audit", "show"], ["audit", "prevented"]], ids=" ".join
)
def test_where_nothing_runs_a_word_to_the_platform_says_how_to_start_one(words: list[str]) -> None:
    result = run(*words)
    assert result.exit_code == 3
    assert len(result.stderr.splitlines()) == 1
    assert "optiinfra up" in result.stderr


def test_an_unknown_mode_is_refused_with_those_that_there_are() -> None:
    result = run("mode", "set", "chat", "manual")
    assert (result.exit_code, result.stderr) == (
        2,
        "mode: no mode 'manual'. Known: advisory, semi_autonomous, autonomous.\n",
    )


def test_what_rules_say_is_json_where_it_is_asked_for() -> None:
    assert json.loads(run("rules", "check", "--json").stdout)["ok"] is True
    packs = {row["pack"] for row in json.loads(run("rules", "list", "--json").stdout)}
    assert packs == {"performance", "resource", "tiers", "tuning"}
    Path("bad.yaml").write_text("pack: bad\nversion: 1\n")
    refused = run("rules", "check", "bad.yaml", "--json")
    assert (refused.exit_code, json.loads(refused.stdout)["ok"]) == (2, False)


def test_doctor_and_config_check_look_at_the_port_of_up() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = json.loads(run("doctor", "--json", "--port", str(port)).stdout)
        assert {row["name"]: row["grade"] for row in told}["health port"] == "broken"
    settings = json.loads(run("config", "check", "--json", "--port", "4711").stdout)
    assert settings["health_port"] == {"value": 4711, "origin": "flag --port"}


@pytest.mark.parametrize("name", ["CLICKHOUSE", "REDIS"])
@pytest.mark.parametrize("address", ["default:hunter2@host:8123", "http://[u:hunter2@host", "http://u:hunter2"])
def test_an_address_that_cannot_be_used_is_named_and_not_repeated(name: str, address: str) -> None:
    result = run("up", "--headless", "--for", "1s", **{f"OPTIINFRA_{name}": address})
    assert result.exit_code == 2
    assert result.stderr.startswith(f"env OPTIINFRA_{name}: {name.lower()}: not a ")
    assert "hunter2" not in result.output


def test_a_directory_with_an_at_sign_is_shown_as_it_is() -> None:
    assert json.loads(run("config", "check", "--json", "--state", "me@home").stdout)["state"]["value"] == "me@home"


def test_reset_asks_and_is_refused_while_an_up_runs(tmp_path: Path) -> None:
    with StateDir(tmp_path / "ours").owned():
        assert run("reset", "--yes", "--state", "ours").exit_code == 4
    assert run("reset", "--state", "ours").exit_code == 1
    assert (tmp_path / "ours" / "logs").is_dir()
    assert run("reset", "--yes", "--state", "ours").exit_code == 0
    assert list((tmp_path / "ours").iterdir()) == []


def test_reset_spares_all_that_is_not_ours_where_an_up_has_run_and_says_so(tmp_path: Path) -> None:
    for precious in (".git/HEAD", "kafka/segment.log", "thesis.tex", "run.json.bak"):
        (tmp_path / precious).parent.mkdir(exist_ok=True)
        (tmp_path / precious).write_text("")
    with StateDir(tmp_path).owned():
        pass
    result = run("reset", "--yes", "--state", ".")
    assert result.exit_code == 0
    assert "deleted: lock, logs; left: .git, kafka, run.json.bak, thesis.tex" in result.output
    for precious in (".git/HEAD", "kafka/segment.log", "thesis.tex", "run.json.bak"):
        assert (tmp_path / precious).exists()


def test_reset_where_no_up_has_run_deletes_nothing_and_is_content(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()  # a name of ours, and yet somebody else's
    for where in (".", "nowhere", "nowhere"):
        result = run("reset", "--yes", "--state", where)
        assert (result.exit_code, "nothing to delete" in result.output) == (0, True)
    assert (tmp_path / "logs").is_dir()
    assert "kafka/" in run("reset", "--help").output


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (["--for", "soon"], 2, "Write 90s, 2m or 1h"),
        (["--speed", "1000"], 2, "flag --speed"),
        (["--targets", "nowhere.json"], 2, "nowhere.json"),
        (["--json", "/nonexist/dir/r.json"], 2, "--json: no report can be written"),
        (["--json", "."], 2, "it is a directory"),
    ],
)
def test_up_refuses_what_it_cannot_use(words: list[str], code: int, told: str) -> None:
    result = run("up", "--headless", *words)
    assert result.exit_code == code
    assert told in result.stderr
    assert not Path(".optiinfra/run.json").exists()


def test_up_says_that_kafka_does_not_answer() -> None:
    result = run("up", "--headless", OPTIINFRA_KAFKA="127.0.0.1:1")
    assert result.exit_code == 3
    assert "Kafka does not answer" in result.stderr


def test_a_target_file_that_names_no_server_is_told() -> None:
    Path("none.json").write_text("[]")
    result = run("up", "--headless", "--targets", "none.json", OPTIINFRA_KAFKA="127.0.0.1:1")
    assert "warning: no server is named in none.json" in result.output


def test_a_second_up_is_refused() -> None:
    with StateDir(Path(".optiinfra")).owned():
        result = run("up", "--headless")
    assert result.exit_code == 4
    assert "already" in result.stderr
