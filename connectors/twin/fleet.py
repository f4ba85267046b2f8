"""Replicas and the router before them: who is there, who takes the next request, and what goes wrong on command."""

from __future__ import annotations

from collections.abc import Mapping

from connectors.twin.engine import Engine
from connectors.twin.load import Load, Source
from connectors.twin.replica import FITS, Phase, Replica
from connectors.twin.router import Router
from connectors.twin.watch import Watch
from connectors.twin.workloads import WorkloadSpec, default_workloads
from contracts.errors import ConfigError, Conflict

__all__ = ["Fleet", "Phase", "Replica", "WorkloadSpec", "default_workloads"]


class Fleet:
    """All workloads, advanced together. Commands take effect at `now_ms`, the time of the last `advance`."""

    def __init__(
        self,
        workloads: tuple[WorkloadSpec, ...],
        *,
        seed: int,
        start_ms: int,
        day_origin_ms: int | None = None,
        numbers: Mapping[str, int] | None = None,
        sources: Mapping[str, Source] | None = None,
        watch: Watch | None = None,
    ) -> None:
        """Replicas stand ready at `start_ms`; each workload's day is at its phase at `day_origin_ms`, by default then
        too. A fleet that is started again keeps the time of day by keeping the origin.

        A workload in `numbers` begins empty, for its replicas to be readmitted, and counts new ones from there. One in
        `sources` takes its requests from there, not from its load. `watch` is told of every request."""
        self.now_ms = float(start_ms)
        self.workloads = {spec.name: spec for spec in workloads}
        self.loads: dict[str, Source] = {
            spec.name: Load(spec.load, f"{seed}/{spec.name}", start_ms, day_origin_ms) for spec in workloads
        }
        self.loads.update(sources or {})
        self._watch = watch
        self._routers = {spec.name: Router(watch, self._settle) for spec in workloads}
        self.router = {name: each.counts for name, each in self._routers.items()}
        self.shares = {name: each.shares for name, each in self._routers.items()}
        self.gates = {name: each.gate for name, each in self._routers.items()}
        self.replicas: dict[str, Replica] = {}
        self.launched_with: dict[str, Mapping[str, float]] = {}
        known = numbers or {}
        self.numbers = {name: known.get(name, 0) for name in self.workloads}
        for spec in workloads:
            for _ in range(0 if spec.name in known else spec.replicas):
                replica = self._new_replica(spec, self.now_ms - spec.startup_s * 1000.0)
                self._settle(replica, self.now_ms)

    def advance(self, to_ms: float) -> None:
        """Let everything happen up to `to_ms`; a time already passed changes nothing."""
        for name, load in self.loads.items():
            replicas = [r for r in self.replicas.values() if r.workload.name == name and r.phase is not Phase.GONE]
            router = self._routers[name]
            for request in load.arrivals(to_ms):
                router.take(request, replicas)
            router.look(to_ms, replicas)
            for replica in replicas:
                self._settle(replica, to_ms)
        self.now_ms = max(self.now_ms, to_ms)

    def replica(self, replica_id: str) -> Replica:
        """A replica that is not gone; ConfigError names those there are."""
        found = self.replicas.get(replica_id)
        if found is None or found.phase is Phase.GONE:
            known = ", ".join(r.replica_id for r in self.replicas.values() if r.phase is not Phase.GONE)
            raise ConfigError(f"no replica {replica_id!r}", where="fleet", fix=f"Replicas: {known}.")
        return found

    def workload(self, name: str) -> WorkloadSpec:
        """A workload's spec; ConfigError names those there are."""
        if name not in self.workloads:
            raise ConfigError(f"no workload {name!r}", where="fleet", fix=f"Workloads: {', '.join(self.workloads)}.")
        return self.workloads[name]

    def members(self, workload: str) -> list[Replica]:
        """A workload's replicas that are not gone, oldest first."""
        name = self.workload(workload).name
        return [r for r in self.replicas.values() if r.workload.name == name and r.phase is not Phase.GONE]

    def add_replica(self, workload: str, *, doomed: bool = False) -> Replica:
        """Start one more replica; after its start-up delay it is ready, or fails when it is `doomed`."""
        replica = self._new_replica(self.workload(workload), self.now_ms)
        replica.doomed = doomed
        return replica

    def readmit(self, replica: Replica) -> None:
        """Take in a replica that stood in this fleet before the fleet was started again."""
        self.replicas[replica.replica_id] = replica
        self._settle(replica, self.now_ms)

    def drain(self, replica_id: str) -> None:
        """Send it nothing more and let it finish."""
        self.fit(replica_id, "drain").phase = Phase.DRAINING

    def restore(self, replica_id: str) -> None:
        """Put a draining replica back into rotation, drained or not; Conflict for any other."""
        self.fit(replica_id, "restore").phase = Phase.READY

    def remove(self, replica_id: str) -> None:
        """End a replica that was drained, never reached service, or failed; Conflict for any other."""
        replica = self.fit(replica_id, "remove")
        replica.engine, replica.phase, replica.lost_at_ms = None, Phase.GONE, None

    def fail(self, replica_id: str) -> None:
        """The process dies: its port closes and what it held is lost."""
        replica = self.fit(replica_id, "fail")
        self._end_process(replica, self.now_ms)
        replica.phase = Phase.FAILED

    def lose(self, replica_id: str, notice_s: float = 0.0) -> None:
        """The machine is taken back, as spot machines are: at once, or after a notice, upon which it is drained."""
        replica = self.replica(replica_id)
        if notice_s > 0 and replica.listens:
            replica.lost_at_ms = self.now_ms + notice_s * 1000.0
            replica.phase = Phase.DRAINING
        else:
            self._take_away(replica, self.now_ms)

    def recover(self, replica_id: str) -> None:
        """Start the process of a failed replica again."""
        self._start_process(self.fit(replica_id, "recover"), None)

    def reset(self, replica_id: str, delay_s: float | None = None) -> None:
        """Restart the process: counters begin at zero. It serves after `delay_s`, by default its start-up delay."""
        replica = self.replica(replica_id)
        self._end_process(replica, self.now_ms)
        self._start_process(replica, delay_s)
        self._settle(replica, self.now_ms)

    def retune(self, replica_id: str, settings: Mapping[str, float]) -> None:
        """Restart the process with these engine flags beside those of the workload; Conflict for one that holds
        requests, ConfigError for flags that cannot work."""
        replica = self.fit(replica_id, "retune")
        replica.workload.engine.having(settings)
        replica.settings = dict(settings)
        self.reset(replica_id)

    def freeze(self, replica_id: str) -> None:
        """The process hangs: connections open, pages never come, requests wait; the router does not notice."""
        replica = self.fit(replica_id, "freeze")
        if replica.engine is not None:
            replica.engine.pause(self.now_ms)
        replica.frozen = True

    def slow_page(self, replica_id: str, delay_s: float) -> None:
        """Pages take `delay_s` wall seconds longer; the engine is not touched."""
        self.replica(replica_id).page_delay_s = delay_s

    def thaw(self, replica_id: str) -> None:
        """End `freeze` and `slow_page`."""
        replica = self.replica(replica_id)
        if replica.frozen and replica.engine is not None:
            replica.engine.resume(self.now_ms)
        replica.frozen, replica.page_delay_s = False, 0.0

    def set_load_factor(self, workload: str, factor: float) -> None:
        """Multiply a workload's rate by `factor` from now on."""
        self.loads[self.workload(workload).name].set_factor(factor, self.now_ms)

    def discoverable(self) -> list[Replica]:
        """What a scraper should know of: whatever has served once and is not gone, failed and restarting ones too."""
        return [r for r in self.replicas.values() if r.was_ready and r.phase is not Phase.GONE]

    def fit(self, replica_id: str, verb: str) -> Replica:
        """The replica, when the command `verb` fits its state now; Conflict when not."""
        replica = self.replica(replica_id)
        if not FITS[verb](replica):
            state = f"{replica.phase}, frozen" if replica.frozen else str(replica.phase)
            held = replica.engine.outstanding if replica.engine else 0
            raise Conflict(
                f"cannot {verb} {replica_id}: it is {state} with {held} requests in flight",
                where="fleet",
                fix="Drain a replica before it is removed; recover a failed one; thaw a frozen one.",
            )
        return replica

    def _new_replica(self, spec: WorkloadSpec, started_ms: float) -> Replica:
        number = self.numbers[spec.name]
        self.numbers[spec.name] += 1
        ready_ms = started_ms + spec.startup_s * 1000.0
        replica = Replica(f"{spec.name}-{number}", spec, Phase.STARTING, started_ms, ready_ms)
        replica.settings = dict(self.launched_with.get(spec.name, {}))
        self.replicas[replica.replica_id] = replica
        return replica

    def _start_process(self, replica: Replica, delay_s: float | None) -> None:
        replica.phase, replica.process_started_ms = Phase.STARTING, self.now_ms
        delay_s = replica.workload.startup_s if delay_s is None else delay_s
        replica.ready_at_ms = self.now_ms + delay_s * 1000.0

    def _take_away(self, replica: Replica, at_ms: float) -> None:
        self._end_process(replica, at_ms)
        replica.phase, replica.lost_at_ms = Phase.GONE, at_ms

    def _end_process(self, replica: Replica, at_ms: float) -> None:
        if replica.engine is not None:
            self.router[replica.workload.name].lost += replica.engine.outstanding
            if self._watch is not None:
                for sequence in replica.engine.held():
                    self._watch.ended(sequence, "lost", at_ms)
        replica.engine, replica.frozen, replica.page_delay_s = None, False, 0.0
        replica.refused = replica.models_listed = 0

    def _settle(self, replica: Replica, at_ms: float) -> None:
        """Bring one replica to `at_ms`."""
        if replica.lost_at_ms is not None and replica.lost_at_ms <= at_ms and replica.phase is not Phase.GONE:
            if replica.engine is not None:
                replica.engine.advance(replica.lost_at_ms)
            self._take_away(replica, replica.lost_at_ms)
        elif replica.phase is Phase.STARTING and replica.ready_at_ms <= at_ms and replica.dies:
            replica.phase, replica.doomed = Phase.FAILED, False
        elif replica.phase is Phase.STARTING and replica.ready_at_ms <= at_ms:
            replica.phase, replica.was_ready = Phase.READY, True
            replica.engine = Engine(replica.engine_spec, self._watch, replica.disk)
            if replica.engine.tiers is not None:
                replica.disk = replica.engine.tiers.disk
        elif replica.engine is not None:
            replica.engine.advance(at_ms)
