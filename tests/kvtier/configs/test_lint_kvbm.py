from __future__ import annotations

import pytest

from tests.kvtier.configs.linted import codes, found

MEMORY, DISK, DIR = "DYN_KVBM_CPU_CACHE_GB=100\n", "DYN_KVBM_DISK_CACHE_GB=500\n", "DYN_KVBM_DISK_CACHE_DIR=/mnt/kv\n"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (MEMORY, []),
        (MEMORY + DISK + DIR, []),
        (MEMORY + DISK, ["warning default-folder"]),
        (DISK + DIR, ["warning no-memory"]),
        ("DYN_KVBM_CPU_CACHE_GB=600\n" + DISK + DIR, ["warning tier-too-small"]),
        ("DYN_KVBM_CPU_CACHE_GB=100GB\n", ["error wrong-value", "error missing-key"]),
        ("DYN_KVBM_METRICS=true\n", ["error missing-key"]),
        (MEMORY + "DYN_KVBM_CPU_CACHE_OVERRIDE_NUM_BLOCKS=1000\n", ["warning two-sizes"]),
        ("DYN_KVBM_CPU_CACHE_OVERRIDE_NUM_BLOCKS=1000\n", []),
        (MEMORY + "DYN_KVBM_NIXL_BACKEND_UCX=true\n", []),
    ],
)
def test_variables_are_checked(text: str, wanted: list[str]) -> None:
    assert codes(text) == wanted


def test_a_slip_of_the_pen_is_told_with_the_nearest_name() -> None:
    (slip,) = found(MEMORY + "DYN_KVBM_DISK_CACHE_GBS=500\n")
    assert slip.fix == "Did you mean 'DISK_CACHE_GB'?"


def test_a_variable_of_a_later_release_is_told() -> None:
    assert codes(MEMORY + "DYN_KVBM_DISK_ALLOCATOR_TYPE=open-direct\n", kvbm="1.0") == ["error not-in-version"]


def test_a_worker_that_names_the_connector_without_a_tier_does_not_start() -> None:
    config = (
        '{"kv_connector": "DynamoConnector", "kv_role": "kv_both", '
        '"kv_connector_module_path": "kvbm.vllm_integration.connector"}'
    )
    assert codes(f"vllm serve m --kv-transfer-config '{config}'") == ["error missing-key"]
    assert codes(f"export {MEMORY}vllm serve m --kv-transfer-config '{config}'") == []
