"""The topic table: every name, key, partition count, retention and reader stands here and nowhere else."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from contracts.events import (
    Action,
    Alert,
    Approval,
    AuditEntry,
    CandidateSet,
    Control,
    DeadLetter,
    Decision,
    Finding,
    FleetEvent,
    Heartbeat,
    InstanceWindow,
    Message,
    MetricsSnapshot,
    Outcome,
    Review,
    Sli,
    Tick,
)

PARTITIONS = 4
"""Partitions of every data topic: topics that meet in a stage are co-partitioned, so there is one number."""

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


class Cleanup(StrEnum):
    """Kafka's `cleanup.policy`."""

    DELETE = "delete"
    COMPACT = "compact"


@dataclass(frozen=True)
class Topic:
    """One topic. `rank` orders messages of equal event time where topics meet: data before ticks."""

    name: str
    message: type[Message]
    key: str
    written_by: str
    read_by: str
    retention_ms: int = 7 * _DAY_MS
    partitions: int = PARTITIONS
    cleanup: Cleanup = Cleanup.DELETE
    rank: int = 0
    public: bool = True


METRICS = Topic(MetricsSnapshot.TYPE, MetricsSnapshot, "workload", "connectors", "streams", rank=10)
WINDOWS = Topic(
    InstanceWindow.TYPE, InstanceWindow, "workload", "streams.windows", "streams.slis", _DAY_MS, rank=20, public=False
)
SLIS = Topic(Sli.TYPE, Sli, "workload", "streams.slis, streams.latest", "rules, agents, store, anyone", rank=30)
EVENTS = Topic(FleetEvent.TYPE, FleetEvent, "workload", "connectors", "stages arbiter, resource", rank=35)
CONTROLS = Topic(Control.TYPE, Control, "workload", "CLI, console", "stage arbiter", 30 * _DAY_MS, rank=36)
FINDINGS = Topic(Finding.TYPE, Finding, "workload", "stages of agents", "rules, store, anyone", rank=38)
CANDIDATES = Topic(CandidateSet.TYPE, CandidateSet, "workload", "stage rules", "reviewer, stage arbiter", rank=40)
REVIEWS = Topic(Review.TYPE, Review, "workload", "reviewer", "stage arbiter", rank=45)
APPROVALS = Topic(Approval.TYPE, Approval, "workload", "CLI, console", "stage arbiter", 30 * _DAY_MS, rank=46)
DECISIONS = Topic(
    Decision.TYPE, Decision, "workload", "stage arbiter", "console, webhooks, store", 30 * _DAY_MS, rank=50
)
ACTIONS = Topic(Action.TYPE, Action, "workload", "stage arbiter", "executor, stages of agents", 30 * _DAY_MS, rank=55)
OUTCOMES = Topic(
    Outcome.TYPE, Outcome, "workload", "executor", "arbiter, stages of agents, store, people", 30 * _DAY_MS, rank=60
)
AUDIT = Topic(AuditEntry.TYPE, AuditEntry, "workload", "executor", "store, people", 30 * _DAY_MS, rank=65)
ALERTS = Topic(Alert.TYPE, Alert, "workload", "all", "webhooks, people", 30 * _DAY_MS, rank=80)
TICKS = Topic(Tick.TYPE, Tick, "partition", "ticker", "stages", _HOUR_MS, rank=90)
HEARTBEATS = Topic(Heartbeat.TYPE, Heartbeat, "worker", "all workers", "registry, supervisor", _DAY_MS, 1, rank=95)
DEADLETTER = Topic(DeadLetter.TYPE, DeadLetter, "source", "all", "people", 30 * _DAY_MS, 1, rank=99)

TOPICS: tuple[Topic, ...] = (
    *(METRICS, WINDOWS, SLIS, EVENTS, CONTROLS, FINDINGS, CANDIDATES, REVIEWS, APPROVALS),
    *(DECISIONS, ACTIONS, OUTCOMES, AUDIT, ALERTS, TICKS, HEARTBEATS, DEADLETTER),
)
BY_NAME: dict[str, Topic] = {topic.name: topic for topic in TOPICS}
BY_MESSAGE: dict[type[Message], Topic] = {topic.message: topic for topic in TOPICS}


def group_of(stage: str) -> str:
    """The consumer group, and Faust application id, of a stage."""
    return f"optiinfra-{stage}"


def changelog_of(stage: str) -> str:
    """The compacted topic from which a stage recovers its state."""
    return f"{group_of(stage)}-state-changelog"
