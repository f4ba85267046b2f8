"""How a replica gets other engine settings: it finishes what it holds, restarts with them, and serves again.

An order that names no replica is about those to come: they start with these settings. No other is touched by it.
"""

from __future__ import annotations

from connectors.twin.fleet import Fleet, Phase
from connectors.twin.orders import CannotDo, Job
from connectors.twin.spec import FLAGS, EngineSpec
from contracts.errors import ConfigError

_DRAINING, _RESTARTING = "draining", "restarting"


def launch_spec(fleet: Fleet, workload: str) -> EngineSpec:
    """What the next new replica of a workload is started with."""
    return fleet.workload(workload).engine.having(fleet.launched_with.get(workload, {}))


def require(fleet: Fleet, job: Job) -> None:
    """Raise when a replica, or those to come, could not be set anew now, or not so."""
    spec = launch_spec(fleet, job.workload)
    if job.subject:
        replica = fleet.replica(job.subject)
        if replica.phase is not Phase.READY or replica.frozen:
            state = "frozen" if replica.frozen else replica.phase
            raise CannotDo(f"{job.subject} is {state}", where=job.workload, fix="Only one that serves is set anew.")
        spec = replica.engine_spec
    if not job.told.settings:
        raise CannotDo("no settings are given", where=job.workload, fix=f"There are {', '.join(FLAGS)}.")
    try:
        spec.having(job.told.settings)
    except ConfigError as error:
        raise CannotDo(error.message, where=job.workload, fix=error.fix) from error


def begin(fleet: Fleet, job: Job) -> Job:
    """Take it out of rotation; the rest follows by itself. Those to come are set at once."""
    if not job.subject:
        known = dict(fleet.launched_with.get(job.workload, {}))
        fleet.launched_with[job.workload] = known | job.told.settings
        return job.model_copy(update={"before": known}).begun("", "").done("new replicas start with them")
    before = dict(fleet.replica(job.subject).settings)
    fleet.drain(job.subject)
    return job.model_copy(update={"before": before}).begun(job.subject, _DRAINING)


def take_back(fleet: Fleet, job: Job, done: Job, phase: Phase) -> Job:
    """Begin to set a replica back, whatever it has come to: one that has not restarted yet just serves again."""
    if not done.subject:
        if fleet.launched_with.get(done.workload) != {**done.before, **done.told.settings}:
            return job.done("others were set meanwhile")
        fleet.launched_with[done.workload] = done.before
        return job.begun("", "").done("new replicas start as before")
    job = job.model_copy(update={"before": done.before})
    if phase is Phase.GONE:
        return job.done("gone: there is nothing to set back")
    if phase is Phase.DRAINING:
        if done.detail != _DRAINING:
            return job.failed(f"{done.subject} is {phase}")
        fleet.restore(done.subject)
        return job.begun(done.subject, "").done("in rotation, as it was")
    if phase is Phase.READY:
        if fleet.replica(done.subject).settings == done.before:
            return job.done("in rotation, as it was")
        fleet.drain(done.subject)
        return job.begun(done.subject, _DRAINING)
    fleet.retune(done.subject, done.before)
    return job.begun(done.subject, _RESTARTING)


def follow(fleet: Fleet, job: Job, phase: Phase) -> Job:
    """How far it has come; a replica that has nothing left to finish restarts."""
    if phase is Phase.DRAINING and job.detail == _DRAINING:
        if not fleet.replicas[job.subject].drained:
            return job
        wanted = job.before if job.undoes else {**job.before, **job.told.settings}
        fleet.retune(job.subject, wanted)
        job, phase = job.model_copy(update={"detail": _RESTARTING}), fleet.replicas[job.subject].phase
    if job.detail == _RESTARTING and phase is Phase.STARTING:
        return job
    if job.detail == _RESTARTING and phase is Phase.READY:
        return job.done("serves as before" if job.undoes else "serves with its new settings")
    return job.failed(f"{job.subject} is {phase}, and was {job.detail}")
