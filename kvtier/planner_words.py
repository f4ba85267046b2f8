"""A plan in words: the verdict, what it rests on, and what to look out for."""

from __future__ import annotations

from kvtier.planner import Offer, Plan, Verdict
from kvtier.planner_replica import Replica, Traffic
from kvtier.planner_trial import Fleet

_BUSY = 0.7
"""Above this share of the time that a disk reads, loads wait for one another."""

_RATED_DAYS = 5 * 365
"""For which drives are rated."""

_SHORT_H = 24.0
_ALWAYS = 0.01


def size(count: float) -> str:
    """Bytes as people write them.

    >>> size(31e12), size(64e9)
    ('31 TB', '64 GB')
    """
    return f"{count / 1e12:.3g} TB" if count >= 1e12 else f"{count / 1e9:.3g} GB"


def verdict(plan: Plan, fleet: Fleet, offer: Offer) -> str:
    """One or two sentences."""
    best = plan.best
    pace = f"{offer.disk_bytes_per_s / 1e9:g} GB/s"
    if plan.verdict is Verdict.NOTHING_REUSED:
        return "Do nothing: nothing is reused. No prompt begins as one before it."
    if plan.verdict is Verdict.GPU_HOLDS_IT or best is None:
        return (
            f"Do nothing: the GPUs' cache holds it already. It hits {plan.base.gpu_hit_ratio:.1%} of blocks; "
            f"{plan.reuse.reused_ratio:.1%} is all that a tier without bounds could."
        )
    trial, even = best.trial, plan.break_even_bytes_per_s
    if plan.verdict is Verdict.LOADING_SLOWER and even is not None:
        pays = plan.pays_bytes_per_s
        return f"Do nothing: loading is slower than computing at {pace}, for too many of these prompts. " + (
            f"Tiers pay from {pays / 1e9:.1f} GB/s on."
            if pays is not None
            else f"Tiers cover their overhead from {even / 1e9:.1f} GB/s on, and what they cost at no speed."
        )
    if plan.verdict is Verdict.DISK_TOO_BUSY:
        faster = plan.pays_bytes_per_s
        return (
            f"Do nothing: the disk is too slow for this traffic. At {pace} it would read for "
            f"{trial.disk_read_busy_ratio:.0%} of the time. "
            + ("Take one for each replica." if faster is None else f"Tiers pay from {faster / 1e9:.1f} GB/s on.")
        )
    if plan.verdict is Verdict.TOO_LITTLE:
        return (
            f"Do nothing: too little is reused. The best tiers save {best.gain_ratio:.1%} of GPU time, and having any "
            f"costs {offer.overhead_ratio:.0%}."
        )
    if plan.verdict is Verdict.COSTS_MORE:
        return (
            f"Do nothing: it costs more than it saves. {_what(plan, fleet)} would save "
            f"{best.saved_usd_month:,.0f} USD a month of GPU time and cost {best.cost_usd_month:,.0f}."
        )
    mean = f"mean TTFT {trial.ttft_mean_without_s:.2f} → {trial.ttft_mean_s:.2f} s"
    return f"Add {_what(plan, fleet)}: {best.net_ratio:.1%} of GPU time is freed, {mean}."


def cautions(plan: Plan, traffic: Traffic, replica: Replica, fleet: Fleet, offer: Offer) -> list[str]:
    """What the figures rest on, and what may go wrong."""
    hours = traffic.span_s / 3600
    said = [
        f"Rests on {len(traffic.prompts):,} prompts in {hours:.2g} h. Tiers begin empty, and reuse after longer than "
        f"that is not seen: {'a day or more of trace tells much more' if hours < _SHORT_H else 'longer tells more'}."
    ]
    if plan.load_replicas > fleet.replicas:
        said.append(
            f"This traffic keeps {plan.load_replicas:.1f} replicas busy, and there are {fleet.replicas}: name as many "
            "with --replicas, for each has its own cache."
        )
    if fleet.replicas > 1 and plan.best is not None and not fleet.shared and not fleet.sticky:
        said.append(
            f"Prompts take turns, so that each replica's tiers see one in {fleet.replicas}. With a router by prefix "
            "(--sticky) or a disk for all (--shared-disk) they hold more of use."
        )
    said += _passed_over(plan)
    if plan.best is None or not plan.adds:
        return said
    trial = plan.best.trial
    said.append(
        f"In the second half of the trace, with the tiers filled, {trial.saved_ratio_second_half:.1%} of prefill is "
        f"saved; in all of it {trial.saved_ratio:.1%}."
    )
    if not trial.disk_bytes:
        return said
    if fleet.shared and fleet.replicas > 1:
        said.append("OptiInfra's disk tier serves one server: several share a disk through a store of their own kind.")
    if trial.saved_s - trial.saved_always_loading_s > _ALWAYS * trial.prefill_s:
        said.append(
            f"Counts on an engine that computes where loading is slower. One that always loads saves "
            f"{trial.saved_always_loading_s:,.0f} s of prefill on this trace, not {trial.saved_s:,.0f} s."
        )
    if trial.drive_writes_a_day > offer.drive_writes_a_day:
        days = _RATED_DAYS * offer.drive_writes_a_day / trial.drive_writes_a_day
        rated = f"{offer.drive_writes_a_day:g} over five years"
        said.append(
            f"Writes {trial.drive_writes_a_day:.1f} times its size a day, counted on the second half of the trace: a "
            f"drive rated for {rated} lasts {days:,.0f} days. Take a larger one, one that endures more, or set "
            "wear_gb_a_day of the disk tier."
        )
    if trial.disk_read_busy_ratio > _BUSY:
        said.append(
            f"The disk reads for {trial.disk_read_busy_ratio:.0%} of the time: loads wait for one another, which is "
            "not in these figures. Take a faster one, or one for each replica."
        )
    if replica.usd_per_h:
        said.append("Dollars count freed GPU time as used or given back.")
    return said


def _passed_over(plan: Plan) -> list[str]:
    """Disks that would pay, and are not chosen since they cannot keep up with what they would be asked for."""
    if plan.best is None or plan.best.swamped:
        return []
    passed = [each.trial for each in plan.options if each.swamped and each.net_ratio > 0]
    sizes = dict.fromkeys(size(trial.disk_bytes) for trial in passed)
    busy = [trial.disk_read_busy_ratio for trial in passed]
    if not passed:
        return []
    share = f"{min(busy):.0%}" if len(passed) == 1 else f"{min(busy):.0%} to {max(busy):.0%}"
    return [f"Passed over, since it would have to read for {share} of the time: {', '.join(sizes)} of disk."]


def _what(plan: Plan, fleet: Fleet) -> str:
    if plan.best is None:
        return "nothing"
    trial = plan.best.trial
    memory = f"{size(trial.memory_bytes)} of host memory" + (" for each replica" if fleet.replicas > 1 else "")
    if not trial.disk_bytes:
        return memory
    each = "" if fleet.replicas == 1 else " that all replicas share" if fleet.shared else " for each replica"
    return f"{size(trial.disk_bytes)} of disk{each}, behind {memory}"
