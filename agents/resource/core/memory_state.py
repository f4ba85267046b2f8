"""What stage `resource` knows of a workload, and what it is told beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from agents.core.watcher import Patience
from agents.resource.core.context import Lengths
from agents.resource.core.gate import Gate
from agents.resource.core.prevented import Account
from agents.resource.core.readings import Readings
from agents.resource.core.tiers import Reuse
from agents.resource.core.valves import Valves
from contracts.laws.gateway_limits import LEAST_CONTEXT_TOKENS


@dataclass(frozen=True)
class ResourceSettings(Patience):
    """`context_tokens`: `max_model_len` of the replicas of a workload, as far as is known. `gateways`: the workloads
    before which there is a gateway to act on, None for all; `least_context_tokens`: requests of up to so many are
    never refused there, LEAST_CONTEXT_TOKENS where none is named.

    Event seconds: readings are evidence for `max_age_s`, replicas that told nothing for `gone_s` are forgotten. Of a
    workload that is forgotten the counts of what was prevented are kept.
    """

    context_tokens: Mapping[str, int] = field(default_factory=dict)
    least_context_tokens: Mapping[str, int] = field(default_factory=dict)
    gateways: frozenset[str] | None = frozenset()
    max_age_s: float = 120.0
    gone_s: float = 150.0

    def has_gateway(self, workload: str) -> bool:
        """Whether there is a gateway that our rules can act on."""
        return self.gateways is None or workload in self.gateways

    def least_tokens(self, workload: str) -> int:
        """How long requests may be that are never refused for it."""
        return self.least_context_tokens.get(workload, LEAST_CONTEXT_TOKENS)


class ResourceState(BaseModel):
    """Per workload, beside what every watcher knows: `replicas` is when each last told a minute, `planned` until when
    restarts are our own, by action, `over` the newest outcomes that were heard of and `events` the newest words of its
    gateway; then what each part knows."""

    model_config = ConfigDict(frozen=True)

    workload: str
    heard_ms: int
    tick_ms: int | None = None
    replicas: dict[str, int] = {}
    planned: dict[str, int] = {}
    over: tuple[str, ...] = ()
    events: tuple[str, ...] = ()
    readings: Readings = Readings()
    account: Account = Account()
    valves: Valves = Valves()
    gate: Gate = Gate()
    lengths: Lengths = Lengths()
    reuse: Reuse = Reuse()
