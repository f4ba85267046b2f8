"""The ledger on Redis: what has been done and what people have switched off, changed in one step with its audit line.

Each audit line is chained to the newest one here, and the script refuses when that has moved: whoever comes second
chains anew. Fences are counted from the wall second in which the epoch began, so that they grow even when Redis was
emptied. It stands on one Redis server that writes before it answers: a replica that takes over may lack what was
answered.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Final, Self

from pydantic import ValidationError

from agents import ledger_scripts as scripts
from agents.audit import chained, unplaced
from agents.ledger_server import LedgerServer, Reply, text
from agents.ledger_values import LEDGER_LOST, NARROW, KeptRecord, KeptSwitch, fields_of, switches_of, told
from contracts.errors import OptiInfraError, Unavailable
from contracts.events import Action, ActionKind, AuditEntry, Control, ControlKind, Refusal
from contracts.ledger import ActionRecord, ClaimLimits, Phase, Switches
from contracts.ports import Claim, Ledger

FLEET: Final = "-"
"""The workload of an audit line that speaks of the whole fleet."""

_FOR_VISITORS: Final = frozenset(
    (scripts.GET, scripts.UNDER_WAY, scripts.UNPUBLISHED, scripts.SWITCH, scripts.SWITCHES, scripts.AUDIT)
)
"""What works without `open`, on the ledger that there is: to look, and to throw a switch."""

_TRIES = 50
_FENCES_PER_S = 1_000_000


class RedisLedger(Ledger):
    """The port `Ledger` on the Redis at `url`. One object serves any number of tasks; use it as a context manager.

    Without `open` it can be looked at, and its switches thrown: a command line that passes by does no more.

    `wall` gives wall seconds; `timeout_s` bounds a call, connecting included. The last `keep_ended` ended records are
    kept, none longer than `keep_ended_s`; audit lines are kept for good.
    """

    def __init__(
        self,
        url: str,
        *,
        wall: Callable[[], float] = time.time,
        prefix: str = "optiinfra",
        timeout_s: float = 2.0,
        keep_ended: int = 10_000,
        keep_ended_s: float = 30 * 86_400,
    ) -> None:
        self._server = LedgerServer(url, prefix=prefix, timeout_s=timeout_s)
        self._wall = wall
        self._keep = (keep_ended, int(keep_ended_s * 1000))
        self._epoch = ""
        self._next_epoch = secrets.token_hex(16)
        self._least_fence = 0
        self._newest = (0, "")
        self._unreadable: dict[str, dict[str, str]] = {}
        self._one_writer = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections to Redis. Leases stay until they lapse."""
        await self._server.close()

    async def open(self, *, expected: bool, at_ms: int) -> bool:
        wall_ms = self._wall_ms()
        loss = KeptSwitch.of_loss(wall_ms)
        what, detail = "epoch_begun", "a first ledger"
        if expected:
            what, detail = LEDGER_LOST, "there was none where one ought to be: the fleet is stopped"
        line = self._line(subject="ledger", what=what, actor="ledger", detail=detail, at_ms=at_ms)
        fence = max(self._least_fence, wall_ms // 1000 * _FENCES_PER_S)
        _, rest = await self._change(
            scripts.OPEN, line, self._epoch, _flag(expected), fence, loss.model_dump_json(), first=self._next_epoch
        )
        self._epoch, self._next_epoch = text(rest[0]), secrets.token_hex(16)
        return rest[1] != b"1"

    async def reconciled(self) -> None:
        await self._ask(scripts.RECONCILED)

    async def record(self, action: Action, *, at_ms: int) -> ActionRecord:
        new = ActionRecord(action=action, recorded_ms=at_ms, phase_since_ms=at_ms)
        line = self._line(
            workload=action.workload,
            subject=action.id,
            what=new.phase.value,
            actor=action.approved_by,
            detail=f"{action.spec.kind} by {action.spec.replicas} on {action.target}, rule {action.rule}",
            at_ms=at_ms,
        )
        word, rest = await self._change(scripts.RECORD, line, action.id, KeptRecord(record=new).model_dump_json())
        return self._read(rest[0], action.id) if word == "stands" else new

    async def get(self, action_id: str) -> ActionRecord | None:
        _, rest = await self._ask(scripts.GET, action_id)
        return self._read(rest[0], action_id) if rest[0] else None

    async def under_way(self) -> list[ActionRecord]:
        return await self._listed(scripts.UNDER_WAY)

    def unreadable(self) -> Mapping[str, str]:
        return {action_id: why for found in self._unreadable.values() for action_id, why in found.items()}

    async def claim(self, record: ActionRecord, owner: str, limits: ClaimLimits, *, at_ms: int) -> Claim:
        action = record.action
        by_mode = action.approved_by.startswith("mode:")
        word, rest = await self._ask(
            scripts.CLAIM,
            action.id,
            action.target,
            action.workload,
            owner,
            max(1, round(limits.lease_s * 1000)),
            limits.in_flight,
            limits.per_hour,
            self._wall_ms(),
            NARROW[action.mode] if by_mode else -1,
            _flag(action.spec.stacks),
            _flag(action.spec.kind is ActionKind.TUNE),
            limits.at_gateways or 0,
            lease_of=action.target,
        )
        if word == "refused":
            return Claim(refusal=Refusal(text(rest[0])), detail=text(rest[1]))
        fence = int(rest[0] or 0)
        self._least_fence = max(self._least_fence, fence)
        return Claim(fence, Refusal(text(rest[1])) if rest[1] else None, text(rest[2]))

    async def release(self, target: str, owner: str) -> None:
        await self._ask(scripts.RELEASE, owner, lease_of=target)

    async def advance(self, record: ActionRecord, *, owner: str, fence: int, actor: str, at_ms: int) -> bool:
        action, ends = record.action, record.phase is Phase.ENDED
        line = self._line(
            workload=action.workload,
            subject=action.id,
            what=record.end_state.value if ends and record.end_state else record.phase.value,
            actor=actor,
            detail=told(record),
            at_ms=at_ms,
        )
        word, _ = await self._change(
            scripts.ADVANCE,
            line,
            action.id,
            KeptRecord(by=f"{owner} {fence}", record=record).model_dump_json(),
            record.version,
            owner,
            fence,
            _flag(ends),
            action.target,
            self._wall_ms(),
            *self._keep,
            _flag(record.followed),
            _flag(record.began_ms is None),
            lease_of=action.target,
        )
        return word == "ok"

    async def unpublished(self) -> list[ActionRecord]:
        return await self._listed(scripts.UNPUBLISHED)

    async def published(self, action_id: str) -> None:
        await self._ask(scripts.PUBLISHED, action_id)

    async def switch(self, control: Control, *, fleet: bool = False, again: bool = False) -> bool:
        whole = fleet and control.kind is not ControlKind.MODE
        new = KeptSwitch.of(control)
        line = self._line(
            workload=FLEET if whole else control.workload,
            subject=control.mode.value if control.mode else "kill_switch",
            what=control.kind.value,
            actor=control.actor,
            detail=control.reason,
            at_ms=control.at_ms,
        )
        fields = fields_of(control.workload)
        field = fields[2] if control.kind is ControlKind.MODE else fields[0 if whole else 1]
        while True:
            lost = new.model_copy(update={"lost": True})
            word, rest = await self._change(scripts.SWITCH, line, field, new.model_dump_json(), lost.model_dump_json())
            if word != "older" or again or control.kind is not ControlKind.KILL:
                return word != "older"
            # Whoever stops the fleet means now, whatever their clock says.
            new = new.model_copy(update={"at_wall_ms": int(rest[0] or 0) + 1})

    async def switches(self, workload: str) -> Switches:
        fields = fields_of(workload)
        _, rest = await self._ask(scripts.SWITCHES, *fields)
        fleet, kill, mode = (self._switch(value, field) for value, field in zip(rest, fields, strict=True))
        return switches_of(workload, fleet, kill, mode)

    async def audit(self, *, after: int = 0, limit: int = 500) -> list[AuditEntry]:
        _, rest = await self._ask(scripts.AUDIT, max(0, after), max(0, after) + max(1, limit) - 1)
        try:
            return [AuditEntry.model_validate_json(line or b"") for line in rest]
        except ValidationError as error:
            raise self._server.junk(self._server.key("audit"), "a line is no audit line") from error

    async def audit_told(self) -> int:
        _, rest = await self._ask(scripts.AUDIT_TOLD)
        return int(rest[0] or 0)

    async def tell_audit(self, number: int) -> None:
        await self._ask(scripts.TELL_AUDIT, number)

    async def _ask(self, script: str, *args: str | int, lease_of: str | None = None) -> tuple[str, Reply]:
        if not self._epoch and script not in _FOR_VISITORS:
            raise self._server.lost("the ledger has not been opened")
        return await self._server.run(script, self._epoch, *args, lease_of=lease_of)

    async def _change(
        self, script: str, line: AuditEntry, *args: str | int, lease_of: str | None = None, first: str = ""
    ) -> tuple[str, Reply]:
        """Run a script that adds an audit line, chained to the newest; again when another writer was faster."""
        if not (first or self._epoch or script in _FOR_VISITORS):
            raise self._server.lost("the ledger has not been opened")
        async with self._one_writer:  # tasks of one process need not race each other
            for _ in range(_TRIES):
                number, previous = self._newest
                placed = chained(line, number=number + 1, previous=previous)
                word, rest = await self._server.run(
                    script, first or self._epoch, number, previous, placed.model_dump_json(), *args, lease_of=lease_of
                )
                if word != "moved":
                    if word in ("begun", "ok"):
                        self._newest = (placed.number, placed.hash)
                    return word, rest
                self._newest = (int(rest[0] or 0), text(rest[1]))
        fix = "Try again; if it stays so, look for a program that writes to the ledger without end."
        raise Unavailable(f"{_TRIES} times another writer was faster", where=self._server.where, fix=fix)

    async def _listed(self, script: str) -> list[ActionRecord]:
        _, rest = await self._ask(script)
        records: list[ActionRecord] = []
        bad: dict[str, str] = {}
        for each, kept in zip(rest[::2], rest[1::2], strict=True):
            try:
                records.append(self._read(kept, text(each)))
            except OptiInfraError as error:
                bad[text(each)] = str(error)
        self._unreadable[script] = bad
        return records

    def _read(self, value: bytes | None, action_id: str) -> ActionRecord:
        try:
            return KeptRecord.model_validate_json(value or b"").record
        except ValidationError as error:
            raise self._server.junk(self._server.key("records"), f"field {action_id} is no record") from error

    def _switch(self, value: bytes | None, field: str) -> KeptSwitch | None:
        try:
            return None if value is None else KeptSwitch.model_validate_json(value)
        except ValidationError as error:
            raise self._server.junk(self._server.key("switches"), f"field {field} is no switch") from error

    def _line(
        self, *, workload: str = FLEET, subject: str, what: str, actor: str, detail: str, at_ms: int
    ) -> AuditEntry:
        """An audit line that has no place yet."""
        return unplaced(
            workload=workload,
            subject=subject,
            what=what,
            actor=actor,
            detail=detail,
            at_ms=at_ms,
            at_wall_ms=self._wall_ms(),
        )

    def _wall_ms(self) -> int:
        return int(self._wall() * 1000)


def _flag(value: bool) -> str:
    return "1" if value else "0"
