"""What streams computed: the evidence of one instance and window, and the SLIs of an instance or a workload."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict, Field

from contracts.events.base import Message, Name
from contracts.laws.attainment import Attainment
from contracts.laws.histogram import Histogram
from contracts.laws.ids import cause_id


class GaugeStats(BaseModel):
    """A gauge over a window: mean of its scrapes, largest, and the last one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean: float
    max: float
    last: float


class InstanceWindow(Message):
    """What one instance did in one window: additive evidence, from which SLIs of instance and workload are made.

    Topic `optiinfra.windows.v1` (internal), key workload. Written by stage `windows`, read by stage `slis`.
    At least once; `(instance_id, size_s, start_ms, revision)` names it, a repeat is equal.

    Counters and histograms are the growth from the newest snapshot at or before `start_ms` to the newest at or before
    `end_ms`. `covered_ms` is how much of the window lies between scrapes that are close enough to trust.

    `left` marks the window in which the instance was taken out of discovery: it ended for it at `cause_ms`, and nothing
    that ends later is to be expected of it until it comes back.
    """

    TYPE: ClassVar[str] = "optiinfra.windows.v1"

    workload: Name
    instance_id: Name
    size_s: int = Field(gt=0)
    start_ms: int
    revision: int = Field(ge=0)
    covered_ms: int = Field(ge=0)
    span_ms: int = Field(
        default=0, ge=0, description="time over which counters and histograms grew: rates divide by it"
    )
    newest_ms: int = Field(description="event time of the newest scrape used")
    cause_ms: int = Field(description="event time of the scrape that closed the window")
    scrapes: int = Field(ge=0)
    scrapes_failed: int = Field(ge=0)
    resets: int = Field(default=0, ge=0)
    stalled: bool = False
    left: bool = False
    counters: dict[str, float] = {}
    histograms: dict[str, Histogram] = {}
    gauges: dict[str, GaugeStats] = {}

    @property
    def end_ms(self) -> int:
        """End of the window `(start, end]`, event ms."""
        return self.start_ms + self.size_s * 1000

    @property
    def there_ms(self) -> int:
        """How long of the window the instance was there to be observed."""
        size_ms = self.size_s * 1000
        return min(size_ms, max(0, self.cause_ms - self.start_ms)) if self.left else size_ms

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.cause_ms

    @property
    def id(self) -> str:
        return cause_id("window", self.workload, self.instance_id, self.size_s, self.start_ms, self.revision)


class SliValue(BaseModel):
    """One SLI. `value` is None when it is missing (coverage below the floor, nothing observed): never zero for that.
    `samples` is how many observations or scrapes stand behind it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float | None
    samples: int = Field(default=0, ge=0)


class Sli(Message):
    """The SLIs (`optiinfra catalog slis`) of one instance, or of a workload (`instance_id` None), in one window.

    Topic `optiinfra.slis.v1`, key workload, public. Written by stages `slis` and `latest`; read by rules, agents, the
    store, anyone. At least once, consumers drop an `id` they have seen. `size_s` is 10, 60 or 300; 0 is the latest
    value, made from the newest scrapes alone. Later data makes revision n + 1; only revision 0 triggers rules. A crash
    while a silent member is waited for can tell one revision twice, of different evidence: then the ids differ, and the
    later message supersedes the earlier.
    """

    TYPE: ClassVar[str] = "optiinfra.slis.v1"

    workload: Name
    instance_id: Name | None = None
    size_s: int = Field(ge=0)
    start_ms: int
    revision: int = Field(default=0, ge=0)
    coverage_ratio: float = Field(ge=0, le=1, description="share of the instance-time of the window that was observed")
    freshness_s: float = Field(ge=0, description="event seconds from the newest scrape used to the end of the window")
    cause_ms: int = Field(description="event time of the scrape or tick that made this message")
    cause: str = Field(
        default="", description="the evidence behind it, hashed: what is told of other evidence has another id"
    )
    instances: int = Field(ge=0, description="instances that belong to the subject in this window")
    instances_up: int = Field(ge=0)
    stalled: bool = Field(default=False, description="requests wait or run and no token came: not missing, stuck")
    values: dict[str, SliValue] = {}
    attainment: dict[str, Attainment] = Field(default={}, description="by latency family: ttft, itl, e2e")

    @property
    def end_ms(self) -> int:
        """End of the window `(start, end]`, event ms; the scrape's own time for the latest value."""
        return self.start_ms + self.size_s * 1000

    @property
    def key(self) -> str:
        return self.workload

    @property
    def at(self) -> int:
        return self.end_ms

    @property
    def id(self) -> str:
        subject = (self.workload, self.instance_id or "", self.size_s, self.start_ms)
        return cause_id("sli", *subject, self.revision, self.cause)

    def value(self, name: str) -> float | None:
        """The SLI's value, None when it is missing."""
        found = self.values.get(name)
        return found.value if found else None
