from __future__ import annotations

import json
from typing import Any

import pytest

from kvtier.configs.terms import Machine
from tests.kvtier.configs.linted import codes, found, ours, serve, transfer

FS = {"type": "fs", "root_dir": "/mnt/kv"}


def test_nothing_is_wrong_with_memory_alone_or_with_our_disk_tier_below_it() -> None:
    assert codes(serve(transfer())) == []
    assert codes(serve(transfer(ours()))) == []


@pytest.mark.parametrize(
    ("extra", "version", "wanted"),
    [
        ({"cpu_bytes_to_use": None, "num_cpu_blocks": 1000}, "0.13", []),
        ({"cpu_bytes_to_use": None, "num_cpu_blocks": 1000}, "0.14", ["error not-in-version", "error missing-key"]),
        ({"num_cpu_blocks": 1000}, "0.13", ["error not-in-version"]),
        ({}, "0.14", []),
        ({"store_threshold": 2}, "0.17", ["error not-in-version"]),
        ({"store_threshold": 2}, "0.18", []),
        ({"blocks_per_chunk": 4}, "0.25.1", ["error not-in-version"]),
        ({"blocks_per_chunk": 4}, "0.26", []),
        ({"eviction_policy": "mine", "cache_policy_module_path": "m"}, "0.26", ["error not-in-version"]),
        ({"eviction_policy": "mine", "cache_policy_module_path": "m"}, "0.28", []),
    ],
)
def test_a_key_is_right_only_in_the_releases_that_read_it(
    extra: dict[str, Any], version: str, wanted: list[str]
) -> None:
    assert codes(serve(transfer(**extra)), vllm=version) == wanted


def test_what_replaced_a_key_is_told() -> None:
    (gone, missing) = found(serve(transfer(cpu_bytes_to_use=None, num_cpu_blocks=1)), vllm="0.20")
    assert "cpu_bytes_to_use" in gone.fix
    assert "cpu_bytes_to_use" in missing.message


def test_a_slip_of_the_pen_is_told_with_the_nearest_key() -> None:
    (slip,) = found(serve(transfer(evicton_policy="arc")))
    assert (slip.code, slip.fix) == ("unknown-key", "Did you mean 'eviction_policy'?")


def test_a_spec_of_somebody_else_may_read_keys_of_its_own() -> None:
    assert codes(serve(transfer(spec_name="Mine", spec_module_path="mine", my_key=1))) == []


@pytest.mark.parametrize("value", [0, -1, "64GiB", None, 64, True])
def test_memory_is_a_number_of_bytes(value: object) -> None:
    config = transfer()
    config["kv_connector_extra_config"]["cpu_bytes_to_use"] = value
    assert codes(serve(config)) == ["error wrong-value"]


@pytest.mark.parametrize(
    ("chunk", "flags", "wanted"),
    [
        (64, "--block-size 16", []),
        (40, "--block-size 16", ["error block-size"]),
        (64, "--block-size 128", ["error block-size"]),
        (40, "", ["warning block-size"]),  # the block is not known for sure
    ],
)
def test_a_chunk_is_a_whole_number_of_gpu_blocks(chunk: int, flags: str, wanted: list[str]) -> None:
    assert codes(serve(transfer(block_size=chunk), flags)) == wanted


def test_the_next_chunk_that_fits_is_told() -> None:
    (one,) = found(serve(transfer(block_size=40)), Machine(block_tokens=32))
    assert one.fix == "Write 64."


def test_block_size_and_blocks_per_chunk_exclude_each_other() -> None:
    assert codes(serve(transfer(block_size=64, blocks_per_chunk=4))) == ["error block-size"]


def test_secondary_tiers_are_ignored_by_the_default_spec() -> None:
    assert codes(serve(transfer(secondary_tiers=[ours()]))) == ["error tiers-ignored"]


def test_the_fs_tier_never_deletes() -> None:
    (one,) = found(serve(transfer(FS)))
    assert (one.severity, one.code) == ("warning", "no-cap")
    assert "vllm#54779" in one.message
    assert one.fix.startswith("Take type OptiInfraDiskTier")
    assert "Take vLLM 0.31 or later" in found(serve(transfer(FS)), vllm="0.29")[0].fix


def test_a_cap_that_the_fs_tier_does_not_have_is_an_error() -> None:
    assert "error unknown-key" in codes(serve(transfer({**FS, "cap_gb": 500})))


@pytest.mark.parametrize(
    ("kind", "version", "wrong"),
    [("fs", "0.22", True), ("fs_python", "0.22", False), ("fs_python", "0.23", True), ("p2p", "0.24", True)],
)
def test_tiers_have_their_names_by_release(kind: str, version: str, wrong: bool) -> None:
    text = serve(transfer({"type": kind, "root_dir": "/kv"}), "--seed 1")
    assert ("error not-in-version" in codes("export PYTHONHASHSEED=0\n" + text, vllm=version)) is wrong


@pytest.mark.parametrize(
    ("version", "wanted"),
    [("0.30", "error not-in-version"), ("0.31", "note not-run"), ("0.33.1", "note not-run"), ("0.32.1", None)],
)
def test_our_tier_says_on_which_releases_it_was_run(version: str, wanted: str | None) -> None:
    assert codes(serve(transfer(ours())), vllm=version) == ([wanted] if wanted else [])


