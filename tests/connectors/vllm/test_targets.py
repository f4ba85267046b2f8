"""Target files: both forms, every fault with its place, and files that change while they are followed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from connectors.vllm.core.schedule import shard_of
from connectors.vllm.discovery import TargetFiles
from connectors.vllm.targets import Target, load_targets, parse_targets
from contracts.errors import ConfigError

STATIC = """
targets:
  - {url: "http://10.0.0.7:8000", workload: chat}
  - url: https://gpu.example/custom?x=1
    workload: chat
    instance: chat-1
"""
FILE_SD = [
    {"targets": ["10.0.0.7:8000", "10.0.0.8:8000"], "labels": {"workload": "chat", "zone": "a"}},
    {
        "targets": ["[::1]:9000"],
        "labels": {"workload": "rag", "instance": "rag-0", "__scheme__": "https", "__metrics_path__": "/m"},
    },
]


def test_a_static_list_is_read() -> None:
    assert parse_targets(STATIC, "t.yaml") == [
        Target("http://10.0.0.7:8000/metrics", "chat", "10.0.0.7:8000"),
        Target("https://gpu.example/custom?x=1", "chat", "chat-1"),
    ]


def test_what_is_shown_of_a_target_has_no_query() -> None:
    _, target = parse_targets(STATIC, "t.yaml")
    assert target.shown == "https://gpu.example/custom"
    assert "x=1" not in repr(target)


@pytest.mark.parametrize("suffix", ["json", "yaml"])
def test_a_prometheus_file_sd_file_is_read(suffix: str) -> None:
    assert parse_targets(json.dumps(FILE_SD), f"sd.{suffix}") == [
        Target("http://10.0.0.7:8000/metrics", "chat", "10.0.0.7:8000", {"zone": "a"}),
        Target("http://10.0.0.8:8000/metrics", "chat", "10.0.0.8:8000", {"zone": "a"}),
        Target("https://[::1]:9000/m", "rag", "rag-0"),
    ]


def test_an_empty_list_is_no_fault() -> None:
    assert parse_targets("[]", "sd.json") == []


def test_equal_entries_count_as_one(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(STATIC)
    assert len(load_targets([tmp_path / "a.yaml", tmp_path / "b.yaml"])) == 2


BAD = {
    "unknown key": ("targets: [{url: http://a:1, workloud: w}]", ["Did you mean 'workload'?", "no workload"]),
    "unknown top key": ("targets: []\nworkload: x", ["unknown key 'workload'. Known: targets."]),
    "no scheme": ("targets: [{url: 'a:8000', workload: w}]", ["Did you mean http://a:8000?"]),
    "other scheme": ("targets: [{url: 'ftp://a', workload: w}]", ["does not begin with http:// or https://"]),
    "credentials": ("targets: [{url: 'http://u:geheim@a:1', workload: w}]", ["holds credentials"]),
    "query": ("targets: [{url: 'a:8000/m?token=geheim', workload: w}]", ["Did you mean http://a:8000/m?"]),
    "query and port": (
        "targets: [{url: 'http://a:99999/m?token=geheim', workload: w}]",
        ["'http://a:99999/m' is no URL"],
    ),
    "credentials and scheme": ("targets: [{url: 'ftp://u:geheim@a', workload: w}]", ["does not begin with http"]),
    "credentials as port": ("targets: [{url: 'http://u:geheim/@a', workload: w}]", ["is no URL"]),
    "URL for a mapping": ("targets: ['http://a:1/m?token=geheim']", ["a target is a mapping", "'http://a:1/m'"]),
    "list for a mapping": ("targets: [['http://a:1/m?token=geheim']]", ["a target is a mapping", "not a list"]),
    "URL as key": ("targets: [{'http://a:1/m?token=geheim': 1}]", ["unknown key 'http://a:1/m'"]),
    "query in file_sd": ("[{targets: ['a:1?token=geheim'], labels: {workload: w}}]", ["'a:1' is not `host:port`"]),
    "two queries": (
        "targets: [{url: 'http://a/m?token=geheim', workload: w}, {url: 'http://a/m?token=geheim2', workload: w}]",
        ["is http://a/m of 'w' here and http://a/m with another query of 'w'"],
    ),
    "no host": ("targets: [{url: 'http:///x', workload: w}]", ["names no host"]),
    "bad port": ("targets: [{url: 'http://a:99999', workload: w}]", ["is no URL"]),
    "number as workload": ("targets: [{url: 'http://a:1', workload: 7}]", ["workload is text of 1 to 200"]),
    "not a mapping": ("targets: [http://a:1]", ["a target is a mapping"]),
    "no list": ("servers: []", ["no list of targets"]),
    "empty file": ("", ["no list of targets"]),
    "not YAML": ("targets: [", ["t.yaml:1: not YAML"]),
    "label number": ("[{targets: ['a:1'], labels: {workload: w, port: 7}}]", ["put quotes round the value of port"]),
    "label typo": ("[{targets: ['a:1'], labels: {worklod: w}}]", ["unknown label 'worklod'. Did you mean 'workload'?"]),
    "URL in file_sd": ("[{targets: ['http://a:1'], labels: {workload: w}}]", ["is not `host:port`"]),
    "group": ("[{labels: {workload: w}}]", ["a group is"]),
    "one instance for two": (
        "[{targets: ['a:1', 'b:1'], labels: {workload: w, instance: i}}]",
        ["instance 'i' is http://b:1/metrics", "give them different `instance` names"],
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_with_place_and_remedy(name: str) -> None:
    text, messages = BAD[name]
    with pytest.raises(ConfigError) as caught:
        parse_targets(text, "t.yaml")
    for message in messages:
        assert message in str(caught.value)
    assert "t.yaml" in str(caught.value)
    assert "geheim" not in str(caught.value)


def test_all_faults_come_at_once_each_with_its_line() -> None:
    text = "targets:\n  - {url: http://a:1}\n  - {url: http://b:1, workload: w}\n  - {url: x, workload: w, port: 3}\n"
    with pytest.raises(ConfigError) as caught:
        parse_targets(text, "t.yaml")
    assert [line.split(": ")[0] for line in caught.value.message.splitlines()] == ["t.yaml:2", "t.yaml:4", "t.yaml:4"]


def test_json_faults_name_line_or_place() -> None:
    with pytest.raises(ConfigError, match=r"sd\.json:2: not JSON"):
        parse_targets("[\n{]", "sd.json")
    with pytest.raises(ConfigError, match=r"sd\.json\[1\]\.targets\[0\]: no workload"):
        parse_targets(json.dumps([FILE_SD[0], {"targets": ["a:1"]}]), "sd.json")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: cannot be read: No such file"):
        load_targets([tmp_path / "nowhere.yaml"])


def write(path: Path, text: str) -> None:
    """As a careful writer does it: a new file in place of the old one."""
    new = path.with_suffix(".new")
    new.write_text(text)
    os.replace(new, path)


def ids(targets: list[Target]) -> list[str]:
    return [t.instance_id for t in targets]


def test_a_file_is_followed_and_a_broken_one_keeps_its_last_targets(tmp_path: Path) -> None:
    path = tmp_path / "sd.json"
    files = TargetFiles([path])
    assert files.poll() == []
    assert "cannot be read" in files.take_faults()[0][1]
    write(path, json.dumps(FILE_SD[:1]))
    assert ids(files.poll()) == ["10.0.0.7:8000", "10.0.0.8:8000"]
    assert files.take_faults() == []
    write(path, "[{")
    assert ids(files.poll()) == ["10.0.0.7:8000", "10.0.0.8:8000"]
    assert ids(files.poll()) == ["10.0.0.7:8000", "10.0.0.8:8000"]
    [(file, fault)] = files.take_faults()
    assert file == str(path)
    assert "last good 2 target(s)" in fault
    write(path, json.dumps(FILE_SD))
    assert len(files.poll()) == 3
    write(path, "[]")
    assert files.poll() == []
    assert files.take_faults() == []


def test_one_broken_file_does_not_hold_up_another(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    bad.write_text("targets: 3")
    good.write_text(STATIC)
    files = TargetFiles([bad, good])
    assert len(files.poll()) == 2
    assert [file for file, _ in files.take_faults()] == [str(bad)]


def test_an_instance_that_two_files_claim_belongs_to_the_first(tmp_path: Path) -> None:
    for name, port in (("a.yaml", 1), ("b.yaml", 2)):
        (tmp_path / name).write_text(f"targets: [{{url: 'http://h:{port}/m?token=geheim', workload: w, instance: i}}]")
    files = TargetFiles([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert [t.url for t in files.poll()] == ["http://h:1/m?token=geheim"]
    [(_, fault)] = files.take_faults()
    assert "is also http://h:1/m: the first" in fault


def test_shards_part_the_instances_between_them() -> None:
    names = [f"10.0.0.{i}:8000" for i in range(300)]
    shares = [[n for n in names if shard_of(n, 3) == i] for i in range(3)]
    assert sorted(name for share in shares for name in share) == sorted(names)
    assert all(len(share) > 60 for share in shares)
