"""What a package needs from outside and does not build itself: wiring hands over the real object, a test its fake."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from contracts.events import Action, AuditEntry, CandidateSet, Control, Message, Plan, PlanStep, Refusal, Review
from contracts.ledger import ActionRecord, ClaimLimits, Switches

Scalar = str | int | float | bool | None
Row = Mapping[str, Scalar]


class Publisher(Protocol):
    """Writes messages to their topics. `publish` returns when the broker has acknowledged, or raises Unavailable
    after its bounded retries; the caller decides whether to wait, buffer or give up."""

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None: ...


Handler = Callable[[Message], Awaitable[Sequence[Message]]]
"""Off-stream work on one message: what it returns is published, and then the message is committed. It may wait, and is
called again with the same message after a crash. Unavailable means: try again later; BadMessage: dead-letter it."""


class Store(Protocol):
    """The analytical store behind named queries (`streams/store/queries.py`), never SQL from a caller.

    `insert` is all or nothing for its rows and safe to repeat (rows carry ids); it raises BadMessage(STORE_REFUSED) for
    rows refused for their content. Both raise Unavailable when the store is away, ConfigError for a query or table that
    is not on the list.
    """

    async def insert(self, table: str, rows: Sequence[Row]) -> None: ...

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]: ...


class Reviewer(Protocol):
    """Judges a set of candidates. Whatever goes wrong is a Review with `failure`, never an exception: no approval."""

    name: str

    async def review(self, candidates: CandidateSet) -> Review: ...


class StepState(StrEnum):
    """What a controller knows of a token. `unknown`: nothing was ever done under it."""

    UNKNOWN = "unknown"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True)
class Observation:
    """A fleet as its controller sees it at event time `at_ms`: the ids of a workload's replicas by what they do, oldest
    first. `manual_changes` counts changes that carried no token of ours. Where the controller knows: `in_flight` has
    the requests that each replica holds, `settings` its engine settings by flag, `shares` its share of the requests,
    `starting_s` for how many event seconds each has been starting, and `launched_with` the engine settings of the next
    new replica (None: not known, or not to be set)."""

    at_ms: int
    serving: tuple[str, ...]
    starting: tuple[str, ...] = ()
    draining: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()
    manual_changes: int = 0
    in_flight: Mapping[str, int] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    shares: Mapping[str, float] = field(default_factory=dict)
    starting_s: Mapping[str, float] = field(default_factory=dict)
    launched_with: Mapping[str, float] | None = None


@dataclass(frozen=True)
class StepReport:
    """`inspect`'s answer: the state, the replica it was about, and words for people."""

    state: StepState
    subject: str = ""
    detail: str = ""


class Controller(Protocol):
    """Drives one kind of fleet, in this order: observe, plan, dry_run, apply, inspect, undo.

    `apply` and `undo` return when the order was taken, not when it is done: `inspect` tells that. Both raise
    Unavailable when nobody knows whether the order arrived (then `inspect`), Conflict for a `fence` older than one seen
    before for the same target, which is the step's part of the workload: leases on other parts grow beside it; and
    ConfigError for what cannot be done; a token that was seen before does nothing again. `plan` raises
    ConfigError where no plan can be made. `honours_tokens` is False for one that cannot promise that: such an order is
    given at most once, and then held.
    """

    honours_tokens: bool

    async def observe(self, workload: str) -> Observation: ...

    async def plan(self, action: Action, seen: Observation) -> Plan: ...

    async def dry_run(self, workload: str, step: PlanStep) -> str:
        """Empty when the step could be done now; else why not."""
        ...

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None: ...

    async def inspect(self, token: str) -> StepReport: ...

    async def undo(self, workload: str, step: PlanStep, done_token: str, token: str, fence: int) -> None:
        """Take back what was done under `done_token`. Its progress is inspected under `token`.

        One who honours tokens calls off an order that never came: should it still come, it does nothing.
        """
        ...


GATEWAY_LIMITS = ("max_in_flight", "max_context_tokens", "breaker_until_ms")
"""What a gateway lets through to a workload, 0 for no limit: requests at its replicas at once, beyond which they queue
at the gateway; tokens of prompt and answer that a request may ask for; until when (Unix ms, event time on the simulated
fleet) every request is answered 503."""


@dataclass(frozen=True)
class GatewayState:
    """What a gateway lets through to one workload. `limits` has all of GATEWAY_LIMITS, `version` grows by one with each
    change by whomever, and `note` is text that its last writer left there."""

    version: int
    limits: Mapping[str, int]
    note: str = ""


