"""Says whether a smaller `max_model_len` would help, and what it would cost: the share of requests that it refuses.

vLLM keeps KV in pages and sets none aside for a context that is not used: a smaller window frees no memory by itself.
It raises how many requests of full length are sure to fit, and it refuses the longest requests, whose KV is then free.
Only the latter is counted as gain, by an estimate of what those requests hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from pydantic import BaseModel, ConfigDict

from contracts.events import Sli

HEADROOM, WORTH_RATIO = 1.2, 0.2
"""p95 of use and a fifth more; proposed where that saves more than a fifth (requirements, Resource)."""
REFUSED_P95, REFUSED_P99 = 0.05, 0.01
LEAST_REQUESTS = 20
"""Windows with fewer requests say nothing of a p95."""
HOURS = 24
HOUR_MS = 3_600_000
ROUND_TOKENS = 256
BEYOND = "how long the longest requests are is not known: they lie above the largest bucket of the page"
UNKNOWN = "max_model_len is not known: name it under engines in optiinfra.yaml"


class Hour(BaseModel):
    """Requests of an hour: how many, their tokens, and the longest p95 and p99 that a window of five minutes showed.
    `beyond`: in one of them they lay above the largest bucket, so that nobody knows."""

    model_config = ConfigDict(frozen=True)

    requests: int = 0
    tokens: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    beyond: bool = False


class Lengths(BaseModel):
    """Lengths of requests over a day, by hour; `end_ms` is the end of the newest window read."""

    model_config = ConfigDict(frozen=True)

    hours: dict[int, Hour] = {}
    end_ms: int = 0

    def heard(self, sli: Sli) -> Lengths:
        """With one more window of the workload. One that is not newer than the last changes nothing."""
        told = sli.values.get("request_tokens_mean")
        p95, p99 = sli.value("request_tokens_p95"), sli.value("request_tokens_p99")
        if sli.end_ms <= self.end_ms or told is None or told.value is None or told.samples < LEAST_REQUESTS:
            return self
        at = (sli.end_ms - 1) // HOUR_MS
        was = self.hours.get(at, Hour())
        hour = Hour(
            requests=was.requests + told.samples,
            tokens=was.tokens + told.value * told.samples,
            p95=max(was.p95, p95 or 0.0),
            p99=max(was.p99, p99 or 0.0),
            beyond=was.beyond or p95 is None or p99 is None,
        )
        kept = {each: known for each, known in self.hours.items() if at - each < HOURS}
        return Lengths(hours=kept | {at: hour}, end_ms=sli.end_ms)

    @property
    def beyond(self) -> bool:
        """Whether the longest requests of a day are longer than anybody tells."""
        return any(each.beyond for each in self.hours.values())

    @property
    def mean(self) -> float | None:
        """Tokens of a request, prompt and output; None where none was seen."""
        requests = sum(each.requests for each in self.hours.values())
        return sum(each.tokens for each in self.hours.values()) / requests if requests else None


@dataclass(frozen=True)
class Proposal:
    """A context window, whether it is worth setting, and why. `refused_ratio` is the share of requests that would be
    refused at most; `room_ratio` an estimate of the KV room in use that they hold, if each were as long as may be and
    held it no longer than others. `guarantee_ratio`: by how much more requests of full length are sure to fit at once.
    """

    now_tokens: int
    p95_tokens: float
    wanted_tokens: int
    refused_ratio: float
    room_ratio: float
    worth: bool
    why: str

    @property
    def saving_ratio(self) -> float:
        """By how much of the present window the new one is smaller; 0 where it is not."""
        return max(0.0, 1.0 - self.wanted_tokens / self.now_tokens)

    @property
    def guarantee_ratio(self) -> float:
        return max(0.0, self.now_tokens / self.wanted_tokens - 1.0)

    def values(self) -> dict[str, float]:
        """Numbers of a finding."""
        return {
            "context_now_tokens": float(self.now_tokens),
            "context_p95_tokens": self.p95_tokens,
            "context_wanted_tokens": float(self.wanted_tokens),
            "context_saving_ratio": self.saving_ratio,
            "context_refused_ratio": self.refused_ratio,
            "context_room_ratio": self.room_ratio,
            "context_guarantee_ratio": self.guarantee_ratio,
            "context_worth_setting": float(self.worth),
        }

    def explain(self) -> str:
        """One line with every number that decided."""
        return (
            f"max_model_len {self.now_tokens}, p95 of use {self.p95_tokens:.0f} tokens, a fifth more is "
            f"{self.wanted_tokens}, {self.saving_ratio:.0%} less: refuses at most {self.refused_ratio:.0%} of requests,"
            f" which hold about {self.room_ratio:.0%} of the KV in use, and {self.guarantee_ratio:.0%} more requests "
            f"of full length are sure to fit: {self.why}"
        )


def proposal(lengths: Lengths, now_tokens: int, pressed: bool) -> Proposal | None:
    """What a smaller window would do; None while lengths are not known. `pressed`: memory is short now."""
    mean = lengths.mean
    if mean is None or lengths.beyond:
        return None
    p95 = max(each.p95 for each in lengths.hours.values())
    p99 = max(each.p99 for each in lengths.hours.values())
    wanted = max(ROUND_TOKENS, ceil(HEADROOM * p95 / ROUND_TOKENS) * ROUND_TOKENS)
    longest = p99 > wanted
    refused = 0.0 if wanted >= now_tokens else REFUSED_P95 if longest else REFUSED_P99
    room = min(1.0, refused * now_tokens / mean) if mean > 0 else 0.0
    saving = 1.0 - wanted / now_tokens
    if saving <= WORTH_RATIO:
        worth, why = False, f"no: it saves {max(0.0, saving):.0%}, more than {WORTH_RATIO:.0%} is asked for"
    elif not longest:
        worth, why = False, "no: at most 1 % of requests are longer, and vLLM sets no memory aside for what is not used"
    elif not pressed:
        worth, why = False, "no: memory is not short, and vLLM sets none aside for what is not used"
    elif room <= WORTH_RATIO:
        worth, why = False, f"no: what it refuses frees about {room:.0%}"
    else:
        worth, why = True, "worth it where refusing those requests is right: people decide"
    return Proposal(now_tokens, p95, wanted, refused, room, worth, why)
