"""What LMCache reads, by release. Read from the released packages 0.3.9, 0.3.15, 0.4.1, .3, .5, .7, 0.5.0, .2, .4, .6.

A key that came between two of them is taken to have come with the later one.
"""

from __future__ import annotations

from kvtier.configs.keys import Key, Table, table

ENGINE: Table = {
    **table(
        v="audit_actual_remote_url blend_check_layers blend_min_tokens blend_recompute_ratios blend_special_str "
        "blend_thresholds blocking_timeout_secs cache_policy chunk_size controller_pull_url controller_reply_url "
        "enable_async_loading enable_blending enable_controller enable_p2p enable_pd external_lookup_client "
        "extra_config gds_path hit_miss_ratio internal_api_server_enabled internal_api_server_host "
        "internal_api_server_include_index_list internal_api_server_port_start "
        "internal_api_server_socket_path_prefix lmcache_instance_id lmcache_worker_heartbeat_delay_time "
        "lmcache_worker_heartbeat_time lmcache_worker_ports local_cpu local_disk lookup_timeout_ms "
        "max_local_cpu_size max_local_disk_size nixl_backends nixl_buffer_device numa_mode p2p_host p2p_init_ports "
        "p2p_lookup_ports pd_buffer_device pd_buffer_size pd_peer_alloc_port pd_peer_host pd_peer_init_port "
        "pd_proxy_host pd_proxy_port pd_role pre_caching_hash_algorithm priority_limit py_enable_gc remote_serde "
        "remote_url reserve_local_cpu_size save_decode_cache save_unfull_chunk transfer_channel use_layerwise",
        v0_3_15="app_id chunk_statistics_auto_exit_target_unique_chunks chunk_statistics_auto_exit_timeout_hours "
        "chunk_statistics_auto_start_statistics chunk_statistics_strategy enable_chunk_statistics enable_kv_events "
        "enable_lazy_memory_allocator enable_scheduler_bypass_lookup lazy_memory_expand_trigger_ratio "
        "lazy_memory_initial_ratio lazy_memory_safe_size lazy_memory_step_ratio lmcache_worker_ids "
        "lookup_server_worker_ids min_retrieve_tokens pin_check_interval_sec pin_timeout_sec remote_config_url "
        "remote_storage_plugins runtime_plugin_locations script_allowed_imports storage_plugins use_gpu_connector_v3",
        v0_4_3="gds_path_sharding maru_path maru_pool_size retrieve_locations store_location",
        v0_4_5="gds_backend gds_buffer_size local_disk_path_sharding pd_allocation_timeout_sec pd_backend_mode "
        "pd_bidirectional pd_condition_poll_interval_sec pd_max_prefill_len pd_peer_query_port "
        "pd_shutdown_timeout_sec pd_skip_proxy_notification use_gds",
        v0_4_7="local_cpu_use_hugepages mp_host mp_port",
        v0_5_2="enable_hidden_state_cache hidden_state_layers hidden_states_retrieve_mode max_hidden_state_cpu_size",
        v0_5_6="run_script_api_enabled",
    ),
    "cufile_buffer_size": Key(until=(0, 4, 5), instead="It is called gds_buffer_size now."),
    "weka_path": Key(until=(0, 3, 15), instead="Give gds_path."),
    "mla_lookup_server_worker_id": Key(until=(0, 3, 15), instead="It is called lookup_server_worker_ids now."),
}
"""Of the yaml file, of LMCACHE_… in capitals, and of lmcache.… in kv_connector_extra_config."""

DEPRECATED = {
    "enable_xpyd": "enable_pd",
    "nixl_peer_host": "pd_peer_host",
    "nixl_peer_init_port": "pd_peer_init_port",
    "nixl_peer_alloc_port": "pd_peer_alloc_port",
    "nixl_proxy_host": "pd_proxy_host",
    "nixl_proxy_port": "pd_proxy_port",
    "nixl_buffer_size": "pd_buffer_size",
    "nixl_role": "pd_role",
    "controller_url": "controller_pull_url",
    "lmcache_worker_port": "lmcache_worker_ports",
    "plugin_locations": "runtime_plugin_locations",
    "external_backends": "storage_plugins",
}
"""Old names that are still read, and the new ones."""

POLICIES = ("LRU", "LFU", "FIFO", "MRU")
SERVER: Table = table(
    v0_4_1="chunk-size eviction-policy eviction-ratio eviction-trigger-watermark l1-align-bytes l1-init-size-gb "
    "l1-read-ttl-seconds l1-size-gb l1-use-lazy no-l1-use-lazy l1-write-ttl-seconds l2-adapter",
    v0_4_3="l2-prefetch-max-in-flight l2-prefetch-policy l2-store-policy",
    v0_4_7="gds-l1-path gds-l1-use-direct-io",
    v0_5_0="l1-devdax-path",
    v0_5_4="gds-l1-backend",
    v0_5_6="l1-manager l1-use-hugepages",
)
"""Flags of `lmcache server` about tiers. Before 0.4.3 it is started as `python -m lmcache.v1.multiprocess…`."""

SERVER_POLICIES: Table = table(v0_4_1="LRU", v0_4_3="noop", v0_4_5="IsolatedLRU", v0_5_6="ARC")
EVICTION_SINCE = (0, 4, 3)
"""The block "eviction" of an adapter; before, nothing bounds it."""
EVICTION_KEYS = ("eviction_policy", "trigger_watermark", "eviction_ratio")
OF_EVERY_ADAPTER = ("type", "eviction", "persist_enabled", "serde", "shared", "per_op_workers", "affinity_tag")
_FS = ("base_path", "relative_tmp_dir", "read_ahead_size", "use_odirect")
ADAPTERS = {"fs": _FS, "fs_native": (*_FS, "num_workers", "max_capacity_gb")}
"""Own keys of the adapters that write files. The pure Python one, fs, has no capacity and deletes nothing."""
ALWAYS_BOUNDED = ("raw_block", "dax", "nixl_store", "mock")
"""Adapters that take a fixed place when they start."""
