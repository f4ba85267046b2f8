"""What stage `resource` knows of a workload, and what it is told beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from agents.core.watcher import Patience
from agents.resource.core.context import Lengths
from agents.resource.core.prevented import Account
from agents.resource.core.readings import Readings
from agents.resource.core.tiers import Reuse
from agents.resource.core.valves import Valves


@dataclass(frozen=True)
class ResourceSettings(Patience):
    """`context_tokens`: `max_model_len` of the replicas of a workload, as far as is known.

    Event seconds: readings are evidence for `max_age_s`, replicas that told nothing for `gone_s` are forgotten. Of a
    workload that is forgotten the counts of what was prevented are kept.
    """

    context_tokens: Mapping[str, int] = field(default_factory=dict)
    max_age_s: float = 120.0
    gone_s: float = 150.0


class ResourceState(BaseModel):
    """Per workload, beside what every watcher knows: `replicas` is when each last told a minute, `planned_ms` until
    when restarts are our own; then what each part knows."""

    model_config = ConfigDict(frozen=True)

    workload: str
    heard_ms: int
    tick_ms: int | None = None
    replicas: dict[str, int] = {}
    planned_ms: int = 0
    readings: Readings = Readings()
    account: Account = Account()
    valves: Valves = Valves()
    lengths: Lengths = Lengths()
    reuse: Reuse = Reuse()
