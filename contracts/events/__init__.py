"""The messages on the topics, by family. Each is frozen, closed and versioned, and says who writes and reads it."""

from contracts.events.acting import (
    Action,
    AuditEntry,
    EndState,
    Outcome,
    Plan,
    PlanStep,
    StepKind,
    action_id,
    target_of,
)
from contracts.events.answers import Answer, Refusal
from contracts.events.base import Message
from contracts.events.deciding import (
    ActionSpec,
    Candidate,
    CandidateSet,
    Decision,
    Effect,
    Fact,
    Judgement,
    Review,
    Risk,
    Verdict,
)
from contracts.events.findings import Finding
from contracts.events.health import Alert, DeadLetter, Heartbeat, Severity, Tick, WorkerState
from contracts.events.kinds import ActionKind, Mode
from contracts.events.metrics import EngineSample, MetricsSnapshot
from contracts.events.people import GATEWAY_CHANGE, MANUAL_CHANGE, Approval, Control, ControlKind, FleetEvent
from contracts.events.slis import GaugeStats, InstanceWindow, Sli, SliValue

__all__ = [
    "GATEWAY_CHANGE",
    "MANUAL_CHANGE",
    "Action",
    "ActionKind",
    "ActionSpec",
    "Alert",
    "Answer",
    "Approval",
    "AuditEntry",
    "Candidate",
    "CandidateSet",
    "Control",
    "ControlKind",
    "DeadLetter",
    "Decision",
    "Effect",
    "EndState",
    "EngineSample",
    "Fact",
    "Finding",
    "FleetEvent",
    "GaugeStats",
    "Heartbeat",
    "InstanceWindow",
    "Judgement",
    "Message",
    "MetricsSnapshot",
    "Mode",
    "Outcome",
    "Plan",
    "PlanStep",
    "Refusal",
    "Review",
    "Risk",
    "Severity",
    "Sli",
    "SliValue",
    "StepKind",
    "Tick",
    "Verdict",
    "WorkerState",
    "action_id",
    "target_of",
]