class Gateway(Protocol):
    """A proxy or router before the replicas of a workload. Both raise Unavailable when it does not answer, and
    ConfigError for what it refuses or a workload that it does not know."""

    async def read(self, workload: str) -> GatewayState: ...

    async def write(self, workload: str, limits: Mapping[str, int], *, if_version: int, note: str) -> GatewayState:
        """Set these limits, and leave those not named; Conflict, and nothing set, where its version is another by now.
        So a late or repeated order changes nothing."""
        ...


@dataclass(frozen=True)
class Claim:
    """An action may begin, under this fence; or why not."""

    fence: int = 0
    refusal: Refusal | None = None
    detail: str = ""


class Ledger(Protocol):
    """What has been done, and what people have switched off. Every change is durable when the call returns.

    All calls raise Unavailable while the ledger is away: hold, then try again. All but `open` raise LedgerLost when its
    epoch is not the one that was opened. Without `open` one may look and set switches, as the command line does, on the
    ledger that there is; with none there that is LedgerLost too.
    """

    async def open(self, *, expected: bool, at_ms: int) -> bool:
        """Begin to work with it. `expected` says that a ledger ought to be there, since actions were handled before.

        False when it was and there is none: a new epoch is begun with the fleet's kill switch thrown
        (`ledger_lost`), which only a person takes back. It stays False until `reconciled` is called, whoever opens it.
        """
        ...

    async def reconciled(self) -> None:
        """Keep that every action of which a lost ledger had known is ended in this one."""
        ...

    async def record(self, action: Action, *, at_ms: int) -> ActionRecord:
        """Set if absent: the record that stands, which is an earlier one when there was one."""
        ...

    async def get(self, action_id: str) -> ActionRecord | None: ...

    async def under_way(self) -> list[ActionRecord]:
        """Every record that has not ended, oldest first, but those that are `unreadable`."""
        ...

    def unreadable(self) -> Mapping[str, str]:
        """Action id → why, of the records that `under_way` and `unpublished` met last and could not read. They are left
        as they are: an action that has begun keeps its target."""
        return {}

    async def claim(self, record: ActionRecord, owner: str, limits: ClaimLimits, *, at_ms: int) -> Claim:
        """Take or renew the lease on the action's target, with switches and fleet limits checked in the same script.

        A new holder gets a higher fence; one who renews keeps the fence. A claim for an action that has begun is not
        refused by limits, and one that is being undone is not refused by the kill switch either. Where the kill switch
        refuses an action that has begun, the claim holds both: the refusal, and the fence under which it is to be taken
        back or ended.

        A followed action claims the lease without the target: its owner may hold that for another action, and moves
        the lease from one to the other under a higher fence each time. Beside followed ones only an action that stacks
        is let in. One that is to be undone needs the target again, under a higher fence, and waits for its holder.
        """
        ...

    async def release(self, target: str, owner: str) -> None:
        """Give up a lease that `owner` holds. An action that has begun keeps its target."""
        ...

    async def advance(self, record: ActionRecord, *, owner: str, fence: int, actor: str, at_ms: int) -> bool:
        """Write `record`, whose version is one above what stands there, and its audit line in one step. One that is
        followed or has ended gives up its target in the same step.

        False when the version or the fence is not the newest: somebody else works on it, and this writer must stop.
        The same write by the same holder again is True and adds nothing. Fence 0 stands for no lease: it can end a
        record that has not begun, and nothing else.
        """
        ...

    async def unpublished(self) -> list[ActionRecord]:
        """Ended records whose outcome has not been published yet."""
        ...

    async def published(self, action_id: str) -> None: ...

    async def switch(self, control: Control, *, fleet: bool = False, again: bool = False) -> bool:
        """Keep what a person has set, with its audit line. False for one older than what stands: it changes nothing.

        A kill is never older: it holds whatever the clock of its machine says. `again` marks what may be heard long
        after it was said and more than once, as on a topic: there an older kill changes nothing either. `fleet` sets
        the kill switch of the whole fleet rather than of `control.workload`.
        """
        ...

    async def switches(self, workload: str) -> Switches: ...

    async def audit(self, *, after: int = 0, limit: int = 500) -> list[AuditEntry]:
        """Lines with a number above `after`, in order."""
        ...

    async def audit_told(self) -> int:
        """The number of the newest line that was published; 0 before the first."""
        ...

    async def tell_audit(self, number: int) -> None:
        """Keep that all lines up to this one were published."""
        ...
