"""Replicas and the router before them: who is there, who takes the next request, and what goes wrong on command."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from connectors.twin.engine import Engine
from connectors.twin.load import CODE_IN, CODE_OUT, Gaps, Load, LoadSpec, Source
from connectors.twin.profiles import LLAMA_70B_4XH100
from connectors.twin.shares import Shares
from connectors.twin.spec import EngineSpec
from connectors.twin.tiers import Store
from connectors.twin.watch import Watch
from contracts.errors import ConfigError, Conflict


class Phase(StrEnum):
    """The life of a replica. `failed` is a process that died and may be started again; `gone` was removed."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    GONE = "gone"


@dataclass(frozen=True)
class WorkloadSpec:
    """One model behind one router, with its load."""

    name: str
    model: str
    replicas: int
    load: LoadSpec
    engine: EngineSpec = field(default_factory=EngineSpec)
    route: str = "/v1/chat/completions"
    startup_s: float = LLAMA_70B_4XH100.startup_s()


def default_workloads(day_s: float = 86_400.0) -> tuple[WorkloadSpec, ...]:
    """Chat on three replicas and code on two, both of the 70B shape that the coefficients were measured on.

    Rates are set so that most of a day meets TTFT 0.5 s and inter-token 0.1 s, and the peak and bursts queue.
    """
    code = LoadSpec(2.0, CODE_IN, CODE_OUT, Gaps.WEIBULL, 2.2, day_s, 0.35, shared_ratio=0.95, prefixes=16)
    return (
        WorkloadSpec("chat", "meta-llama/Llama-3.1-70B-Instruct", 3, LoadSpec(4.5, day_s=day_s, phase=0.42)),
        WorkloadSpec("code", "meta-llama/Llama-3.3-70B-Instruct", 2, code, route="/v1/completions"),
    )


@dataclass(eq=False)
class Replica:
    """One server. `process_started_ms` and `ready_at_ms` are those of its present process, event ms; `engine` is None
    while there is no process that serves. `settings` are engine flags that it has beside those of its workload, from
    its next process on. A `doomed` process dies when it should begin to serve. The machine of one
    with `lost_at_ms` is taken away then. `refused` counts requests beyond the model's length (HTTP 400),
    `models_listed` answers to `GET /v1/models`. `disk` is its KV tier on disk, which outlives its processes."""

    replica_id: str
    workload: WorkloadSpec
    phase: Phase
    process_started_ms: float
    ready_at_ms: float
    engine: Engine | None = None
    frozen: bool = False
    page_delay_s: float = 0.0
    was_ready: bool = False
    doomed: bool = False
    lost_at_ms: float | None = None
    refused: int = 0
    models_listed: int = 0
    settings: Mapping[str, float] = field(default_factory=dict)
    disk: Store | None = None

    @property
    def engine_spec(self) -> EngineSpec:
        """What its next process is started with. Raises ConfigError where that cannot work."""
        return self.workload.engine.having(self.settings)

    @property
    def dies(self) -> bool:
        """Whether its next process will not come to serve."""
        return self.doomed or not self.engine_spec.starts

    @property
    def listens(self) -> bool:
        """vLLM opens its port once the model is loaded."""
        return self.engine is not None

    @property
    def drained(self) -> bool:
        """Taken out of rotation, with nothing left to finish."""
        return self.phase is Phase.DRAINING and self.engine is not None and self.engine.outstanding == 0


_FITS: dict[str, Callable[[Replica], bool]] = {
    "drain": lambda r: r.phase in (Phase.READY, Phase.DRAINING),
    "restore": lambda r: r.phase is Phase.DRAINING,
    "remove": lambda r: r.drained or not r.listens,
    "fail": lambda r: r.phase is not Phase.FAILED,
    "recover": lambda r: r.phase is Phase.FAILED,
    "freeze": lambda r: r.listens and not r.frozen,
    "retune": lambda r: r.drained or not r.listens,
}
"""Commands that do not fit every state of a replica."""


@dataclass
class RouterCounts:
    """What the router saw of one workload: `arrived` = `sent` + `unserved` (no replica was ready) + `refused` (too
    long for the model). Of those sent, `lost` were held by a process that ended."""

    arrived: int = 0
    sent: int = 0
    unserved: int = 0
    refused: int = 0
    lost: int = 0


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
        self.router = {spec.name: RouterCounts() for spec in workloads}
        self.shares = {spec.name: Shares() for spec in workloads}
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
            for request in load.arrivals(to_ms):
                for replica in replicas:
                    self._settle(replica, request.arrival_ms)
                counts = self.router[name]
                counts.arrived += 1
                chosen = self._chosen(name, replicas)
                if chosen is None:
                    counts.unserved += 1
                    if self._watch is not None:
                        self._watch.turned_away(request, "unserved")
                elif chosen.engine is not None and chosen.engine.submit(request):
                    counts.sent += 1
                else:
                    chosen.refused += 1
                    counts.refused += 1
                    if self._watch is not None:
                        self._watch.turned_away(request, "refused")
            for replica in replicas:
                self._settle(replica, to_ms)
        self.now_ms = max(self.now_ms, to_ms)

    def _chosen(self, workload: str, replicas: Sequence[Replica]) -> Replica | None:
        """Who takes the next request: whose turn it is by the shares, where there are some."""
        shares = self.shares[workload]
        if shares.wanted:
            ready = [r for r in replicas if r.phase is Phase.READY and r.engine is not None]
            place = shares.next([r.replica_id for r in ready])
            if place is not None:
                return ready[place]
        return least_outstanding(replicas)

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
        if not _FITS[verb](replica):
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


def least_outstanding(replicas: Sequence[Replica]) -> Replica | None:
    """The ready replica with the fewest requests waiting or running; the first of several; None when none is ready."""
    best, fewest = None, -1
    for replica in replicas:
        if replica.phase is Phase.READY and replica.engine is not None:
            outstanding = replica.engine.outstanding
            if best is None or outstanding < fewest:
                best, fewest = replica, outstanding
    return best
