"""What each order does to the fleet: whether it may, how it begins, how it is taken back, and when it is done."""

from __future__ import annotations

from connectors.twin import retuning
from connectors.twin.fleet import Fleet, Phase
from connectors.twin.orders import CannotDo, Job
from contracts.errors import ConfigError, Conflict
from contracts.events import StepKind
from contracts.ports import StepState


def require(fleet: Fleet, job: Job, room: int | None) -> None:
    """Raise when an order could not be begun now. `room` is for how many replicas there is capacity, None for any."""
    if job.kind is StepKind.ADD:
        fleet.workload(job.workload)
        if job.subject:
            raise CannotDo("the twin names its replicas itself", where=job.workload, fix="Leave `subject` empty.")
        if room is not None and room < 1:
            raise CannotDo("no capacity for one more replica", where=job.workload, fix="Ask again later.")
        return
    if job.kind is StepKind.WEIGH:
        _require_shares(fleet, job)
        return
    if job.kind is StepKind.RETUNE and not job.subject:
        retuning.require(fleet, job)
        return
    if job.kind is StepKind.LIMIT:
        fix = f"PUT /limits/{job.workload} sets it (docs/gateway.md)."
        raise CannotDo("what the gateway lets through is no order to the fleet", where=job.workload, fix=fix)
    there = {replica.replica_id: replica for replica in fleet.members(job.workload)}
    if job.subject not in there:
        raise ConfigError(f"no replica {job.subject!r}", where=job.workload, fix=f"Replicas: {', '.join(there)}.")
    if job.kind is StepKind.DRAIN and there[job.subject].phase is Phase.DRAINING:
        raise CannotDo(f"{job.subject} is draining already", where=job.workload, fix="Choose another replica.")
    if job.kind is StepKind.RETUNE:
        retuning.require(fleet, job)
    else:
        try:
            fleet.fit(job.subject, job.kind)
        except Conflict as error:
            raise CannotDo(error.message, where=job.workload, fix=error.fix) from error
    spare(fleet, job.workload, job.subject)


def require_back(fleet: Fleet, done: Job) -> None:
    """Raise when the way back of what took effect could not be begun now: it would take the last one in service."""
    serves = done.kind is StepKind.RETUNE and phase_of(fleet, done.subject) is Phase.READY
    if done.kind is StepKind.ADD or serves:
        spare(fleet, done.workload, done.subject)


def _require_shares(fleet: Fleet, job: Job) -> None:
    shares = job.told.by_replica
    there = [replica.replica_id for replica in fleet.members(job.workload)]
    if unknown := shares.keys() - set(there):
        what = f"no replica {', '.join(map(repr, sorted(unknown)))}"
        raise CannotDo(what, where=job.workload, fix=f"Replicas: {', '.join(there)}.")
    if not shares or min(shares.values()) < 0 or sum(shares.values()) <= 0:
        raise CannotDo(f"{shares} are no shares", where=job.workload, fix="Give none below zero, and one above it.")


def spare(fleet: Fleet, workload: str, replica_id: str) -> None:
    """Raise when a replica is the only one of its workload in service: no order takes that one."""
    if [r.replica_id for r in fleet.members(workload) if r.phase is Phase.READY] == [replica_id]:
        raise CannotDo(f"{replica_id} is the last replica in service", where=workload, fix="Add another one first.")


def begin(fleet: Fleet, job: Job, *, doomed: bool) -> Job:
    """Do what `require` has allowed. A `doomed` replica dies while starting."""
    if job.kind is StepKind.ADD:
        return job.begun(fleet.add_replica(job.workload, doomed=doomed).replica_id, "starting")
    if job.kind is StepKind.DRAIN:
        fleet.drain(job.subject)
        return job.begun(job.subject, "draining")
    if job.kind is StepKind.RETUNE:
        return retuning.begin(fleet, job)
    if job.kind is StepKind.WEIGH:
        shares = fleet.shares[job.workload]
        job = job.model_copy(update={"before": dict(shares.wanted)})
        shares.set(job.told.by_replica)
        return job.begun("", "").done("shares are set")
    fleet.remove(job.subject)
    return job.begun(job.subject, "").done("gone")


def take_back(fleet: Fleet, job: Job, done: Job) -> Job:
    """Begin the way back of `done`, which took effect: an added replica retires, a drained one is restored, one that
    was set anew restarts, shares are set back unless somebody has set others meanwhile."""
    if done.kind is StepKind.WEIGH:
        shares = fleet.shares[done.workload]
        if shares.wanted != done.told.by_replica:
            return job.done("others were set meanwhile")
        shares.set(done.before)
        return job.begun("", "").done("shares are as before")
    if done.kind is StepKind.RETUNE:
        return retuning.take_back(fleet, job, done, phase_of(fleet, done.subject))
    phase = phase_of(fleet, done.subject)
    job = job.model_copy(update={"subject": done.subject, "due_ms": None})
    if done.kind is StepKind.ADD:
        if phase is Phase.GONE:
            return job.done("gone already")
        if phase is Phase.READY:
            fleet.drain(done.subject)
        return job.begun(done.subject, "retiring")
    if phase is Phase.READY:
        return job.done("in rotation already")
    if phase is not Phase.DRAINING:
        return job.failed(f"{done.subject} is {phase}")
    fleet.restore(done.subject)
    return job.begun(done.subject, "").done("in rotation")


def follow(fleet: Fleet, job: Job) -> Job:
    """How far a job that has begun has come; a retiring replica is removed as soon as it may be."""
    phase = phase_of(fleet, job.subject)
    if job.state is not StepState.RUNNING:
        return job
    if job.kind is StepKind.RETUNE:
        return retuning.follow(fleet, job, phase)
    if job.undoes:
        return _retire(fleet, job, phase)
    if job.kind is StepKind.ADD:
        if phase in (Phase.READY, Phase.DRAINING):
            return job.done("ready")
        return job if phase is Phase.STARTING else job.failed(f"{job.subject} is {phase} and never was ready")
    if phase is Phase.DRAINING:
        return job.done("drained") if fleet.replicas[job.subject].drained else job
    return job.failed(f"{job.subject} is {phase}, no longer draining")


def phase_of(fleet: Fleet, replica_id: str) -> Phase:
    """A replica's phase; one that nobody knows any more is gone."""
    replica = fleet.replicas.get(replica_id)
    return replica.phase if replica else Phase.GONE


def _retire(fleet: Fleet, job: Job, phase: Phase) -> Job:
    if phase is Phase.READY:
        return job.failed(f"{job.subject} was put back into rotation")
    if phase is Phase.GONE:
        return job.done("gone")
    replica = fleet.replicas[job.subject]
    if replica.listens and not replica.drained:
        return job
    fleet.remove(job.subject)
    return job.done("gone")
