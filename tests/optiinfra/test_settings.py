"""Settings: precedence, origins, and every mistake told at once with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import ConfigError
from contracts.objectives import VLLM_EDGES, Latency, Objectives
from optiinfra.settings import Settings, masked
from optiinfra.settings_load import Loaded, load


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(place: Path, text: str, flags: dict[str, object] | None = None, **env: str) -> Loaded:
    (place / "optiinfra.yaml").write_text(text, encoding="utf-8")
    return load(flags, env)


def test_without_anything_the_defaults_hold(place: Path) -> None:
    found = load({}, {})
    assert found.settings == Settings()
    assert found.file is None
    assert found.origin("speed") == "default"


def test_flag_beats_environment_beats_file(place: Path) -> None:
    text = "speed: 2\nhealth_port: 9001\nkafka: file:9092\nlog_level: debug\n"
    found = read(place, text, {"speed": 20.0}, OPTIINFRA_SPEED="5", OPTIINFRA_KAFKA="env:9092")
    settings = found.settings
    assert (settings.speed, settings.kafka, settings.health_port) == (20.0, "env:9092", 9001)
    origins = [found.origin(name) for name in ("speed", "kafka", "health_port", "redis")]
    assert origins == ["flag --speed", "env OPTIINFRA_KAFKA", "optiinfra.yaml:2", "default"]


def test_one_nested_variable_changes_one_value(place: Path) -> None:
    found = read(place, "scrape: {timeout_s: 1}\n", OPTIINFRA_SCRAPE__INTERVAL_S="3")
    assert (found.settings.scrape.timeout_s, found.settings.scrape.interval_s) == (1.0, 3.0)
    assert found.origin("scrape.interval_s") == "env OPTIINFRA_SCRAPE__INTERVAL_S"


def test_a_workload_inherits_the_common_objectives(place: Path) -> None:
    found = read(place, "objectives: {ttft_s: 0.25}\nworkloads: {chat: {itl_s: 0.2}, code: }\n")
    assert found.settings.workloads["chat"] == Objectives(ttft_s=0.25, itl_s=0.2)
    assert found.settings.workloads["code"] == Objectives(ttft_s=0.25)


def test_a_workload_inherits_the_common_limits(place: Path) -> None:
    found = read(place, "limits: {min_replicas: 2, max_replicas: 9}\nworkload_limits: {chat: {max_replicas: 4}}\n")
    chat = found.settings.workload_limits["chat"]
    assert (chat.min_replicas, chat.max_replicas) == (2, 4)


def test_bounds_in_the_wrong_order_are_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="min_replicas 5 is more than max_replicas 4"):
        read(place, "limits: {min_replicas: 5, max_replicas: 4}\n")


def test_keys_of_an_openai_client_are_used_and_ours_goes_first(place: Path) -> None:
    found = load({}, {"OPENAI_API_KEY": "sk-theirs", "OPENAI_BASE_URL": "http://127.0.0.1:1/v1"})
    assert (found.settings.review.api_key, found.settings.review.wants_llm) == ("sk-theirs", True)
    assert found.origin("review.api_key") == "env OPENAI_API_KEY"
    both = load({}, {"OPENAI_API_KEY": "sk-theirs", "OPTIINFRA_REVIEW__API_KEY": "sk-ours"})
    assert both.settings.review.api_key == "sk-ours"
    assert both.origin("review.api_key") == "env OPTIINFRA_REVIEW__API_KEY"


def test_servers_of_ones_own_cannot_be_acted_on(place: Path) -> None:
    with pytest.raises(ConfigError, match="no controller for them"):
        read(place, "mode: autonomous\ntargets: [a.json]\n")
    assert read(place, "targets: [a.json]\n").settings.acting_mode == "advisory"
    assert Settings().acting_mode == "autonomous"


def test_gateways_before_servers_of_ones_own_can_be_acted_on(place: Path) -> None:
    named = "targets: [a.json]\ngateways: {chat: {url: 'http://router:9000/', least_context_tokens: 8192}}\n"
    found = read(place, f"mode: autonomous\n{named}")
    assert found.settings.acting_mode == "autonomous"
    assert found.settings.gateways["chat"].least_context_tokens == 8192


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "targets: [a.json]\ngateways: {chat: {url: 'me:hush@router'}}\n",
            "optiinfra.yaml:2: gateways.chat.url: not an",
        ),
        (
            "gateways: {chat: {url: 'http://router:9000'}}\n",
            "optiinfra.yaml:1: gateways.chat.url: the simulated fleet has",
        ),
        ("targets: [a.json]\ngateways: {chat: {}}\n", "gateways.chat.url: Field required"),
        ("targets: [a.json]\ngateways: {chat: {url: 'http://r', uri: 1}}\n", "unknown key 'uri'. Did you mean 'url'?"),
    ],
)
def test_a_gateway_that_nobody_could_ask_is_refused_with_its_line(place: Path, text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(place, text)
    assert said in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_gateway_for_a_workload_that_no_target_has_is_refused_with_the_fix(place: Path) -> None:
    targets = place / "fleet.yaml"
    targets.write_text("targets: [{url: 'http://10.0.0.7:8000', workload: chat}]\n")
    text = f"targets: ['{targets}']\ngateways: {{NAME: {{url: 'http://router:9000'}}}}\n"
    assert "chat" in read(place, text.replace("NAME", "chat")).settings.gateways
    with pytest.raises(ConfigError, match=r"no target has the workload 'chats'.*: chat\."):
        read(place, text.replace("NAME", "chats"))


def test_a_webhook_needs_a_secret(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"alerts\.secret"):
        read(place, "alerts: {webhook: 'https://example.org/hook'}\n")


def test_all_mistakes_are_told_at_once_each_with_its_line(place: Path) -> None:
    text = (
        "kafka: a:9092\n"
        "scrap:\n"
        "  interval_s: 3\n"
        "scrape:\n"
        "  timeout_s: soon\n"
        "objectives:\n"
        "  itl_s: 0.11\n"
        "workloads:\n"
        "  chat:\n"
        "    ttft: 0.5\n"
        "kafka: b:9092\n"
    )
    with pytest.raises(ConfigError) as caught:
        read(place, text, {"speed": 1000.0}, OPTIINFRA_HEALTH_PORT="0")
    assert str(caught.value).splitlines() == [
        "env OPTIINFRA_HEALTH_PORT: health_port: Input should be greater than or equal to 1.",
        "flag --speed: speed: Input should be less than or equal to 100.",
        "optiinfra.yaml:2: unknown key 'scrap'. Did you mean 'scrape'?",
        "optiinfra.yaml:5: scrape.timeout_s: Input should be a valid number, unable to parse string as a number.",
        "optiinfra.yaml:7: objectives.itl_s: threshold 0.11 s is not a bucket edge of the histogram. "
        "Use 0.1, the nearest edge.",
        "optiinfra.yaml:10: unknown key 'ttft'. Did you mean 'ttft_s'?",
        "optiinfra.yaml:11: key 'kafka' again, first on line 1. Keep one.",
    ]


@pytest.mark.parametrize("text", ["- a\n", "just words\n", "a: [\n", "{a: 1\n"])
def test_a_file_of_another_form_is_refused_by_name(place: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"optiinfra\.yaml:"):
        read(place, text)


def test_a_named_file_must_exist(place: Path) -> None:
    with pytest.raises(ConfigError, match="OPTIINFRA_CONFIG"):
        load({}, {"OPTIINFRA_CONFIG": "other.yaml"})


def test_variables_that_are_no_settings_are_left_alone(place: Path) -> None:
    assert load({}, {"OPTIINFRA_PORT_8686_TCP_ADDR": "10.0.0.1"}).settings == Settings()


def test_a_variable_that_is_empty_is_not_set(place: Path) -> None:
    empty = {f"OPTIINFRA_{name}": "" for name in ("STATE", "TARGETS", "CONFIG", "SPEED", "KAFKA")}
    assert load({}, empty).settings == Settings()


@pytest.mark.parametrize("text", ["a.json,b.json", "a.json, b.json", '["a.json", "b.json"]'])
def test_target_files_are_a_list_with_commas_or_of_json(place: Path, text: str) -> None:
    assert load({}, {"OPTIINFRA_TARGETS": text}).settings.targets == (Path("a.json"), Path("b.json"))


def test_addresses_are_checked_with_all_else(place: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        read(place, "redis: http://cache\n", OPTIINFRA_CLICKHOUSE="clickhouse:9000", OPTIINFRA_SPEED="fast")
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == ["env OPTIINFRA_SPEED"]
    with pytest.raises(ConfigError) as caught:
        read(place, "redis: http://cache\n", OPTIINFRA_CLICKHOUSE="clickhouse:9000")
    assert [line.split(": ")[0] for line in str(caught.value).splitlines()] == [
        "env OPTIINFRA_CLICKHOUSE",
        "optiinfra.yaml:1",
    ]


def test_settings_survive_the_way_to_a_child_without_its_environment(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = read(place, "workloads: {chat: {ttft_s: 0.25}}\n", {"speed": 3.0, "targets": ("a.json",)})
    monkeypatch.setenv("OPTIINFRA_SPEED", "50")
    assert Settings.from_blob(found.settings.model_dump(mode="json")) == found.settings


@pytest.mark.parametrize("family", list(Latency))
def test_the_default_thresholds_are_bucket_edges(family: Latency) -> None:
    assert Objectives().threshold_s(family) in VLLM_EDGES[family]
    assert list(VLLM_EDGES[family]) == sorted(set(VLLM_EDGES[family]))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("redis://:hush@h:1/0", "redis://***@h:1/0"),
        ("https://me:hush@h:8443", "https://***@h:8443"),
        ("http://h:8123?password=hush&x=1", "http://h:8123?password=***&x=1"),
        ("http://h/db?user=me&password=hush", "http://h/db?user=me&password=***"),
        ("default:hunter2@host:8123", "***@host:8123"),
        ("u:hunter2@h", "***@h"),
        (":hunter2@host:6379", "***@host:6379"),
        ("http://hunter2@h:1", "http://***@h:1"),
        ("http://[u:hunter2@host", "http://***@host"),
        ("http://u:hunter2@h:8123/db", "http://***@h:8123/db"),
        ("http://u:hun/ter2@h:8123", "http://***@h:8123"),
        ("http://u:hunter2", "***"),
        ("http://[u:hunter2", "***"),
        ("broker:9092", "broker:9092"),
        ("a:9092,b:9092", "a:9092,b:9092"),
        ("[::1]:9092", "[::1]:9092"),
        (8686, 8686),
    ],
)
def test_passwords_are_masked(value: object, shown: object) -> None:
    assert masked(value) == shown


def test_secrets_do_not_show_in_repr() -> None:
    assert "hush" not in repr(Settings.from_blob({"redis": "redis://:hush@h", "clickhouse": "http://u:hush@h"}))
