"""What a ledger in memory holds: records, leases, targets, switches and the audit log, until its process ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from agents.ledger_values import KeptRecord, KeptSwitch
from contracts.events import AuditEntry


@dataclass(frozen=True)
class Lease:
    """Who works on a target, on which action and under which fence, until when by the wall."""

    owner: str
    action_id: str
    fence: int
    until_ms: int


@dataclass
class LedgerStore:
    """What is kept; any number of `MemoryLedger` may work on one. Wall times in ms.

    `targets` names the action that was let in on a target and has orders to give, `followed` the target that each
    followed action gave up, `begun` when each action of the last hour was let in, `ended` when each record that is
    still kept ended.
    """

    epoch: str = ""
    after_loss: bool = False
    reconciled: bool = False
    fence: int = 0
    records: dict[str, KeptRecord] = field(default_factory=dict)
    under_way: dict[str, None] = field(default_factory=dict)
    ended: dict[str, int] = field(default_factory=dict)
    unpublished: dict[str, None] = field(default_factory=dict)
    targets: dict[str, str] = field(default_factory=dict)
    followed: dict[str, str] = field(default_factory=dict)
    begun: dict[str, int] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)
    switches: dict[str, KeptSwitch] = field(default_factory=dict)
    audit: list[AuditEntry] = field(default_factory=list)
    told: int = 0
