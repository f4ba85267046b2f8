"""A ledger and a controller in memory that keep their ports' promises, break on command, and count what was asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from contracts.errors import ConfigError, Conflict, Unavailable
from contracts.events import Action, AuditEntry, Control, Plan, PlanStep, Refusal, StepKind
from contracts.ledger import ActionRecord, ClaimLimits, Phase, Switches
from contracts.ports import Claim, Controller, Ledger, Observation, StepReport, StepState
from tests.agents.saga_help import NOW, plan_for


class StillClock:
    """Stands still until it is set."""

    def __init__(self) -> None:
        self.at_ms = NOW

    def now_ms(self) -> int:
        return self.at_ms

    def wall_s(self, event_s: float) -> float:
        return event_s


class Crash(Exception):
    """The executor's process dies here."""


class MemoryLedger(Ledger):
    """What was written stays; `before` and `after` are called around each write, and may raise Crash."""

    def __init__(self) -> None:
        self.records: dict[str, ActionRecord] = {}
        self.told: set[str] = set()
        self.leases: dict[str, tuple[str, int]] = {}
        self.killed = False
        self.away = False
        self.fence = 0
        self.before: Callable[[], None] = lambda: None
        self.after: Callable[[], None] = lambda: None

    async def open(self, *, expected: bool, at_ms: int) -> bool:
        self._there()
        return True

    async def reconciled(self) -> None:
        self._there()

    async def record(self, action: Action, *, at_ms: int) -> ActionRecord:
        self._there()
        new = ActionRecord(action=action, recorded_ms=at_ms, phase_since_ms=at_ms)
        return self.records.setdefault(action.id, new)

    async def get(self, action_id: str) -> ActionRecord | None:
        self._there()
        return self.records.get(action_id)

    async def under_way(self) -> list[ActionRecord]:
        self._there()
        return [each for each in self.records.values() if each.phase is not Phase.ENDED]

    async def claim(self, record: ActionRecord, owner: str, limits: ClaimLimits, *, at_ms: int) -> Claim:
        self._there()
        begun = record.phase is not Phase.RECORDED
        stopped = self.killed and record.phase is not Phase.UNDOING
        if stopped and not begun:
            return Claim(refusal=Refusal.KILL_SWITCH, detail="by a test")
        holder, fence = self.leases.get(record.action.target, ("", 0))
        if holder != owner:
            self.fence += 1
            fence = self.fence
            self.leases[record.action.target] = (owner, fence)
        return Claim(fence, Refusal.KILL_SWITCH if stopped else None)

    async def release(self, target: str, owner: str) -> None:
        self.leases.pop(target, None)

    async def advance(self, record: ActionRecord, *, owner: str, fence: int, actor: str, at_ms: int) -> bool:
        self._there()
        self.before()
        stands = self.records[record.action.id]
        lease = self.leases.get(record.action.target, ("", 0))
        unclaimed = fence == 0 and stands.phase is Phase.RECORDED and record.phase is Phase.ENDED
        if stands.version + 1 != record.version or not (unclaimed or lease == (owner, fence)):
            return False
        self.records[record.action.id] = ActionRecord.model_validate_json(record.model_dump_json())
        self.after()
        return True

    async def unpublished(self) -> list[ActionRecord]:
        self._there()
        return [r for r in self.records.values() if r.phase is Phase.ENDED and r.action.id not in self.told]

    async def published(self, action_id: str) -> None:
        self.told.add(action_id)

    async def switch(self, control: Control, *, fleet: bool = False, again: bool = False) -> bool:
        raise NotImplementedError("tests set `killed`")

    async def switches(self, workload: str) -> Switches:
        self._there()
        return Switches(killed=self.killed, killed_why="by a test" if self.killed else "")

    async def audit(self, *, after: int = 0, limit: int = 500) -> list[AuditEntry]:
        self._there()
        return []

    async def audit_told(self) -> int:
        self._there()
        return 0

    async def tell_audit(self, number: int) -> None:
        raise NotImplementedError("it has no audit log")

    def _there(self) -> None:
        if self.away:
            raise Unavailable("the ledger is away", where="test", fix="Wait.")


class Fate(StrEnum):
    """What becomes of one order."""

    TAKEN = "taken"
    UNANSWERED = "unanswered"  # taken, and the answer is lost
    NEVER_CAME = "never_came"
    COMES_LATE = "comes_late"  # after the next look
    REFUSED = "refused"
    OLD_FENCE = "old_fence"


@dataclass
class Job:
    """One order under its token."""

    step: PlanStep
    state: StepState = StepState.RUNNING
    effects: int = 1
    done_ms: int | None = None
    undoes: str = ""


