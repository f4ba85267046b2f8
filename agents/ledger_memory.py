"""The ledger in memory: the same promises as the one on Redis, for as long as its process lives; replay acts on it.

It is no ledger for a fleet that is real: what was done is forgotten with the process. Leases, limits and trimming run
on the wall clock that it is given, which in a replay is the time of the data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from agents.audit import chained, unplaced
from agents.ledger_store import Lease, LedgerStore
from agents.ledger_values import (
    GATEWAY_PARTS,
    LEDGER_LOST,
    NARROW,
    KeptRecord,
    KeptSwitch,
    fields_of,
    switches_of,
    told,
)
from contracts.errors import LedgerLost
from contracts.events import Action, ActionKind, AuditEntry, Control, ControlKind, Refusal
from contracts.ledger import ActionRecord, ClaimLimits, Phase, Switches
from contracts.ports import Claim, Ledger

_FLEET: Final = "-"
_FENCES_PER_S: Final = 1_000_000
_HOUR_MS: Final = 3_600_000


class MemoryLedger(Ledger):
    """The port `Ledger` on a store in memory, by default one of its own.

    `wall` gives wall seconds. The last `keep_ended` ended records are kept, none longer than `keep_ended_s`; audit
    lines are kept for good. Without `open` it can be looked at, and its switches thrown.
    """

    def __init__(
        self,
        wall: Callable[[], float],
        store: LedgerStore | None = None,
        *,
        keep_ended: int = 10_000,
        keep_ended_s: float = 30 * 86_400,
    ) -> None:
        self._wall = wall
        self._store = LedgerStore() if store is None else store
        self._keep = (keep_ended, int(keep_ended_s * 1000))
        self._epoch = ""

    async def open(self, *, expected: bool, at_ms: int) -> bool:
        store, known = self._store, self._epoch
        unnoticed = expected and known != "" and store.epoch != known and not store.after_loss
        if store.epoch and not unnoticed:
            self._epoch = store.epoch
            return store.reconciled or not store.after_loss
        wall_ms = self._wall_ms()
        store.epoch = store.epoch or f"{known}+{wall_ms}"
        store.after_loss, store.reconciled = expected, False
        store.fence = max(store.fence, wall_ms // 1000 * _FENCES_PER_S)
        what, detail = "epoch_begun", "a first ledger"
        if expected:
            what, detail = LEDGER_LOST, "there was none where one ought to be: the fleet is stopped"
            store.switches["fleet"] = KeptSwitch.of_loss(wall_ms)
        self._epoch = store.epoch
        self._write(_FLEET, "ledger", what, "ledger", detail, at_ms)
        return not expected

    async def reconciled(self) -> None:
        self._opened().reconciled = True

    async def record(self, action: Action, *, at_ms: int) -> ActionRecord:
        store = self._opened()
        if (stands := store.records.get(action.id)) is not None:
            return stands.record
        new = ActionRecord(action=action, recorded_ms=at_ms, phase_since_ms=at_ms)
        store.records[action.id] = KeptRecord(record=new)
        store.under_way[action.id] = None
        detail = f"{action.spec.kind} by {action.spec.replicas} on {action.target}, rule {action.rule}"
        self._write(action.workload, action.id, new.phase.value, action.approved_by, detail, at_ms)
        return new

    async def get(self, action_id: str) -> ActionRecord | None:
        kept = self._there().records.get(action_id)
        return None if kept is None else kept.record

    async def under_way(self) -> list[ActionRecord]:
        store = self._there()
        return [store.records[action_id].record for action_id in store.under_way]

    async def claim(self, record: ActionRecord, owner: str, limits: ClaimLimits, *, at_ms: int) -> Claim:
        store, action, now_ms = self._opened(), record.action, self._wall_ms()
        kept = store.records.get(action.id)
        if kept is None:
            return Claim(refusal=Refusal.LEDGER_LOST, detail="the ledger has no record of it")
        phase = kept.record.phase
        if phase is Phase.ENDED:
            return Claim(refusal=Refusal.IN_FLIGHT, detail="it has ended already")
        barred, why = self._barred(action, phase)
        if barred is not None and phase is Phase.RECORDED:
            return Claim(refusal=barred, detail=why)
        followed = action.id in store.followed
        takes_again = followed and phase is Phase.UNDOING
        lease = self._lease(action.target)
        if (taken := self._taken(action, owner, lease, alone=takes_again or not followed)) is not None:
            return taken
        if takes_again:
            store.targets[action.target] = action.id
            del store.followed[action.id]
        elif not followed and action.target not in store.targets:
            if (full := self._full(limits, now_ms)) is not None:
                return full
            store.targets[action.target] = action.id
            store.begun = {each: ms for each, ms in store.begun.items() if ms > now_ms - _HOUR_MS} | {action.id: now_ms}
        if lease is None or lease.action_id != action.id or takes_again:
            store.fence += 1
            fence = store.fence
        else:
            fence = lease.fence
        until_ms = now_ms + max(1, round(limits.lease_s * 1000))
        store.leases[action.target] = Lease(owner, action.id, fence, until_ms)
        return Claim(fence, barred, why)

    async def release(self, target: str, owner: str) -> None:
        store = self._opened()
        if target in store.leases and store.leases[target].owner == owner:
            del store.leases[target]

    async def advance(self, record: ActionRecord, *, owner: str, fence: int, actor: str, at_ms: int) -> bool:
        store, action, ends = self._opened(), record.action, record.phase is Phase.ENDED
        kept = store.records.get(action.id)
        if kept is None:
            return False
        lease = self._lease(action.target)
        mine = lease is not None and (lease.owner, lease.action_id, lease.fence) == (owner, action.id, fence)
        new = KeptRecord(by=f"{owner} {fence}", record=record)
        if kept == new:
            return ends or mine
        if kept.record.version + 1 != record.version:
            return False
        if fence == 0:
            others = lease is not None and lease.action_id == action.id and lease.owner != owner
            if kept.record.phase is not Phase.RECORDED or not ends or others:
                return False
        elif not mine:
            return False
        store.records[action.id] = new
        if (ends or record.followed) and store.targets.get(action.target) == action.id:
            del store.targets[action.target]
        if record.followed:
            store.followed[action.id] = action.target
        if ends:
            self._end(record, lease)
        what = record.end_state.value if ends and record.end_state else record.phase.value
        self._write(action.workload, action.id, what, actor, told(record), at_ms)
        return True

    async def unpublished(self) -> list[ActionRecord]:
        store = self._there()
        return [store.records[action_id].record for action_id in store.unpublished]

    async def published(self, action_id: str) -> None:
        self._opened().unpublished.pop(action_id, None)

    async def switch(self, control: Control, *, fleet: bool = False, again: bool = False) -> bool:
        store = self._there()
        whole = fleet and control.kind is not ControlKind.MODE
        new = KeptSwitch.of(control)
        fields = fields_of(control.workload)
        place = fields[2] if control.kind is ControlKind.MODE else fields[0 if whole else 1]
        stands = store.switches.get(place)
        if stands is not None and (stands.at_wall_ms, stands.rank) >= (new.at_wall_ms, new.rank):
            if (stands.at_wall_ms, stands.rank, stands.why) == (new.at_wall_ms, new.rank, new.why):
                return True
            if again or control.kind is not ControlKind.KILL:
                return False
            # Whoever stops the fleet means now, whatever their clock says.
            new = new.model_copy(update={"at_wall_ms": stands.at_wall_ms + 1})
        if stands is not None and stands.lost and new.killed:
            new = new.model_copy(update={"lost": True})
        store.switches[place] = new
        workload = _FLEET if whole else control.workload
        subject = control.mode.value if control.mode else "kill_switch"
        self._write(workload, subject, control.kind.value, control.actor, control.reason, control.at_ms)
        return True

    async def switches(self, workload: str) -> Switches:
        store = self._there()
        fleet, kill, mode = (store.switches.get(place) for place in fields_of(workload))
        return switches_of(workload, fleet, kill, mode)

    async def audit(self, *, after: int = 0, limit: int = 500) -> list[AuditEntry]:
        first = max(0, after)
        return self._there().audit[first : first + max(1, limit)]

    async def audit_told(self) -> int:
        return self._opened().told

    async def tell_audit(self, number: int) -> None:
        store = self._opened()
        store.told = max(store.told, number)

    def _there(self) -> LedgerStore:
        """For who passes by as well: the ledger that there is."""
        if not self._store.epoch or self._epoch not in ("", self._store.epoch):
            raise LedgerLost("the ledger is not the one that was opened", where="ledger in memory", fix="Open it anew.")
        return self._store

    def _opened(self) -> LedgerStore:
        if not self._epoch:
            raise LedgerLost("the ledger has not been opened", where="ledger in memory", fix="Open it first.")
        return self._there()

    def _barred(self, action: Action, phase: Phase) -> tuple[Refusal | None, str]:
        """What people have set against an action in this phase, and in whose words."""
        fleet, kill, mode = (self._store.switches.get(place) for place in fields_of(action.workload))
        if phase is Phase.UNDOING:
            return None, ""
        if fleet is not None and fleet.killed:
            code = Refusal.LEDGER_LOST if fleet.lost else Refusal.KILL_SWITCH
            return code, f"for the whole fleet, by {fleet.why}"
        if kill is not None and kill.killed:
            return Refusal.KILL_SWITCH, f"for {action.workload}, by {kill.why}"
        # The replicas of a tune are ordered one by one: what is set meanwhile bars the next.
        one_by_one = (Phase.APPLYING,) if action.spec.kind is ActionKind.TUNE else ()
        orders_ahead = phase in (Phase.RECORDED, Phase.PLANNED, *one_by_one)
        by_mode = orders_ahead and action.approved_by.startswith("mode:")
        if by_mode and mode is not None and mode.rank > NARROW[action.mode]:
            return Refusal.ADVISORY_MODE, mode.why
        return None, ""

    def _taken(self, action: Action, owner: str, lease: Lease | None, *, alone: bool) -> Claim | None:
        """Who keeps this owner from the lease, or this action from its target where it needs that `alone`."""
        store, target, words = self._store, action.target, ""
        holder = store.targets.get(target)
        if lease is not None and lease.owner != owner:
            words = f"{target} is held by {lease.owner} for action {lease.action_id}"
        elif alone and holder not in (None, action.id):
            words = f"action {holder} is under way on {target}"
        elif alone and holder is None and not action.spec.stacks and action.id not in store.followed:
            other = next((each for each, place in store.followed.items() if place == target), "")
            words = f"action {other} is followed on {target}" if other else ""
        return Claim(refusal=Refusal.IN_FLIGHT, detail=words) if words else None

    def _full(self, limits: ClaimLimits, now_ms: int) -> Claim | None:
        """Why the fleet takes no further action now; None when it does."""
        if (busy := len(self._store.targets)) >= limits.in_flight:
            detail = f"{busy} actions are under way in the fleet, the limit is {limits.in_flight}"
            return Claim(refusal=Refusal.FLEET_LIMIT, detail=detail)
        at_gateways = sum(target.rpartition("/")[2] in GATEWAY_PARTS for target in self._store.targets)
        if limits.at_gateways is not None and at_gateways >= limits.at_gateways:
            detail = f"{at_gateways} actions are under way at gateways, the limit is {limits.at_gateways}"
            return Claim(refusal=Refusal.FLEET_LIMIT, detail=detail)
        begun = sum(ms > now_ms - _HOUR_MS for ms in self._store.begun.values())
        if begun >= limits.per_hour:
            detail = f"{begun} actions began in the last hour, the limit is {limits.per_hour}"
            return Claim(refusal=Refusal.RATE_LIMIT, detail=detail)
        return None

    def _lease(self, target: str) -> Lease | None:
        lease = self._store.leases.get(target)
        return lease if lease is not None and lease.until_ms > self._wall_ms() else None

    def _end(self, record: ActionRecord, lease: Lease | None) -> None:
        store, action, now_ms = self._store, record.action, self._wall_ms()
        del store.under_way[action.id]
        store.ended[action.id] = now_ms
        store.unpublished[action.id] = None
        store.followed.pop(action.id, None)
        if record.began_ms is None:
            store.begun.pop(action.id, None)
        if lease is not None and lease.action_id == action.id:
            del store.leases[action.target]
        keep, keep_ms = self._keep
        surplus = len(store.ended) - keep
        past: list[str] = []
        for place, (old, ms) in enumerate(store.ended.items()):
            if place >= surplus and ms > now_ms - keep_ms:
                break
            if old not in store.unpublished:
                past.append(old)
        for old in past:
            del store.ended[old], store.records[old]

    def _write(self, workload: str, subject: str, what: str, actor: str, detail: str, at_ms: int) -> None:
        """One more audit line, chained to the newest."""
        lines = self._store.audit
        line = unplaced(
            workload=workload,
            subject=subject,
            what=what,
            actor=actor,
            detail=detail,
            at_ms=at_ms,
            at_wall_ms=self._wall_ms(),
        )
        lines.append(chained(line, number=len(lines) + 1, previous=lines[-1].hash if lines else ""))

    def _wall_ms(self) -> int:
        return int(self._wall() * 1000)
