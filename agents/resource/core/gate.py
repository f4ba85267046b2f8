"""What stands at the gateway of a workload, as outcomes and the gateway tell it, and what it should let through next.

How many requests may be at the replicas at once follows from how many run: their KV is taken to grow and shrink with
them, and to fill four fifths of the cache, half way between where queueing begins and where it ends. It is told before
it is needed: a look comes every 45 s, and a cache may fill faster.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.events import GATEWAY_CHANGE, EndState, FleetEvent, Outcome
from contracts.ports import GATEWAY_LIMITS

QUEUE_TO = 0.80
KNOWN_FROM = 0.50
"""Where less of the cache is in use, what many would hold does not follow from what few do."""
LEAST_CONTEXT_TOKENS = 4096
"""Requests of up to so many tokens are refused by none of our rules, where the operator names no other number."""


class Gate(BaseModel):
    """What stands there, 0 for no limit; `at_ms` is when that was told last."""

    model_config = ConfigDict(frozen=True)

    max_in_flight: int = 0
    max_context_tokens: int = 0
    at_ms: int = 0

    @property
    def holds(self) -> bool:
        """Whether it keeps anything from the replicas."""
        return bool(self.max_in_flight or self.max_context_tokens)

    def ended(self, outcome: Outcome) -> Gate:
        """After an action. What was verified stands. Of one that was left as it is nobody knows: what it set may stand,
        and what it lifted may not be lifted."""
        settings, state = outcome.action.spec.settings, outcome.end_state
        told = {name: round(value) for name, value in settings.items() if name in GATEWAY_LIMITS}
        if not outcome.action.spec.kind.gateway_setting or not told or outcome.at_ms < self.at_ms:
            return self
        if state is EndState.VERIFIED or (state is EndState.HELD_UNVERIFIED and all(told.values())):
            return self.model_copy(update=told | {"at_ms": outcome.at_ms})
        return self

    def heard(self, event: FleetEvent) -> Gate:
        """After the gateway was read: whoever set it, that is what stands."""
        if event.name != GATEWAY_CHANGE or event.at_ms < self.at_ms:
            return self
        queue, context = (event.limits.get(name, 0) for name in ("max_in_flight", "max_context_tokens"))
        return Gate(max_in_flight=queue, max_context_tokens=context, at_ms=event.at_ms)

    def present(self, context_tokens: int | None) -> int | None:
        """The longest requests that are taken now; None where that is not known. `context_tokens`: `max_model_len`."""
        limits = [each for each in (self.max_context_tokens, context_tokens) if each]
        return min(limits) if limits else None

    def values(self, kv: float | None, running: float | None) -> dict[str, float]:
        """Numbers of a finding. `kv`: share of KV blocks in use, `running`: requests in the batches of all replicas."""
        told = {
            "gateway_in_flight": float(self.max_in_flight),
            "gateway_context_tokens": float(self.max_context_tokens),
        }
        if kv is not None and kv >= KNOWN_FROM and running is not None and running >= 1:
            told["in_flight_wanted"] = float(max(1, int(running * QUEUE_TO / kv)))
        return told

    def explain(self) -> str:
        """What stands there, in words; empty where nothing does."""
        told = []
        if self.max_in_flight:
            told.append(f"the gateway lets {self.max_in_flight} requests at once through")
        if self.max_context_tokens:
            told.append(f"the gateway refuses requests of more than {self.max_context_tokens} tokens")
        return "; ".join(told)
