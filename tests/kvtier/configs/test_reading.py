from __future__ import annotations

import json
import textwrap
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from kvtier.configs.commands import commands
from kvtier.configs.lmcache_keys import ENGINE
from kvtier.configs.reading import read
from kvtier.configs.terms import Machine, quantity, size, version
from kvtier.configs.vllm_keys import CONNECTORS, OFFLOADING, OURS_KEYS, SIMPLE
from tests.kvtier.configs.linted import GIB, codes, found, ours, transfer

CONFIG = json.dumps(transfer(ours(cap_gb=0)))
WRONG = ["error missing-key"]

MANIFEST = """
    apiVersion: apps/v1
    kind: Deployment
    metadata: {{name: llama}}
    spec:
      replicas: 2
      template:
        spec:
          volumes: [{{name: kv, {volume}}}]
          containers:
          - name: server
            image: vllm/vllm-openai:v{version}
            args: [--model, m, --kv-transfer-config, '{config}']
            env: [{{name: PYTHONHASHSEED, value: "0"}}]
            resources: {{limits: {{memory: {limit}}}}}
            volumeMounts: [{{name: kv, mountPath: /mnt}}]
"""


def manifest(config: str, *, version: str = "0.32.0", volume: str = "emptyDir: {}", limit: str = "128Gi") -> str:
    return textwrap.dedent(MANIFEST).format(config=config, version=version, volume=volume, limit=limit)


@pytest.mark.parametrize(
    "text",
    [
        CONFIG,
        f"vllm serve m --kv-transfer-config '{CONFIG}'",
        f"#!/bin/sh\nset -e\nexport A=1\nvllm serve m \\\n  --kv_transfer_config='{CONFIG}' &\nwait\n",
        f"--model=m\n--seed 1\n--kv-transfer-config '{CONFIG}'\n",
        f"python -m vllm.entrypoints.openai.api_server --model m --kv-transfer-config '{CONFIG}'; echo done",
        f"model: m\nkv-transfer-config: {CONFIG}\n",
        manifest(CONFIG),
    ],
    ids=["json", "command", "script", "arguments", "module", "its own yaml", "manifest"],
)
def test_the_same_mistake_is_found_in_every_form(text: str) -> None:
    assert codes(text) == WRONG


@pytest.mark.parametrize("text", ["LMCACHE_LOCAL_DISK=/kv\n", "# ours\nexport LMCACHE_LOCAL_DISK='/kv'\n\n"])
def test_an_env_file_is_read(text: str) -> None:
    assert codes(text) == ["error cap-zero"]


def test_a_variable_before_a_command_is_its_own_and_an_exported_one_is_of_all_that_follow() -> None:
    first, second = commands("export A=1\nB=2 vllm serve m --x 1\nvllm serve n --y 2\n")
    assert (first.env, second.env) == ({"A": "1", "B": "2"}, {"A": "1"})


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", "note no-settings"),
        ("hello there", "error unreadable"),
        ("vllm serve m --max-num-seqs 8", "note no-settings"),
        ("{", "error unreadable"),
        ("vllm serve m --kv-transfer-config '{", "error unreadable"),
        ("apiVersion: v1\nkind: Pod\nspec: [", "error unreadable"),
        ("vllm serve m --kv-transfer-config '{]'", "error unreadable"),
        ("vllm serve m --kv-transfer-config 7", "error unreadable"),
    ],
)
def test_what_cannot_be_read_or_says_nothing_is_told(text: str, wanted: str) -> None:
    assert codes(text) == [wanted]


@given(st.text(max_size=300))
def test_no_text_breaks_the_reader(text: str) -> None:
    servers, findings = read(text, "file")
    assert servers or findings


def test_a_manifest_tells_the_version_by_its_image() -> None:
    assert codes(manifest(json.dumps(transfer(ours())), version="0.30.1")) == ["error not-in-version"]
    assert codes(manifest(json.dumps(transfer(ours())), version="0.30.1"), vllm="0.32") == []


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("vllm/vllm-openai:v0.31.0", {"vllm": "0.31.0"}),
        ("registry.local:5000/lmcache/vllm-openai:v0.3.9post1", {"lmcache": "0.3.9"}),
        ("nvcr.io/nvidia/ai-dynamo/vllm-runtime:1.3.1", {"kvbm": "1.3.1"}),
        ("vllm/vllm-openai:latest", {}),
        ("", {}),
    ],
)
def test_an_image_tells_whose_version_it_is(image: str, wanted: dict[str, str]) -> None:
    container = {"image": image, "env": [{"name": "DYN_KVBM_CPU_CACHE_GB", "value": "8"}]}
    text = json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]}})
    assert read(text, "file")[0][0].versions == wanted


