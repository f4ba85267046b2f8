"""What a replica costs at a moment: the port, a fixed table, and the list prices of a catalogue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from connectors.prices.listed import Listed
from contracts.errors import ConfigError
from optiinfra.replay.spot import NEVER_S


class PriceBook(Protocol):
    """Prices by kind, zone and moment."""

    @property
    def source(self) -> str:
        """Where they were read, for the face of results."""
        ...

    def usd_per_h(self, *, spot: bool, zone: str, at_s: int) -> float:
        """What one replica costs an hour at second `at_s` of the trace, US dollars. `zone` is empty on demand."""
        ...

    def until_s(self, at_s: int) -> int:
        """The first second after `at_s` at which another price may hold in some zone; `NEVER_S` where none will."""
        ...


class Prices(BaseModel):
    """A table: what a replica costs an hour, US dollars, at any time and in any zone, and where that was read."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    on_demand_usd_per_h: float = Field(default=27.52, ge=0)
    spot_usd_per_h: float = Field(default=13.21, ge=0)
    source: str = (
        "half of AWS p5.48xlarge, us-east-1 (4 of 8 H100): 55.04 USD/h on demand (karpenter-provider-aws pricing, "
        "2026-07-20), spot 52 % below (Spot Advisor, 2025-07)"
    )

    def usd_per_h(self, *, spot: bool, zone: str, at_s: int) -> float:
        return self.spot_usd_per_h if spot else self.on_demand_usd_per_h

    def until_s(self, at_s: int) -> int:
        return NEVER_S


@dataclass(frozen=True)
class CatalogueBook:
    """List prices, which hold for the whole replay. `home` is what on demand is bought; `zones` is what spot is bought
    where it is not `home`, by zone. A replica has `gpus` GPUs and pays for its part of an instance.

    Raises ConfigError for an instance that has no GPU or no spot price.
    """

    home: Listed
    gpus: int
    zones: Mapping[str, Listed]

    def __post_init__(self) -> None:
        for each in (self.home, *self.zones.values()):
            if self.gpus < 1 or each.gpus < 1:
                what = f"{self.gpus} GPUs of {each.instance_type}, which has {each.gpus}"
                raise ConfigError(what, where=each.source, fix="Name an instance with GPUs, and one GPU or more.")
            if each.spot_usd_per_h is None:
                what = f"no spot price of {each.instance_type} in {each.region}"
                raise ConfigError(what, where=each.source, fix="Name an instance that has one.")

    @property
    def source(self) -> str:
        """Instances, GPUs and files."""
        told = dict.fromkeys(
            f"{self.gpus} of {each.gpus} {each.gpu} of {each.instance_type}, {each.region} ({each.source})"
            for each in (self.home, *self.zones.values())
        )
        return "; ".join(told)

    def usd_per_h(self, *, spot: bool, zone: str, at_s: int) -> float:
        if not spot:
            return self.home.on_demand_usd_per_h * self.gpus / self.home.gpus
        listed = self.zones.get(zone, self.home)
        return (listed.spot_usd_per_h or 0.0) * self.gpus / listed.gpus

    def until_s(self, at_s: int) -> int:
        return NEVER_S
