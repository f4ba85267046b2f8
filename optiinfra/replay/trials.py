"""Trials of engine settings on the twin: what one replica of a setting bears of one's own requests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from agents.performance.core.routing import Capacity
from agents.performance.core.trials import Measured, Setting
from connectors.traces.reading import recorded
from connectors.twin.spec import EngineSpec, degrees
from connectors.twin.trace import Trace
from contracts.errors import ConfigError
from optiinfra.replay.pools import Answered, fewest, serve

_WARM_SHARE = 0.1
"""The first of the requests meet an empty replica, and are not counted."""
_STEP = 1.3
_HIGHEST_RPS = 10_000.0
_LOWEST = 1 / 8
"""Of the live rate: a setting that bears less than this is not looked at more closely."""


@dataclass(frozen=True, eq=False)
class Mix:
    """Lengths of requests in the order in which they came, and where they are from."""

    prompt_tokens: NDArray[np.int64]
    output_tokens: NDArray[np.int64]
    origin: str

    def __len__(self) -> int:
        return len(self.prompt_tokens)

    @property
    def longest(self) -> int:
        """Tokens of the longest request, prompt and answer."""
        return int(np.max(self.prompt_tokens + self.output_tokens))

    def drawn(self, count: int, seed: int) -> Mix:
        """So many of them at random, each as likely, in an order of no meaning."""
        chosen = np.random.default_rng(seed).integers(0, len(self), count)
        return Mix(self.prompt_tokens[chosen], self.output_tokens[chosen], self.origin)

    def within(self, least: int, below: float) -> Mix:
        """Those whose prompts have from `least` to below `below` tokens."""
        kept = (self.prompt_tokens >= least) & (self.prompt_tokens < below)
        return Mix(self.prompt_tokens[kept], self.output_tokens[kept], self.origin)

    def arriving(self, rate_rps: float, seed: int) -> Trace:
        """As Poisson arrivals; another rate is the same crowd, denser or thinner."""
        gaps = np.random.default_rng(seed).exponential(size=len(self))
        return Trace((np.cumsum(gaps) / rate_rps).tolist(), self.prompt_tokens.tolist(), self.output_tokens.tolist())


def read_mix(path: Path) -> Mix:
    """The lengths of an Azure or BurstGPT csv or a Mooncake jsonl. Raises ConfigError."""
    found = recorded(path)
    if found.prompt_tokens is None or found.output_tokens is None:
        raise ConfigError("tells no lengths", where=str(path), fix="Name a trace with tokens in and out.")
    return Mix(np.maximum(found.prompt_tokens, 1), np.maximum(found.output_tokens, 1), found.origin)


@dataclass(frozen=True)
class Goal:
    """What a share `share` of requests must have: a first token after `ttft_s`, a mean interval of `itl_s`, seconds."""

    ttft_s: float = 2.0
    itl_s: float = 0.1
    share: float = 0.95

    def kept(self, answered: Answered) -> bool:
        """Whether both latencies stand within their limits."""
        return max(self.ratios(answered)) <= 1

    def ratios(self, answered: Answered) -> tuple[float, float]:
        """Both latencies at that quantile over their limits, without the first tenth of the requests."""
        kept = slice(int(len(answered.ttft_s) * _WARM_SHARE), None)
        ttft_s, itl_s = answered.ttft_s[kept], answered.itl_s[kept]
        told = itl_s[~np.isnan(itl_s)]
        worst_s = float(np.quantile(told, self.share)) if len(told) else 0.0
        return float(np.quantile(ttft_s, self.share)) / self.ttft_s, worst_s / self.itl_s


class TwinTrials:
    """A runner on the twin. `engine` is `model/hardware`; each GPU gets `live_rps` of the mix in live traffic.

    Goodput is found by bisection to a ratio of 1 + `within`. The same setting measures the same.
    """

    def __init__(
        self, engine: str, mix: Mix, goal: Goal, live_rps: float, *, seed: int = 0, within: float = 0.02
    ) -> None:
        self.engine, self.goal, self.live_rps = engine, goal, live_rps
        self._mix, self._seed, self._within = mix, seed, within

    def run(self, setting: Setting) -> Measured:
        """What one replica of this setting showed. Raises ConfigError where it cannot hold the requests."""
        spec, live = spec_of(self.engine, setting, self._mix.longest), self.live(setting)
        low = high = self.live_rps * setting.tensor_parallel
        if live.kept:
            while low < _HIGHEST_RPS and self._kept(spec, high := low * _STEP):
                low = high
        else:
            while not self._kept(spec, low := high / _STEP):
                high = low
                if low < self.live_rps * setting.tensor_parallel * _LOWEST:
                    return live
        while high / low > 1 + self._within:
            middle = (low * high) ** 0.5
            low, high = (middle, high) if self._kept(spec, middle) else (low, middle)
        return replace(live, goodput_rps=low)

    def live(self, setting: Setting) -> Measured:
        """The same at the live rate alone, so without a goodput."""
        rate_rps = self.live_rps * setting.tensor_parallel
        answered = self._at(spec_of(self.engine, setting, self._mix.longest), rate_rps)
        running = rate_rps * float(np.mean(answered.e2e_s - answered.queue_s))
        return Measured(0.0, *self.goal.ratios(answered), running)

    def _at(self, spec: EngineSpec, rate_rps: float) -> Answered:
        return serve(self._mix.arriving(rate_rps, self._seed), [spec], fewest)

    def _kept(self, spec: EngineSpec, rate_rps: float) -> bool:
        return self.goal.kept(self._at(spec, rate_rps))


def spec_of(engine: str, setting: Setting, longest: int) -> EngineSpec:
    """The twin's engine for a setting, with room for requests of `longest` tokens. Raises ConfigError."""
    return EngineSpec.of(
        f"{engine}/tp{setting.tensor_parallel}",
        max_num_seqs=setting.max_num_seqs,
        max_num_batched_tokens=setting.max_num_batched_tokens,
        max_model_len=longest + 1,
    )


def settings_of(
    engine: str, longest: int, gpus: int, seqs: Iterable[int], tokens: Iterable[int]
) -> tuple[Setting, ...]:
    """Every setting that fits: profiles of that model and hardware on at most `gpus`, with memory for such requests."""
    tokens, found = tuple(tokens), list[Setting]()
    for degree in degrees(engine):
        for each in seqs:
            found += [Setting(each, budget, degree) for budget in tokens if degree <= gpus]
    return tuple(each for each in found if _fits(engine, each, longest))


def _fits(engine: str, setting: Setting, longest: int) -> bool:
    try:
        spec_of(engine, setting, longest)
    except ConfigError:
        return False
    return True


SEQS: Sequence[int] = (8, 16, 32, 64, 128, 256)
TOKENS: Sequence[int] = (256, 512, 1024, 2048, 4096, 8192)


def capacity_by_length(engine: str, setting: Setting, mix: Mix, goal: Goal, *, drawn: int = 500) -> Capacity:
    """Of a replica by range of lengths of prompts: `drawn` of the requests that have such, measured once each."""

    @cache
    def capacity(least: int, below: float) -> float:
        kept = mix.within(least, below)
        return TwinTrials(engine, kept.drawn(drawn, 1), goal, 0.2).run(setting).goodput_rps if len(kept) else 0.0

    return capacity


def joined(mixes: Sequence[Mix]) -> Mix:
    """The requests of several traces as one."""
    return Mix(
        np.concatenate([mix.prompt_tokens for mix in mixes]),
        np.concatenate([mix.output_tokens for mix in mixes]),
        " and ".join(mix.origin for mix in mixes),
    )
