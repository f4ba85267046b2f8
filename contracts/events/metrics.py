"""What connectors saw: one scheduled scrape of one instance is one message, a failed one too."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from contracts.events.base import Message, Name
from contracts.laws.histogram import Histogram
from contracts.laws.ids import cause_id


class EngineSample(BaseModel):
    """The canonical metrics (`optiinfra catalog metrics`) of one engine of an instance, cumulative since its start."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    model_name: str = ""
    gauges: dict[str, float] = {}
    counters: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}


class MetricsSnapshot(Message):
    """One scheduled scrape of one instance.

    Topic `optiinfra.metrics.v1`, key workload. Written by connectors, read by streams. At least once; a snapshot that
    is not newer by `(scraper_epoch, seq)` than the last one of its instance changes nothing.

    `up` is False when the target did not answer with a readable page: then `engines` is empty and `error` says why.
    `problems` names samples of a readable page that were refused (NaN, negative counter), with the reason.
    `incarnation_ms` is the start of the server process in wall ms, None when the page does not tell it.
    `left` says that discovery lists the instance no more: no scrape, but the last word of it, until a later one (by
    order) brings it back. A scraper that starts anew does not know who left meanwhile.
    """

    TYPE: ClassVar[str] = "optiinfra.metrics.v1"

    workload: Name
    instance_id: Name
    scraper_epoch: int = Field(ge=0, description="start of the scraper process, event ms: a later epoch supersedes")
    seq: int = Field(ge=0, description="number of the scheduled scrape of this instance within the epoch")
    scheduled_at_ms: int = Field(ge=0)
    scraped_at_ms: int = Field(ge=0, description="event ms at which the page was asked for")
    interval_s: float = Field(gt=0, description="planned event seconds between scrapes")
    duration_s: float = Field(default=0.0, ge=0, description="wall seconds the scrape took")
    up: bool
    left: bool = Field(default=False, description="taken out of discovery on purpose: nothing more is to be expected")
    error: str | None = Field(default=None, max_length=2000)
    incarnation_ms: int | None = None
    engines: dict[str, EngineSample] = {}
    problems: tuple[str, ...] = Field(default=(), max_length=50)

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.scraped_at_ms

    @property
    def id(self) -> str:
        return cause_id("metrics", self.workload, self.instance_id, self.scraper_epoch, self.seq)

    @property
    def order(self) -> tuple[int, int]:
        """What orders the snapshots of one instance; never a clock."""
        return (self.scraper_epoch, self.seq)
