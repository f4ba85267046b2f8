"""How long one iteration of a model takes on one kind of machine, as a function of what is in it.

The numbers that go in are the twin's answer key: they stand in `profiles`, and nothing outside `connectors/twin` may
read them, or a replay would grade itself.

- Prefill of n tokens: the longer of reading the weights (a floor) and of computing, which grows with n, steeper beyond
  either of two knees, and with the pairs (token, earlier token) that attention looks at.
- Decode of b requests with kv tokens of context: a base, b, b beyond a knee, and kv.

Not measured, assumed: an iteration that holds prompt chunks and decoding requests reads the weights once, so it costs
the prefill time plus only what the decoding requests add to a decode step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Coefficients:
    """Times in ms of one iteration, as a function of its tokens."""

    PREFILL_KNEES: ClassVar[tuple[int, int]] = (2048, 4096)
    """Tokens beyond which each further token costs something else."""

    DECODE_KNEE: ClassVar[int] = 32
    """Requests beyond which each further one costs something else."""

    prefill_floor_ms: float
    prefill_base_ms: float
    prefill_per_token_ms: float
    prefill_per_pair_ms: float
    prefill_per_token_beyond_2048_ms: float
    prefill_per_token_beyond_4096_ms: float
    decode_base_ms: float
    decode_per_request_ms: float
    decode_per_request_beyond_32_ms: float
    decode_per_kv_token_ms: float

    def prefill_ms(self, tokens: int, pairs: float) -> float:
        """Prefill of `tokens`, each attending to what stands before it: `pairs` such (token, earlier token) pairs."""
        grown = self.prefill_base_ms + self.prefill_per_token_ms * tokens + self.prefill_per_pair_ms * pairs
        first, second = self.PREFILL_KNEES
        if tokens > first:
            grown += self.prefill_per_token_beyond_2048_ms * (tokens - first)
        if tokens > second:
            grown += self.prefill_per_token_beyond_4096_ms * (tokens - second)
        return max(self.prefill_floor_ms, grown)

    def added_by_decode_ms(self, requests: int, kv_tokens: int) -> float:
        """What `requests` decoding requests with `kv_tokens` of context in all add to an iteration."""
        added = self.decode_per_request_ms * requests + self.decode_per_kv_token_ms * kv_tokens
        if requests > self.DECODE_KNEE:
            added += self.decode_per_request_beyond_32_ms * (requests - self.DECODE_KNEE)
        return added

    def decode_ms(self, requests: int, kv_tokens: int) -> float:
        """One decode step: one token for each of `requests` requests."""
        return self.decode_base_ms + self.added_by_decode_ms(requests, kv_tokens)
