"""What the replicas of a workload were like in the last hour or so: how full, how late, and why a trial would pay.

Sums over replica-minutes that lose half their weight in half an hour. From them come the reasons for a trial, each with
the setting that it asks for, one doubling away, and what the present setting was measured to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from pydantic import BaseModel, ConfigDict

from agents.performance.core.minutes import WINDOW_S, Minute
from agents.performance.core.trials import Setting
from contracts.objectives import Objectives

HALF_LIFE_S = 1800.0
FULL, ROOMY, CRAMPED = 0.9, 0.75, 0.95
"""A batch is full from this share of `max_num_seqs` on; memory has room below the one share of the KV cache, and none
above the other."""
OFTEN = 0.1
"""Share of replica-minutes from which on something is a reason."""
LIMITING, UNEVEN = 0.7, 2.0
"""One of the two latencies limits where it takes so much of its limit, and so many times what the other takes."""
FEWEST, MOST = Setting(8, 256, 1), Setting(2048, 65_536, 1)


class Why(StrEnum):
    """Why a trial would pay: the batch is full and memory has room; memory is full; first tokens take their limit and
    there is room between tokens; the other way round. Or people declared it, for its KV tiers."""

    FULL = "full"
    CRAMPED = "cramped"
    FIRST = "first"
    BETWEEN = "between"
    DECLARED = "declared"


class Usage(BaseModel):
    """Sums, faded: `minutes` of replicas, those `full` and `cramped`, requests that ran and finished, and latencies at
    the objective's quantile times the requests of the minute, `told` of which had one."""

    model_config = ConfigDict(frozen=True)

    at_ms: int = 0
    minutes: float = 0.0
    full: float = 0.0
    cramped: float = 0.0
    running: float = 0.0
    finished: float = 0.0
    ttft: float = 0.0
    itl: float = 0.0
    told: float = 0.0

    def seen(self, parts: Iterable[Minute], end_ms: int, setting: Setting) -> Usage:
        """After one more minute of replicas that have this setting."""
        fade = 0.5 ** (max(0, end_ms - self.at_ms) / 1000 / HALF_LIFE_S) if self.at_ms else 0.0
        sums = {name: fade * value for name, value in self if name != "at_ms"}
        for each in parts:
            sums["minutes"] += 1
            sums["full"] += is_full(each, setting)
            sums["cramped"] += is_cramped(each)
            sums["running"] += each.running
            sums["finished"] += each.finished
            if each.ttft_s is not None and each.itl_s is not None:
                sums["told"] += each.ttft.total
                sums["ttft"] += each.ttft_s * each.ttft.total
                sums["itl"] += each.itl_s * each.ttft.total
        return Usage(at_ms=max(end_ms, self.at_ms), **sums)

    def share(self, name: str) -> float:
        """Of replica-minutes, those `full` or `cramped`; of a minute, the mean that was `running`."""
        return float(getattr(self, name)) / self.minutes if self.minutes > 0 else 0.0

    @property
    def rps(self) -> float:
        """Requests a second that a replica finished."""
        return self.share("finished") / WINDOW_S

    def ratios(self, objectives: Objectives) -> tuple[float, float] | None:
        """TTFT and inter-token latency at the objective's quantile over their limits; None where nothing came."""
        if self.told < 1:
            return None
        return self.ttft / self.told / objectives.ttft_s, self.itl / self.told / objectives.itl_s


@dataclass(frozen=True)
class Reason:
    """Why a setting would be worth a trial, in a word and in words."""

    why: Why
    setting: Setting
    words: str


def is_full(each: Minute, setting: Setting) -> bool:
    """Whether requests waited for a place in the batch while memory had room."""
    roomy = each.kv_max_ratio is not None and each.kv_max_ratio <= ROOMY
    return roomy and each.waiting_max >= 1 and each.running >= FULL * setting.max_num_seqs


def is_cramped(each: Minute) -> bool:
    """Whether requests were thrown out of the batch for want of memory."""
    return each.preempted > 0 and each.kv_max_ratio is not None and each.kv_max_ratio >= CRAMPED


def telling(each: Minute, why: Why, present: Setting) -> bool:
    """Whether a replica of the present setting had the load that asked for a trial: only then does it show."""
    if why is Why.FULL:
        return is_full(each, present)
    return is_cramped(each) if why is Why.CRAMPED else each.ttft.total > 0 and each.running >= 1


def reasons(usage: Usage, present: Setting, objectives: Objectives) -> list[Reason]:
    """What would be worth a trial, one doubling from the present setting."""
    ratios = usage.ratios(objectives)
    if ratios is None:
        return []
    ttft, itl = ratios
    seqs, tokens = present.max_num_seqs, present.max_num_batched_tokens
    full, cramped = usage.share("full"), usage.share("cramped")
    found = []
    if full >= OFTEN:
        free = f"at least {1 - ROOMY:.0%} of the KV cache was free"
        what = f"the batch was full in {full:.0%} of replica-minutes while {free}"
        found.append(Reason(Why.FULL, replace(present, max_num_seqs=2 * seqs), what))
    if cramped >= OFTEN:
        what = f"requests were preempted in {cramped:.0%} of replica-minutes"
        found.append(Reason(Why.CRAMPED, replace(present, max_num_seqs=seqs // 2), what))
    shares = f"TTFT takes {ttft:.0%} of its limit, inter-token latency {itl:.0%}"
    if full < OFTEN and ttft >= LIMITING and ttft >= UNEVEN * itl:
        found.append(Reason(Why.FIRST, replace(present, max_num_batched_tokens=2 * tokens), shares))
    if itl >= LIMITING and itl >= UNEVEN * ttft:
        found.append(Reason(Why.BETWEEN, replace(present, max_num_batched_tokens=tokens // 2), shares))
    return [each for each in found if _possible(each.setting)]


def settable(setting: Setting) -> bool:
    """Whether rules would set it as it is; a number beyond these ends is cut there (`rules/packs/tuning.yaml`)."""
    return (
        FEWEST.max_num_seqs <= setting.max_num_seqs <= MOST.max_num_seqs
        and FEWEST.max_num_batched_tokens <= setting.max_num_batched_tokens <= MOST.max_num_batched_tokens
    )


def _possible(setting: Setting) -> bool:
    return settable(setting) and setting.max_num_batched_tokens > setting.max_num_seqs
