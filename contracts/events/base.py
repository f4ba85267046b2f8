"""What every message has: a key, an event time, and an id that derives from its cause."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(min_length=1, max_length=200)]
"""A workload, instance or worker name: untrusted text of bounded length."""


class Message(BaseModel, ABC):
    """One event. `TYPE` is the CloudEvents type, its last part the version: a change that an older reader cannot take
    gets a new version and, on the topic table, a new topic."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, ser_json_inf_nan="null")
    TYPE: ClassVar[str]

    @property
    @abstractmethod
    def key(self) -> str:
        """The Kafka key: what is ordered and co-partitioned together (a workload for most)."""

    @property
    @abstractmethod
    def at(self) -> int:
        """Event time, int ms UTC."""

    @property
    @abstractmethod
    def id(self) -> str:
        """A hash of the cause: a repeat of the same event carries the same id."""
