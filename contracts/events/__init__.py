"""The messages on the topics, by family. Each is frozen, closed and versioned, and says who writes and reads it."""

from contracts.events.base import Message
from contracts.events.health import Alert, DeadLetter, Heartbeat, Severity, Tick, WorkerState
from contracts.events.metrics import EngineSample, MetricsSnapshot
from contracts.events.slis import GaugeStats, InstanceWindow, Sli, SliValue

__all__ = [
    "Alert",
    "DeadLetter",
    "EngineSample",
    "GaugeStats",
    "Heartbeat",
    "InstanceWindow",
    "Message",
    "MetricsSnapshot",
    "Severity",
    "Sli",
    "SliValue",
    "Tick",
    "WorkerState",
]
