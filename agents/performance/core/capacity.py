"""Learns, from what a replica is seen to do, how many requests a second it serves within its objective.

    capacity = throughput limit × the utilisation at which `target` of the requests are still in time

The limit comes from `pace` (where a replica's time goes, by token) at the largest batch it can hold; where the queue is
never empty, it is measured. The utilisation comes from `lateness`. Everything is kept in tokens and turned into
requests by the mix of the last minutes, so that longer prompts move the capacity at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field

from agents.performance.core.lateness import Lateness
from agents.performance.core.level import NOISE, Level
from agents.performance.core.limits import BATCHES, Limits, Mix
from agents.performance.core.pace import Pace
from agents.performance.core.proven import Proven
from agents.performance.core.replicas import LEAST_WORK, ReplicaSeen, backlog_s, cleaned, is_full, itl_s_of, room

__all__ = ["Capacity", "CapacityModel", "ReplicaSeen"]

SURE_RATIO = 0.25
"""An error no greater than this is as good as having seen the limit."""
_UNKNOWN_SD = 3.0
_OPEN_FACTOR = 4.0
"""Where nothing tells the limit, it may be this many times what was served."""
_MODEL_ERROR = 0.09
"""The laws themselves are this far off in the usual case, however much was seen."""
_APART = 0.85
"""A limit held to be too high makes the utilisation borne too low: the two errors are not independent."""
_QUEUE_STAYS_S = 60.0
_LEAST_RPS = _LEAST_S = 1e-6


@dataclass(frozen=True, slots=True)
class Capacity:
    """`rps`: requests a second that one replica serves within its objective; None while nothing is known.

    `error_ratio`: standard error of its logarithm, the usual relative error. `lower_rps`, `upper_rps`: four times in
    five it lies between. `limit_rps`: throughput with a queue that never empties. `concurrency`: requests decoding at
    that limit. `prefill_tokens_per_s`, `decode_tokens_per_s`: what it would do of either alone. `prefill_ratio`: share
    of its working time that prompts take. `saturated`: whether the limit was seen, and not only inferred. `proven`: the
    most that was served in time.
    """

    rps: float | None
    error_ratio: float
    words: str
    lower_rps: float | None = None
    upper_rps: float | None = None
    limit_rps: float | None = None
    concurrency: float | None = None
    prefill_tokens_per_s: float | None = None
    decode_tokens_per_s: float | None = None
    prefill_ratio: float | None = None
    saturated: bool = False
    proven: Proven = field(default_factory=Proven)

    @property
    def sure(self) -> bool:
        """Whether it is known by the limit that was seen, or as well as that; until then by what was served in time."""
        return self.saturated or self.error_ratio <= SURE_RATIO

    @property
    def planned_rps(self) -> float | None:
        """What to plan with, for who allows for waiting himself: the limit where it was seen, or the lower end; where
        that is not sure, a little more than was served in time, and None while nothing was."""
        if self.saturated and self.limit_rps is not None:
            return self.limit_rps
        if self.sure or self.lower_rps is None:
            return self.lower_rps
        tried_rps = min(self.proven.tried_rps, self.upper_rps or self.proven.tried_rps)
        return tried_rps if tried_rps > 0 else None

    @property
    def hoped_rps(self) -> float | None:
        """What it may be at most, as long as nobody waited; None where it is known, or users waited at what is
        planned."""
        return None if self.sure or self.proven.strained else self.upper_rps


class CapacityModel(BaseModel):
    """What is known of a replica so far: a small value, the same after a round trip through JSON.

    >>> window = ReplicaSeen(15.0, 60, 48.0, 9.0, 0, 0, 60, 20)
    >>> model = CapacityModel()
    >>> for _ in range(40):
    ...     model = model.seen(window, target=0.95)
    >>> 3.5 < model.estimate().limit_rps < 4.5
    True
    """

    model_config = ConfigDict(frozen=True)

    target: float = Field(default=0.99, gt=0, lt=1)
    mix: Mix = Mix()
    pace: Pace = Pace()
    limits: Limits = Limits()
    lateness: Lateness = Lateness()
    level: Level = Level()
    before: Lateness | None = None
    """What was known of lateness before the queue that stands now."""
    proven: Proven = Proven()
    waiting: float = 0.0
    """The queue of the last window."""
    full_s: float = 0.0
    """Seconds since the queue was last empty."""
    request_s: float = 1.0
    """Seconds that a mean request takes of a full replica."""
    request_error: float = 1.0
    """How far off that is: standard error of its logarithm."""

    def seen(self, each: ReplicaSeen, target: float) -> CapacityModel:
        """The model after one more window; one without work teaches nothing."""
        if (
            each.span_s < LEAST_WORK
            or max(each.finished, each.done, each.generation_tokens, each.prompt_tokens) < LEAST_WORK
        ):
            return self.model_copy(update={"target": target, "waiting": each.waiting})
        each = cleaned(each)
        mix, other = self.mix.seen(each.done, each.prompt_tokens, each.finished, each.generation_tokens)
        pace, limits, level = self.pace, self.limits, self.level
        itl_s = itl_s_of(each)
        if itl_s is not None:
            decoding, prompted = (many * itl_s / each.span_s for many in (each.generation_tokens, each.prompt_tokens))
            limits = limits.seen(decoding, prompted, each.span_s, full=is_full(each), most=room(each))
            chunks = max(each.done, each.prompt_tokens / limits.chunk)
            pace = pace.seen(itl_s, each.prompt_tokens, each.generation_tokens, chunks, each.running, each.span_s)
        elif not pace.known and level.seen_s == 0.0:
            level = Level(variance=_UNKNOWN_SD**2)
        after = self.model_copy(update={"mix": mix, "pace": pace, "limits": limits, "level": level, "target": target})
        after = after.model_copy(update={"level": after._levelled(each)})
        full_s = self.full_s + each.span_s if is_full(each) else 0.0
        seconds = after._request_s()
        offered = ((each.done or each.finished) + each.waiting - self.waiting) / each.span_s * seconds
        error = after._request_error()
        lateness, before = self._undone(full_s)
        lateness = lateness.judged(seconds / after._bare_s(), other=other).loaded(offered, each.span_s)
        if each.done > 0 and full_s <= _QUEUE_STAYS_S:
            late = min(each.done, max(0.0, each.done - each.in_time))
            lateness = lateness.seen(each.done, late, seconds, each.span_s, error)
        proven = self.proven.seen(each, target, other=other)
        told = {"lateness": lateness, "before": before, "proven": proven, "waiting": each.waiting, "full_s": full_s}
        return after.model_copy(update=told | {"request_s": seconds, "request_error": error})

    def failed(self) -> CapacityModel:
        """The model after replicas were taken away and put back since users waited."""
        return self.model_copy(update={"proven": self.proven.failed()})

    def _undone(self, full_s: float) -> tuple[Lateness, Lateness | None]:
        """Lateness to go on from, and what to go back to. Of a queue that stays, being late says nothing about what
        comes before the limit; whether it stays is known only later."""
        if full_s == 0.0:
            return self.lateness, None
        if full_s <= _QUEUE_STAYS_S:
            return self.lateness, self.before if self.before is not None else self.lateness
        if self.before is None:
            return self.lateness, None
        return self.before.model_copy(update={"busy": self.lateness.busy}), None

    def estimate(self) -> Capacity:
        """The capacity for the mix of the last minutes."""
        known = self.pace.known or self.level.seen_s > 0
        if not known:
            if self.proven.rps <= 0:
                return Capacity(None, 1.0, "nothing was served yet")
            spread = math.log(_OPEN_FACTOR) / math.sqrt(12)
            return self._told(self.proven.rps * math.sqrt(_OPEN_FACTOR), spread, None)
        ratio, ratio_error = self.lateness.utilisation(self.target, self.request_s)
        errors = (self.request_error / max(ratio, 0.2), ratio_error, _MODEL_ERROR)
        error = _APART * math.sqrt(sum(each * each for each in errors))
        return self._told(ratio / self.request_s, error, self.request_s)

    def _told(self, rps: float, error: float, seconds: float | None) -> Capacity:
        pace, full = self.pace, self.level.seen_s > 0
        rps = max(rps, _LEAST_RPS)
        factor = math.exp(1.2816 * error)
        words = f"{rps:.2f} req/s a replica, give or take {error:.0%}; " + (
            "its limit was seen" if full else f"its limit was not seen yet, {self.proven.rps:.2f} were served in time"
        )
        prefill_s, decode_s = self._split_s() if pace.known else (0.0, 0.0)
        working_s = prefill_s + decode_s
        return Capacity(
            rps=rps,
            error_ratio=error,
            words=words,
            lower_rps=rps / factor,
            upper_rps=rps * factor,
            limit_rps=None if seconds is None else 1.0 / seconds,
            concurrency=self.limits.batch if pace.known else None,
            prefill_tokens_per_s=self.mix.prompt / prefill_s if prefill_s > 0 else None,
            decode_tokens_per_s=self.mix.generation / decode_s if decode_s > 0 else None,
            prefill_ratio=prefill_s / working_s if working_s > 0 else None,
            saturated=full,
            proven=self.proven,
        )

    def _split_s(self) -> tuple[float, float]:
        """Seconds that a mean request takes of a full replica: its prompt, and its answer with a share of the base."""
        rounds = self.limits.rounds(self.mix.prompt, self.mix.generation)
        return self.pace.prompt_s * self.mix.prompt, self.pace.token_s * self.mix.generation + self.pace.base_s * rounds

    def _request_s(self) -> float:
        """Seconds that a mean request takes of a full replica."""
        factor = math.exp(min(50.0, max(-50.0, self.level.mean)))
        return max(_LEAST_S, factor * (sum(self._split_s()) if self.pace.known else 1.0))

    def _bare_s(self) -> float:
        """The same by pace alone, as if limits were known; it moves with a replica that slows down."""
        if not self.pace.known:
            return 1.0
        prompt, generated = self.mix.prompt, self.mix.generation
        bare_s = self.pace.prompt_s * prompt + self.pace.token_s * generated
        return max(_LEAST_S, bare_s + self.pace.base_s * generated / BATCHES[0])

    def _request_error(self) -> float:
        """How far off that is: the level, the line, the limits, the mix; each as a standard error of the logarithm."""
        level = self.level.variance
        if not self.pace.known:
            return math.sqrt(level)
        prompt_s, decode_s = self._split_s()
        total_s = max(_LEAST_S, prompt_s + decode_s)
        share = prompt_s / total_s
        line = self.pace.error(self.mix.prompt, self.mix.generation, self.limits, total_s)
        mix = self.mix.error * math.hypot(share, 1 - share)
        return math.sqrt(level + line * line + mix * mix)

    def _levelled(self, each: ReplicaSeen) -> Level:
        """A full window says how long its work takes; one that did more than was thought possible says so too."""
        if self.pace.known:
            pace, tokens = self.pace, (each.prompt_tokens, each.generation_tokens)
            rounds = self.limits.rounds(*tokens)
            work_s = pace.prompt_s * tokens[0] + pace.token_s * tokens[1] + pace.base_s * rounds
        else:
            work_s = max(each.done, each.finished)
        # In the window in which a queue came, the replica was not busy all the time: that tells what it does at least.
        full = is_full(each) and self.full_s > 0
        if work_s < _LEAST_S or not (
            full or (self.level.seen_s > 0 and work_s * math.exp(self.level.mean) > each.span_s)
        ):
            return self.level
        noise = NOISE * math.sqrt(15.0 / each.span_s) + (0.1 / backlog_s(each) if full else 0.2)
        return self.level.observed(math.log(each.span_s / work_s), noise, each.span_s)
