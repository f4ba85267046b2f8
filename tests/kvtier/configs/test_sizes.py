from __future__ import annotations

import pytest

from kvtier.configs.lint import lint
from kvtier.configs.terms import Machine
from tests.kvtier.configs.linted import GIB, codes, found, lmcache_server, ours, serve, transfer

FS = {"type": "fs", "root_dir": "/mnt/kv"}


def test_memory_of_all_servers_is_added_up() -> None:
    text = serve(transfer()) + "\n" + serve(transfer())
    assert codes(text, Machine(host_bytes=128 * GIB)) == []
    (one,) = found(text, Machine(host_bytes=127 * GIB))
    assert one.code == "host-memory"
    assert one.message == "Memory tiers take 128 GiB (64 GiB + 64 GiB), the host has 127 GiB."


def test_weights_in_memory_count_and_are_no_tier() -> None:
    text = serve(transfer(), "--cpu-offload-gb 10 -tp 2")
    assert codes(text, Machine(host_bytes=84 * GIB, gpu_kv_bytes=60 * GIB)) == []
    assert codes(text, Machine(host_bytes=83 * GIB)) == ["error host-memory"]


def test_a_cap_is_compared_with_what_is_free_where_that_is_known() -> None:
    asked: list[str] = []

    def free(folder: str) -> int:
        asked.append(folder)
        return 499 * 10**9

    assert codes(serve(transfer(ours())), Machine(disk_free=free)) == ["error disk-space"]
    assert asked == ["/mnt/kv"]
    assert codes(serve(transfer(ours(cap_gb=499))), Machine(disk_free=free)) == []


def test_memory_that_holds_no_request_or_no_more_than_the_gpus_is_of_no_use() -> None:
    one = Machine(kv_bytes=lambda tokens: tokens * 2**20, request_tokens=64 * 1024)
    assert codes(serve(transfer()), one) == []
    assert codes(serve(transfer(), "--max-model-len 65537"), one) == ["warning tier-too-small"]
    assert codes(serve(transfer()), Machine(gpu_kv_bytes=64 * GIB)) == ["warning tier-too-small"]
    assert codes(serve(transfer()), Machine(gpu_kv_bytes=63 * GIB)) == []


def test_blocks_of_an_old_release_are_weighed_with_the_model() -> None:
    text = serve(transfer(cpu_bytes_to_use=None, num_cpu_blocks=4096))
    machine = Machine(versions={"vllm": "0.13"}, host_bytes=GIB - 1, kv_bytes=lambda tokens: tokens * 2**14)
    assert codes(text, machine) == ["error host-memory"]
    assert codes(text, Machine(versions={"vllm": "0.13"}, host_bytes=GIB - 1)) == []


@pytest.mark.parametrize(
    ("first", "second", "wanted"),
    [
        (ours(), ours(root_dir="/mnt/kv/"), ["error shared-folder"]),
        (ours(), ours(root_dir="/mnt/other"), []),
        (FS, FS, ["note shared-folder"]),
    ],
)
def test_two_servers_on_one_folder_are_told(first: dict[str, str], second: dict[str, str], wanted: list[str]) -> None:
    files = [("a", serve(transfer(first))), ("b", serve(transfer(second)))]
    told = [f"{each.severity} {each.code}" for each in lint(files, Machine())]
    assert [each for each in told if each != "warning no-cap"] == wanted


def test_two_caches_that_count_for_themselves_go_past_the_cap_together() -> None:
    text = "export LMCACHE_LOCAL_DISK=/kv LMCACHE_MAX_LOCAL_DISK_SIZE=9\nvllm serve a --seed 1\nvllm serve b --seed 2\n"
    assert codes(text) == ["warning shared-folder", "note cap-forgets"]


def test_errors_come_first_and_nothing_is_said_twice() -> None:
    told = found(serve(transfer({**FS, "cap_gb": 1}), "--kv-offloading-size 64"))
    assert [each.severity.value for each in told] == sorted(
        (each.severity.value for each in told), key=["error", "warning", "note"].index
    )
    assert len(set(told)) == len(told) == 3


@pytest.mark.parametrize(("gb", "wanted"), [(10, []), (11, ["error disk-space"])])
def test_the_disk_of_an_engine_is_of_each_worker_and_divided_over_its_folders(gb: int, wanted: list[str]) -> None:
    text = f"LMCACHE_LOCAL_DISK=/a,/b LMCACHE_MAX_LOCAL_DISK_SIZE={gb} vllm serve m -tp 4"
    told = codes(text, Machine(disk_free=lambda _: 20 * GIB))
    assert [each for each in told if each != "note cap-forgets"] == wanted * 2


def test_a_capacity_counts_against_the_disk_only_where_it_is_enforced() -> None:
    adapter = {"type": "fs_native", "base_path": "/kv", "max_capacity_gb": 10, "eviction": {"eviction_policy": "LRU"}}
    full = Machine(disk_free=lambda _: 10 * GIB - 1)
    assert codes(lmcache_server(adapter), full) == ["error disk-space", "note cap-forgets"]
    assert codes(lmcache_server({**adapter, "eviction": None}), full) == ["error cap-not-enforced"]
