"""KV bytes, against published models and the reading of a live server."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from contracts.laws.kv_bytes import KvShape, kv_shape, tier_blocks

KIB = 1024


def gqa(layers: int, heads: int, kept: int, hidden: int, **more: Any) -> dict[str, Any]:
    return {
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kept,
        "hidden_size": hidden,
        "torch_dtype": "bfloat16",
        **more,
    }


LLAMA_8B, LLAMA_70B = gqa(32, 32, 8, 4096), gqa(80, 64, 8, 8192)
DEEPSEEK_V3 = gqa(61, 128, 128, 7168, kv_lora_rank=512, qk_rope_head_dim=64)
GPT_OSS = gqa(
    36, 64, 8, 2880, head_dim=64, sliding_window=128, layer_types=["sliding_attention", "full_attention"] * 18
)
FALCON = {"num_attention_heads": 128, "hidden_size": 8192, "multi_query": True, "torch_dtype": "bfloat16"}
NEW = {"new_decoder_architecture": True}
GEMMA_3N = ["sliding_attention"] * 4 + ["full_attention"] + ["sliding_attention"] * 4 + ["full_attention"]
NEMOTRON = "M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M*-M-M-M-M-M-"


@pytest.mark.parametrize(
    ("config", "kib"),
    [
        pytest.param(LLAMA_8B, 128, id="Llama-3.1-8B"),
        pytest.param(LLAMA_70B, 320, id="Llama-3.1-70B"),
        pytest.param(gqa(28, 28, 4, 3584, use_sliding_window=False, sliding_window=131072), 56, id="Qwen2.5-7B"),
        pytest.param(gqa(80, 64, 8, 8192), 320, id="Qwen2.5-72B"),
        pytest.param(gqa(32, 32, 8, 4096, sliding_window=None), 128, id="Mixtral-8x7B"),
        pytest.param(DEEPSEEK_V3, 68.625, id="DeepSeek-V3"),
        pytest.param(GPT_OSS, 36, id="gpt-oss-120b"),
        pytest.param({"n_layer": 12, "n_head": 12, "n_embd": 768}, 36, id="GPT-2"),
        pytest.param(FALCON | {"num_hidden_layers": 60, "num_kv_heads": 8, **NEW}, 120, id="Falcon-40B"),
        pytest.param(FALCON | {"num_hidden_layers": 32, "num_kv_heads": 71}, 8, id="Falcon-7B shares one head"),
    ],
)
def test_published_models_take_the_published_bytes_a_token(config: dict[str, Any], kib: float) -> None:
    assert kv_shape(config).token_bytes == kib * KIB


def test_a_live_server_held_as_many_tokens_in_a_gib_as_the_law_says() -> None:
    tiny = kv_shape(gqa(2, 4, 2, 256))
    assert tier_blocks(2**30, tiny.token_bytes) == 1_048_576


def test_a_sliding_window_stops_to_grow() -> None:
    shape = kv_shape(GPT_OSS)
    assert shape.fixed_bytes == 4.5 * KIB * KIB
    assert shape.bytes_of(10_000) - shape.bytes_of(9_000) == 1000 * 36 * KIB
    assert shape.bytes_of(100) == 100 * 72 * KIB


def test_mistrals_window_covers_every_layer() -> None:
    shape = kv_shape(gqa(32, 32, 8, 4096, sliding_window=4096))
    assert (shape.full_layers, shape.sliding_layers) == (0, 32)
    assert shape.bytes_of(50_000) == shape.bytes_of(4096)


def test_linear_layers_keep_no_cache() -> None:
    kinds = ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 12
    named = kv_shape(gqa(48, 16, 2, 2048, head_dim=256, layer_types=kinds))
    counted = kv_shape(gqa(48, 16, 2, 2048, head_dim=256, full_attention_interval=4))
    assert named == counted
    assert named.full_layers == 12


def test_every_sixth_layer_of_gemma_is_full() -> None:
    shape = kv_shape({"text_config": gqa(48, 16, 8, 3840, head_dim=256, sliding_window=1024, sliding_window_pattern=6)})
    assert (shape.full_layers, shape.sliding_layers) == (8, 40)


@pytest.mark.parametrize(
    ("config", "full", "sliding"),
    [
        pytest.param(gqa(42, 16, 8, 3584, sliding_window=4096, model_type="gemma2"), 21, 21, id="Gemma-2-9B"),
        pytest.param(
            {"text_config": gqa(62, 32, 16, 5376, sliding_window=1024, model_type="gemma3_text")},
            10,
            52,
            id="Gemma-3-27B",
        ),
        pytest.param(
            gqa(32, 32, 32, 3072, sliding_window=262144, max_position_embeddings=131072), 32, 0, id="Phi-3.5-mini"
        ),
        pytest.param(gqa(48, 40, 8, 5120, attention_chunk_size=8192, no_rope_layers=[]), 12, 36, id="Llama-4-Scout"),
        pytest.param(
            gqa(8, 40, 8, 5120, attention_chunk_size=8192, no_rope_layers=[1, 1, 1, 0] * 2), 2, 6, id="Llama 4, named"
        ),
        pytest.param(
            gqa(28, 28, 4, 3584, use_sliding_window=True, sliding_window=4096, max_window_layers=20), 20, 8, id="Qwen2"
        ),
        pytest.param(
            gqa(32, 32, 8, 4096, attn_layer_period=8, attn_layer_offset=4, mamba_d_state=16), 4, 0, id="Jamba-1.5-mini"
        ),
        pytest.param(
            gqa(52, 32, 8, 4096, hybrid_override_pattern=NEMOTRON, ssm_state_size=128), 4, 0, id="Nemotron-H-8B"
        ),
        pytest.param(gqa(80, 64, 8, 6144, attn_type_list=([0] * 7 + [1]) * 10), 10, 0, id="MiniMax-01"),
        pytest.param(gqa(32, 32, 8, 4096, attn_layer_indices=[9, 18, 27], mamba_d_conv=4), 3, 0, id="Bamba"),
        pytest.param(
            gqa(10, 8, 2, 2048, sliding_window=512, num_kv_shared_layers=5, layer_types=GEMMA_3N), 1, 4, id="Gemma 3n"
        ),
    ],
)
def test_layers_with_full_attention_are_those_of_the_family(config: dict[str, Any], full: int, sliding: int) -> None:
    shape = kv_shape(config)
    assert (shape.full_layers, shape.sliding_layers) == (full, sliding)


@pytest.mark.parametrize("key", ["mamba_d_ssm", "ssm_cfg", "block_types", "linear_attn_config", "conv_L_cache"])
def test_a_hybrid_that_does_not_say_its_attention_layers_is_refused_and_never_counted_wrong(key: str) -> None:
    with pytest.raises(ConfigError, match=f"{key} tells of a hybrid") as caught:
        kv_shape(LLAMA_8B | {key: 1})
    assert "layer_types" in caught.value.fix


def test_a_head_size_may_be_called_attention_head_dim() -> None:
    assert kv_shape(gqa(4, 32, 8, 2048, attention_head_dim=128)).head_dim == 128


def test_fp8_halves_the_cache_and_not_the_shape() -> None:
    assert kv_shape(LLAMA_70B, kv_dtype="fp8").token_bytes * 2 == kv_shape(LLAMA_70B).token_bytes


def test_the_multimodal_part_is_passed_over() -> None:
    assert kv_shape({"text_config": LLAMA_8B, "vision_config": {"num_hidden_layers": 99}}) == kv_shape(LLAMA_8B)


def test_ranks_beyond_the_kv_heads_hold_copies() -> None:
    shape = kv_shape(LLAMA_70B)
    assert shape.rank_token_bytes(8) == 40 * KIB
    assert shape.rank_token_bytes(16) == shape.rank_token_bytes(8)
    assert shape.rank_token_bytes(8, pipeline_parallel=2) == 20 * KIB


def test_where_every_layer_slides_they_are_what_a_token_takes() -> None:
    shape = KvShape(full_layers=0, sliding_layers=32, window=4096, heads=8, head_dim=128)
    assert shape.rank_token_bytes() == shape.block_bytes(1) == 128 * KIB
    assert shape.rank_token_bytes(8) == 16 * KIB


def test_mla_is_whole_on_every_tensor_rank() -> None:
    shape = kv_shape(DEEPSEEK_V3)
    assert shape.rank_token_bytes(8) == shape.token_bytes


@given(
    heads=st.integers(1, 128),
    layers=st.integers(1, 100),
    tensor=st.sampled_from((1, 2, 4, 8, 16)),
    pipeline=st.integers(1, 8),
)
def test_all_ranks_together_hold_at_least_one_copy(heads: int, layers: int, tensor: int, pipeline: int) -> None:
    shape = KvShape(full_layers=layers, heads=heads, head_dim=64)
    assert shape.rank_token_bytes(tensor, pipeline) * tensor * pipeline >= shape.token_bytes
    assert shape.rank_token_bytes(tensor, pipeline) <= shape.token_bytes


@pytest.mark.parametrize(
    ("config", "said"),
    [
        pytest.param({"num_attention_heads": 4, "hidden_size": 256}, "no num_hidden_layers or n_layer", id="layers"),
        pytest.param({"num_hidden_layers": 2, "hidden_size": 256}, "no num_attention_heads", id="heads"),
        pytest.param({"num_hidden_layers": 2, "num_attention_heads": 4}, "no hidden_size", id="size"),
        pytest.param(gqa(2, 4, 4, 256, kv_lora_rank=512), "no qk_rope_head_dim", id="rotary"),
        pytest.param(gqa(3, 4, 4, 256, layer_types=["full_attention"]), "names 1 layers", id="kinds of layers"),
        pytest.param(gqa(2, 4, 4, 256, layer_types=["full_attention", "x"]), "'x' is no kind", id="new kind of layer"),
        pytest.param(gqa(3, 4, 4, 256, hybrid_override_pattern="M*"), "override_pattern names 2", id="letters"),
        pytest.param(gqa(3, 4, 4, 256, attn_type_list=[0, 1]), "attn_type_list names 2 layers", id="flags"),
        pytest.param({**LLAMA_8B, "torch_dtype": "int3"}, "'int3' is no KV dtype", id="type"),
    ],
)
def test_a_key_that_is_missing_is_named(config: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        kv_shape(config, where="my/config.json")
    assert caught.value.where == "my/config.json"
    assert caught.value.fix
