"""Who asks for what, and when: a daily curve, bursts around it, and lengths, all from published parameters.

Sources, computed from the traces named (ServeGen: alibaba/ServeGen `language/m-large`, Apache-2.0; Azure:
Azure/AzurePublicDataset LLM inference 2023, CC-BY 4.0; Mooncake: kvcache-ai/Mooncake FAST'25, Apache-2.0):

- daily curve: ServeGen's 14 days have a peak of 2.98 times the mean over windows of ten minutes, and nights of about
  0.42 of a day's mean. `0.42 + 0.58 * k * cos^12` with k = 4096/924 has that floor, mean 1 and peak 2.99;
- bursts: inter-arrival times are Gamma or Weibull with the coefficient of variation (CV) that ServeGen gives for
  each client and window; weighted by rate its median is 1.19, p75 2.2, p90 6.3. Chat takes Gamma at the median, code
  Weibull at p75;
- lengths: lognormal, the width from p90 / p50 and the place from the mean, cut at the largest value seen. Azure
  conversation in 1155 (p50 1020, p90 2734, max 14050) out 211 (129, 424, 1000); Azure code in 2048 (1469, 5188, 7437)
  out 28 (13, 55, 1899). Sums of prompt and output stay below the model's length;
- prefixes: an unbounded cache would find 36.6 % of Mooncake's conversation blocks. With 64 % of requests that share
  45 to 99 % of their prompt with one of 64 prefixes, whose popularity falls as 1 / rank, the engines find about that;
  code assistants send their open files again and again: 95 % and 16 prefixes are assumed there.

Assumed, not published: the ratio of engine errors, and how long a client waits for a first token.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate
from math import cos, exp, gamma, inf, log, pi
from random import Random
from typing import Protocol

from connectors.twin.request import Request
from contracts.errors import ConfigError

_Z90 = 1.2815515655446004
_NIGHT, _CURVE_MEAN = 0.42, 924 / 4096
_SLICE_MS = 1000.0


class Gaps(StrEnum):
    """The family of inter-arrival times."""

    GAMMA = "gamma"
    WEIBULL = "weibull"


@dataclass(frozen=True)
class Lengths:
    """A lognormal of token counts with published mean, p50, p90 and largest value."""

    mean: float
    p50: float
    p90: float
    longest: int

    @property
    def sigma(self) -> float:
        """Standard deviation of the logarithm."""
        return log(self.p90 / self.p50) / _Z90

    @property
    def mu(self) -> float:
        """Mean of the logarithm, so that the mean of the (uncut) lognormal is `mean`."""
        return log(self.mean) - self.sigma**2 / 2


CONVERSATION_IN = Lengths(1155, 1020, 2734, 14_050)
CONVERSATION_OUT = Lengths(211, 129, 424, 1000)
CODE_IN = Lengths(2048, 1469, 5188, 7437)
CODE_OUT = Lengths(28, 13, 55, 1899)


@dataclass(frozen=True)
class LoadSpec:
    """The load of one workload. `requests_per_s` is the mean over a day of `day_s` event seconds; at `origin_ms` the
    day stands at `phase` (0 and 1 are the middle of the night, 0.5 the peak)."""

    requests_per_s: float
    prompt: Lengths = CONVERSATION_IN
    output: Lengths = CONVERSATION_OUT
    gaps: Gaps = Gaps.GAMMA
    cv: float = 1.19
    day_s: float = 86_400.0
    phase: float = 0.25
    shared_ratio: float = 0.64
    prefixes: int = 64
    error_ratio: float = 0.0005
    patience_s: float = 60.0
    max_model_len: int = 16_384

    def __post_init__(self) -> None:
        if not (0 < self.requests_per_s < inf and 0 < self.cv < inf and 1 <= self.day_s < inf):
            raise ConfigError(
                f"rate {self.requests_per_s} 1/s, CV {self.cv} and day {self.day_s} s must be positive and finite",
                where="load",
                fix="Give a day of at least one second.",
            )


def curve(phase: float) -> float:
    """The daily curve, mean 1, at a phase of the day.

    >>> round(curve(0.0), 2), round(curve(0.5), 2)
    (0.42, 2.99)
    """
    return float(_NIGHT + (1 - _NIGHT) / _CURVE_MEAN * cos((phase - 0.5) * pi) ** 12)


def weibull_shape(cv: float) -> float:
    """The shape k of a Weibull distribution with coefficient of variation `cv`, by bisection.

    >>> round(weibull_shape(1.0), 6)
    1.0
    """
    low, high = 0.1, 20.0
    for _ in range(80):
        k = (low + high) / 2
        if gamma(1 + 2 / k) / gamma(1 + 1 / k) ** 2 - 1 > cv * cv:
            low = k
        else:
            high = k
    return (low + high) / 2


class Source(Protocol):
    """Where a workload's requests come from; times in event ms. `factor` is what its rate is multiplied by."""

    factor: float

    def arrivals(self, to_ms: float) -> Iterator[Request]:
        """The requests that arrive after the last call and by `to_ms`, in order."""

    def rate_per_s(self, at_ms: float) -> float:
        """Requests a second about then."""

    def set_factor(self, factor: float, at_ms: float) -> None:
        """Multiply the rate by `factor` from `at_ms` on; ConfigError where the requests are given."""


