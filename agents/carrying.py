"""Carries one action forward: looks, asks the saga for the next move, writes it in the ledger, gives the order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import structlog

from agents.asking import CONTROLLER_S, Asking, Troubled
from agents.checkpoints import Checkpoint, passed
from agents.core.moves import Call, Draft, View, Wait
from agents.core.saga import after_call, next_move
from agents.core.undo import taken_back
from agents.waiting import IN_LIFE, Waiting
from contracts.clock import Clock
from contracts.errors import ConfigError, Conflict, OptiInfraError, Unavailable
from contracts.events import Action, ActionKind, Plan, Refusal
from contracts.laws.bounds import Evidence
from contracts.ledger import ActionRecord, ClaimLimits, Phase
from contracts.ports import Claim, Controller, Ledger, Observation, StepReport

log = structlog.get_logger(__name__)

T = TypeVar("T")

Controllers = Callable[[Action], Controller]
"""The controller that does what an action asks for; ConfigError where there is none."""


@dataclass(frozen=True)
class Sight:
    """What the executor knows of an action's surroundings. Event ms; `stop` and `behind` as in `View`."""

    now_ms: int
    evidence: Evidence = field(default_factory=dict)
    stop: str = ""
    behind: str = ""


class Carrier:
    """One owner's hands. `owner` holds leases, `actor` stands in the audit log; `max_age_s` is how old evidence may be,
    event seconds; `waiting` is how a controller's answers are waited for."""

    def __init__(
        self,
        ledger: Ledger,
        controllers: Controllers,
        clock: Clock,
        *,
        owner: str,
        limits: ClaimLimits,
        max_age_s: float,
        checkpoint: Checkpoint,
        troubled: Troubled,
        actor: str = "",
        controller_s: float = CONTROLLER_S,
        waiting: Waiting = IN_LIFE,
    ) -> None:
        self._ledger, self._controllers, self._clock = ledger, controllers, clock
        self._owner, self._actor = owner, actor or owner
        self._limits, self._max_age_s = limits, max_age_s
        self._waiting = waiting
        self._checkpoint, self._asking = checkpoint, Asking(troubled, controller_s, waiting=waiting)

    async def carry(self, record: ActionRecord, sees: Callable[[ActionRecord], Sight]) -> tuple[ActionRecord, bool]:
        """Move `record` until it must wait, has ended, or turns out to be somebody else's: the record as it stands, and
        whether it is ours.

        `sees` is asked before each move: a controller may take its time. Raises Unavailable and LedgerLost of the
        ledger. A controller that is away is waited for.
        """
        while record.phase is not Phase.ENDED:
            sight = sees(record)
            claim = await self._claim(record, sight)
            if record.phase is not Phase.RECORDED and not claim.fence:
                return record, False  # another executor works on it
            view = await self._leased(record, claim.fence, self._view(record, sight, claim))
            move = next_move(record, view)
            if isinstance(move, Wait):
                log.debug("action_waits", action=record.action.id, phase=record.phase.value, why=move.why)
                return record, True
            if isinstance(move, Call) and _same(record, move.record):
                move = replace(move, record=record)  # the intent stands: the order was not answered
            elif not await self._save(record, move.record, claim.fence):
                return record, False
            record = move.record
            if isinstance(move, Call):
                answered = await self._order(move, view, claim.fence)
                if answered is None:
                    return record, True
                record = answered
        return record, True

    async def let_go(self, target: str) -> None:
        """Give up the lease on a target, so that another need not wait until it lapses."""
        await self._ledger.release(target, self._owner)

    async def _leased(self, record: ActionRecord, fence: int, work: Awaitable[T]) -> T:
        """Wait for a controller, and keep the lease meanwhile."""
        if not fence:
            return await work
        return await self._waiting.meanwhile(self._limits.lease_s / 3, partial(self._renew, record), work)

    async def _renew(self, record: ActionRecord) -> None:
        try:
            await self._ledger.claim(record, self._owner, self._limits_of(record), at_ms=self._clock.now_ms())
        except OptiInfraError as error:  # whether it is still ours, the next write finds out
            log.warning("lease_not_renewed", action=record.action.id, error=str(error))

    def _limits_of(self, record: ActionRecord) -> ClaimLimits:
        """What changes settings or shares begins while half of the fleet's limits is free, so that capacity that is
        needed meanwhile, or a gateway that is to hold requests back, finds the other half. Gateways together take half
        of what may be under way at once, and never the last of it, and leave a quarter of the hour to capacity; but a
        breaker waits for no other limit that is still to show what it does: engines die by then."""
        kind, limits = record.action.spec.kind, self._limits
        if kind.scales or kind is ActionKind.BREAKER:
            return limits
        if kind.gateway_setting:
            most = {"in_flight": max(1, limits.in_flight - 1), "at_gateways": max(1, limits.in_flight // 2)}
            return limits.model_copy(update=most | {"per_hour": max(1, limits.per_hour * 3 // 4)})
        half = {"in_flight": max(1, limits.in_flight // 2), "per_hour": max(1, limits.per_hour // 2)}
        return limits.model_copy(update=half)

    async def _claim(self, record: ActionRecord, sight: Sight) -> Claim:
        if record.phase is Phase.RECORDED and sight.behind:
            return Claim()
        claim = await self._ledger.claim(record, self._owner, self._limits_of(record), at_ms=self._clock.now_ms())
        if record.phase is Phase.RECORDED and claim.refusal is None:
            self._checkpoint("claimed")
        return claim

    async def _view(self, record: ActionRecord, sight: Sight, claim: Claim) -> View:
        """Look at all that the next move depends on."""
        begun = record.phase is not Phase.RECORDED
        barred, barred_why = (claim.refusal, claim.detail) if begun else (None, "")
        if record.phase is Phase.UNDOING:  # a claim in order to undo is given in spite of the switch
            switches = await self._ledger.switches(record.action.workload)
            barred, barred_why = (Refusal.KILL_SWITCH, switches.killed_why) if switches.killed else (None, "")
            if switches.killed_why == Refusal.LEDGER_LOST.value:
                barred, barred_why = Refusal.LEDGER_LOST, ""
        draft: Draft | None = None
        seen: Observation | None = None
        reports: dict[str, StepReport] = {}
        honours = True
        try:
            controller = self._controllers(record.action)
        except ConfigError as error:
            draft = Draft(doubt=str(error))
        else:
            honours = controller.honours_tokens
            if begun:
                seen, reports = await self._asking.look(controller, record)
            elif claim.fence:
                draft = await self._asking.draft(controller, record)
        return View(
            now_ms=sight.now_ms,
            stamp_ms=self._clock.now_ms(),
            max_age_s=self._max_age_s,
            evidence=sight.evidence,
            seen=seen,
            reports=reports,
            claim=claim,
            draft=draft,
            barred=barred,
            barred_why=barred_why,
            stop=sight.stop,
            behind=sight.behind,
            gone=await self._gone(record),
            honours_tokens=honours,
        )

    async def _gone(self, record: ActionRecord) -> int:
        """How many replicas of the actions beside one that is to be verified were taken back."""
        beside = record.action.beside if record.phase is Phase.VERIFYING else ()
        others = [await self._ledger.get(action_id) for action_id in beside]
        return sum(taken_back(each) for each in others if each is not None)

    async def _save(self, old: ActionRecord, new: ActionRecord, fence: int) -> bool:
        """Write it. False when somebody else has: then it is theirs."""
        at_ms = self._clock.now_ms()
        stands = await self._ledger.advance(new, owner=self._owner, fence=fence, actor=self._actor, at_ms=at_ms)
        log.info(
            "action_moved" if stands else "action_of_another",
            action=new.action.id,
            workload=new.action.workload,
            kind=new.action.spec.kind.value,
            phase=new.phase.value,
            was=old.phase.value,
            version=new.version,
            fence=fence,
            marks=[mark.value for mark in new.marks],
            end_state=new.end_state.value if new.end_state else None,
            reasons=list(new.reasons),
            detail=new.detail,
            after=new.after,
            at_ms=at_ms,
        )
        if stands and (name := passed(old, new)):
            self._checkpoint(name)
        return stands

    async def _order(self, call: Call, view: View, fence: int) -> ActionRecord | None:
        """Give the order whose intent was written. None when nothing more can be done at present: nobody knows whether
        it arrived, or it was not ours to give."""
        record = call.record
        plan, workload = _plan(record), record.action.workload
        step, token = plan.steps[call.step], record.token(call.step, undo=call.undo)
        refusal = ""
        try:
            controller = self._controllers(record.action)
            if call.undo:
                ordered = controller.undo(workload, step, record.token(call.step), token, fence)
            else:
                ordered = controller.apply(workload, step, token, fence)
            await self._leased(record, fence, self._asking.answer(record, ordered))
        except ConfigError as error:
            refusal = str(error)
        except (Unavailable, Conflict) as error:
            log.warning("order_unanswered", action=record.action.id, step=call.step, undo=call.undo, error=str(error))
            return None
        else:
            self._checkpoint("undo_applied" if call.undo else "final_applied" if step.final else "applied")
        answered = after_call(call, view, refusal)
        return answered if await self._save(record, answered, fence) else None


def _same(old: ActionRecord, new: ActionRecord) -> bool:
    return new.model_copy(update={"version": old.version}) == old


def _plan(record: ActionRecord) -> Plan:
    if record.plan is None:
        raise ValueError(f"action {record.action.id} has no plan")
    return record.plan
