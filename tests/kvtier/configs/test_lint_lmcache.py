from __future__ import annotations

from typing import Any

import pytest

from kvtier.configs.terms import Machine
from tests.kvtier.configs.linted import GIB, codes, found, lmcache_server

EVICTION = {"eviction_policy": "LRU", "trigger_watermark": 0.8, "eviction_ratio": 0.2}
FS_NATIVE = {"type": "fs_native", "base_path": "/mnt/kv", "max_capacity_gb": 4000}
FORGETS = "note cap-forgets"


def test_nothing_is_wrong_with_memory_alone() -> None:
    assert codes("chunk_size: 256\nlocal_cpu: true\nmax_local_cpu_size: 64\n") == []
    assert codes(lmcache_server()) == []


def test_a_capacity_without_eviction_is_only_counted() -> None:
    (one,) = found(lmcache_server(FS_NATIVE))
    assert (one.severity, one.code) == ("error", "cap-not-enforced")
    assert "LMCache#4725" in one.message
    assert '"eviction"' in one.fix


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"eviction": EVICTION}, [FORGETS]),
        ({"eviction": {**EVICTION, "eviction_policy": "noop"}}, ["error cap-not-enforced"]),
        ({"eviction": EVICTION, "max_capacity_gb": 0}, ["error cap-not-enforced"]),
        ({"max_capacity_gb": 0}, ["warning no-cap"]),
        ({"eviction": {**EVICTION, "eviction_policy": "lru"}}, ["error unknown-key", FORGETS]),
        ({"eviction": {**EVICTION, "trigger_watermark": 80}}, ["error wrong-value", FORGETS]),
        ({"eviction": {**EVICTION, "ratio": 0.1}}, ["warning unknown-key", FORGETS]),
        ({"eviction": EVICTION, "capacity": 3}, ["warning unknown-key", FORGETS]),
        ({"eviction": EVICTION, "base_path": ""}, ["error missing-key", FORGETS]),
        ({"type": "fs", "eviction": EVICTION}, ["error cap-not-enforced"]),
        ({"type": "fs", "max_capacity_gb": 0}, ["warning no-cap"]),
        ({"type": "redis", "eviction": EVICTION}, []),
        ({"type": "raw_block"}, []),
    ],
)
def test_what_an_adapter_writes_is_bounded_only_with_capacity_and_eviction(
    change: dict[str, Any], wanted: list[str]
) -> None:
    assert codes(lmcache_server({**FS_NATIVE, **change})) == wanted


def test_before_eviction_came_no_adapter_was_bounded() -> None:
    text = lmcache_server({**FS_NATIVE, "eviction": EVICTION})
    assert codes(text, lmcache="0.4.1") == ["error cap-not-enforced"]


@pytest.mark.parametrize(
    ("flags", "version", "wanted"),
    [
        ("--l1-size-gb 64", "0.5.6", ["error missing-key"]),
        ("--eviction-policy LRU", "0.5.6", ["error missing-key"]),
        ("--l1-size-gb many --eviction-policy LRU", "0.5.6", ["error missing-key"]),
        ("--l1-size-gb 64 --eviction-policy ARC", "0.5.6", []),
        ("--l1-size-gb 64 --eviction-policy ARC", "0.5.4", ["error not-in-version"]),
        ("--l1-size-gb 64 --eviction-policy FIFO", "0.5.6", ["error unknown-key"]),
        ("--l1-size-gb 64 --eviction-policy noop", "0.5.6", ["warning never-evicts"]),
        ("--l1-size-gb 64 --eviction-policy LRU --l1-use-hugepages", "0.5.4", ["error not-in-version"]),
        ("--l1-size-gb 64 --eviction-policy LRU --l1-sise 3", "0.5.6", ["error unknown-key"]),
        ("--l1-size-gb 64 --eviction-policy LRU --l2-adapter '{'", "0.5.6", ["error unreadable"]),
        ("--l1-size-gb 64 --eviction-policy LRU --l2-adapter '{}'", "0.5.6", ["error missing-key"]),
    ],
)
def test_flags_of_its_server_are_checked(flags: str, version: str, wanted: list[str]) -> None:
    assert codes(lmcache_server(flags=flags), lmcache=version) == wanted


@pytest.mark.parametrize(
    ("settings", "version", "wanted"),
    [
        ("local_disk: file:///mnt/kv\nmax_local_disk_size: 500\n", "0.5.6", [FORGETS]),
        ("local_disk: file:///mnt/kv\n", "0.5.6", ["error cap-zero"]),
        ("max_local_disk_size: 500\n", "0.5.6", ["warning no-effect"]),
        ("gds_path: /mnt/kv\n", "0.5.6", ["warning no-cap"]),
        ("weka_path: /mnt/kv\n", "0.3.15", ["error not-in-version"]),
        ("cufile_buffer_size: 8192\n", "0.5.6", ["error not-in-version"]),
        ("store_location: LocalDiskBackend\n", "0.3.15", ["error not-in-version"]),
        ("chunk_sise: 256\n", "0.5.6", ["warning unknown-key"]),
        ("controller_url: tcp://c:1\n", "0.5.6", ["warning deprecated-key"]),
        ("cache_policy: lru\n", "0.5.6", []),
        ("cache_policy: ARC\n", "0.5.6", ["error wrong-value"]),
        ("max_local_cpu_size: 64GB\n", "0.5.6", ["error wrong-value"]),
    ],
)
def test_settings_of_an_engine_are_checked(settings: str, version: str, wanted: list[str]) -> None:
    assert codes(settings, lmcache=version) == wanted


def test_the_environment_is_checked_like_the_file_and_other_variables_are_let_be() -> None:
    assert codes("LMCACHE_LOCAL_DISK=file:///mnt/kv\nLMCACHE_LOG_LEVEL=INFO\n") == ["error cap-zero"]
    (slip,) = found("LMCACHE_MAX_LOCAL_CPU_SISE=64\n")
    assert slip.fix == "Did you mean 'max_local_cpu_size'?"


def test_settings_inside_a_transfer_config_are_checked() -> None:
    text = (
        '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both", '
        '"kv_connector_extra_config": {"lmcache.local_disk": "/mnt/kv", "other": 1}}'
    )
    assert codes(text) == ["error cap-zero"]


def test_sizes_of_an_engine_are_of_each_worker() -> None:
    text = "LMCACHE_MAX_LOCAL_CPU_SIZE=64 vllm serve m --tensor-parallel-size 8"
    assert codes(text, Machine(host_bytes=512 * GIB)) == []
    assert codes(text, Machine(host_bytes=511 * GIB)) == ["error host-memory"]


def test_a_chunk_is_a_whole_number_of_gpu_blocks() -> None:
    assert codes("chunk_size: 100\n", Machine(block_tokens=16)) == ["error block-size"]
    assert codes("chunk_size: 256\n", Machine(block_tokens=16)) == []
