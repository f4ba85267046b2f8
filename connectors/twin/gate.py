"""The twin's gateway: what it lets through to a workload's replicas, and the requests that wait before it.

Requests beyond `max_in_flight` wait in order of arrival, and are let in four times an event second as others end; those
whose clients lose patience meanwhile go. What it is told stands under a version, as the protocol of `docs/gateway.md`
has it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from connectors.twin.orders import CannotDo
from connectors.twin.request import Request
from contracts.errors import Conflict
from contracts.ports import GATEWAY_LIMITS, GatewayState

LOOK_MS = 250.0
"""How often it looks whether there is room for those that wait."""
NOTE_MOST = 16_384


@dataclass
class GateCounts:
    """What it did with requests: `queued` waited at first, `gave_up` of those had no patience left; `broken` were
    answered 503, `too_long` refused for their length."""

    queued: int = 0
    gave_up: int = 0
    broken: int = 0
    too_long: int = 0


class Gate:
    """The gateway of one workload; times in event ms."""

    def __init__(self) -> None:
        self.state = GatewayState(0, dict.fromkeys(GATEWAY_LIMITS, 0))
        self.counts = GateCounts()
        self._held: deque[Request] = deque()
        self._next_ms = 0.0

    @property
    def waiting(self) -> int:
        """Requests that wait before it."""
        return len(self._held)

    @property
    def most(self) -> int:
        """How many requests may be at the replicas at once; 0 for any number."""
        return self.state.limits["max_in_flight"]

    def set(self, limits: Mapping[str, int], *, if_version: int | None = None, note: str | None = None) -> GatewayState:
        """Set these limits and leave the others, and the note where none is given. Raises Conflict where `if_version`
        is not the version that stands, CannotDo for a limit that there is not."""
        state = self.state
        if if_version is not None and if_version != state.version:
            raise Conflict(f"version {if_version} is not {state.version}", where="gateway", fix="Read it again.")
        if unknown := limits.keys() - set(GATEWAY_LIMITS):
            what = f"no limit {', '.join(map(repr, sorted(unknown)))}"
            raise CannotDo(what, where="gateway", fix=f"There are {', '.join(GATEWAY_LIMITS)}.")
        if note is not None and len(note) > NOTE_MOST:
            raise CannotDo(f"a note of {len(note)} characters", where="gateway", fix=f"At most {NOTE_MOST}.")
        kept = state.note if note is None else note
        self.state = GatewayState(state.version + 1, {**state.limits, **limits}, kept)
        return self.state

    def refuses(self, request: Request) -> str:
        """Why a request is not taken at all, `broken` or `too_long`, which is counted; empty when it is."""
        limits, counts = self.state.limits, self.counts
        if request.arrival_ms < limits["breaker_until_ms"]:
            counts.broken += 1
            return "broken"
        longest = limits["max_context_tokens"]
        if longest and request.prompt_tokens + request.max_tokens > longest:
            counts.too_long += 1
            return "too_long"
        return ""

    def hold(self, request: Request) -> None:
        """Let it wait."""
        self.counts.queued += 1
        if not self._held:
            self._next_ms = request.arrival_ms // LOOK_MS * LOOK_MS + LOOK_MS
        self._held.append(request)

    def looks(self, to_ms: float) -> Iterator[float]:
        """The times up to `to_ms` at which it looks for room, while anybody waits."""
        while self._held and self._next_ms <= to_ms:
            at_ms, self._next_ms = self._next_ms, self._next_ms + LOOK_MS
            yield at_ms

    def gone(self, at_ms: float) -> Iterator[Request]:
        """Those whose clients have no patience left, taken out of the queue."""
        for request in [each for each in self._held if each.arrival_ms + each.patience_ms <= at_ms]:
            self._held.remove(request)
            self.counts.gave_up += 1
            yield request

    def next(self, at_ms: float, in_flight: int) -> Request | None:
        """The next that is let in with so many at the replicas, as one that arrives there now; None when none is."""
        open_again = at_ms >= self.state.limits["breaker_until_ms"]
        if not self._held or not open_again or (self.most and in_flight >= self.most):
            return None
        request = self._held.popleft()
        return replace(request, arrival_ms=at_ms, patience_ms=request.patience_ms - (at_ms - request.arrival_ms))
