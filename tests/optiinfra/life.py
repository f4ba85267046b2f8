"""A simulated fleet under the whole platform in virtual time: its pages are read as a scraper reads them, and every
stage is wired as in life."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from agents.reviewer.deterministic import DeterministicReviewer
from connectors.gateway.controller import GatewayController
from connectors.gateway.watching import event_of
from connectors.twin.actuation import Actuation
from connectors.twin.controller import plan
from connectors.twin.fleet import Fleet, WorkloadSpec, default_workloads
from connectors.twin.load import LoadSpec
from connectors.twin.orders import Told
from connectors.twin.page import render
from connectors.twin.spec import EngineSpec
from connectors.vllm.core.page import PageReader
from connectors.vllm.core.snapshot import Translator
from connectors.vllm.scraper import default_map
from contracts.clock import ClockAnchor
from contracts.events import Action, Message, MetricsSnapshot, Mode, Plan, PlanStep, Tick
from contracts.ledger import ClaimLimits
from contracts.objectives import Objectives
from contracts.ports import Controller, Gateway, GatewayState, Observation, StepReport
from optiinfra.orders import ChildOrders
from optiinfra.replay.acting import Acting
from optiinfra.replay.quiet import quiet
from optiinfra.replay.virtual import VirtualClock, VirtualDriver
from optiinfra.settings import EngineSettings, LimitSettings, Settings, TierSettings
from optiinfra.wiring import make_stages
from optiinfra.wiring.stages import evidence_age_s
from rules.book import BUILT_IN

BEGIN_MS = 1_700_000_100_000 // 300_000 * 300_000
SCRAPE_S = 5
M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Shape:
    """A workload on the twin: its engines, how many of them, requests a second, and what it promises."""

    max_num_seqs: int
    max_num_batched_tokens: int = 512
    replicas: int = 3
    requests_per_s: float = 3.0
    objectives: Objectives = field(default_factory=lambda: Objectives(ttft_s=2.5, itl_s=0.1))
    rules: tuple[Path, ...] = (BUILT_IN / "tuning.yaml",)
    startup_s: float = 20.0
    load: LoadSpec | None = None
    engine: EngineSpec | None = None
    tiers: TierSettings | None = None

    def workload(self) -> WorkloadSpec:
        chat = default_workloads()[0]
        # An even load: the day is a million years long, and stands where its rate is the mean.
        load = self.load or LoadSpec(self.requests_per_s, cv=1.0, day_s=3e13, phase=0.3545, shared_ratio=0.0)
        engine = self.engine or EngineSpec(
            max_num_seqs=self.max_num_seqs, max_num_batched_tokens=self.max_num_batched_tokens
        )
        return replace(chat, replicas=self.replicas, load=load, engine=engine, startup_s=self.startup_s)

    def orders(self) -> ChildOrders:
        spec = self.workload().engine
        engine = EngineSettings(
            max_num_seqs=spec.max_num_seqs, max_num_batched_tokens=spec.max_num_batched_tokens, tensor_parallel=4
        )
        settings = Settings(
            mode=Mode.AUTONOMOUS,
            limits=LimitSettings(min_replicas=self.replicas - 1, max_replicas=self.replicas),
            objectives=self.objectives,
            engines={"chat": engine},
            tiers={} if self.tiers is None else {"chat": self.tiers},
            rules=self.rules,
        )
        return ChildOrders(
            settings=settings.model_dump(),
            anchor=ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0),
            state_dir=Path(),
            parent_pid=1,
            endpoints={"redis_url": "memory://"},
        )


class TwinHands(Controller):
    """The twin's orders without its port: the same plans, tokens and fences."""

    honours_tokens = True

    def __init__(self, actuation: Actuation) -> None:
        self._do = actuation

    async def observe(self, workload: str) -> Observation:
        return self._do.observe(workload)

    async def plan(self, action: Action, seen: Observation) -> Plan:
        return plan(action, seen)

    async def dry_run(self, workload: str, step: PlanStep) -> str:
        return self._do.check(workload, step.kind, step.subject, _told(step))

    async def apply(self, workload: str, step: PlanStep, token: str, fence: int) -> None:
        self._do.apply(workload, step.kind, step.subject, token, fence, _told(step))

    async def inspect(self, token: str) -> StepReport:
        return self._do.inspect(token)

    async def undo(self, workload: str, step: PlanStep, done_token: str, token: str, fence: int) -> None:
        self._do.undo(workload, step.kind, step.subject, done_token, token, fence, _told(step))


