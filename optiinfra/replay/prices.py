"""What a replica costs at a moment: the port, and a table that holds for the whole replay."""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field


class PriceList(Protocol):
    """Prices over time."""

    def usd_per_h(self, *, spot: bool, at_s: int) -> float:
        """What one replica costs an hour at second `at_s` of the trace, US dollars."""
        ...


class Prices(BaseModel):
    """A table: what a replica costs an hour, US dollars, at any time, and where that was read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    on_demand_usd_per_h: float = Field(default=27.52, ge=0)
    spot_usd_per_h: float = Field(default=13.21, ge=0)
    source: str = (
        "half of AWS p5.48xlarge, us-east-1 (4 of 8 H100): 55.04 USD/h on demand (karpenter-provider-aws pricing, "
        "2026-07-20), spot 52 % below (Spot Advisor, 2025-07)"
    )

    def usd_per_h(self, *, spot: bool, at_s: int) -> float:
        return self.spot_usd_per_h if spot else self.on_demand_usd_per_h
