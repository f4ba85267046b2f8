"""KV bytes of a model, from the `config.json` that Hugging Face hosts beside its weights, and what fits in a tier.

Per token and layer, attention keeps keys and values of every KV head (MHA, GQA), or one compressed vector and one
rotary key (MLA, DeepSeek). A sliding-window layer keeps its window at most; a linear or state-space layer keeps a state
that does not grow with the prompt and is not counted here. Published sizes agree (tests), and so does a live vLLM: a
model of 2 layers with 2 KV heads of 64 in 16 bits held 1,048,576 tokens in a GiB.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from contracts.errors import ConfigError

DTYPE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "fp8": 1, "fp8_e4m3": 1, "fp8_e5m2": 1, "int8": 1}
"""Bytes of one number, by the names that configurations and vLLM's `--kv-cache-dtype` use."""

_FULL, _SLIDING = ("full_attention", "attention", "global"), ("sliding_attention", "chunked_attention", "local")
_NONE = ("linear_attention", "linear", "mamba", "mamba2", "recurrent", "conv", "mlp", "moe")
_PATTERNS = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "cohere2": 4}
"""Families that say only in their code that every so many layers one has full attention."""
_LLAMA4_INTERVAL = 4
_HYBRID = ("mamba_", "ssm_", "rwkv", "block_types", "linear_attn", "layer_group_size", "state_size", "conv_L_cache")
"""Beginnings of keys of models that mix attention with layers that keep a state."""


