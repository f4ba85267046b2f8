"""How many requests a second a replica serves within its objective, learnt from what replicas did."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

FADE = 0.999
"""Of the highest rate seen, so much is left a window later: what is never seen again is believed less and less."""
UNLOADED_ERROR, LOADED_ERROR = 0.5, 0.15


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """One replica, or the mean replica of a workload, over a window of `span_s` seconds: requests that ended, mean of
    those that ran and waited, tokens read and written, and of `done` latencies observed those `in_time`. `at_s`: event
    seconds of its end. `kv_usage_ratio`: mean share of the KV cache in use, None where not known."""

    span_s: float
    finished: float
    running: float
    waiting: float
    prompt_tokens: float = 0.0
    generation_tokens: float = 0.0
    done: float = 0.0
    in_time: float = 0.0
    at_s: float = 0.0
    kv_usage_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Capacity:
    """`rps`: requests a second of one replica, None while nothing is known. `error_ratio`: how far off that may be."""

    rps: float | None
    error_ratio: float
    words: str


class CapacityModel(BaseModel):
    """The highest rate that a replica was seen to serve, and the highest while it was full."""

    model_config = ConfigDict(frozen=True)

    served_rps: float = 0.0
    full_rps: float = 0.0

    def seen(self, each: ReplicaSeen, target: float) -> CapacityModel:
        """What is known after one more window. `target`: share of requests that are to be in time."""
        if each.span_s <= 0 or each.finished <= 0:
            return self
        rps = each.finished / each.span_s
        late = each.done > 0 and each.in_time < target * each.done
        full_rps = max(self.full_rps * FADE, rps) if late and each.waiting > 0 else self.full_rps
        return CapacityModel(served_rps=max(self.served_rps * FADE, rps), full_rps=full_rps)

    def estimate(self) -> Capacity:
        """The capacity as far as it is known."""
        if not self.served_rps:
            return Capacity(None, 1.0, "no replica has served a request yet")
        if self.full_rps:
            return Capacity(self.full_rps, LOADED_ERROR, f"{self.full_rps:.3g} req/s a replica, seen while full")
        return Capacity(self.served_rps, UNLOADED_ERROR, f"{self.served_rps:.3g} req/s a replica at least, never full")
