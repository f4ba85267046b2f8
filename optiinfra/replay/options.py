"""What a replay of the whole policy is told: the replicas, the promise, how often one looks, and what goes wrong."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from contracts.objectives import VLLM_EDGES, Latency, Objectives
from optiinfra.replay.mishaps import Mishaps
from optiinfra.replay.prices import Prices

DAY_MS = 86_400_000

IN_SERVICE = 48
"""Requests in service on a replica at capacity, where nothing else is said: 4 requests a second of 12 s each, as
a 70B model on four H100 serves within 2 s to the first token (a replica batches 64). Rules speak of load a replica, so
it must stay true when a trace is scaled to another number of replicas."""


class Entry(StrEnum):
    """Where a scrape enters the pipeline: `replica`, a page of each replica on topic `metrics`; `workload`, the SLIs
    that those pages would come to, on topic `slis`. The second is for weeks."""

    REPLICA = "replica"
    WORKLOAD = "workload"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Outage(_Part):
    """Seconds [begin, end) of the trace in which no scrape is answered."""

    begin_s: int = Field(ge=0)
    end_s: int = Field(ge=0)


class PipelineOptions(_Part):
    """One replay of one workload. Seconds and ms are of the trace, whose first second is `begin_ms`.

    `capacity_rps`: requests a second that a replica serves within its objective; `service_s`: how long one is in
    service, None: so long that a replica at capacity holds `IN_SERVICE` of them; `first_token_s`: from the beginning of
    service to the first token. A request is in time when it begins service less than `late_after_s` after the second
    of its arrival: that is the objective on the time to first token, promised to `target_ratio` of the requests.

    `scrape_s`: between two scrapes, and between two ticks unless `tick_s` says otherwise. Windows that cannot hold two
    scrapes are not made, so that rules which speak of them rest: the result names them.

    Costs and attainment are those of [`scored_from_s`, end); None: the second half. `spot_ratio` of the replicas are
    spot, above on-demand ones for `spot_floor_ratio` of the load; they are lost with their zone (`Surroundings.zones`),
    which is announced `spot_notice_s` before; with `spot_replaces` the operator's cloud orders others at the notice.
    `own_usd_per_h` is what OptiInfra itself costs to run. `mishaps`: what happens to the replicas themselves.
    """

    workload: str = Field(default="workload", min_length=1, max_length=200)
    capacity_rps: float = Field(gt=0)
    service_s: int | None = Field(default=None, ge=1, le=3600)
    startup_s: int = Field(default=180, ge=0, le=86_400)
    drain_s: int = Field(default=30, ge=0, le=86_400)
    first_token_s: float = Field(default=0.3, gt=0, lt=1)
    late_after_s: int = Field(default=2, ge=1, le=3600)
    target_ratio: float = Field(default=0.99, gt=0, lt=1)
    initial_replicas: int | None = Field(default=None, ge=1, description="None: a third above the first minute's load")
    least_replicas: int = Field(default=1, ge=1)
    most_replicas: int = Field(default=500, ge=1)
    begin_ms: int = Field(default=1_700_000_000_000 // DAY_MS * DAY_MS, ge=0)
    scrape_s: int = Field(default=15, ge=1, le=150)
    tick_s: int | None = Field(default=None, ge=1, le=150)
    entry: Entry = Entry.WORKLOAD
    scored_from_s: int | None = Field(default=None, ge=0)
    rules: tuple[Path, ...] = ()
    rules_off: frozenset[str] = frozenset()
    actions_per_hour: int = Field(default=60, ge=1)
    outages: tuple[Outage, ...] = ()
    mishaps: Mishaps = Mishaps()
    spot_ratio: float = Field(default=0.0, ge=0, le=1)
    spot_floor_ratio: float = Field(default=0.0, ge=0)
    spot_replaces: bool = False
    spot_notice_s: int = Field(default=120, ge=0)
    own_usd_per_h: float = Field(default=0.0, ge=0)
    prices: Prices = Prices()
    timeline_s: int = Field(default=600, ge=1)
    coded: bool = Field(default=False, description="send every message through its bytes")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.least_replicas > self.most_replicas:
            raise ValueError(f"least_replicas {self.least_replicas} is more than most_replicas {self.most_replicas}")
        return self

    @property
    def ticks_s(self) -> int:
        """Seconds between two ticks."""
        return self.tick_s or self.scrape_s

    @property
    def in_service_s(self) -> int:
        """Whole seconds that a request is in service."""
        return self.service_s or max(1, round(IN_SERVICE / self.capacity_rps))

    @property
    def objectives(self) -> Objectives:
        """What the workload promises, as the stages are told."""
        return Objectives(ttft_s=float(self.late_after_s), attainment_target_ratio=self.target_ratio)

    @property
    def ttft_edges_s(self) -> tuple[float, ...]:
        """vLLM's buckets with an edge at the objective: an engine's edges can be set, and travel with the data."""
        return tuple(sorted({*VLLM_EDGES[Latency.TTFT], float(self.late_after_s)}))