@dataclass(frozen=True)
class KvShape:
    """What one token leaves in each layer. `full_layers` grow with the prompt, `sliding_layers` up to `window` tokens.

    `heads` and `head_dim`: KV heads and the size of each; `latent`: numbers of MLA's one vector, 0 for other models.
    """

    full_layers: int
    sliding_layers: int = 0
    window: int = 0
    heads: int = 0
    head_dim: int = 0
    latent: int = 0
    dtype_bytes: int = 2

    @property
    def layer_bytes(self) -> int:
        """Bytes of a token in one layer, over all ranks of a replica without copies."""
        return (self.latent or 2 * self.heads * self.head_dim) * self.dtype_bytes

    @property
    def token_bytes(self) -> int:
        """Bytes that each further token of a long prompt takes.

        >>> KvShape(full_layers=80, heads=8, head_dim=128).token_bytes == 320 * 1024
        True
        """
        return self.full_layers * self.layer_bytes

    @property
    def fixed_bytes(self) -> int:
        """Bytes that sliding-window layers take for a prompt longer than the window, whatever its length."""
        return self.sliding_layers * min(self.window, 2**40) * self.layer_bytes

    def bytes_of(self, tokens: int) -> int:
        """Bytes of a prompt of so many tokens."""
        held = min(tokens, self.window)
        return self.layer_bytes * (self.full_layers * tokens + self.sliding_layers * held)

    def block_bytes(self, tokens: int) -> int:
        """Bytes of a stored block of so many tokens: every layer, since a block may lie inside the window."""
        return self.layer_bytes * (self.full_layers + self.sliding_layers) * tokens

    def rank_token_bytes(self, tensor_parallel: int = 1, pipeline_parallel: int = 1) -> int:
        """`token_bytes` on the fullest rank. KV heads are split over ranks, and copied where there are more ranks than
        heads; MLA's one vector stands on every tensor rank. Where every layer slides, all of them count: what the next
        prompt may use stays until the room is needed.

        >>> KvShape(full_layers=80, heads=8, head_dim=128).rank_token_bytes(16) == 2 * 80 * 128 * 2
        True
        """
        layers = -(-(self.full_layers or self.sliding_layers) // pipeline_parallel)
        if self.latent:
            return layers * self.latent * self.dtype_bytes
        return layers * 2 * max(1, -(-self.heads // tensor_parallel)) * self.head_dim * self.dtype_bytes


def kv_shape(config: Mapping[str, Any], *, kv_dtype: str = "auto", where: str = "config.json") -> KvShape:
    """The shape that a configuration tells; of a multimodal one its text part. `kv_dtype` as vLLM's flag.

    Raises ConfigError, which names the key that is missing.
    """
    text = config.get("text_config")
    if isinstance(text, Mapping):
        config = {**{key: value for key, value in config.items() if key != "text_config"}, **text}
    if kv_dtype == "auto":
        kv_dtype = str(config.get("torch_dtype") or config.get("dtype") or "bfloat16")
    if kv_dtype not in DTYPE_BYTES:
        raise ConfigError(f"{kv_dtype!r} is no KV dtype", where=where, fix=f"One of {', '.join(DTYPE_BYTES)}.")
    size = DTYPE_BYTES[kv_dtype]
    layers = _number(config, ("num_hidden_layers", "n_layer"), where)
    window = _window(config)
    full, sliding = _layers(config, layers, window, where)
    if config.get("kv_lora_rank"):
        latent = int(config["kv_lora_rank"]) + _number(config, ("qk_rope_head_dim",), where)
        return KvShape(full, sliding, window, latent=latent, dtype_bytes=size)
    queries = _number(config, ("num_attention_heads", "n_head"), where)
    heads = int(config.get("num_key_value_heads") or _falcon_heads(config) or queries)
    head_dim = int(config.get("head_dim") or config.get("attention_head_dim") or 0)
    if not head_dim:
        head_dim = _number(config, ("hidden_size", "n_embd"), where) // queries
    return KvShape(full, sliding, window, heads, head_dim, dtype_bytes=size)


def _window(config: Mapping[str, Any]) -> int:
    """Tokens of the sliding window; 0 where there is none, it is switched off, or no prompt is longer."""
    if config.get("use_sliding_window") is False:
        return 0
    window = int(config.get("sliding_window") or config.get("attention_chunk_size") or 0)
    longest = int(config.get("max_position_embeddings") or 0)
    return 0 if longest and window >= longest else window


def _falcon_heads(config: Mapping[str, Any]) -> int:
    """KV heads by Falcon's keys, of which the older models share one; 0 where they say nothing."""
    if config.get("multi_query") and not config.get("new_decoder_architecture"):
        return 1
    return int(config.get("num_kv_heads") or 0)


def _layers(config: Mapping[str, Any], layers: int, window: int, where: str) -> tuple[int, int]:
    """Layers with full attention, and with a sliding window; the others keep no KV cache."""
    kinds = config.get("layer_types") or config.get("layers_block_type")
    if isinstance(kinds, Sequence) and not isinstance(kinds, str):
        return _named(config, kinds, layers, window, where)
    if (full := _counted(config, layers, where)) is not None:
        return full, 0
    mixed = next((key for key in config if key.startswith(_HYBRID)), None)
    if mixed is not None:
        raise ConfigError(
            f"{mixed} tells of a hybrid, and nothing tells which layers have attention",
            where=where,
            fix="Add layer_types, with one of full_attention, sliding_attention, mamba for each layer.",
        )
    if not window:
        return layers, 0
    if config.get("attention_chunk_size") and not config.get("sliding_window"):  # Llama 4
        ropes = config.get("no_rope_layers") or ()
        every = int(config.get("no_rope_layer_interval") or _LLAMA4_INTERVAL)
        full = sum(not rope for rope in ropes) if len(ropes) == layers else layers // every
    elif pattern := config.get("sliding_window_pattern") or _PATTERNS.get(str(config.get("model_type"))):
        full = layers // int(pattern)
    else:  # of Qwen 2, the layers from max_window_layers on
        full = min(layers, int(config.get("max_window_layers") or 0)) if config.get("use_sliding_window") else 0
    return full, layers - full


def _named(config: Mapping[str, Any], kinds: Sequence[Any], layers: int, window: int, where: str) -> tuple[int, int]:
    """By the kind of each layer. The last ones may use keys and values of those before them (Gemma 3n)."""
    _as_many("layer_types", len(kinds), layers, where)
    unknown = next((kind for kind in kinds if kind not in (*_FULL, *_SLIDING, *_NONE)), None)
    if unknown is not None:
        fix = f"It may be one of {', '.join((*_FULL, *_SLIDING, *_NONE))}."
        raise ConfigError(f"{unknown!r} is no kind of layer that is known", where=where, fix=fix)
    own = kinds[: layers - int(config.get("num_kv_shared_layers") or 0)]
    sliding = sum(kind in _SLIDING for kind in own) if window else 0
    return sum(kind in _FULL or kind in _SLIDING for kind in own) - sliding, sliding


def _counted(config: Mapping[str, Any], layers: int, where: str) -> int | None:
    """Layers with full attention among layers that keep no cache, by the keys of each family; None for others."""
    if every := int(config.get("full_attention_interval") or 0):  # Qwen3-Next
        return layers // every
    if every := int(config.get("attn_layer_period") or 0):  # Jamba
        return len(range(int(config.get("attn_layer_offset") or 0), layers, every))
    if letters := str(config.get("hybrid_override_pattern") or ""):  # Nemotron-H
        _as_many("hybrid_override_pattern", len(letters), layers, where)
        return letters.count("*")
    if flags := config.get("attn_type_list"):  # MiniMax
        _as_many("attn_type_list", len(flags), layers, where)
        return sum(map(bool, flags))
    chosen = config.get("attn_layer_indices") or config.get("full_attn_idxs")  # Bamba, LFM2
    return len(chosen) if chosen else None


def _as_many(key: str, named: int, layers: int, where: str) -> None:
    if named != layers:
        raise ConfigError(
            f"{key} names {named} layers, num_hidden_layers says {layers}",
            where=where,
            fix="Take the file as it was published with the weights.",
        )


def _number(config: Mapping[str, Any], names: Sequence[str], where: str) -> int:
    """The first of these keys that there is."""
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    said = " or ".join(names)
    raise ConfigError(f"no {said}", where=where, fix=f"Name the config.json of the model's weights; it has {names[0]}.")


def tier_blocks(tier_bytes: float, block_bytes: int) -> int:
    """Whole blocks that fit in a tier.

    >>> tier_blocks(500e9, 160 * 1024 * 1024)
    2980
    """
    return max(0, int(tier_bytes // block_bytes))
