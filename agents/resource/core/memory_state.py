"""What stage `resource` knows of a workload, and what it is told beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from agents.resource.core.context import Lengths
from agents.resource.core.gate import LEAST_CONTEXT_TOKENS, Gate
from agents.resource.core.prevented import Account
from agents.resource.core.readings import Readings
from agents.resource.core.tiers import Reuse
from agents.resource.core.valves import Valves


@dataclass(frozen=True)
class ResourceSettings:
    """`context_tokens`: `max_model_len` of the replicas of a workload, as far as is known. `gateways`: the workloads
    before which there is a gateway to act on, None for all; `least_context_tokens`: requests of up to so many are
    never refused there, LEAST_CONTEXT_TOKENS where none is named.

    Event seconds: readings are evidence for `max_age_s`, replicas that told nothing for `gone_s` are forgotten. As in
    stage `sizing`, an SLI `park_s` past the newest tick is of a wrong clock, and a first one `ahead_s` past the first
    tick too; of a workload without SLIs for `forget_s` all is dropped but the counts of what was prevented.
    """

    context_tokens: Mapping[str, int] = field(default_factory=dict)
    least_context_tokens: Mapping[str, int] = field(default_factory=dict)
    gateways: frozenset[str] | None = frozenset()
    max_age_s: float = 120.0
    gone_s: float = 150.0
    ahead_s: float = 5.0
    park_s: float = 60.0
    forget_s: float = 3600.0

    def has_gateway(self, workload: str) -> bool:
        """Whether there is a gateway that our rules can act on."""
        return self.gateways is None or workload in self.gateways

    def least_tokens(self, workload: str) -> int:
        """How long requests may be that are never refused for it."""
        return self.least_context_tokens.get(workload, LEAST_CONTEXT_TOKENS)


class ResourceState(BaseModel):
    """Per workload: `heard_ms` is the end of the newest SLI, `tick_ms` the newest tick, `replicas` when each last told
    a minute, `planned_ms` until when restarts are our own; then what each part knows."""

    model_config = ConfigDict(frozen=True)

    workload: str
    heard_ms: int
    tick_ms: int | None = None
    replicas: dict[str, int] = {}
    planned_ms: int = 0
    readings: Readings = Readings()
    account: Account = Account()
    valves: Valves = Valves()
    gate: Gate = Gate()
    lengths: Lengths = Lengths()
    reuse: Reuse = Reuse()
