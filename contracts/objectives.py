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


VLLM_EDGES: dict[Latency, tuple[float, ...]] = {
    Latency.TTFT: (
        *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
        *(20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
    ),
    Latency.ITL: (
        *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0),
        *(20.0, 40.0, 80.0),
    ),
    Latency.E2E: (
        *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
        *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
    ),
}
"""Finite bucket edges in seconds, as vLLM 0.32 exports them (vllm/v1/metrics/loggers.py); a threshold must be one."""


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
