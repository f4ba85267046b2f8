"""Compares a replica that was given KV tiers with the rest, by what was measured: tokens found, first tokens, failures.

First it warms up, for its caches were lost with its process: nothing of that counts, and only what is far worse ends
the trial then. After that it is watched: each minute in which both sides had first tokens is a pair, so that what the
load does to both cancels out. Lateness is compared as for any canary (`canary.py`), and so are failed requests.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import exp, log, sqrt

from pydantic import BaseModel, ConfigDict

from agents.performance.core.canary import Canary, Decision, Seen, Verdict
from agents.performance.core.minutes import Minute

FAR = 0.1
"""By so much lower a share of requests in time ends a trial in its warm-up."""
LEAST_HITS = 0.01
"""Share of its prompt tokens that must come from tiers, or they are of no use."""
SURE, EARLY = 2.0, 4.0
"""Standard errors by which first tokens must differ: at the end, and before it, where one looks at every minute."""
SLOWER, MUCH_SLOWER = 0.05, 0.25
"""First tokens that come later by less than this are no worse; by more than the other, the end is not waited for."""
LEAST_PAIRS = 5


class Paired(BaseModel):
    """Logarithms of the canary's figure over the rest's, minute by minute, in sums."""

    model_config = ConfigDict(frozen=True)

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def with_pair(self, own: float | None, rest: Iterable[float | None]) -> Paired:
        """With one more minute; one in which a side tells nothing is none."""
        known = [each for each in rest if each is not None and each > 0]
        if own is None or own <= 0 or not known:
            return self
        ratio = log(own * len(known) / sum(known))
        return Paired(count=self.count + 1, total=self.total + ratio, squares=self.squares + ratio * ratio)

    @property
    def ratio(self) -> float:
        """The canary's over the rest's, the geometric mean over minutes; 1 before there was any."""
        return exp(self.total / self.count) if self.count else 1.0

    def by_errors(self) -> float:
        """By how many standard errors it is above the rest's (below 0: below); 0 where that cannot be told."""
        if self.count < LEAST_PAIRS:
            return 0.0
        mean = self.total / self.count
        spread = max(0.0, self.squares / self.count - mean * mean) * self.count / (self.count - 1)
        error = sqrt(spread / self.count)
        return mean / error if error > 0 else 0.0

    @property
    def worse(self) -> bool:
        """Whether it is above the rest's by more than the margin and more than chance does."""
        return self.ratio > 1 + SLOWER and self.by_errors() > SURE

    @property
    def much_worse(self) -> bool:
        """Whether it is so plainly above that nothing more need be seen."""
        return self.ratio > 1 + MUCH_SLOWER and self.by_errors() > EARLY

    @property
    def better(self) -> bool:
        """Whether it is below the rest's by more than chance does."""
        return self.by_errors() < -SURE


class Found(BaseModel):
    """Prompt tokens of one side, and of them those found on the GPU and in the tiers below it."""

    model_config = ConfigDict(frozen=True)

    prompts: float = 0.0
    device: float = 0.0
    tiers: float = 0.0

    def seen(self, parts: Iterable[Minute]) -> Found:
        """With one more minute of these replicas."""
        prompts, device, tiers = self.prompts, self.device, self.tiers
        for each in parts:
            prompts, device, tiers = prompts + each.prompt_tokens, device + each.device_hits, tiers + each.tier_hits
        return Found(prompts=prompts, device=device, tiers=tiers)

    def share(self, tokens: float) -> float:
        """Of the prompt tokens, so many; 1 at most."""
        return min(1.0, tokens / self.prompts) if self.prompts > 0 else 0.0


class Effect(BaseModel):
    """What was measured of a canary with other tiers since it was `warm`. Event ms: it warms up until `warm_ms` and is
    watched until `watched_ms`. `served`: its requests that did not fail, beside those of the rest; `median`, `tail`:
    TTFT at p50 and at the objective's quantile; `own`, `rest`: prompt tokens. `needs_hits`: False where tiers are taken
    away."""

    model_config = ConfigDict(frozen=True)

    warm_ms: int
    watched_ms: int
    needs_hits: bool
    warm: bool = False
    served: Canary = Canary()
    median: Paired = Paired()
    tail: Paired = Paired()
    own: Found = Found()
    rest: Found = Found()

    def seen(self, own: Minute, rest: Iterable[Minute]) -> Effect:
        """With one more minute of both sides."""
        others = tuple(rest)
        count, failed = (round(sum(each.finished for each in others)), round(sum(each.failed for each in others)))
        mine, lost = round(own.finished), round(own.failed)
        return self.model_copy(
            update={
                "served": self.served.see(Seen(mine, max(0, mine - lost), count, max(0, count - failed))),
                "median": self.median.with_pair(own.ttft_p50_s, (each.ttft_p50_s for each in others)),
                "tail": self.tail.with_pair(own.ttft_s, (each.ttft_s for each in others)),
                "own": self.own.seen((own,)),
                "rest": self.rest.seen(others),
            }
        )

    def settled(self, verdict: Verdict, at_ms: int) -> tuple[bool | None, str]:
        """Whether the canary is kept (None: not known yet), and why. `verdict`: of its requests in time."""
        if not self.warm:
            far = verdict.canary_high + FAR < verdict.rest_low
            return (False, f"far worse in its warm-up: {verdict.explain()}") if far else (None, "")
        words = f"{self.explain()}; {verdict.explain()}"
        if verdict.decision is Decision.STOP:
            return False, f"it is worse than the rest: {words}"
        served = self.served.verdict()
        if served.decision is Decision.STOP:
            return False, f"more of its requests fail: {served.explain()}; {words}"
        if self.median.much_worse or self.tail.much_worse:
            return False, f"first tokens come much later: {words}"
        if at_ms < self.watched_ms or self.tail.count < LEAST_PAIRS:
            return None, ""
        if self.median.worse or self.tail.worse:
            return False, f"first tokens come later: {words}"
        if self.needs_hits and self.own.share(self.own.tiers) < LEAST_HITS:
            return False, f"of no use, its tiers gave less than {LEAST_HITS:.0%} of its prompt tokens: {words}"
        if self.median.better or self.tail.better:
            return True, f"first tokens come sooner: {words}"
        return (True, f"no worse: {words}") if verdict.decision is Decision.KEEP else (None, "")

    def explain(self) -> str:
        """What was measured, in one line."""
        own, rest = self.own, self.rest
        served = self.served.canary
        failed = 1 - served.good / served.requests if served.requests else 0.0
        other = self.served.rest
        rest_failed = 1 - other.good / other.requests if other.requests else 0.0
        return (
            f"its tiers gave {own.share(own.tiers):.1%} of its prompt tokens and its GPUs {own.share(own.device):.1%}, "
            f"those of the rest {rest.share(rest.tiers):.1%} and {rest.share(rest.device):.1%}; in {self.tail.count} "
            f"minutes its TTFT was {self.median.ratio:.2f} times theirs at the median ({self.median.by_errors():+.1f} "
            f"standard errors) and {self.tail.ratio:.2f} times at the objective's quantile "
            f"({self.tail.by_errors():+.1f}); {failed:.2%} of {served.requests} requests failed, theirs "
            f"{rest_failed:.2%} of {other.requests}"
        )

    def numbers(self) -> dict[str, float]:
        """The same as numbers of the finding."""
        return {"tier_tokens_ratio": self.own.share(self.own.tiers), "canary_ttft_ratio": self.tail.ratio}