def test_a_manifest_tells_the_memory_of_its_container() -> None:
    assert codes(manifest(json.dumps(transfer()), limit="64Gi")) == []
    assert codes(manifest(json.dumps(transfer()), limit="60Gi")) == ["error host-memory"]


def test_replicas_of_a_manifest_are_on_one_host_together() -> None:
    text = manifest(json.dumps(transfer()))
    assert codes(text, Machine(host_bytes=128 * GIB)) == []
    assert codes(text, Machine(host_bytes=127 * GIB)) == ["error host-memory"]
    assert codes(text, Machine(host_bytes=127 * GIB, replicas=1)) == []


def test_replicas_meet_in_a_claim_and_not_in_a_folder_of_their_own() -> None:
    config = json.dumps(transfer(ours()))
    assert codes(manifest(config)) == []
    claimed = manifest(config, volume="persistentVolumeClaim: {claimName: kv}")
    assert codes(claimed) == ["error shared-folder"]


def test_a_shell_inside_a_manifest_and_a_config_map_are_read() -> None:
    text = textwrap.dedent(
        """
        apiVersion: v1
        kind: ConfigMap
        metadata: {name: cache}
        data: {lmcache.yaml: "local_disk: file:///kv"}
        ---
        apiVersion: v1
        kind: Pod
        metadata: {name: cache}
        spec: {containers: [{name: c, command: [/bin/sh, -c, "exec lmcache server --l1-size-gb 8"]}]}
        """
    )
    assert [(each.code, each.where) for each in found(text)] == [
        ("cap-zero", "file: ConfigMap/cache/lmcache.yaml"),
        ("missing-key", "file: Pod/cache: c"),
    ]


@pytest.mark.parametrize("text", ["", "many", "5 parsecs", "-3GB", "1e"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no size"):
        quantity(text, "--memory")


@given(st.integers(1, 10**6), st.sampled_from(["MB", "GB", "TB", "MiB", "GiB", "TiB"]))
def test_a_size_is_read_as_it_is_told(amount: int, unit: str) -> None:
    told = size(quantity(f"{amount}{unit}", "")).replace(",", "")
    assert abs(quantity(told, "") / quantity(f"{amount}{unit}", "") - 1) < 0.01


@pytest.mark.parametrize("text", ["", "new", "1", "0.x"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="no version"):
        version(text)


_ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
_SETTINGS = st.dictionaries(
    st.sampled_from([*OFFLOADING, *SIMPLE, *ENGINE, *OURS_KEYS, "connectors"]), _ANY, max_size=5
)
_TIER = st.dictionaries(st.sampled_from(["type", "root_dir", "cap_gb", "base_path", "eviction"]), _ANY, max_size=4)


@given(st.sampled_from(sorted(CONNECTORS)), _SETTINGS, st.lists(_TIER | _ANY, max_size=2) | _ANY, st.floats() | _ANY)
def test_no_value_breaks_the_lint(connector: str, extra: dict[str, Any], tiers: object, policy: object) -> None:
    config = {
        "kv_connector": connector,
        "kv_role": policy,
        "kv_load_failure_policy": policy,
        "kv_connector_extra_config": {**extra, "spec_name": "TieringOffloadingSpec", "secondary_tiers": tiers},
    }
    told = json.dumps(config)
    assert found(told)
    quoted = told.replace("'", "'\\''")
    assert found(f"lmcache server --l1-size-gb 8 --eviction-policy {connector} --l2-adapter '{quoted}'")
    found(json.dumps(extra))
    found(json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": tiers, "metadata": policy}))
    containers = [{"command": policy, "env": tiers, "image": policy, "volumeMounts": tiers, "resources": policy}]
    found(json.dumps({"apiVersion": "v1", "kind": "Pod", "spec": {"containers": containers, "volumes": tiers}}))
