"""What single replicas did, minute by minute, read from the SLIs of instances.

A minute is closed half a minute after its end: what was told until then is all that counts of it, in whatever order it
came. Closed minutes are handed on, oldest first.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict

from agents.performance.core.replicas import ReplicaSeen
from contracts.catalog.slis import QUANTILES
from contracts.events import Sli
from contracts.laws.attainment import Attainment

WINDOW_S = 60
CLOSED_AFTER_MS = 30_000
COVERAGE_FLOOR = 0.9
"""Of a minute that was observed less, as one with a restart in it, nothing is said."""
REPLICAS_LIMIT = 300
"""Replicas whose minutes are kept: so many tell what those of a larger fleet are like."""


class Minute(BaseModel):
    """One replica over one minute. Means of requests `running` and `waiting`, the longest queue, the fullest KV cache
    (ratio), requests `finished`, of them `failed`, and how many were `preempted`; tokens of prompts and answers, and of
    prompts those found on the GPU (`device_hits`) and in KV tiers below it (`tier_hits`); None where it is not told.
    `ttft_s`, `itl_s`: at the quantile of the objective, `ttft_mean_s` of all; None where nothing came."""

    model_config = ConfigDict(frozen=True)

    running: float
    waiting: float
    waiting_max: float
    kv_max_ratio: float | None
    finished: float
    preempted: float
    prompt_tokens: float
    generation_tokens: float
    ttft: Attainment
    itl: Attainment
    ttft_s: float | None
    itl_s: float | None
    ttft_mean_s: float | None = None
    failed: float | None = None
    device_hits: float | None = None
    tier_hits: float | None = None

    @property
    def in_time(self) -> tuple[int, int]:
        """Requests whose first token came, and those of them in time with first and further tokens.

        Tokens of one request are late together: their late share counts as that share of requests, beside those late
        with the first token, which are taken to be others.
        """
        whole = self.ttft.total
        share = self.itl.good / self.itl.total if self.itl.total else 1.0
        return whole, max(0, self.ttft.good - round((1 - share) * whole))


def quantile_label(target: float) -> str:
    """The SLI quantile at which an objective for this share of requests is read: the first that is no lower.

    >>> quantile_label(0.95), quantile_label(0.97), quantile_label(0.999)
    ('p95', 'p99', 'p99')
    """
    return next((label for label, q in QUANTILES.items() if q >= target), "p99")


def minute_of(sli: Sli, target: float) -> Minute | None:
    """The minute of an instance's SLI, None where it does not tell enough."""
    per_s, running, waiting = (sli.value(name) for name in ("requests_per_s", "requests_running", "requests_waiting"))
    if per_s is None or running is None or waiting is None or sli.coverage_ratio < COVERAGE_FLOOR:
        return None
    longest = sli.value("requests_waiting_max")
    label, none = quantile_label(target), Attainment(good=0, total=0)
    return Minute(
        running=running,
        waiting=waiting,
        waiting_max=waiting if longest is None else longest,
        kv_max_ratio=sli.value("kv_cache_usage_max_ratio"),
        finished=per_s * sli.size_s,
        preempted=(sli.value("preemptions_per_s") or 0.0) * sli.size_s,
        prompt_tokens=(sli.value("prompt_tokens_per_s") or 0.0) * sli.size_s,
        generation_tokens=(sli.value("generation_tokens_per_s") or 0.0) * sli.size_s,
        ttft=sli.attainment.get("ttft", none),
        itl=sli.attainment.get("itl", none),
        ttft_s=sli.value(f"ttft_{label}_s"),
        itl_s=sli.value(f"itl_{label}_s"),
        ttft_mean_s=sli.value("ttft_mean_s"),
        failed=_part(sli, "error_ratio", of=per_s * sli.size_s),
        device_hits=_part(sli, "prefix_cache_hit_ratio"),
        tier_hits=_part(sli, "external_hit_ratio"),
    )


def _part(sli: Sli, name: str, of: float | None = None) -> float | None:
    """What a ratio is of its whole, which its samples are unless said: 0 of nothing; None where it is not told."""
    told = sli.values.get(name)
    if told is None or (told.value is None and told.samples):
        return None
    return (told.value or 0.0) * (told.samples if of is None else of)


def replica_seen(parts: Mapping[str, Minute]) -> ReplicaSeen:
    """What the mean of these replicas did in a minute."""
    count = len(parts)

    def mean(name: str) -> float:
        return sum(float(getattr(each, name)) for each in parts.values()) / count

    known = [each.kv_max_ratio for each in parts.values() if each.kv_max_ratio is not None]
    return ReplicaSeen(
        span_s=float(WINDOW_S),
        finished=mean("finished"),
        running=mean("running"),
        waiting=mean("waiting"),
        prompt_tokens=mean("prompt_tokens"),
        generation_tokens=mean("generation_tokens"),
        done=sum(each.ttft.total for each in parts.values()) / count,
        in_time=sum(each.ttft.good for each in parts.values()) / count,
        kv_usage_ratio=sum(known) / len(known) if known else None,
    )


class Minutes(BaseModel):
    """Minutes that are still open, by the time they end, and in them the replicas that told theirs. `closed_ms`: the
    end of the newest minute that was handed on."""

    model_config = ConfigDict(frozen=True)

    open: dict[int, dict[str, Minute]] = {}
    closed_ms: int = 0

    def heard(self, instance_id: str, end_ms: int, minute: Minute, *, needed: bool = False) -> Minutes:
        """With one more; one that is known, or came too late, changes nothing. One that is `needed` is never one too
        many."""
        known = self.open.get(end_ms, {})
        full = len(known) >= REPLICAS_LIMIT and not needed
        if end_ms <= self.closed_ms or instance_id in known or full:
            return self
        return self.model_copy(update={"open": self.open | {end_ms: known | {instance_id: minute}}})

    def closed(self, at_ms: int) -> tuple[Minutes, list[tuple[int, dict[str, Minute]]]]:
        """The minutes that are complete at `at_ms`, and what remains."""
        ready = sorted(end_ms for end_ms in self.open if end_ms + CLOSED_AFTER_MS <= at_ms)
        if not ready:
            return self, []
        rest = {end_ms: parts for end_ms, parts in self.open.items() if end_ms not in ready}
        told = [(end_ms, dict(sorted(self.open[end_ms].items()))) for end_ms in ready]
        return Minutes(open=rest, closed_ms=max(self.closed_ms, ready[-1])), told
