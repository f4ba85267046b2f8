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
LEAST_ERROR = 0.01
"""Of the logarithm: minutes that happen to agree say no more than this, and equal ones are no proof of none."""


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
        """By how many standard errors it is above the rest's (below 0: below); 0 before there were enough minutes."""
        if self.count < LEAST_PAIRS:
            return 0.0
        mean = self.total / self.count
        spread = max(0.0, self.squares / self.count - mean * mean) * self.count / (self.count - 1)
        return mean / max(LEAST_ERROR, sqrt(spread / self.count))

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
    """Prompt tokens of one side that were found on the GPU and in the tiers below it, each of those that were in
    minutes that tell it."""

    model_config = ConfigDict(frozen=True)

    device: float = 0.0
    device_of: float = 0.0
    tiers: float = 0.0
    tiers_of: float = 0.0

    def seen(self, parts: Iterable[Minute]) -> Found:
        """With one more minute of these replicas."""
        device, device_of, tiers, tiers_of = self.device, self.device_of, self.tiers, self.tiers_of
        for each in parts:
            if each.device_hits is not None:
                device, device_of = device + each.device_hits, device_of + each.prompt_tokens
            if each.tier_hits is not None:
                tiers, tiers_of = tiers + each.tier_hits, tiers_of + each.prompt_tokens
        return Found(device=device, device_of=device_of, tiers=tiers, tiers_of=tiers_of)

    @property
    def of_tiers(self) -> float | None:
        """Share of the prompt tokens that came from the tiers, 1 at most; None where nothing was told."""
        return min(1.0, self.tiers / self.tiers_of) if self.tiers_of > 0 else None

    @property
    def of_device(self) -> float | None:
        """The same of those that were on the GPU."""
        return min(1.0, self.device / self.device_of) if self.device_of > 0 else None


class Effect(BaseModel):
    """What was measured of a canary with other tiers since it was `warm`. Event ms: it warms up until `warm_ms` and is
    watched until `watched_ms`. `served`: its requests that did not fail, beside those of the rest, in minutes in which
    both tell that; `ttft`: its mean, for a quantile read from buckets jumps at their edges; `own`, `rest`: prompt
    tokens. `needs_hits`: False where tiers are taken away."""

    model_config = ConfigDict(frozen=True)

    warm_ms: int
    watched_ms: int
    needs_hits: bool
    warm: bool = False
    served: Canary = Canary()
    ttft: Paired = Paired()
    own: Found = Found()
    rest: Found = Found()

    def seen(self, own: Minute, rest: Iterable[Minute]) -> Effect:
        """With one more minute of both sides."""
        others = tuple(rest)
        telling = [(each.finished, each.failed) for each in others if each.failed is not None]
        served = self.served
        if own.failed is not None and telling:
            count, failed = (round(sum(each)) for each in zip(*telling, strict=True))
            mine, lost = round(own.finished), round(own.failed)
            served = served.see(Seen(mine, max(0, mine - lost), count, max(0, count - failed)))
        return self.model_copy(
            update={
                "served": served,
                "ttft": self.ttft.with_pair(own.ttft_mean_s, (each.ttft_mean_s for each in others)),
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
        if self.ttft.much_worse:
            return False, f"first tokens come much later: {words}"
        if at_ms < self.watched_ms or self.ttft.count < LEAST_PAIRS:
            return None, ""
        if self.ttft.worse:
            return False, f"first tokens come later: {words}"
        if self.untold:
            return None, ""
        if self.needs_hits and (self.own.of_tiers or 0.0) < LEAST_HITS:
            return False, f"of no use, its tiers gave less than {LEAST_HITS:.0%} of its prompt tokens: {words}"
        if self.ttft.better:
            return True, f"first tokens come sooner: {words}"
        return (True, f"no worse: {words}") if verdict.decision is Decision.KEEP else (None, "")

    @property
    def untold(self) -> bool:
        """Whether nothing tells if its tiers are of use, which they must be."""
        return self.needs_hits and self.own.of_tiers is None

    def explain(self) -> str:
        """What was measured, in one line."""
        own, rest, served, other = self.own, self.rest, self.served.canary, self.served.rest
        failed = "requests that failed: not told"
        if served.requests and other.requests:
            share, theirs = (1 - arm.good / arm.requests for arm in (served, other))
            failed = f"{share:.2%} of {served.requests} requests failed, theirs {theirs:.2%} of {other.requests}"
        enough = self.ttft.count >= LEAST_PAIRS
        by = f"{self.ttft.by_errors():+.1f} standard errors" if enough else "too few to tell it from chance"
        return (
            f"of its prompt tokens its tiers gave {_share(own.of_tiers)} and its GPUs {_share(own.of_device)}, "
            f"those of the rest {_share(rest.of_tiers)} and {_share(rest.of_device)}; in {self.ttft.count} minutes its "
            f"mean TTFT was {self.ttft.ratio:.2f} times theirs ({by}); {failed}"
        )

    def numbers(self) -> dict[str, float]:
        """The same as numbers of the finding."""
        told = {} if self.own.of_tiers is None else {"tier_tokens_ratio": self.own.of_tiers}
        return told | {"canary_ttft_ratio": self.ttft.ratio}


def _share(ratio: float | None) -> str:
    return "not told" if ratio is None else f"{ratio:.1%}"
