"""What vLLM reads, by release. Read from the released packages 0.11 to 0.32, the first of each minor version."""

from __future__ import annotations

from kvtier.configs.keys import Key, Table, table

TRANSFER: Table = {
    **table(
        v="kv_connector engine_id kv_buffer_device kv_role kv_port kv_connector_extra_config kv_connector_module_path",
        v0_12="enable_permute_local_kv",
        v0_13="kv_load_failure_policy",
    ),
    **dict.fromkeys(("kv_buffer_size", "kv_rank", "kv_parallel_size", "kv_ip"), Key(until=(0, 32))),
}
"""Of --kv-transfer-config itself. From 0.16 on vLLM does not start with a key that it does not know."""
STRICT = (0, 16)

OFFLOADING: Table = {
    **table(
        v="block_size spec_name spec_module_path",
        v0_12="eviction_policy",
        v0_14="cpu_bytes_to_use",
        v0_18="store_threshold max_tracker_size",
        v0_22="secondary_tiers",
        v0_23="offload_prompt_only",
        v0_24="self_describing_kv_events",
        v0_26="blocks_per_chunk",
        v0_27="cache_policy_module_path",
        v0_28="canonical_layout",
        v0_31="backpressure",
    ),
    "num_cpu_blocks": Key(until=(0, 14), instead="Give cpu_bytes_to_use: bytes, over all workers."),
}
"""Of kv_connector_extra_config for OffloadingConnector. vllm#24498 brought cpu_bytes_to_use."""

SIMPLE: Table = table(
    v0_19="cpu_bytes_to_use cpu_bytes_to_use_per_rank lazy_offload",
    v0_28="kv_offload_backend disk_path disk_capacity_bytes disk_buffer_slots use_page_cache",
)
"""Of kv_connector_extra_config for SimpleCPUOffloadConnector."""

CONNECTORS: Table = {
    **table(
        v="OffloadingConnector LMCacheConnectorV1 NixlConnector MultiConnector",
        v0_12="LMCacheMPConnector DecodeBenchConnector",
        v0_13="MooncakeConnector ExampleConnector",
        v0_14="MoRIIOConnector",
        v0_17="ExampleHiddenStatesConnector",
        v0_18="FlexKVConnectorV1",
        v0_19="SimpleCPUOffloadConnector",
        v0_20="HF3FSKVConnector",
        v0_21="MooncakeStoreConnector",
        v0_24="NixlPullConnector NixlPushConnector",
        v0_30="HiSparseConnector",
    ),
    "P2pNcclConnector": Key(until=(0, 24)),
    "SharedStorageConnector": Key(until=(0, 13), instead="It is called ExampleConnector now."),
}

SPECS: Table = table(v="CPUOffloadingSpec", v0_22="TieringOffloadingSpec")

FS_OLD = "fs_python"
TIERS: Table = {
    **table(v0_22="example", v0_23="fs obj", v0_25="p2p", v0_30="kvcr"),
    FS_OLD: Key(since=(0, 22), until=(0, 23), instead="It is called 'fs' now."),
}
"""Types of secondary tiers that vLLM brings."""

TIER_OF_ITS_OWN = (0, 28)
"""A tier's module_path."""

FS: Table = {
    **table(v="type root_dir n_read_threads n_write_threads"),
    **table(v0_26="enable_kv_events locality", v0_28="module_path", v0_31="backpressure"),
}

OURS = "OptiInfraDiskTier"
OURS_MODULE = "kvtier.adapter"
OURS_KEYS: Table = table(
    v="type module_path root_dir cap_gb policy readers writers wear_gb_a_day prefill_tokens_per_s "
    "prefill_doubles_at_tokens record record_mb record_block_tokens enable_kv_events locality backpressure"
)
OURS_SINCE, OURS_RUN_ON = (0, 31), (0, 32)
"""The adapter needs chunk_ids (0.30), places of keys and the backpressure argument (0.31); it was run on 0.32."""

FLAGS: Table = {
    **table(v="kv-cache-dtype kv-cache-memory-bytes kv-events-config kv-sharing-fast-prefill kv-transfer-config"),
    **table(v0_12="kv-cache-metrics kv-cache-metrics-sample kv-offloading-size kv-offloading-backend"),
    **table(v0_19="kv-cache-dtype-skip-layers"),
}
"""Flags that begin with kv-."""

SWAP_GONE = (0, 18)
NATIVE_STARTS = (0, 14)
"""Before, --kv-offloading-size set num_cpu_blocks to 0, which the connector refuses."""
LMCACHE_SIZE_READ_UNTIL = (0, 23)
"""From then on --kv-offloading-backend lmcache means LMCache's own server, which has its own size."""
FAILS_BY_DEFAULT = (0, 17)
"""From then on a block that cannot be loaded fails its request, unless kv_load_failure_policy says recompute."""
FIXED_SEED = (0, 29)
"""From then on the seed of block hashes is fixed, for sha256; before it is random unless PYTHONHASHSEED is set."""
DEFAULT_BLOCK_TOKENS = 16
