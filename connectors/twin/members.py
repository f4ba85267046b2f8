"""Membership that outlives a process of the twin: each replica's place in the fleet, kept and restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict

from connectors.twin.engine import Engine
from connectors.twin.fleet import Fleet, Phase, Replica, WorkloadSpec
from connectors.twin.journal import Journal
from connectors.twin.load import Source
from contracts.ports import GatewayState

MEMBERS, NUMBERS, SHARES, LIMITS, LAUNCHES = "members", "numbers", "shares", "limits", "launches"
"""Sections of the journal: replicas by id, the number of each workload's next one, its shares, if it has some, what its
gateway lets through, once that was set, and the engine settings that new replicas start with, if those are others than
its spec says."""


class Member(BaseModel):
    """One replica as it is kept; times in event ms. Its requests and counters are not: they end with the process."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    workload: str
    phase: Phase
    process_started_ms: float
    ready_at_ms: float
    was_ready: bool
    doomed: bool
    lost_at_ms: float | None = None
    settings: dict[str, float] = {}


class Sharing(BaseModel):
    """The shares of one workload's requests as they are kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    by_replica: dict[str, float]


class Launching(BaseModel):
    """What new replicas of one workload start with, as it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    settings: dict[str, float]


class Limited(BaseModel):
    """What the gateway of one workload lets through, as it is kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: int
    limits: dict[str, int]
    note: str


def restored_fleet(
    workloads: tuple[WorkloadSpec, ...],
    journal: Journal,
    *,
    seed: int,
    start_ms: int,
    day_origin_ms: int | None = None,
    sources: Mapping[str, Source] | None = None,
) -> Fleet:
    """The fleet that the journal tells of; a workload that it does not know begins as its spec says.

    A replica that served or drained does so again with a new process that holds nothing, so that counters begin at
    zero; one that was starting goes on by its time; a failed one stays failed. Faults are forgotten.
    """
    numbers = journal.numbers(NUMBERS)
    fleet = Fleet(
        workloads, seed=seed, start_ms=start_ms, day_origin_ms=day_origin_ms, numbers=numbers, sources=sources
    )
    for replica_id, member in journal.models(MEMBERS, Member).items():
        if member.workload in fleet.workloads:
            fleet.readmit(_replica(replica_id, member, fleet.workloads[member.workload], fleet.now_ms))
    for workload, sharing in journal.models(SHARES, Sharing).items():
        if workload in fleet.shares:
            fleet.shares[workload].set(sharing.by_replica)
    for workload, launching in journal.models(LAUNCHES, Launching).items():
        if workload in fleet.workloads:
            fleet.launched_with[workload] = launching.settings
    for workload, limited in journal.models(LIMITS, Limited).items():
        if workload in fleet.gates:
            gate = fleet.gates[workload]
            gate.state = GatewayState(limited.version, {**gate.state.limits, **limited.limits}, limited.note)
    return fleet


def membership(fleet: Fleet) -> dict[str, dict[str, Any]]:
    """The fleet's sections of the journal as they should be now."""
    present = {name: _member(r) for name, r in fleet.replicas.items() if r.phase is not Phase.GONE}
    shares = {name: {"by_replica": dict(each.wanted)} for name, each in fleet.shares.items() if each.wanted}
    launches = {name: {"settings": dict(flags)} for name, flags in fleet.launched_with.items() if flags}
    limits = {name: _limited(each.state) for name, each in fleet.gates.items() if each.state.version}
    numbers = dict(fleet.numbers)
    return {MEMBERS: present, NUMBERS: numbers, SHARES: shares, LIMITS: limits, LAUNCHES: launches}


def _limited(state: GatewayState) -> dict[str, Any]:
    """A Limited's fields as JSON values."""
    return {"version": state.version, "limits": dict(state.limits), "note": state.note}


def _member(replica: Replica) -> dict[str, Any]:
    """A Member's fields as JSON values; made twenty times a second, so not by way of the model."""
    return {
        "workload": replica.workload.name,
        "phase": replica.phase.value,
        "process_started_ms": replica.process_started_ms,
        "ready_at_ms": replica.ready_at_ms,
        "was_ready": replica.was_ready,
        "doomed": replica.doomed,
        "lost_at_ms": replica.lost_at_ms,
        "settings": dict(replica.settings),
    }


def _replica(replica_id: str, member: Member, spec: WorkloadSpec, now_ms: float) -> Replica:
    replica = Replica(
        replica_id,
        spec,
        member.phase,
        member.process_started_ms,
        member.ready_at_ms,
        was_ready=member.was_ready,
        doomed=member.doomed,
        lost_at_ms=member.lost_at_ms,
        settings=member.settings,
    )
    if member.phase in (Phase.READY, Phase.DRAINING):
        replica.process_started_ms, replica.ready_at_ms = now_ms - spec.startup_s * 1000.0, now_ms
        replica.engine = Engine(replica.engine_spec)
    return replica