@pytest.mark.parametrize(
    ("keys", "wanted"),
    [
        ({"cap_gb": None}, "error missing-key"),
        ({"cap_gb": 0}, "error missing-key"),
        ({"root_dir": None}, "error missing-key"),
        ({"module_path": None}, "error missing-key"),
        ({"max_gb": 3}, "error unknown-key"),
    ],
)
def test_our_tier_needs_its_keys(keys: dict[str, Any], wanted: str) -> None:
    assert codes(serve(transfer(ours(**keys)))) == [wanted]


def test_a_tier_from_outside_needs_a_module_path_and_a_release_that_reads_it() -> None:
    text = "export PYTHONHASHSEED=0\n" + serve(transfer({"type": "Theirs", "module_path": "theirs"}))
    assert codes(text, vllm="0.28") == []
    assert codes(text, vllm="0.27") == ["error not-in-version"]
    assert codes(serve(transfer({"type": "Theirs"}))) == ["error unknown-key"]


def test_a_failed_load_should_be_computed_anew() -> None:
    config = transfer(ours())
    del config["kv_load_failure_policy"]
    assert codes(serve(config)) == ["warning load-failure"]
    config["kv_load_failure_policy"] = "retry"
    assert codes(serve(config)) == ["error wrong-value"]


@pytest.mark.parametrize(
    ("version", "before", "flags", "wanted"),
    [
        ("0.28", "", "", True),
        ("0.28", "PYTHONHASHSEED=0 ", "", False),
        ("0.29", "", "", False),
        ("0.29", "", "--prefix-caching-hash-algo xxhash", True),
    ],
)
def test_blocks_are_found_after_a_restart_only_with_a_fixed_seed(
    version: str, before: str, flags: str, wanted: bool
) -> None:
    told = codes(before + serve(transfer(FS), flags), vllm=version)
    assert ("warning hash-seed" in told) is wanted


def test_of_a_bare_json_the_seed_is_not_known() -> None:
    assert "note hash-seed" in codes(json.dumps(transfer(FS)), vllm="0.28")


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"kv_role": "both"}, ["error missing-key"]),
        ({"kv_connector": "OffloadConnector"}, ["error unknown-key"]),
        ({"kv_buffer_size": 1e9}, ["error not-in-version"]),
        ({"kv_load_faillure_policy": "recompute"}, ["error unknown-key"]),
        ({"kv_connector_extra_config": []}, ["error wrong-value"]),
    ],
)
def test_the_outer_keys_are_checked(change: dict[str, Any], wanted: list[str]) -> None:
    assert codes(serve({**transfer(), **change})) == wanted


def test_before_it_was_strict_vllm_ignored_unknown_outer_keys() -> None:
    assert codes(serve({**transfer(), "kv_rol": 1}), vllm="0.15") == ["warning unknown-key"]


def test_connectors_inside_a_multi_connector_are_checked() -> None:
    outer = {
        "kv_connector": "MultiConnector",
        "kv_role": "kv_both",
        "kv_connector_extra_config": {"connectors": [transfer(), transfer(cpu_bytes_to_use=None)]},
    }
    (one,) = found(serve(outer))
    assert (one.code, one.where) == ("missing-key", "file: connectors[1]")


@pytest.mark.parametrize(
    ("extra", "wanted"),
    [
        ({"cpu_bytes_to_use": 2**33}, []),
        ({"kv_offload_backend": "disk", "disk_path": "/mnt/kv"}, []),
        ({"kv_offload_backend": "disk"}, ["error missing-key"]),
        ({"disk_path": "/mnt/kv"}, ["warning no-effect"]),
        ({"kv_offload_backend": "gpu"}, ["error wrong-value"]),
    ],
)
def test_the_simple_connector_is_checked(extra: dict[str, Any], wanted: list[str]) -> None:
    simple = {"kv_connector": "SimpleCPUOffloadConnector", "kv_role": "kv_both", "kv_connector_extra_config": extra}
    assert codes(serve(simple)) == wanted


@pytest.mark.parametrize(
    ("flags", "version", "wanted"),
    [
        ("--kv-offloading-size 64", "0.32", []),
        ("--kv_offloading_size=64", "0.32", []),
        ("--kv-offloading-size 64 --kv-offloading-backend native", "0.13", ["error not-in-version"]),
        ("--kv-offloading-backend native", "0.32", ["warning no-effect"]),
        ("--kv-offloading-size 64GiB", "0.32", ["error wrong-value"]),
        ("--kv-offloading-size 64 --kv-offloading-backend lmcache", "0.32", ["warning size-ignored"]),
        ("--kv-offloading-size 64 --kv-offloading-backend lmcache", "0.22", []),
        ("--kv-ofloading-size 64 --swap-space 4", "0.17", ["error unknown-key", "warning deprecated-key"]),
        ("--swap-space 4", "0.18", ["error not-in-version"]),
        ("--swap-space 4", "0.17", ["warning deprecated-key"]),
    ],
)
def test_flags_are_checked(flags: str, version: str, wanted: list[str]) -> None:
    assert codes(f"vllm serve m {flags}", vllm=version) == wanted


def test_two_sizes_for_one_memory_are_told() -> None:
    assert codes(serve(transfer(), "--kv-offloading-size 64")) == ["warning two-sizes"]


def test_a_tier_that_is_no_object_is_told_by_its_place() -> None:
    (one,) = found(serve(transfer(ours(), "fs")))  # type: ignore[arg-type]
    assert (one.severity, one.code, one.where) == ("error", "wrong-value", "file: secondary_tiers[1]")
