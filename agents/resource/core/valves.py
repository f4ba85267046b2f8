"""What a gateway before the replicas should do while memory runs out: let requests queue, cut contexts, or refuse.

Each is advice, on from one threshold until another (requirements, Resource); where there is a gateway, the rules of
`rules/packs/resource.yaml` do it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict

from agents.resource.core.readings import Reading
from contracts.laws.gateway_limits import BREAKER_S

QUEUE_ABOVE, QUEUE_UNTIL = 0.85, 0.75
CUT_ABOVE, CUT_UNTIL, CUT_TO = 0.90, 0.85, 0.8
"""Contexts are cut to this share above the one share of KV blocks in use, until it is back below the other."""
BREAKER_RESTARTS, BREAKER_SHARE, BREAKER_MS = 3, 0.1, BREAKER_S * 1000
"""So many engines that began anew in five minutes while memory was short, and that share of the replicas at least,
refuse requests for two: metrics do not tell an OOM from another crash, and of a large fleet a few always begin anew."""
MANY = f"{BREAKER_RESTARTS} engines or more, a tenth of all at least,"
SHORT = "after memory was short"
SHORT_RATIO, SHORT_MS = 0.9, 300_000
"""A restart is put down to memory where so much of the KV cache of the workload was in use within so long before it:
others, as a rolling restart by hand, trip no breaker. That a request was pushed out says too little: replicas that go
one by one do that to the others."""


def of_memory(readings: Sequence[Reading]) -> Iterator[Reading]:
    """Those of the `readings`, oldest first, in which engines began anew after memory was short."""
    short_ms: int | None = None
    for each in readings:
        if (each.kv or 0.0) >= SHORT_RATIO:
            short_ms = each.end_ms
        if each.restarts and short_ms is not None and each.end_ms - short_ms <= SHORT_MS:
            yield each


class Valves(BaseModel):
    """What is advised now; `breaker_until_ms`: until when requests are to be refused."""

    model_config = ConfigDict(frozen=True)

    queue: bool = False
    cut: bool = False
    breaker_until_ms: int = 0

    @property
    def tripped_ms(self) -> int:
        """When the breaker was tripped last; restarts of before count no more."""
        return self.breaker_until_ms - BREAKER_MS

    def looked(self, at_ms: int, kv: float | None, restarts: float, replicas: int = 0) -> Valves:
        """After a look. `kv`: share of KV blocks in use by the newest reading; unknown leaves all as it is. `restarts`:
        those of the last five minutes that nobody ordered, of engines whose memory was short before, since the breaker
        was tripped last, among so many `replicas`."""
        breaker_ms = self.breaker_until_ms
        if restarts >= max(BREAKER_RESTARTS, BREAKER_SHARE * replicas) and at_ms >= breaker_ms:
            breaker_ms = at_ms + BREAKER_MS
        if kv is None:
            return self.model_copy(update={"breaker_until_ms": breaker_ms})
        queue = kv >= QUEUE_UNTIL if self.queue else kv > QUEUE_ABOVE
        cut = kv >= CUT_UNTIL if self.cut else kv > CUT_ABOVE
        return Valves(queue=queue, cut=cut, breaker_until_ms=breaker_ms)

    def lost(self) -> Valves:
        """Where nobody has told the use of the KV cache for long: nothing is advised on what it was."""
        return self.model_copy(update={"queue": False, "cut": False}) if self.queue or self.cut else self

    def values(self, at_ms: int, context_tokens: int | None, least_tokens: int = 0) -> dict[str, float]:
        """Numbers of a finding. `context_tokens`: the longest requests taken now, None where that is not known; they
        are not cut below `least_tokens`."""
        told = {"queue_advised": float(self.queue), "breaker_advised": float(at_ms < self.breaker_until_ms)}
        if self.cut and context_tokens is not None:
            cut = max(least_tokens, int(context_tokens * CUT_TO))
            told |= {"context_cut_tokens": float(cut)} if cut < context_tokens else {}
        return told

    def explain(self, at_ms: int) -> str:
        """What is advised, in words; empty where nothing is."""
        told = []
        if self.queue:
            told.append(f"let requests queue at the gateway until KV use is below {QUEUE_UNTIL:.0%}")
        if self.cut:
            told.append(f"take no request longer than {CUT_TO:.0%} of max_model_len until it is below {CUT_UNTIL:.0%}")
        if at_ms < self.breaker_until_ms:
            left_s = (self.breaker_until_ms - at_ms) / 1000
            told.append(f"answer 503 for {left_s:.0f} s: {MANY} began anew within five minutes {SHORT}")
        return "; ".join(told)
