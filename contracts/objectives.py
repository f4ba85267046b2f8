"""What a workload promises: latency thresholds on bucket edges and the share of requests that must meet them."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field


class Latency(StrEnum):
    """The three latency families an objective can speak of, with the canonical histogram of each."""

    TTFT = "ttft"
    ITL = "itl"
    E2E = "e2e"

    @property
    def histogram(self) -> str:
        """Canonical name of the histogram in the metrics catalogue."""
        return {"ttft": "ttft_s", "itl": "inter_token_latency_s", "e2e": "e2e_latency_s"}[self.value]


class Objectives(BaseModel):
    """Thresholds in seconds and targets as ratios. Defaults: requirements, section 1 (TTFT p95 500 ms, error 0.5 %);
    100 ms between tokens and 30 s end to end are common serving targets, and edges of vLLM's buckets."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    ttft_s: float = Field(default=0.5, gt=0)
    itl_s: float = Field(default=0.1, gt=0)
    e2e_s: float = Field(default=30.0, gt=0)
    attainment_target_ratio: float = Field(default=0.95, gt=0, lt=1)
    error_target_ratio: float = Field(default=0.005, gt=0, lt=1)

    def threshold_s(self, family: Latency) -> float:
        """The threshold of a family, seconds."""
        return {Latency.TTFT: self.ttft_s, Latency.ITL: self.itl_s, Latency.E2E: self.e2e_s}[family]
