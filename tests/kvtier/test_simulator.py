"""The simulator, the bound and what hits save, against small cases worked out by hand or by brute force."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError
from kvtier.bound import belady
from kvtier.policies import NAMES, make
from kvtier.prefill import Prefill, prefill_of
from kvtier.simulator import Prompt, play
from kvtier.sizes import activation_bytes, active_parameters, computes_in_fp8, parameters, room, weight_bytes
from kvtier.study import ALL, Setting, compare
from tests.kvtier.worlds import BLOCK, conversations, popular, recent, scan, shifting

LLAMA_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
}
LLAMA_8B = LLAMA_70B | {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
}
MIXTRAL = LLAMA_8B | {"vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2}
QWEN_7B = {
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_attention_heads": 28,
    "num_hidden_layers": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
}
DEEPSEEK_V3 = {
    "hidden_size": 7168,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_attention_heads": 128,
    "num_hidden_layers": 61,
    "num_key_value_heads": 128,
    "vocab_size": 129280,
    "n_routed_experts": 256,
    "n_shared_experts": 1,
    "num_experts_per_tok": 8,
    "first_k_dense_replace": 3,
    "q_lora_rank": 1536,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "quantization_config": {"quant_method": "fp8"},
}
TREES = st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=3), min_size=1, max_size=7)


def prompts_of(trees: list[list[int]]) -> list[Prompt]:
    return [([tuple(choices[: end + 1]) for end in range(len(choices))], len(choices) * BLOCK) for choices in trees]


def best_hits(prompts: Sequence[Prompt], slots: int) -> int:
    """The most hits of any policy, by trying every set of blocks that may be kept after each prompt."""
    states: dict[frozenset[object], int] = {frozenset(): 0}
    for keys, _ in prompts:
        after: dict[frozenset[object], int] = {}
        for held, hits in states.items():
            found = next((place for place, key in enumerate(keys) if key not in held), len(keys))
            choice = sorted({*held, *keys}, key=repr)
            for kept in product((False, True), repeat=len(choice)):
                if sum(kept) <= slots:
                    state = frozenset(key for key, yes in zip(choice, kept, strict=True) if yes)
                    after[state] = max(after.get(state, 0), hits + found)
        states = after
    return max(states.values())


@given(trees=TREES, slots=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_the_bound_is_what_trying_everything_finds(trees: list[list[int]], slots: int) -> None:
    prompts = prompts_of(trees)
    assert belady(prompts, slots, BLOCK).hit_blocks == best_hits(prompts, slots)


@pytest.mark.parametrize("name", NAMES)
@given(seed=st.integers(0, 99), slots=st.integers(5, 300))
@settings(max_examples=4, deadline=None)
def test_no_policy_hits_more_than_the_bound(name: str, seed: int, slots: int) -> None:
    prompts = conversations(200, seed)
    best, played = belady(prompts, slots, BLOCK), play(prompts, make(name, slots), BLOCK)
    assert played.hit_blocks <= best.hit_blocks
    assert played.saved_tokens == played.hit_blocks * BLOCK
    assert played.written_blocks - played.evicted_blocks <= slots


def test_lru_on_a_case_worked_out_by_hand() -> None:
    prompts: list[Prompt] = [(["a", "b"], 32), (["a", "c"], 32), (["a", "b"], 20)]
    played = play(prompts, make("lru", 2), BLOCK)
    assert (played.hit_blocks, played.written_blocks, played.evicted_blocks) == (2, 4, 2)
    assert dict(played.hits) == {(0, BLOCK): 2}
    best = belady(prompts, 2, BLOCK)
    assert dict(best.hits) == {(0, BLOCK): 2, (BLOCK, 4): 1}
    assert best.written_blocks == 2


def test_a_block_behind_a_gap_is_no_hit() -> None:
    policy = make("fifo", 4)
    policy.insert("b", "a", BLOCK, BLOCK)
    assert play([(["a", "b"], 2 * BLOCK)], policy, BLOCK).hit_blocks == 0


def test_memory_above_the_disk_answers_first() -> None:
    prompts: list[Prompt] = [(["a", "b"], 32)] * 3
    played = play(prompts, make("lru", 4), BLOCK, memory_slots=4)
    assert (played.memory_hit_blocks, played.hit_blocks) == (4, 0)
    small = play(prompts, make("lru", 4), BLOCK, memory_slots=1)
    assert (small.memory_hit_blocks, small.hit_blocks) == (2, 2)


WORLDS = {
    "conversations": conversations(1500, 1),
    "sticky conversations": conversations(1500, 2, goes_on=0.8),
    "documents that come back soon or never": recent(1500, 3),
    "popular documents": popular(2000, 300, 4),
    "a scan": scan(20, 100),
    "days that change": shifting(4000, 5),
    "chat, then documents": conversations(1000, 6)
    + [([key + 10**8 for key in keys], n) for keys, n in recent(1000, 7)],
}


@pytest.mark.parametrize("share", [0.05, 0.3])
@pytest.mark.parametrize("world", WORLDS)
def test_ours_hits_about_as_much_as_lru_or_more_in_every_world(world: str, share: float) -> None:
    prompts = WORLDS[world]
    slots = max(8, int(share * len({key for keys, _ in prompts for key in keys})))
    ours, lru = (play(prompts, make(name, slots), BLOCK) for name in ("optiinfra", "lru"))
    assert ours.hit_blocks >= 0.95 * lru.hit_blocks
    assert ours.written_blocks <= 1.15 * lru.written_blocks


def test_ours_withstands_a_scan_that_defeats_lru() -> None:
    prompts = scan(40, 100)
    ours, lru = (play(prompts, make(name, 100), BLOCK) for name in ("optiinfra", "lru"))
    best = belady(prompts, 100, BLOCK).hit_blocks
    assert lru.hit_blocks == 0
    assert ours.hit_blocks > 0.8 * best


def test_ours_gets_more_of_conversations_with_fewer_writes() -> None:
    prompts = conversations(3000, 11)
    ours, lru = (play(prompts, make(name, 480), BLOCK) for name in ("optiinfra", "lru"))
    assert ours.hit_blocks > 1.5 * lru.hit_blocks
    assert ours.written_blocks < 0.5 * lru.written_blocks


def test_a_block_of_llama_70b_takes_the_operations_that_were_published() -> None:
    prefill = prefill_of(LLAMA_70B, 1.0)
    assert prefill.block_s(0, 512) == pytest.approx(7.17e13, rel=0.02)
    assert prefill.block_s(512 * 10, 512) - prefill.block_s(0, 512) == pytest.approx(6.87e12, rel=0.001)


@pytest.mark.parametrize(
    ("config", "billions", "active"),
    [
        pytest.param(LLAMA_8B, 8.03, 7.5, id="Llama-3.1-8B"),
        pytest.param(LLAMA_70B, 70.6, 69.5, id="Llama-3.1-70B"),
        pytest.param(QWEN_7B, 7.62, 7.07, id="Qwen2.5-7B"),
        pytest.param(MIXTRAL, 46.7, 12.8, id="Mixtral-8x7B"),
        pytest.param(DEEPSEEK_V3, 671, 37, id="DeepSeek-V3"),
    ],
)
def test_parameters_are_those_that_were_published(config: dict[str, object], billions: float, active: float) -> None:
    assert parameters(config) / 1e9 == pytest.approx(billions, rel=0.005)
    assert active_parameters(config) / 1e9 == pytest.approx(active, rel=0.02)


def test_weights_of_fp8_take_a_byte_each() -> None:
    assert weight_bytes(DEEPSEEK_V3) == parameters(DEEPSEEK_V3)
    assert weight_bytes(LLAMA_8B) == 2 * parameters(LLAMA_8B)


GROUP = {"num_bits": 8, "type": "float"}


@pytest.mark.parametrize(
    ("packed", "bits", "fast"),
    [
        ({"quant_method": "fp8", "activation_scheme": "dynamic"}, 8, True),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": GROUP}}}, 8, False),
        (
            {
                "quant_method": "compressed-tensors",
                "config_groups": {"group_0": {"weights": GROUP, "input_activations": GROUP}},
            },
            8,
            True,
        ),
        ({"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"num_bits": 4}}}}, 4, False),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "load_in_8bit": False}, 4, False),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 8, False),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, 4, False),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, 8, True),
        ({"quant_method": "awq", "bits": 4}, 4, False),
    ],
)
def test_quantised_weights_take_the_bits_that_are_told(packed: dict[str, object], bits: int, fast: bool) -> None:
    config = {**LLAMA_8B, "quantization_config": packed}
    assert weight_bytes(config) == parameters(LLAMA_8B) * bits // 8
    assert computes_in_fp8(config) is fast


def test_a_quantisation_that_is_not_known_is_refused() -> None:
    with pytest.raises(ConfigError, match="'quark' does not tell the bits"):
        weight_bytes({**LLAMA_8B, "quantization_config": {"quant_method": "quark"}})


def test_mxfp4_packs_the_experts_alone() -> None:
    gpt_oss = {
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_hidden_layers": 36,
        "num_local_experts": 128,
        "num_experts_per_tok": 4,
        "vocab_size": 201088,
        "quantization_config": {"quant_method": "mxfp4"},
    }
    assert weight_bytes(gpt_oss) == pytest.approx(65.25e9, rel=0.005)  # 60.8 GiB were published


def test_below_a_memory_tier_there_is_no_share_of_a_bound_that_knows_none() -> None:
    setting = Setting(BLOCK, 1000, [50_000], [1e9], policies=("lru", "belady"), memory_slots=20)
    lru, best = compare(conversations(300, 1), Prefill(1.0, 0.01), setting)
    assert lru.hits_of_belady_ratio is best.hits_of_belady_ratio is None
    assert lru.writes_of_lru_ratio == 1.0


def test_what_does_not_fit_is_refused_and_what_fits_is_counted() -> None:
    with pytest.raises(ConfigError, match="141 GB do not fit on 1 GPUs of 80 GB"):
        room(LLAMA_70B, 80e9)
    found = room(LLAMA_70B, 80e9, tensor_parallel=4)
    assert found.kv == pytest.approx(72e9 - found.weights / 4 - activation_bytes(LLAMA_70B, 8192), abs=1)
    assert found.kv_tokens == found.kv // (80 * 1024)


def test_every_policy_has_a_row_for_each_capacity_and_bandwidth() -> None:
    told: list[float] = []
    setting = Setting(BLOCK, 1000, [50_000, 100_000], [1e3, 1e9])
    rows = compare(conversations(300, 1), Prefill(1.0, 0.001, flops_per_s=1e3), setting, lambda _, x: told.append(x))
    assert [(row.policy, row.capacity_bytes, row.bandwidth_bytes_per_s) for row in rows] == [
        (name, size, speed) for size in setting.capacities for name in ALL for speed in setting.bandwidths
    ]
    assert told == sorted(told)
    for row in rows:
        assert row.hits_of_belady_ratio is not None
        assert 0 < row.hits_of_belady_ratio <= 1
        assert row.saved_choosing_s >= row.saved_s
        assert row.loaded_blocks <= row.hit_blocks
        assert row.ttft_mean_s == pytest.approx(row.ttft_mean_without_s - row.saved_s / 300)
        assert row.ttft_p95_without_s > row.ttft_mean_without_s


def test_weighing_time_never_loads_what_costs_time() -> None:
    setting = Setting(BLOCK, 1000, [100_000], [150.0], ("gdsf", "optiinfra"), for_time=True, latency_s=0.0)
    rows = compare(conversations(500, 1), Prefill(1.0, 0.01, flops_per_s=3.0), setting)
    gdsf, ours = rows
    assert ours.saved_s == ours.saved_choosing_s > gdsf.saved_s
