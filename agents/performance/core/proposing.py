"""Says which engine setting a canary should try next, or in words why none should.

Evidence of the last hour says what would be worth a trial (`usage.py`); the safe search says which of that may be tried
(`tuning.py`), from what the present setting was measured to do and what earlier trials in life showed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from agents.performance.core.capacity import Capacity
from agents.performance.core.steering_state import Declared, Learnt
from agents.performance.core.trials import Measured, Setting, Tried, in_words
from agents.performance.core.tuning import Care, Space, Trial, Tuner
from agents.performance.core.usage import Reason, Usage, Why, reasons, settable
from contracts.objectives import Objectives

LEAST_MINUTES = 20.0
"""Replica-minutes, faded, before which nothing is proposed."""
SURE_RATIO = 0.5
"""Error of a capacity, above which nothing rests on it where its limit was not seen."""
LATENCY_NOISE = 0.05
"""Of a quantile over an hour of requests: an assumption, not measured."""
UNKNOWN = "the engine settings of these replicas are not known: name them under engines in optiinfra.yaml"


@dataclass(frozen=True)
class Proposal:
    """What to try and why; no `reason` where nothing should be tried. `measured`: of the present setting, if known."""

    words: str
    reason: Reason | None = None
    measured: Measured | None = None


def propose(
    present: Setting | None,
    usage: Usage,
    capacity: Capacity,
    past: Sequence[Learnt],
    objectives: Objectives,
    declared: Declared | None = None,
) -> Proposal:
    """The next trial. `past`: settings tried that still count. KV tiers that people declared go first."""
    if present is None:
        return Proposal(UNKNOWN)
    if not settable(present):
        return Proposal(f"{present} is beyond what can be set here: there were no way back from a trial")
    wanted = present if declared is None else declared.on(present)
    if wanted != present:
        tiers, words = (
            in_words(wanted.tiers),
            f"{in_words(wanted.tiers)} are declared, there are {in_words(present.tiers)}",
        )
        before = next((each for each in past if each.setting.tiers == wanted.tiers and not each.kept), None)
        if before is None:
            return Proposal(words, Reason(Why.DECLARED, wanted, words))
        alike = [each for each in past if each.setting.tiers == present.tiers]
        other = propose(present, usage, capacity, alike, objectives)
        left = f"{tiers} were tried and taken back, and are left alone until others are declared: {before.words}"
        return replace(other, words=f"{other.words}; {left}")
    past = [each for each in past if each.setting.tiers == present.tiers]
    if usage.minutes < LEAST_MINUTES:
        return Proposal(f"{usage.minutes:.0f} replica-minutes were seen, {LEAST_MINUTES:.0f} are needed")
    measured = measured_of(usage, capacity, objectives)
    if measured is None:
        return Proposal(f"what {present} bears is not known yet: {capacity.words}")
    found = reasons(usage, present, objectives)
    seen = (
        f"the batch was full in {usage.share('full'):.0%} of replica-minutes, {usage.share('running'):.3g} of "
        f"{present.max_num_seqs} ran on average, preemptions in {usage.share('cramped'):.0%}, TTFT takes "
        f"{measured.ttft_ratio:.0%} of its limit, inter-token latency {measured.itl_ratio:.0%}"
    )
    if not found:
        return Proposal(f"no reason for a trial of another setting than {present}: {seen}", measured=measured)
    tried = {each.setting: each for each in past}
    new = [each for each in found if each.setting not in tried]
    if not new:
        last = ", ".join(f"{each.setting} was {_fate(tried[each.setting])}" for each in found)
        return Proposal(f"{found[0].words}, and what that asks for was tried: {last}", measured=measured)
    shown = [Tried(each.setting, each.measured) for each in past if each.measured is not None]
    others = {each.setting for each in shown} | {each.setting for each in new}
    space = Space(
        settings=(present, *sorted(others - {present})), present=present, live_rps=usage.rps / present.tensor_parallel
    )
    step = Tuner(space, Care()).propose([Tried(present, measured), *(e for e in shown if e.setting != present)])
    if not isinstance(step, Trial):
        return Proposal(f"{new[0].words}, and no trial is safe: {step.explain()}", measured=measured)
    reason = next(each for each in new if each.setting == step.setting)
    return Proposal(f"{reason.words}; {step.explain()}", reason, measured)


def measured_of(usage: Usage, capacity: Capacity, objectives: Objectives) -> Measured | None:
    """What a setting was seen to do in life; None while too little is known."""
    ratios = usage.ratios(objectives)
    if ratios is None or capacity.rps is None or not (capacity.saturated or capacity.error_ratio <= SURE_RATIO):
        return None
    running, error = usage.share("running"), capacity.error_ratio
    return Measured(capacity.rps, *ratios, running=running, noise_ratio=error, latency_noise_ratio=LATENCY_NOISE)


def _fate(learnt: Learnt) -> str:
    return "kept" if learnt.kept else "taken back"
