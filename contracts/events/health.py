"""What the platform says of itself: ticks, heartbeats, alerts, dead letters."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import Field

from contracts.errors import Reason
from contracts.events.base import Message, Name
from contracts.laws.ids import cause_id


class Tick(Message):
    """Event time has reached `at_ms`: what makes silence, deadlines and expiries fire when data stops.

    Topic `optiinfra.ticks.v1`, sent to every partition by the ticker; its key is the partition, never a state key.
    """

    TYPE: ClassVar[str] = "optiinfra.ticks.v1"

    at_ms: int = Field(ge=0)
    partition: int = Field(ge=0)

    @property
    def key(self) -> str:
        return str(self.partition)

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("tick", self.partition, self.at_ms)


class WorkerState(StrEnum):
    """What a worker says of itself; `leaving` is a clean stop, after which no beat is expected."""

    STARTING = "starting"
    WORKING = "working"
    LEAVING = "leaving"


class Heartbeat(Message):
    """A worker lives. Topic `optiinfra.heartbeats.v1`, key worker; wall time, since it speaks of processes.

    `handled` counts messages since the process started; a worker with lag whose count stands still is stuck.
    """

    TYPE: ClassVar[str] = "optiinfra.heartbeats.v1"

    worker: Name
    kind: Name
    pid: int
    state: WorkerState
    started_wall_ms: int
    at_wall_ms: int
    handled: int = Field(default=0, ge=0)
    emitted: int = Field(default=0, ge=0)
    dead_letters: int = Field(default=0, ge=0)
    lag: int | None = Field(default=None, description="messages written and not yet handled; None when unknown")

    @property
    def key(self) -> str:
        return self.worker

    @property
    def at(self) -> int:
        return self.at_wall_ms

    @property
    def id(self) -> str:
        return cause_id("beat", self.worker, self.pid, self.at_wall_ms)


class Severity(StrEnum):
    """Who is woken: critical a person now, warning a channel, info nobody."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"


class Alert(Message):
    """Something people should know. Topic `optiinfra.alerts.v1`, key workload (`-` for the platform itself).

    `name` is stable (`stalled`, `offset_gap`, `worker_restarted`); `fix` says what to do.
    """

    TYPE: ClassVar[str] = "optiinfra.alerts.v1"

    workload: Name = "-"
    name: Name
    severity: Severity
    subject: Name = Field(description="instance, worker, topic or file it is about")
    at_ms: int
    summary: str = Field(max_length=2000)
    fix: str = Field(default="", max_length=2000)

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        return cause_id("alert", self.workload, self.name, self.subject, self.at_ms)


class DeadLetter(Message):
    """What could not be handled, with the reason and the original bytes. Topic `optiinfra.deadletter.v1`.

    `raw_base64` holds the first 256 KiB of the value and `raw_bytes` its whole length.
    """

    TYPE: ClassVar[str] = "optiinfra.deadletter.v1"
    RAW_LIMIT: ClassVar[int] = 256 * 1024

    source: Name = Field(description="who refused it: a stage or a connector")
    topic: str = Field(description="where it was read, or the URL of a page")
    partition: int = -1
    offset: int = -1
    reason: Reason
    detail: str = Field(max_length=4000)
    at_ms: int
    message_key: str = ""
    headers: dict[str, str] = {}
    raw_base64: str = ""
    raw_bytes: int = Field(default=0, ge=0)

    @property
    def key(self) -> str:
        return self.source

    @property
    def at(self) -> int:
        return self.at_ms

    @property
    def id(self) -> str:
        if self.offset < 0:  # not from a log: two pages of one millisecond differ by their key or content
            return cause_id("dead", self.source, self.topic, self.at_ms, self.message_key, self.raw_base64)
        return cause_id("dead", self.source, self.topic, self.partition, self.offset)