@dataclass
class FakeController(Controller):
    """One workload. `fates` are used up one an order; then all are taken. `permitted` is asked before each order that
    takes capacity, and its answer kept: `unpermitted` must stay empty. A replica that restarts does not serve. An order
    under an older fence than one seen for its part of the workload is refused."""

    honours_tokens: bool = True
    away: bool = False
    manual_changes: int = 0
    fates: list[Fate] = field(default_factory=list)
    permitted: Callable[[PlanStep, bool], bool] = lambda step, undo: True
    now_ms: Callable[[], int] = lambda: 0
    jobs: dict[str, Job] = field(default_factory=dict)
    late: dict[str, Job] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)
    blind: list[str] = field(default_factory=list)
    unpermitted: list[str] = field(default_factory=list)
    _unknown: set[str] = field(default_factory=set)
    _fences: Counter[str] = field(default_factory=Counter)

    async def observe(self, workload: str) -> Observation:
        self._there()
        serving = tuple(name for name in ("chat-0", "chat-1", "chat-2") if name not in self.restarting())
        return Observation(at_ms=0, serving=serving, manual_changes=self.manual_changes)

    def restarting(self) -> set[str]:
        """The replicas that are away to be set anew, or to be set back."""
        jobs = (job for job in self.jobs.values() if job.step.kind is StepKind.RETUNE)
        return {job.step.subject for job in jobs if job.state is StepState.RUNNING}

    async def plan(self, action: Action, seen: Observation) -> Plan:
        self._there()
        return plan_for(action.spec).model_copy(update={"manual_changes": seen.manual_changes})

    async def dry_run(self, workload: str, step: PlanStep) -> str:
        self._there()
        return ""

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        if step.kind not in (StepKind.ADD, StepKind.WEIGH) and not self.permitted(step, False):
            self.unpermitted.append(f"{step.kind} {step.subject}")
        self._admit(step, fence)
        self._alone(step)
        self._order(token, Job(step))

    async def inspect(self, token: str) -> StepReport:
        self._there()
        job = self.jobs.get(token)
        if job is None:
            self._unknown.add(token)
        return StepReport(StepState.UNKNOWN) if job is None else StepReport(job.state)

    async def undo(self, workload: str, step: PlanStep, done_token: str, token: str, fence: int) -> None:
        done = self.jobs.get(done_token)
        serves = done is not None and done.state is not StepState.FAILED
        if step.kind is StepKind.ADD and serves and not self.permitted(step, True):
            self.unpermitted.append("undo of add")
        self._admit(step, fence)
        self._alone(step)
        self._order(token, Job(step, undoes=done_token))
        self.late.pop(done_token, None)

    def _admit(self, step: PlanStep, fence: int) -> None:
        if fence < self._fences[step.kind.part]:
            raise Conflict("an old fence", where="test", fix="Stop.")
        self._fences[step.kind.part] = fence

    def _alone(self, step: PlanStep) -> None:
        """No two replicas are away to be set anew."""
        if step.kind is StepKind.RETUNE and (others := self.restarting() - {step.subject}):
            self.unpermitted.append(f"{step.subject} while {', '.join(others)} restarts")

    def progress(self, states: Sequence[StepState]) -> None:
        """What was late arrives, and running jobs come to the next of `states`."""
        arrived, self.late = self.late, {}
        for token, job in arrived.items():
            self._take(token, job)
        running = [job for job in self.jobs.values() if job.state is StepState.RUNNING]
        for job, state in zip(running, states, strict=False):
            job.state, job.done_ms = state, self.now_ms()

    def finish(self) -> None:
        """All that runs is done."""
        self.progress(())
        for job in self.jobs.values():
            if job.state is StepState.RUNNING:
                job.state, job.done_ms = StepState.DONE, self.now_ms()

    def _order(self, token: str, job: Job) -> None:
        self._there()
        if self.calls[token] and token not in self._unknown:
            self.blind.append(token)
        self._unknown.discard(token)
        self.calls[token] += 1
        fate = self.fates.pop(0) if self.fates else Fate.TAKEN
        if fate is Fate.OLD_FENCE:
            raise Conflict("an old fence", where="test", fix="Stop.")
        if fate is Fate.REFUSED:
            raise ConfigError("cannot be done", where="test", fix="Do something else.")
        if fate is Fate.COMES_LATE:
            self.late[token] = job
        elif fate is not Fate.NEVER_CAME:
            self._take(token, job)
        if fate is not Fate.TAKEN:
            raise Unavailable("no answer", where="test", fix="Inspect.")

    def _take(self, token: str, job: Job) -> None:
        known = self.jobs.setdefault(token, job)
        done = self.jobs.get(job.undoes)
        if done is not None and done.state is StepState.RUNNING and job.step.kind is StepKind.RETUNE:
            done.state = StepState.FAILED  # taken back on its way
        if known is not job and not self.honours_tokens:
            known.effects += 1

    def _there(self) -> None:
        if self.away:
            raise Unavailable("the controller is away", where="test", fix="Wait.")
