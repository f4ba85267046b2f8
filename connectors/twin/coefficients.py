"""How long one model takes on one kind of machine, and how much KV cache it has room for.

These are the twin's answer key: nothing outside `connectors/twin` may read them, or a replay would grade itself.

Source: `perf_model.csv` of shashwatj07/SageServe (MIT, SplitwiseSim lineage), the 105 measurements with model
`llama2-70b`, hardware `h100-80gb`, tensor_parallel 4 (prompts of 128 to 8192 tokens at batch 1, batches of 2 to 64 at
512 tokens, outputs of 128 to 8192 tokens).

Method: least squares on relative residuals, `numpy.linalg.lstsq(X / y[:, None], ones)`, y in ms.

- Prefill, rows of 512 tokens or more (n = prompt x batch, pairs = batch x prompt^2 / 2): X = [1, n, pairs]; below that
  the time is flat, the median of the rows of 128 and 256 tokens. Relative error: median 2.6 %, p95 13.8 %, max 17.9 %.
- Decode (b = batch, kv = batch x (prompt + output / 2)): X = [1, b, b^2, kv]. Relative error: median 1.0 %, p95 3.5 %,
  max 4.3 %. The table varies the context at batch 1 only, so the kv term is weak evidence; it is of the size that
  reading 80 KiB a token and GPU at 3.35 TB/s would cost (2.4e-5 ms).

Not measured, assumed: an iteration that holds prompt chunks and decoding requests reads the weights once, so it costs
the prefill time plus only what the decoding requests add to a decode step.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Coefficients:
    """Times in ms of one iteration, as a function of its tokens."""

    prefill_floor_ms: float
    prefill_base_ms: float
    prefill_per_token_ms: float
    prefill_per_pair_ms: float
    decode_base_ms: float
    decode_per_request_ms: float
    decode_per_request2_ms: float
    decode_per_kv_token_ms: float

    def prefill_ms(self, tokens: int, pairs: float) -> float:
        """Prefill of `tokens`, each attending to what stands before it: `pairs` such (token, earlier token) pairs."""
        linear = self.prefill_base_ms + self.prefill_per_token_ms * tokens + self.prefill_per_pair_ms * pairs
        return max(self.prefill_floor_ms, linear)

    def added_by_decode_ms(self, requests: int, kv_tokens: int) -> float:
        """What `requests` decoding requests with `kv_tokens` of context in all add to an iteration."""
        return (
            self.decode_per_request_ms * requests
            + self.decode_per_request2_ms * requests * requests
            + self.decode_per_kv_token_ms * kv_tokens
        )

    def decode_ms(self, requests: int, kv_tokens: int) -> float:
        """One decode step: one token for each of `requests` requests."""
        return self.decode_base_ms + self.added_by_decode_ms(requests, kv_tokens)


LLAMA_70B_4XH100 = Coefficients(
    prefill_floor_ms=49.637,
    prefill_base_ms=8.2856,
    prefill_per_token_ms=0.10003,
    prefill_per_pair_ms=3.2639e-6,
    decode_base_ms=29.229,
    decode_per_request_ms=0.14387,
    decode_per_request2_ms=2.8961e-3,
    decode_per_kv_token_ms=3.8958e-5,
)

BLOCK_TOKENS = 16
"""Tokens in a KV block: vLLM's default on CUDA."""

KV_BYTES_PER_TOKEN = 2 * 80 * 8 * 128 * 2
"""Keys and values x layers x KV heads x head size x 2 bytes (bf16): 320 KiB, the published shape of Llama 70B (GQA)."""

GPU_MEMORY_BYTES = 4 * 80_000_000_000
WEIGHT_BYTES = 140_000_000_000
GPU_MEMORY_UTILIZATION = 0.9


def kv_blocks(
    memory_bytes: int = GPU_MEMORY_BYTES,
    utilization: float = GPU_MEMORY_UTILIZATION,
    weight_bytes: int = WEIGHT_BYTES,
) -> int:
    """KV blocks that fit beside the weights; activations are left out, as small against either.

    >>> kv_blocks() * BLOCK_TOKENS
    451648
    """
    return int(memory_bytes * utilization - weight_bytes) // (KV_BYTES_PER_TOKEN * BLOCK_TOKENS)


STARTUP_S = 45.0
"""Event seconds from the start of the process to its first answer (loading weights, capturing graphs). An assumption:
published figures run from under half a minute to several, by disk; every spec may set its own."""
