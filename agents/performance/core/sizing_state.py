"""What stage `sizing` knows of a workload, and what it is told beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, field_serializer

from agents.core.watcher import Patience
from agents.performance.core.capacity import CapacityModel
from agents.performance.core.choice import TURNS_A_DAY
from agents.performance.core.demand import Demand
from agents.performance.core.scaler import PredictiveScaler
from agents.performance.core.underway import Underway
from contracts.errors import ConfigError
from contracts.scaling import FleetFacts


@dataclass(frozen=True)
class SizingSettings(Patience):
    """`targets`: share of requests to be in time, by workload, `target` where none is named. `bounds`: fewest and most
    replicas, alike. `turns`: how often a day a fleet may go from growing to falling or back, alike.

    Event seconds: `startup_s` is supposed until a start-up was seen. Latest SLIs are evidence for `max_age_s`.
    """

    target: float = 0.95
    targets: Mapping[str, float] = field(default_factory=dict)
    default_bounds: tuple[int, int] = (1, 1000)
    bounds: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    default_turns: float = TURNS_A_DAY
    turns: Mapping[str, float] = field(default_factory=dict)
    startup_s: float = 120.0
    max_age_s: float = 30.0

    def target_of(self, workload: str) -> float:
        """Share of the workload's requests that are to be in time; a scaler takes none below a half."""
        return max(0.5, self.targets.get(workload, self.target))

    def bounds_of(self, workload: str) -> tuple[int, int]:
        """Fewest and most replicas of the workload."""
        return self.bounds.get(workload, self.default_bounds)

    def turns_of(self, workload: str) -> float:
        """Most turns a day of the workload's fleet."""
        return self.turns.get(workload, self.default_turns)


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True)


class Newest(_Part):
    """The newest latest SLI: when it ends by its scraper's clock (`order_ms`), and as far as ticks bear that out, and
    the ids of all that end when it does. `up_since_ms`: since when `up` is told. `kv_usage_ratio`: mean share of the KV
    cache in use, None where engines do not tell it."""

    order_ms: int
    end_ms: int
    cause_ms: int
    freshness_s: float
    coverage_ratio: float
    waiting: float | None
    running: float | None
    up: int | None
    up_since_ms: int
    kv_usage_ratio: float | None = None
    told: tuple[str, ...] = ()


class Served(_Part):
    """What windows of `size_s` tell: the newest one's end, requests that began service and those late since the last
    look, how long a request is in service, and the KV cache in use."""

    size_s: int
    end_ms: int
    done: int = 0
    late: int = 0
    service_s: float | None = None
    kv_usage_ratio: float | None = None

    def told(self) -> Served:
        """The same after a look that took in what was served."""
        return self.model_copy(update={"done": 0, "late": 0}) if self.done or self.late else self


class Mind(_Part):
    """A scaler with the facts it was told: alive, or as the text into which it is packed wherever state is kept."""

    facts: FleetFacts
    scaler: PredictiveScaler | str

    @field_serializer("scaler")
    def _as_text(self, scaler: PredictiveScaler | str) -> str:
        return scaler if isinstance(scaler, str) else scaler.pack()

    def awake(self, target: float, turns_a_day: float) -> PredictiveScaler | None:
        """A scaler of one's own that knows what this one knows; None for text that another version wrote."""
        if not isinstance(self.scaler, str):
            return self.scaler.copy()
        try:
            return PredictiveScaler.unpack(self.facts, self.scaler, target=target, turns_a_day=turns_a_day)
        except ConfigError:
            return None


class SizingState(_Part):
    """Per workload, beside what every watcher knows. `looked_ms`: the newest look; `up`: replicas when all that were
    there last answered, and since when there are so many. `breaker_until_ms`: when a breaker of ours at the gateway
    closes, or closed."""

    workload: str
    tick_ms: int | None = None
    looked_ms: int | None = None
    newest: Newest | None = None
    heard_ms: int
    up: int | None = None
    up_since_ms: int | None = None
    demand: Demand = Demand()
    served: Served | None = None
    underway: Underway = Underway()
    capacity: CapacityModel = CapacityModel()
    mind: Mind | None = None
    breaker_until_ms: int | None = None
