"""One server of the simulated fleet: the phases of its life, and what can be done to it in each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from connectors.twin.engine import Engine
from connectors.twin.spec import EngineSpec
from connectors.twin.tiers import Store
from connectors.twin.workloads import WorkloadSpec


class Phase(StrEnum):
    """The life of a replica. `failed` is a process that died and may be started again; `gone` was removed."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"
    GONE = "gone"


@dataclass(eq=False)
class Replica:
    """One server. `process_started_ms` and `ready_at_ms` are those of its present process, event ms; `engine` is None
    while there is no process that serves. `settings` are engine flags that it has beside those of its workload, from
    its next process on. A `doomed` process dies when it should begin to serve. The machine of one
    with `lost_at_ms` is taken away then. `refused` counts requests beyond the model's length (HTTP 400),
    `models_listed` answers to `GET /v1/models`. `disk` is its KV tier on disk, which outlives its processes."""

    replica_id: str
    workload: WorkloadSpec
    phase: Phase
    process_started_ms: float
    ready_at_ms: float
    engine: Engine | None = None
    frozen: bool = False
    page_delay_s: float = 0.0
    was_ready: bool = False
    doomed: bool = False
    lost_at_ms: float | None = None
    refused: int = 0
    models_listed: int = 0
    settings: Mapping[str, float] = field(default_factory=dict)
    disk: Store | None = None

    @property
    def engine_spec(self) -> EngineSpec:
        """What its next process is started with. Raises ConfigError where that cannot work."""
        return self.workload.engine.having(self.settings)

    @property
    def dies(self) -> bool:
        """Whether its next process will not come to serve."""
        return self.doomed or not self.engine_spec.starts

    @property
    def listens(self) -> bool:
        """vLLM opens its port once the model is loaded."""
        return self.engine is not None

    @property
    def drained(self) -> bool:
        """Taken out of rotation, with nothing left to finish."""
        return self.phase is Phase.DRAINING and self.engine is not None and self.engine.outstanding == 0


FITS: dict[str, Callable[[Replica], bool]] = {
    "drain": lambda r: r.phase in (Phase.READY, Phase.DRAINING),
    "restore": lambda r: r.phase is Phase.DRAINING,
    "remove": lambda r: r.drained or not r.listens,
    "fail": lambda r: r.phase is not Phase.FAILED,
    "recover": lambda r: r.phase is Phase.FAILED,
    "freeze": lambda r: r.listens and not r.frozen,
    "retune": lambda r: r.drained or not r.listens,
}
"""Commands that do not fit every state of a replica."""
