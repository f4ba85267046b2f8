"""The controller of a simulated fleet in virtual time: orders under tokens and fences, each done at most once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from connectors.twin.controller import plan
from contracts.errors import ConfigError, Conflict
from contracts.events import Action, Plan, PlanStep, StepKind
from contracts.ledger import step_token
from contracts.ports import Controller, Observation, StepReport, StepState
from optiinfra.replay.replicas import Phase, Replica
from optiinfra.replay.scene import Scene


@dataclass(frozen=True)
class _Job:
    """One order. `undoes` is the token whose work it takes back; `subject` the replica, once it is known."""

    kind: StepKind
    subject: str = ""
    undoes: str = ""
    state: StepState = StepState.RUNNING
    detail: str = ""

    def same_order(self, other: _Job) -> bool:
        """Whether both ask for the same. The replica of an `add` is found out later."""
        if (self.kind, self.undoes) != (other.kind, other.undoes):
            return False
        return self.kind is StepKind.ADD or self.subject == other.subject

    def at(self, state: StepState, detail: str) -> _Job:
        return replace(self, state=state, detail=detail)


class SceneController(Controller):
    """Drives the replicas of a `Scene` as the twin's controller drives the twin's, by the same plans.

    A token seen before does nothing again; a fence lower than the highest one seen for the part that the order changes
    is refused (Conflict); what the fleet does not permit is ConfigError and leaves no token behind. The last replica
    that serves is never drained.
    """

    honours_tokens = True

    def __init__(self, scene: Scene) -> None:
        self._scene, self._workload = scene, scene.options.workload
        self._jobs: dict[str, _Job] = {}
        self._fences: dict[str, int] = {}

    async def observe(self, workload: str) -> Observation:
        self._ours(workload)
        scene = self._scene
        return Observation(
            at_ms=scene.options.begin_ms + scene.now_s * 1000,
            serving=scene.last_to_stay(),
            starting=scene.names(Phase.STARTING),
            draining=scene.names(Phase.DRAINING),
        )

    async def plan(self, action: Action, seen: Observation) -> Plan:
        if not action.spec.kind.scales:
            raise self._no_engines(f"a {action.spec.kind}")
        return plan(action, seen)

    async def dry_run(self, workload: str, step: PlanStep) -> str:
        self._ours(workload)
        try:
            self._require(step)
        except ConfigError as error:
            return str(error)
        return ""

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        self._admit(workload, step.kind, fence)
        job = _Job(step.kind, step.subject)
        if self._known(token, job):
            return
        self._require(step)
        scene = self._scene
        if step.kind is StepKind.ADD:
            job = replace(job, subject=scene.add().name)
        elif step.kind is StepKind.DRAIN:
            scene.drain(step.subject)
        else:
            scene.remove(step.subject)
            job = job.at(StepState.DONE, "gone")
        self._jobs[token] = job

    async def inspect(self, token: str) -> StepReport:
        job = self._jobs.get(token)
        if job is None:
            return StepReport(StepState.UNKNOWN)
        if job.state is StepState.RUNNING:
            job = self._jobs[token] = self._followed(job)
        return StepReport(job.state, job.subject, job.detail)

    async def undo(self, workload: str, step: PlanStep, done_token: str, token: str, fence: int) -> None:
        self._admit(workload, step.kind, fence)
        job = _Job(step.kind, step.subject, done_token)
        if self._known(token, job):
            return
        if step.kind is StepKind.REMOVE:
            raise ConfigError("a removed replica does not come back", where=workload, fix="Add one instead.")
        if not self._known(done_token, _Job(step.kind, step.subject)):
            called_off = _Job(step.kind, step.subject, state=StepState.FAILED, detail="called off before it came")
            self._jobs[done_token] = called_off
            self._jobs[token] = job.at(StepState.DONE, "nothing was done")
            return
        did = self._jobs[done_token]
        self._jobs[token] = self._take_back(job, did) if did.subject else job.at(StepState.DONE, "nothing was done")

    def touched(self, action_id: str, steps: int) -> tuple[Replica, ...]:
        """The replicas that the first `steps` steps of an action were about, as far as they were taken."""
        jobs = (self._jobs.get(step_token(action_id, number)) for number in range(steps))
        return tuple(self._scene.replica(job.subject) for job in jobs if job is not None and job.subject)

    def _ours(self, workload: str) -> None:
        if workload != self._workload:
            raise ConfigError(f"no workload {workload!r}", where="replay", fix=f"There is {self._workload!r}.")

    def _admit(self, workload: str, kind: StepKind, fence: int) -> None:
        self._ours(workload)
        highest = self._fences.get(kind.part, 0)
        if fence < highest:
            what = f"fence {fence} is older than {highest}"
            raise Conflict(what, where=f"{workload}/{kind.part}", fix="Somebody else holds the lease now: stop.")
        self._fences[kind.part] = fence

    def _known(self, token: str, order: _Job) -> bool:
        job = self._jobs.get(token)
        if job is not None and not job.same_order(order):
            what = f"token {token!r} was used for another order"
            raise ConfigError(what, where=self._workload, fix="Use a new token.")
        return job is not None

    def _require(self, step: PlanStep) -> None:
        """Raise when an order could not be begun now."""
        scene = self._scene
        if step.kind in (StepKind.RETUNE, StepKind.WEIGH, StepKind.LIMIT):
            raise self._no_engines(f"a {step.kind}")
        if step.kind is StepKind.ADD:
            return
        replica = scene.replica(step.subject)
        if step.kind is StepKind.REMOVE:
            if not (scene.drained(replica) or replica.phase is Phase.STARTING):
                raise self._unfit(replica, "A replica is drained before it is removed.")
        elif replica.phase is not Phase.SERVING:
            raise self._unfit(replica, "Only one that serves can be drained.")
        else:
            self._spare(replica)

    def _spare(self, replica: Replica) -> None:
        if self._scene.names(Phase.SERVING) == (replica.name,):
            what = f"{replica.name} is the last replica in service"
            raise ConfigError(what, where=self._workload, fix="Add another one first.")

    def _no_engines(self, what: str) -> ConfigError:
        words = f"{what} cannot be done here: a fluid scene has no engine settings and no router"
        fix = "Leave rules of this kind out of a replay, or try them on the twin (optiinfra up)."
        return ConfigError(words, where=self._workload, fix=fix)

    def _unfit(self, replica: Replica, fix: str) -> ConfigError:
        return ConfigError(f"{replica.name} is {replica.phase}", where=self._workload, fix=fix)

    def _take_back(self, job: _Job, did: _Job) -> _Job:
        """Begin the way back of what took effect: an added replica retires, a drained one serves again."""
        scene, replica = self._scene, self._scene.replica(did.subject)
        job = replace(job, subject=did.subject)
        if did.kind is StepKind.ADD:
            self._spare(replica)
            if replica.phase not in (Phase.GONE, Phase.LOST):
                scene.retire(replica.name)
            return self._followed(job)
        if replica.phase is Phase.DRAINING:
            scene.restore(replica.name)
        if replica.phase is Phase.SERVING:
            return job.at(StepState.DONE, "in rotation")
        return job.at(StepState.FAILED, f"{replica.name} is {replica.phase}")

    def _followed(self, job: _Job) -> _Job:
        """How far a job that has begun has come."""
        replica = self._scene.replica(job.subject)
        away = replica.phase in (Phase.GONE, Phase.LOST)
        if job.undoes:
            return job.at(StepState.DONE, "gone") if away else replace(job, detail="retiring")
        if job.kind is StepKind.ADD:
            if replica.has_served:
                return job.at(StepState.DONE, "ready")
            never = f"{replica.name} is {replica.phase} and never was ready"
            return job.at(StepState.FAILED, never) if away else replace(job, detail="starting")
        if replica.phase is Phase.DRAINING:
            drained = self._scene.drained(replica)
            return job.at(StepState.DONE, "drained") if drained else replace(job, detail="draining")
        return job.at(StepState.FAILED, f"{replica.name} is {replica.phase}, no longer draining")
