"""What a cloud's API would be for the twin: orders under tokens and fences, done at most once, and not forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from connectors.twin import deeds, retuning
from connectors.twin.fleet import Fleet, Phase
from connectors.twin.journal import Journal
from connectors.twin.members import membership
from connectors.twin.orders import NOTHING, CannotDo, Faults, Job, Notice, Told
from contracts.errors import ConfigError, Conflict
from contracts.events import StepKind
from contracts.ports import Observation, StepReport, StepState

_TOKENS, _FENCES, _CHANGES, _NOTICES = "tokens", "fences", "changes", "notices"
_TOKENS_KEPT, _NOTICES_KEPT = 10_000, 1_000


class Actuation:
    """Orders on one fleet. Whoever calls has advanced the fleet to now; `progress` lets orders go on after that.

    A token seen before does nothing again and answers as before. A fence lower than the highest one seen for its
    workload and the part of it that the order changes is refused (Conflict). What the fleet does not permit is
    CannotDo, an unknown name ConfigError, and neither leaves a token behind. The newest 10 000 tokens and 1000 changes
    by hand are remembered.
    """

    def __init__(self, fleet: Fleet, journal: Journal | None = None) -> None:
        self.fleet = fleet
        self.faults = Faults()
        self._journal = journal or Journal()
        self._jobs = self._journal.models(_TOKENS, Job)
        self._fences = self._journal.numbers(_FENCES)
        self._changes = self._journal.numbers(_CHANGES)
        self._notices = self._journal.models(_NOTICES, Notice)
        self._open = {token: None for token, job in self._jobs.items() if job.state is StepState.RUNNING}
        self._unkept: set[tuple[str, str]] = set()
        self.progress()

    def apply(
        self, workload: str, kind: StepKind, subject: str, token: str, fence: int, told: Told = NOTHING
    ) -> StepReport:
        """Take an order; the report says how far it has come at once."""
        self._admit(workload, kind, fence)
        job = Job(workload=workload, kind=kind, subject=subject, told=told)
        return self._known(token, job) or self._take(token, job)

    def undo(
        self,
        workload: str,
        kind: StepKind,
        subject: str,
        done_token: str,
        token: str,
        fence: int,
        told: Told = NOTHING,
    ) -> StepReport:
        """Take back what was done under `done_token`: an added replica retires, a draining one is restored, one that
        was set anew restarts with its old settings, and shares and what new replicas start with are those before.

        An order that never came, or has not taken effect yet, is called off: should it come later, it does nothing.
        """
        self._admit(workload, kind, fence)
        order = Job(workload=workload, kind=kind, subject=subject, told=told)
        job = order.model_copy(update={"undoes": done_token})
        if (report := self._known(token, job)) is not None:
            return report
        if kind is StepKind.REMOVE:
            raise CannotDo("a removed replica does not come back", where=workload, fix="Add one instead.")
        if self._known(done_token, order) is None:
            self._set(done_token, order.failed("called off before it came"))
        return self._take(token, job)

    def check(self, workload: str, kind: StepKind, subject: str, told: Told = NOTHING) -> str:
        """Why an order could not be done now; empty when it could."""
        try:
            self._require(Job(workload=workload, kind=kind, subject=subject, told=told))
        except ConfigError as error:
            return str(error)
        return ""

    def inspect(self, token: str) -> StepReport:
        """How far the order of a token has come; `unknown` when there was none."""
        job = self._jobs.get(token)
        return job.report() if job else StepReport(StepState.UNKNOWN)

    def observe(self, workload: str) -> Observation:
        """A workload's replicas as they are."""
        there = self.fleet.members(workload)

        def ids(phase: Phase) -> tuple[str, ...]:
            return tuple(r.replica_id for r in there if r.phase is phase)

        return Observation(
            at_ms=int(self.fleet.now_ms),
            serving=ids(Phase.READY),
            starting=ids(Phase.STARTING),
            draining=ids(Phase.DRAINING),
            failed=ids(Phase.FAILED),
            manual_changes=self._changes.get(workload, 0),
            in_flight={r.replica_id: r.engine.outstanding for r in there if r.engine},
            settings={r.replica_id: r.engine_spec.flags for r in there},
            shares=dict(self.fleet.shares[workload].wanted),
            starting_s={
                r.replica_id: (self.fleet.now_ms - r.process_started_ms) / 1000.0
                for r in there
                if r.phase is Phase.STARTING
            },
            launched_with=retuning.launch_spec(self.fleet, workload).flags,
        )

    def effects(self) -> dict[str, int]:
        """How often each token changed the fleet."""
        return {token: job.effects for token, job in self._jobs.items()}

    def by_hand(self, workload: str, summary: str) -> None:
        """Note a change that came without a token; kept with what it changed, at the next `progress`."""
        change = self._changes[workload] = self._changes.get(workload, 0) + 1
        number, at_ms = self.newest_notice, int(self.fleet.now_ms)
        notice = Notice(number=number, workload=workload, change=change, at_ms=at_ms, summary=summary)
        self._notices[str(number)] = notice
        self._unkept.add((_NOTICES, str(number)))
        if len(self._notices) > _NOTICES_KEPT:
            oldest = next(iter(self._notices))
            del self._notices[oldest]
            self._unkept.add((_NOTICES, oldest))

    @property
    def newest_notice(self) -> int:
        """The number of the newest change by hand, 0 before the first."""
        return sum(self._changes.values())

    def notices(self, after: int) -> list[Notice]:
        """Changes by hand with a number above `after`, in order."""
        return [notice for notice in self._notices.values() if notice.number > after]

    def spend(self, fault: str) -> bool:
        """Whether a counted fault (`fail`, `drop_answer`, `lose`) strikes now; it is used up by one."""
        left: int = getattr(self.faults, fault)
        if left:
            self.faults = self.faults.model_copy(update={fault: left - 1})
        return left > 0

    def progress(self) -> None:
        """Let orders that are due take effect, see which are done, and keep all that changed."""
        for token in list(self._open):
            if token in self._open:
                self._set(token, self._progressed(token))
        self._keep()

    def _admit(self, workload: str, kind: StepKind, fence: int) -> None:
        self.fleet.workload(workload)
        target = f"{workload}/{kind.part}"  # a lease is held on a part: those of the others say nothing of it
        highest = self._fences.get(target, 0)
        if fence < highest:
            raise Conflict(
                f"fence {fence} is older than {highest}", where=target, fix="Somebody else holds the lease now: stop."
            )
        self._fences[target] = fence
        self._keep()

    def _known(self, token: str, order: Job) -> StepReport | None:
        job = self._jobs.get(token)
        if job is not None and not job.same_order(order):
            raise CannotDo(f"token {token!r} was used for another order", where=order.workload, fix="Use a new token.")
        return job.report() if job else None

    def _take(self, token: str, order: Job) -> StepReport:
        self._require(order)
        if self.faults.lie:
            job = order.done("done")
        elif self.faults.delay_s:
            due_ms = self.fleet.now_ms + self.faults.delay_s * 1000
            job = order.model_copy(update={"due_ms": due_ms, "detail": "taken"})
        else:
            job = deeds.follow(self.fleet, self._begin(order))
        self._set(token, job)
        self._keep()
        return job.report()

    def _require(self, order: Job) -> None:
        if not order.undoes:
            deeds.require(self.fleet, order, self._room(order.workload))
        elif (done := self._jobs.get(order.undoes)) is not None and done.effects:
            deeds.require_back(self.fleet, done)

    def _room(self, workload: str) -> int | None:
        """For how many more replicas there is capacity, beside those ordered and not begun; None: no limit is set."""
        if self.faults.capacity is None:
            return None
        jobs = [self._jobs[token] for token in self._open]
        ordered = [j for j in jobs if j.due_ms is not None and j.kind is StepKind.ADD and not j.undoes]
        held = sum(j.workload == workload for j in ordered)
        return self.faults.capacity - len(self.fleet.members(workload)) - held

    def _begin(self, order: Job) -> Job:
        """Let an order that may be done take effect."""
        if not order.undoes:
            return deeds.begin(self.fleet, order, doomed=order.kind is StepKind.ADD and self.spend("lose"))
        done = self._jobs.get(order.undoes)
        if done is not None and done.due_ms is not None:
            self._set(order.undoes, done.failed("called off before it took effect"))
        elif done is not None and done.kind is StepKind.RETUNE and done.state is StepState.RUNNING:
            self._set(order.undoes, done.failed("taken back on its way"))
        return deeds.take_back(self.fleet, order, done) if done and done.effects else order.done("nothing was done")

    def _progressed(self, token: str) -> Job:
        job = self._jobs[token]
        if job.due_ms is None:
            return deeds.follow(self.fleet, job)
        if job.due_ms > self.fleet.now_ms:
            return job
        # Its own place was counted when it was taken: it does not stand in its own way.
        order = job.model_copy(update={"due_ms": None})
        self._set(token, order)
        try:
            self._require(order)
        except ConfigError as error:
            return order.failed(error.message)
        return deeds.follow(self.fleet, self._begin(order))

    def _set(self, token: str, job: Job) -> None:
        if self._jobs.get(token) == job:
            return
        self._jobs[token] = job
        self._unkept.add((_TOKENS, token))
        if job.state is StepState.RUNNING:
            self._open[token] = None
        else:
            self._open.pop(token, None)
        if len(self._jobs) > _TOKENS_KEPT:
            # Orders still open are never forgotten: there are no more of those than replicas under way.
            oldest = next((known for known in self._jobs if known not in self._open), None)
            if oldest is not None:
                del self._jobs[oldest]
                self._unkept.add((_TOKENS, oldest))

    def _keep(self) -> None:
        """Write what changed since it was last written, as one change: after a kill it is all there or not at all."""
        whole = {**membership(self.fleet), _FENCES: self._fences, _CHANGES: self._changes}
        change = {name: _difference(self._journal.section(name), values) for name, values in whole.items()}
        kept: dict[str, Mapping[str, BaseModel]] = {_TOKENS: self._jobs, _NOTICES: self._notices}
        for name, key in self._unkept:
            value = kept[name].get(key)
            change.setdefault(name, {})[key] = None if value is None else value.model_dump(mode="json")
        change = {name: values for name, values in change.items() if values}
        if change:
            self._journal.append(change)
        self._unkept.clear()


def _difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """What must be merged into `before` to make it `now`; None stands for what is no longer there."""
    changed = {key: value for key, value in now.items() if before.get(key) != value}
    return changed | {key: None for key in before if key not in now}
