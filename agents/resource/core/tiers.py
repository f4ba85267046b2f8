"""Says whether KV tiers beyond the GPU are worth a trial, from reuse that was measured, or how those there are do.

Tiers pay where prompts are reused and the GPU gives their blocks up too soon; where nothing is reused they cost 3 to
15 % of throughput. So reuse must be measured before anything is proposed, and little of it is a no.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from contracts.events import Sli

HALF_LIFE_S = 6 * 3600.0
REUSED, UNUSED = 0.10, 0.02
"""From this share of tokens found again on there is reuse; below the other there is none."""
LONG_CONTEXT, LONG_AGE_S = 0.5, 3600.0
"""Mean over maximum context above which less reuse is enough; a GPU that keeps unused blocks for so long needs no
tier for what is asked again soon."""
LEAST_QUERIES = 10_000.0
"""Tokens or chunks looked up, faded, before which a hit ratio says nothing; of chunks a hundredth does."""
_RATIOS = {
    "prefix_cache_hit_ratio": ("tier_gpu_hit_ratio", 1.0),
    "external_hit_ratio": ("tier_external_hit_ratio", 1.0),
    "host_hit_ratio": ("tier_host_hit_ratio", 0.01),
    "disk_hit_ratio": ("tier_disk_hit_ratio", 0.01),
}


class Faded(BaseModel):
    """A ratio over windows that lose half their weight in six hours: its parts."""

    model_config = ConfigDict(frozen=True)

    part: float = 0.0
    whole: float = 0.0


class Reuse(BaseModel):
    """What was found again, by SLI; how old blocks were when the GPU gave them up (`age`, seconds times blocks)."""

    model_config = ConfigDict(frozen=True)

    ratios: dict[str, Faded] = {}
    age: Faded = Faded()
    end_ms: int = 0

    def heard(self, sli: Sli) -> Reuse:
        """With one more window of the workload. One that is not newer than the last changes nothing."""
        if sli.end_ms <= self.end_ms:
            return self
        fade = 0.5 ** ((sli.end_ms - self.end_ms) / 1000 / HALF_LIFE_S) if self.end_ms else 0.0
        ratios = {name: _faded(self.ratios.get(name), sli, name, fade) for name in _RATIOS}
        known = {name: each for name, each in ratios.items() if each is not None}
        age = _faded(self.age, sli, "kv_idle_before_evict_mean_s", fade) or Faded()
        return Reuse(ratios=known, age=age, end_ms=sli.end_ms)

    def ratio(self, sli: str) -> float | None:
        """A hit ratio; None while too little was looked up."""
        found = self.ratios.get(sli)
        return found.part / found.whole if found and found.whole >= LEAST_QUERIES * _RATIOS[sli][1] else None

    @property
    def age_s(self) -> float | None:
        """Mean age of blocks that the GPU gave up; None where nobody samples them."""
        return self.age.part / self.age.whole if self.age.whole >= 1 else None


def _faded(before: Faded | None, sli: Sli, name: str, fade: float) -> Faded | None:
    told = sli.values.get(name)
    if told is None or told.value is None:
        return Faded(part=before.part * fade, whole=before.whole * fade) if before else None
    was = before or Faded()
    return Faded(part=was.part * fade + told.value * told.samples, whole=was.whole * fade + told.samples)


@dataclass(frozen=True)
class Verdict:
    """Whether a trial of tiers is worth it (None: not known), why, and the numbers."""

    worth: bool | None
    why: str
    numbers: dict[str, float]

    def values(self) -> dict[str, float]:
        """Numbers of a finding."""
        return self.numbers | ({} if self.worth is None else {"tier_worth_trying": float(self.worth)})

    def explain(self) -> str:
        """One line with every number that decided."""
        told = ", ".join(f"{name.removeprefix('tier_')} {value:.3g}" for name, value in self.numbers.items())
        return f"{self.why} ({told})" if told else self.why


def verdict(reuse: Reuse, context_ratio: float | None) -> Verdict:
    """What is found. `context_ratio`: mean length of requests over `max_model_len`, 0..1; None where unknown."""
    numbers = {told: ratio for sli, (told, _) in _RATIOS.items() if (ratio := reuse.ratio(sli)) is not None}
    if context_ratio is not None:
        numbers["tier_context_ratio"] = context_ratio
    if reuse.age_s is not None:
        numbers["tier_eviction_age_s"] = reuse.age_s
    there = any(name in numbers for name in ("tier_external_hit_ratio", "tier_host_hit_ratio", "tier_disk_hit_ratio"))
    numbers["tiers_there"] = float(there)
    if there:
        return Verdict(False, "no trial: tiers are there already, and this is what they find", numbers)
    hits = numbers.get("tier_gpu_hit_ratio")
    if hits is None:
        return Verdict(None, "not known: reuse was not measured, or too little was looked up", numbers)
    if hits < UNUSED:
        return Verdict(False, f"no: {hits:.1%} of tokens are found again, and tiers cost where nothing is", numbers)
    long = context_ratio is not None and context_ratio > LONG_CONTEXT
    if hits < REUSED and not long:
        return Verdict(False, f"no: {hits:.1%} of tokens are found again, {REUSED:.0%} are asked for", numbers)
    age_s = reuse.age_s
    if age_s is not None and age_s > LONG_AGE_S:
        return Verdict(False, f"no: the GPU keeps unused blocks for {age_s:.0f} s before it gives them up", numbers)
    why = f"{hits:.1%} of tokens are found again" + (", and contexts are long" if long else "")
    lasts = "how soon blocks are given up is not told" if age_s is None else f"blocks are given up after {age_s:.0f} s"
    return Verdict(True, f"worth a trial: {why}; {lasts}", numbers)