class Load:
    """Requests of one workload in order of arrival, the same for the same seed however time is cut.

    Arrivals are a renewal process in operational time: gaps with mean 1 are stretched by the rate, which is constant
    over each event second.
    """

    def __init__(self, spec: LoadSpec, seed: str, start_ms: int, origin_ms: int | None = None) -> None:
        """The first request comes after `start_ms`; the day is anchored at `origin_ms`, by default there too."""
        self.spec, self.factor = spec, 1.0
        self._random = Random(seed)
        self._origin_ms = start_ms if origin_ms is None else origin_ms
        self._shape = weibull_shape(spec.cv) if spec.gaps is Gaps.WEIBULL else 1 / spec.cv**2
        self._scale = 1 / gamma(1 + 1 / self._shape) if spec.gaps is Gaps.WEIBULL else spec.cv**2
        self._popularity = list(accumulate(1 / rank for rank in range(1, spec.prefixes + 1)))
        self._cursor_ms = float(start_ms)
        self._left = self._gap()
        self._count = 0

    def rate_per_s(self, at_ms: float) -> float:
        """Requests a second expected in the event second that holds `at_ms`."""
        second_ms = at_ms // _SLICE_MS * _SLICE_MS
        phase = self.spec.phase + (second_ms - self._origin_ms) / 1000.0 / self.spec.day_s
        return self.spec.requests_per_s * self.factor * curve(phase)

    def set_factor(self, factor: float, at_ms: float) -> None:
        """Multiply the rate by `factor` from `at_ms` on, up to which arrivals have been taken."""
        self._left -= self.rate_per_s(self._cursor_ms) * (at_ms - self._cursor_ms) / 1000.0
        self._cursor_ms = at_ms
        self.factor = factor

    def arrivals(self, to_ms: float) -> Iterator[Request]:
        """The requests that arrive after the last call and by `to_ms`."""
        while True:
            rate = self.rate_per_s(self._cursor_ms) / 1000.0
            next_ms = self._cursor_ms + max(0.0, self._left) / rate if rate > 0 else inf
            slice_end_ms = (self._cursor_ms // _SLICE_MS + 1) * _SLICE_MS
            if next_ms <= min(slice_end_ms, to_ms):
                self._cursor_ms, self._left = next_ms, self._gap()
                yield self._request(next_ms)
            elif slice_end_ms <= to_ms:
                self._left -= rate * (slice_end_ms - self._cursor_ms)
                self._cursor_ms = slice_end_ms
            else:
                return

    def _gap(self) -> float:
        if self.spec.gaps is Gaps.WEIBULL:
            return self._random.weibullvariate(self._scale, self._shape)
        return self._random.gammavariate(self._shape, self._scale)

    def _length(self, lengths: Lengths, most: int) -> int:
        drawn = exp(self._random.gauss(lengths.mu, lengths.sigma))
        return max(1, min(int(drawn), lengths.longest, most))

    def _request(self, at_ms: float) -> Request:
        spec, random = self.spec, self._random
        limit = spec.output.longest
        prompt = self._length(spec.prompt, spec.max_model_len - limit)
        output = self._length(spec.output, limit)
        prefix_id, prefix = 0, 0
        if random.random() < spec.shared_ratio:
            prefix_id = random.choices(range(1, spec.prefixes + 1), cum_weights=self._popularity)[0]
            prefix = int(prompt * random.uniform(0.45, 0.99))
        self._count += 1
        return Request(
            request_id=self._count,
            arrival_ms=at_ms,
            prompt_tokens=prompt,
            output_tokens=output,
            max_tokens=limit,
            prefix_id=prefix_id,
            prefix_tokens=prefix,
            patience_ms=spec.patience_s * 1000.0,
            fails=random.random() < spec.error_ratio,
        )
