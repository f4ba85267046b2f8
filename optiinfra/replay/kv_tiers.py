"""What KV tiers do for a fleet: the port, no tiers, and one whose hits are an assumption that never changes."""

from __future__ import annotations

from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field

from optiinfra.replay.options import PipelineOptions


class KvTier(Protocol):
    """Keys and values kept beyond a replica's memory, so that a prompt seen before is not worked through again."""

    @property
    def name(self) -> str:
        """As results say it: with its numbers, and whether they are assumed."""
        ...

    @property
    def saved_ratio(self) -> float:
        """The share of prompt work that hits save."""
        ...

    @property
    def hit_cost_ratio(self) -> float:
        """What a hit costs, as a share of the work that it saves."""
        ...

    @property
    def prompt_ratio(self) -> float:
        """The share of a replica's work that is prompts."""
        ...


class NoTiers(BaseModel):
    """Every prompt is worked through."""

    model_config = ConfigDict(frozen=True)

    name: str = "no tiers"
    saved_ratio: float = 0.0
    hit_cost_ratio: float = 0.0
    prompt_ratio: float = 0.0


class StationaryTier(BaseModel):
    """A tier that hits with the same share at all times: an assumption, and it says so.

    `hit_ratio`: share of prompt work whose keys and values are found. `hit_cost_ratio`: loading them, as a share of the
    work that is saved. `prompt_ratio`: share of a replica's work that is prompts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    hit_ratio: float = Field(ge=0, lt=1)
    hit_cost_ratio: float = Field(default=0.1, ge=0, le=1)
    prompt_ratio: float = Field(default=0.4, ge=0, lt=1)

    @property
    def saved_ratio(self) -> float:
        return self.hit_ratio

    @property
    def name(self) -> str:
        return (
            f"assumed: {self.hit_ratio:g} of prompt work hits at {self.hit_cost_ratio:g} of its cost, "
            f"prompts are {self.prompt_ratio:g} of the work"
        )


def capacity_ratio(tier: KvTier) -> float:
    """How many times the requests a replica serves with this tier.

    >>> capacity_ratio(NoTiers())
    1.0
    >>> capacity_ratio(StationaryTier(hit_ratio=0.5, hit_cost_ratio=0.0, prompt_ratio=0.5))
    1.3333333333333333
    """
    return 1.0 / (1.0 - tier.prompt_ratio * tier.saved_ratio * (1.0 - tier.hit_cost_ratio))


def with_tier(options: PipelineOptions, tier: KvTier) -> PipelineOptions:
    """The options of a fleet whose replicas have this tier."""
    return options.model_copy(update={"capacity_rps": options.capacity_rps * capacity_ratio(tier)})