class TwinGateway(Gateway):
    """The twin's gateways without its port."""

    def __init__(self, fleet: Fleet) -> None:
        self._gates = fleet.gates

    async def read(self, workload: str) -> GatewayState:
        return self._gates[workload].state

    async def write(self, workload: str, limits: Mapping[str, int], *, if_version: int, note: str) -> GatewayState:
        return self._gates[workload].set(limits, if_version=if_version, note=note)


def _told(step: PlanStep) -> Told:
    return Told(settings=step.settings, by_replica=step.by_replica)


class Life:
    """The fleet and the platform. A context manager: it owns the event loop of reviewer and executor, and is quiet."""

    def __init__(self, shape: Shape, seed: int = 1) -> None:
        self.shape, self.heard, self.now_s = shape, list[Message](), 0
        self.fleet = Fleet((shape.workload(),), seed=seed, start_ms=BEGIN_MS)
        self._gate = self.fleet.gates["chat"].state
        self.actuation = Actuation(self.fleet)
        known, clock, orders = default_map(), VirtualClock(), shape.orders()
        self._pages, self._translator = PageReader(known.wanted, prefix=known.prefix), Translator(known)
        limits = ClaimLimits(per_hour=60, lease_s=60.0)
        hands, gate = TwinHands(self.actuation), GatewayController(TwinGateway(self.fleet), "chat", lambda: self.now_ms)

        def controllers(action: Action) -> Controller:
            return gate if action.spec.kind.gateway_setting else hands

        max_age_s = evidence_age_s(orders)
        self._acting = Acting(DeterministicReviewer(), controllers, clock, limits=limits, max_age_s=max_age_s)
        stages = make_stages(orders).values()
        self.driver = clock.driver = VirtualDriver(stages, self._acting.readers, heard=self._hear)

    def __enter__(self) -> Self:
        self._open = ExitStack()
        self._open.enter_context(quiet())
        self._open.enter_context(self._acting)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def now_ms(self) -> int:
        return BEGIN_MS + self.now_s * 1000

    def _hear(self, message: Message) -> None:
        if message.TYPE not in ("optiinfra.metrics.v1", "optiinfra.slis.v1", "optiinfra.windows.v1", Tick.TYPE):
            self.heard.append(message)

    def told(self, kind: type[M]) -> list[M]:
        return [each for each in self.heard if isinstance(each, kind)]

    def goes_on(self, seconds: int, load: float = 1.0) -> None:
        """Scrapes every 5 s, a tick after each."""
        self.fleet.set_load_factor("chat", load)
        for _ in range(0, seconds, SCRAPE_S):
            self.now_s += SCRAPE_S
            self.fleet.advance(self.now_ms)
            self.actuation.progress()
            for replica in self.fleet.discoverable():
                self.driver.put((self._scrape(replica.replica_id),))
            state = self.fleet.gates["chat"].state
            if state != self._gate:
                self.driver.put((event_of("chat", state, self.now_ms),))
            self._gate = state
            self.driver.put((Tick(at_ms=self.now_ms, partition=0),))
            self.driver.run(self.now_ms)

    def _scrape(self, name: str) -> MetricsSnapshot:
        replica = self.fleet.replica(name)
        reading = None
        if replica.listens:
            reading = self._translator.translate(self._pages.read(render(replica, self.now_ms)))
        return MetricsSnapshot(
            workload="chat",
            instance_id=name,
            scraper_epoch=BEGIN_MS,
            seq=self.now_s // SCRAPE_S,
            scheduled_at_ms=self.now_ms,
            scraped_at_ms=self.now_ms,
            interval_s=float(SCRAPE_S),
            duration_s=0.0,
            up=reading is not None,
            error=None if reading is not None else "connection refused",
            incarnation_ms=reading.incarnation_ms if reading is not None else None,
            engines=reading.engines if reading is not None else {},
        )
