"""How many requests a second one replica serves within its objectives: found by trying, on the offline twin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from connectors.twin.offline import simulate
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace
from contracts.errors import ConfigError

_WARM_SHARE = 0.1
"""The first of the requests meet an empty replica, and are not counted."""

_HIGHEST_RPS = 4096.0


@dataclass(frozen=True)
class Objectives:
    """What must hold for a rate to count: the 95th percentile of TTFT, and the mean of all intervals between tokens,
    seconds."""

    ttft_p95_s: float = 2.0
    mean_itl_s: float = 0.1


@dataclass(frozen=True)
class Capacity:
    """The highest rate found, and what was seen at it; 0 and infinite when even a lone request is too slow.
    `service_s`: from leaving the queue to the last token, the mean."""

    rps: float
    ttft_p95_s: float
    mean_itl_s: float
    service_s: float = float("inf")


def capacity_of(
    engine: EngineSpec,
    prompt_tokens: Sequence[int],
    output_tokens: Sequence[int],
    *,
    objectives: Objectives | None = None,
    seed: int = 1,
    within: float = 0.01,
) -> Capacity:
    """The highest rate of Poisson arrivals, to a ratio of 1 + `within`, at which one replica meets its objectives.

    The requests are those given, in their order; a few thousand make a steady figure. Every rate is tried with the
    same gaps, stretched, so that a higher rate is the same crowd, denser.
    """
    wanted = objectives or Objectives()
    moments = _moments(len(prompt_tokens), seed)

    def at(rps: float) -> Capacity:
        return _seen_at(rps, engine, Trace((moments / rps).tolist(), prompt_tokens, output_tokens))

    def good(tried: Capacity) -> bool:
        return tried.ttft_p95_s < wanted.ttft_p95_s and tried.mean_itl_s < wanted.mean_itl_s

    best, low, high = Capacity(0.0, float("inf"), float("inf")), 0.0, 1 / 64
    while high < _HIGHEST_RPS and good(tried := at(high)):
        best, low, high = tried, high, high * 2
    while low > 0 and high / low > 1 + within:
        tried = at((low * high) ** 0.5)
        if good(tried):
            best, low = tried, tried.rps
        else:
            high = tried.rps
    return best


def seen_at(
    rps: float, engine: EngineSpec, prompt_tokens: Sequence[int], output_tokens: Sequence[int], *, seed: int = 1
) -> Capacity:
    """What is seen of one replica at this rate of Poisson arrivals, whether or not it is too high."""
    arrival_s = _moments(len(prompt_tokens), seed) / rps
    return _seen_at(rps, engine, Trace(arrival_s.tolist(), prompt_tokens, output_tokens))


def _moments(requests: int, seed: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Moments of Poisson arrivals at one a second."""
    if requests < 100:
        raise ConfigError(f"{requests} requests tell no percentile", where="capacity", fix="Give some thousands.")
    return np.cumsum(np.random.default_rng(seed).exponential(size=requests))


def _seen_at(rps: float, engine: EngineSpec, trace: Trace) -> Capacity:
    served = simulate(trace, engine, replicas=1)
    kept = slice(int(len(trace) * _WARM_SHARE), None)
    if np.isnan(served.ttft_s[kept]).any():
        raise ConfigError(
            "some requests are longer than max_model_len", where="capacity", fix="Leave them out, or raise it."
        )
    return Capacity(
        rps,
        float(np.percentile(served.ttft_s[kept], 95)),
        served.mean_interval_s(trace.output_tokens),
        float(np.mean(served.e2e_s[kept] - served.queue_s[kept])),
    )
