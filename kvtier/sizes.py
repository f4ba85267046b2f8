"""What a model takes of a GPU: weights, room for activations, and the KV cache that then fits beside them.

Weights and activations are estimates from `config.json`; where the index of the weights is at hand, its total is exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from contracts.errors import ConfigError
from contracts.laws.kv_bytes import KvShape, kv_shape, tier_blocks

FLOPS_PER_S = 8 * 989e12 * 0.5
"""Eight H100 at half of their dense 16-bit peak (NVIDIA's data sheet: 989 TFLOP/s each)."""

_LOGIT_SEQUENCES = 256
_FP8_METHODS = ("fp8", "fbgemm_fp8")
_ALGORITHM_BITS = (("FP8", 8), ("NVFP4", 4), ("MXFP8", 8), ("W4A", 4), ("W8A", 8), ("INT4", 4), ("INT8", 8))
"""By how ModelOpt's `quant_algo` begins."""


@dataclass(frozen=True)
class Room:
    """Bytes of one replica: its weights over all GPUs; of each GPU activations and what is left for KV cache; and the
    tokens whose KV fits."""

    weights: int
    activations: int
    kv: int
    kv_tokens: int


def text_of(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The language model's part of a configuration."""
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, Mapping) else config


def parameters(config: Mapping[str, Any], where: str = "config.json") -> int:
    """Parameters of a decoder with gated MLPs or a mixture of them, norms and biases left out (below 0.1 %)."""
    return _parameters(text_of(config), where, active=False)


def active_parameters(config: Mapping[str, Any], where: str = "config.json") -> int:
    """Parameters that one token passes through: of a mixture, its chosen experts; the table of tokens not counted."""
    return _parameters(text_of(config), where, active=True)


def _parameters(config: Mapping[str, Any], where: str, *, active: bool) -> int:
    hidden, layers = need(config, "hidden_size", where), need(config, "num_hidden_layers", where)
    inner, vocabulary = need(config, "intermediate_size", where), need(config, "vocab_size", where)
    experts = _experts(config)
    dense = int(config.get("first_k_dense_replace") or 0) if experts else layers
    each = int(config.get("moe_intermediate_size") or inner)
    if active and experts:
        experts = need(config, "num_experts_per_tok", where)
    mixture = 3 * hidden * each * (experts + int(config.get("n_shared_experts") or 0)) + hidden * experts
    tables = vocabulary * hidden * (1 if active or config.get("tie_word_embeddings") else 2)
    return tables + layers * _attention(config, hidden, where) + dense * 3 * hidden * inner + (layers - dense) * mixture


def _expert_parameters(config: Mapping[str, Any], where: str) -> int:
    """Parameters of all experts, the shared ones and routers not among them."""
    each = int(config.get("moe_intermediate_size") or need(config, "intermediate_size", where))
    layers = need(config, "num_hidden_layers", where) - int(config.get("first_k_dense_replace") or 0)
    return layers * _experts(config) * 3 * need(config, "hidden_size", where) * each


def _experts(config: Mapping[str, Any]) -> int:
    return int(config.get("num_local_experts") or config.get("num_experts") or config.get("n_routed_experts") or 0)


def _attention(config: Mapping[str, Any], hidden: int, where: str) -> int:
    heads = need(config, "num_attention_heads", where)
    if config.get("kv_lora_rank"):
        rank, rotary = int(config["kv_lora_rank"]), need(config, "qk_rope_head_dim", where)
        plain, value = need(config, "qk_nope_head_dim", where), need(config, "v_head_dim", where)
        queries, squeezed = heads * (plain + rotary), int(config.get("q_lora_rank") or 0)
        asked = (hidden + queries) * squeezed if squeezed else hidden * queries
        return asked + hidden * (rank + rotary) + rank * heads * (plain + value) + heads * value * hidden
    size = int(config.get("head_dim") or hidden // heads)
    kept = int(config.get("num_key_value_heads") or heads)
    return 2 * hidden * size * (heads + kept)


def weight_bytes(config: Mapping[str, Any], where: str = "config.json") -> int:
    """Bytes of the weights in the type that the configuration tells: quantised where it says so, else 16 bits.

    Raises ConfigError for a quantisation that is not known.
    """
    packed, total = _packed(config), parameters(config, where)
    if not packed:
        return total * 2
    if packed.get("quant_method") == "mxfp4":  # the experts alone: 4 bits for each number, and 8 for every 32 of them
        packed_ones = _expert_parameters(text_of(config), where)
        return (total - packed_ones) * 2 + packed_ones * 17 // 32
    return total * _bits(packed, where) // 8


def computes_in_fp8(config: Mapping[str, Any]) -> bool:
    """Whether weights and what they are multiplied with are 8-bit floats, so that GPUs that can compute in them."""
    packed = _packed(config)
    method = str(packed.get("quant_method"))
    if method in _FP8_METHODS:
        return packed.get("activation_scheme") in (None, "static", "dynamic")
    if method == "modelopt":
        return str(packed.get("quant_algo")).upper().startswith("FP8")
    sides = [group.get(side) for group in _groups(packed) for side in ("weights", "input_activations")]
    return bool(sides) and all(
        isinstance(side, Mapping) and (side.get("num_bits"), side.get("type")) == (8, "float") for side in sides
    )


def _packed(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a configuration says of quantised weights; empty where it says nothing."""
    packed = text_of(config).get("quantization_config")
    return packed if isinstance(packed, Mapping) else {}


def _groups(packed: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    groups = packed.get("config_groups")
    return [each for each in groups.values() if isinstance(each, Mapping)] if isinstance(groups, Mapping) else []


def _bits(packed: Mapping[str, Any], where: str) -> int:
    """Of a weight, by the keys of each method; of several groups the widest."""
    sides = [group.get("weights") for group in _groups(packed)]
    told = [int(side.get("num_bits") or 0) for side in sides if isinstance(side, Mapping)]
    told += [int(packed.get(key) or 0) for key in ("bits", "w_bit")]
    told += [bits for key, bits in (("load_in_4bit", 4), ("load_in_8bit", 8)) if packed.get(key)]
    method, algorithm = (str(packed.get(key) or "").upper() for key in ("quant_method", "quant_algo"))
    told += [bits for name, bits in _ALGORITHM_BITS if algorithm.startswith(name)][:1]
    found = max(told, default=0) or (8 if "8" in method else 0)
    if not found:
        said = " ".join(filter(None, (str(packed.get("quant_method") or "?"), str(packed.get("quant_algo") or ""))))
        raise ConfigError(
            f"quantization_config of {said!r} does not tell the bits of a weight in a way that is known",
            where=where,
            fix='Add "bits": 4, or what it is, to quantization_config.',
        )
    return found


def activation_bytes(config: Mapping[str, Any], batched_tokens: int, where: str = "config.json") -> int:
    """Room that a step of so many tokens takes: hidden states and the MLP's halves in 16 bits, logits in 32."""
    config = text_of(config)
    hidden, inner = need(config, "hidden_size", where), need(config, "intermediate_size", where)
    logits = 4 * min(batched_tokens, _LOGIT_SEQUENCES) * need(config, "vocab_size", where)
    return 2 * batched_tokens * (4 * hidden + 2 * inner) + logits


def room(
    config: Mapping[str, Any],
    gpu_bytes: float,
    *,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    utilization: float = 0.9,
    batched_tokens: int = 8192,
    kv_dtype: str = "auto",
    where: str = "config.json",
) -> Room:
    """What fits on a replica of tensor times pipeline GPUs of `gpu_bytes` each.

    Raises ConfigError where the weights do not.
    """
    shape: KvShape = kv_shape(config, kv_dtype=kv_dtype, where=where)
    weights, active = weight_bytes(config, where), activation_bytes(config, batched_tokens, where)
    gpus = tensor_parallel * pipeline_parallel
    left = gpu_bytes * utilization - weights / gpus - active
    if left <= 0:
        raise ConfigError(
            f"weights of {weights / 1e9:.0f} GB do not fit on {gpus} GPUs of {gpu_bytes / 1e9:.0f} GB",
            where=where,
            fix="Take more GPUs, or quantised weights.",
        )
    token_bytes = shape.rank_token_bytes(tensor_parallel, pipeline_parallel)
    tokens = tier_blocks(left, token_bytes) if token_bytes else 0
    return Room(weights, active, int(left), tokens)


def need(config: Mapping[str, Any], name: str, where: str) -> int:
    """A number above 0 that a configuration must have. Raises ConfigError, which names it."""
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"no {name}", where=where, fix=f"Name the config.json of the model's weights; it has {name}.")
    return value
