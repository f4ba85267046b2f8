"""Learns where the time of a batching replica goes: a base for each iteration, and some for each token in and out.

Each busy second is divided: 1 = base × iterations + prompt × prompt tokens + token × tokens generated. Iterations are
one over the inter-token latency. That is a linear regression with the left side known, by recursive least squares with
forgetting; its prior are ratios that follow from the hardware.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict

from agents.performance.core.limits import Limits
from agents.performance.core.series import Array

RIDGE_TOKENS = 250.0
"""An iteration reads all weights, whatever it holds; a token's arithmetic takes one over the ridge of the roofline of
that: 156 tokens for 16-bit weights on an A100 (312 TFLOP/s, 2.0 TB/s), 295 on an H100 (989, 3.35)."""
ANSWER_TOKENS = 150.0
"""A generated token reads its context beside that."""
PRIOR_SPREAD = 0.6
"""How far those ratios may be off, one standard deviation."""
HALF_LIFE_S = 3600.0
"""Half of what was seen is forgotten in an hour of work."""
_NOISE = 0.04
"""Of a window of 15 s: how far its second is from adding up."""
_JUMP, _KEPT = 7.0, 0.1
_FEW_TOKENS = 200.0


class Pace(BaseModel):
    """Seconds: `base_s` for an iteration, `prompt_s` for a token prefilled, `token_s` for a token generated.

    `gram`, `moment`: the sums of the regression, row by row; `cover`: the covariance of the three. `slower`, `faster`:
    sums of surprises, to find a change; `lately`: mean logarithm of the last surprises.
    """

    model_config = ConfigDict(frozen=True)

    base_s: float = 0.0
    prompt_s: float = 0.0
    token_s: float = 0.0
    gram: tuple[float, ...] = (0.0,) * 9
    moment: tuple[float, ...] = (0.0,) * 3
    cover: tuple[float, ...] = (0.0,) * 9
    slower: float = 0.0
    faster: float = 0.0
    lately: float = 0.0

    @property
    def known(self) -> bool:
        """Whether anything was seen."""
        return self.base_s > 0.0

    def seen(self, itl_s: float, prompt: float, generated: float, chunks: float, running: float, span_s: float) -> Pace:
        """After one window: mean inter-token latency, tokens in and out, prompt chunks, mean requests in the batch."""
        if generated <= 0:
            return self
        # Of a batch whose requests come at random: how often nobody is in it, and nobody decodes. What is prefilled
        # meanwhile takes iterations of its own.
        decoding = generated * itl_s / span_s
        lull = math.exp(-decoding)
        busy_s = span_s * (1.0 - math.exp(-max(running, decoding, 1e-3)))
        rounds = span_s * (1.0 - lull) / itl_s + lull * chunks
        row = np.array([rounds, prompt, generated]) / busy_s
        weight = min(1.0, generated / _FEW_TOKENS) * min(span_s / 15.0, 8.0) / _NOISE**2
        gram, moment = np.array(self.gram).reshape(3, 3), np.array(self.moment)
        slower = faster = lately = 0.0
        if self.known:
            added = float(row @ self._weights())
            miss = -math.log(max(added, 0.05))
            spread = math.sqrt(1.0 / weight + float(row @ np.array(self.cover).reshape(3, 3) @ row))
            surprise = max(-4.0, min(4.0, miss / spread))
            slower = max(0.0, self.slower + surprise - 0.75)
            faster = max(0.0, self.faster - surprise - 0.75)
            lately = 0.6 * self.lately + 0.4 * miss
            if max(slower, faster) > _JUMP:
                factor = math.exp(lately)
                gram, moment = gram * (_KEPT / factor**2), moment * (_KEPT / factor)
                slower = faster = lately = 0.0
        fade = 0.5 ** (span_s / HALF_LIFE_S)
        gram, moment = gram * fade + weight * np.outer(row, row), moment * fade + weight * row
        return _solved(gram, moment, slower, faster, lately)

    def error(self, prompt: float, generated: float, limits: Limits, total_s: float) -> float:
        """Standard error of the logarithm of a request's seconds, the limits' share in it."""
        rounds = limits.rounds(prompt, generated)
        row = np.array([rounds, prompt, generated])
        line = math.sqrt(max(0.0, float(row @ np.array(self.cover).reshape(3, 3) @ row))) / total_s
        bare = self.prompt_s * prompt + self.token_s * generated
        logs = [math.log(1e-9 + bare + self.base_s * each) for each in limits.rounds_about(prompt, generated)]
        mean = sum(logs) / len(logs)
        return math.sqrt(line * line + sum((each - mean) ** 2 for each in logs) / len(logs))

    def _weights(self) -> Array:
        return np.array([self.base_s, self.prompt_s, self.token_s])


def _solved(gram: Array, moment: Array, slower: float, faster: float, lately: float) -> Pace:
    """The three, and their covariance, from the sums and the prior ratios."""
    # The scale of the prior's weight; from the data alone, so that a change of pace is not held back by it.
    ratio = np.array([1.0, 1.0 / RIDGE_TOKENS, 1.0 / ANSWER_TOKENS])
    scale = float(ratio @ moment) / float(ratio @ gram @ ratio)
    precision = gram.copy()
    for place, tokens in ((1, RIDGE_TOKENS), (2, ANSWER_TOKENS)):
        row = np.zeros(3)
        row[0], row[place] = -1.0 / tokens, 1.0
        precision += np.outer(row, row) / (PRIOR_SPREAD * scale / tokens) ** 2
    cover = np.linalg.inv(precision)
    base_s, prompt_s, token_s = (float(each) for each in cover @ moment)
    least = 0.1 * scale
    return Pace(
        base_s=max(base_s, least),
        prompt_s=max(prompt_s, least / RIDGE_TOKENS),
        token_s=max(token_s, least / ANSWER_TOKENS),
        gram=tuple(float(each) for each in gram.ravel()),
        moment=tuple(float(each) for each in moment),
        cover=tuple(float(each) for each in cover.ravel()),
        slower=slower,
        faster=faster,
        lately=lately,
    )
