"""What stands at the gateway of a workload, as outcomes and the gateway tell it, and what it should let through next.

How many requests may be at the replicas at once follows from how many run: their KV is taken to grow and shrink with
them, and to fill four fifths of the cache, half way between where queueing begins and where it ends. It is told before
it is needed: a look comes every 45 s, and a cache may fill faster.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from contracts.events import GATEWAY_CHANGE, Action, EndState, FleetEvent, Outcome

QUEUE_TO = 0.80
KNOWN_FROM = 0.50
"""Where less of the cache is in use, what many would hold does not follow from what few do."""
STANDS_MS = 900_000
"""A queue that an action of ours set and that stands for so long hides a load for which the fleet is too small: people
are told."""
_NAMES = ("max_in_flight", "max_context_tokens")
_THEIRS = " (not set by a rule, none lifts it)"
_LEFT = " (set by an action of ours that was not verified: no rule lifts it)"


class Ours(BaseModel):
    """A limit that an action of ours set last: its value, what stood before any of ours, 0 for none, since when one of
    ours has, and whether people were told that it stands for long. Where nobody verified the action no rule of ours
    `lifts` it: people must."""

    model_config = ConfigDict(frozen=True)

    value: int
    before: int
    since_ms: int
    told: bool = False
    lifts: bool = True


class Gate(BaseModel):
    """What stands there, 0 for no limit; `at_ms` is when that was told last, `heard_ms` when the gateway itself did.

    `was` is what stood there before each limit changed last, and when it did. `ours` are the limits that we set,
    `asked` what actions of ours that have not ended want to set. What people set is theirs: no rule of ours lifts or
    loosens it. A breaker is open until `breaker_until_ms`, whoever opened it.
    """

    model_config = ConfigDict(frozen=True)

    max_in_flight: int = 0
    max_context_tokens: int = 0
    breaker_until_ms: int = 0
    at_ms: int = 0
    heard_ms: int = 0
    was: dict[str, tuple[int, int]] = {}
    ours: dict[str, Ours] = {}
    asked: dict[str, int] = {}

    @property
    def holds(self) -> bool:
        """Whether it keeps anything from the replicas."""
        return bool(self.max_in_flight or self.max_context_tokens)

    def own(self, name: str) -> Ours | None:
        """The limit of this name that stands by our doing and is ours to lift, None where none is."""
        ours = self._set_last(name)
        return ours if ours is not None and ours.lifts else None

    def _set_last(self, name: str) -> Ours | None:
        ours = self.ours.get(name)
        return ours if ours is not None and ours.value == getattr(self, name) else None

    def acted(self, action: Action) -> Gate:
        """After an action was approved: what it sets will be told by the gateway, and is no change by hand."""
        told = _limits_of(action)
        return self.model_copy(update={"asked": self.asked | told}) if told else self

    def ended(self, outcome: Outcome) -> Gate:
        """After an action. What was verified stands, and is ours, unless the gateway has told of something else since
        the action began. Of one that was left as it is nobody knows: what it set may stand, and people must lift it;
        what it lifted may not be lifted."""
        action, state = outcome.action, outcome.end_state
        began_ms = action.at_ms if outcome.began_ms is None else outcome.began_ms
        gate, heard = self, self.heard_ms > began_ms
        for name, value in _limits_of(action).items():
            asked = {each: wanted for each, wanted in gate.asked.items() if (each, wanted) != (name, value)}
            gate, ours = gate.model_copy(update={"asked": asked}), gate.own(name)
            if state is EndState.VERIFIED:
                gate = gate._verified(name, value, heard=heard, seen_ms=action.at_ms, at_ms=outcome.at_ms)
            elif state is EndState.HELD_UNVERIFIED and heard:
                gate = gate if ours else gate._left(name, value, outcome.at_ms)
            elif state is EndState.HELD_UNVERIFIED and value and not (ours and value == ours.before):
                gate = gate._set(name, value, outcome.at_ms)._left(name, value, outcome.at_ms)
        return gate

    def _left(self, name: str, value: int, at_ms: int) -> Gate:
        """With a limit that an action set, as it seems, which nobody verified."""
        if not value or getattr(self, name) != value:
            return self._not_ours(name)
        known = self.ours.get(name)
        since_ms, before = (known.since_ms, known.before) if known else (at_ms, 0)
        left = Ours(value=value, before=before, since_ms=since_ms, lifts=False)
        return self.model_copy(update={"ours": self.ours | {name: left}})

    def _verified(self, name: str, value: int, *, heard: bool, seen_ms: int, at_ms: int) -> Gate:
        """With a limit that was verified; `heard`: the gateway has told what stands since the action began. Since
        clocks may differ by seconds, what changed after the data of the action (`seen_ms`) was changed by it."""
        stands, known = getattr(self, name), self.ours.get(name)
        known = known if known is not None and known.lifts else None
        was, changed_ms = self.was.get(name, (0, 0))
        if heard and stands != value:
            return self._not_ours(name)
        found = was if heard and changed_ms >= seen_ms else stands
        goes_on = known is not None and found in (known.value, value)
        if value == (known.before if known is not None and goes_on else found):
            return (self if heard else self._set(name, value, at_ms))._not_ours(name)
        if known is not None and goes_on:
            ours = known.model_copy(update={"value": value})
        else:
            ours = Ours(value=value, before=found, since_ms=at_ms)
        gate = self if heard else self._set(name, value, at_ms)
        return gate.model_copy(update={"ours": gate.ours | {name: ours}})

    def known_by(self, at_ms: int) -> Gate:
        """What stands, told at `at_ms` at the latest: where clocks disagree, what comes next must not seem older."""
        was = {name: (value, min(ms, at_ms)) for name, (value, ms) in self.was.items()}
        ours = {
            name: each.model_copy(update={"since_ms": min(each.since_ms, at_ms)}) for name, each in self.ours.items()
        }
        times = {"at_ms": min(self.at_ms, at_ms), "heard_ms": min(self.heard_ms, at_ms)}
        return self.model_copy(update=times | {"was": was, "ours": ours})

    def stands_long(self, at_ms: int) -> bool:
        """Whether a queue that an action of ours set last has stood for long, and nobody was told."""
        queue = self._set_last("max_in_flight")
        return queue is not None and not queue.told and at_ms - queue.since_ms >= STANDS_MS

    def said(self) -> Gate:
        """After people were told that the queue stands."""
        queue = self.ours["max_in_flight"].model_copy(update={"told": True})
        return self.model_copy(update={"ours": self.ours | {"max_in_flight": queue}})

    def heard(self, event: FleetEvent) -> Gate:
        """After the gateway was read: whoever set it, that is what stands. What we neither set nor are about to is not
        ours any more."""
        if event.name != GATEWAY_CHANGE or event.at_ms < self.at_ms:
            return self
        times = {"at_ms": event.at_ms, "heard_ms": event.at_ms}
        gate = self.model_copy(update=times | {"breaker_until_ms": event.limits.get("breaker_until_ms", 0)})
        for name in _NAMES:
            value, ours = event.limits.get(name, 0), gate.ours.get(name)
            if value != getattr(gate, name):
                gate = gate._set(name, value, event.at_ms)
            if ours is not None and value != ours.value and value != gate.asked.get(name):
                gate = gate._not_ours(name)
        return gate

    def _set(self, name: str, value: int, at_ms: int) -> Gate:
        was = self.was | {name: (getattr(self, name), at_ms)}
        return self.model_copy(update={name: value, "at_ms": max(at_ms, self.at_ms), "was": was})

    def _not_ours(self, name: str) -> Gate:
        return self.model_copy(update={"ours": {each: ours for each, ours in self.ours.items() if each != name}})

    def present(self, context_tokens: int | None) -> int | None:
        """The longest requests that are taken now; None where that is not known. `context_tokens`: `max_model_len`."""
        limits = [each for each in (self.max_context_tokens, context_tokens) if each]
        return min(limits) if limits else None

    def values(self, kv: float | None, running: float | None) -> dict[str, float]:
        """Numbers of a finding. `kv`: share of KV blocks in use, `running`: requests in the batches of all replicas,
        None where one of them did not tell. What is wanted is never looser than what stands."""
        queue, context = self.own("max_in_flight"), self.own("max_context_tokens")
        told = {
            "gateway_in_flight": float(queue.value if queue else 0),
            "gateway_context_tokens": float(context.value if context else 0),
        }
        told |= {"in_flight_before": float(queue.before)} if queue else {}
        told |= {"context_tokens_before": float(context.before)} if context else {}
        if kv is not None and kv >= KNOWN_FROM and running is not None and running >= 1:
            wanted = max(1, int(running * QUEUE_TO / kv))
            if not self.max_in_flight or wanted < self.max_in_flight:
                told["in_flight_wanted"] = float(wanted)
        return told

    def explain(self) -> str:
        """What stands there, in words; empty where nothing does."""
        told = []
        if self.max_in_flight:
            whose = self._whose("max_in_flight")
            told.append(f"the gateway lets {self.max_in_flight} requests at once through{whose}")
        if self.max_context_tokens:
            whose = self._whose("max_context_tokens")
            told.append(f"the gateway refuses requests of more than {self.max_context_tokens} tokens{whose}")
        return "; ".join(told)

    def _whose(self, name: str) -> str:
        last = self._set_last(name)
        return _THEIRS if last is None else "" if last.lifts else _LEFT


def _limits_of(action: Action) -> dict[str, int]:
    """What an action sets there for longer than a breaker is open; empty for one on something else."""
    settings = action.spec.settings if action.spec.kind.gateway_setting else {}
    return {name: round(value) for name, value in settings.items() if name in _NAMES}
