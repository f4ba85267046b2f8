"""Every stage that watches a workload, with what laws ask of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from pydantic import BaseModel

from agents.performance.stages import stages, steering_stage
from contracts.events import Message, Sli
from contracts.stage import Stage
from tests.agents.performance import sizing_desk, steering_desk
from tests.agents.resource import memory_desk


@dataclass(frozen=True)
class Watched:
    """`log`: anything that may come, from a seed, within so many event seconds. `one`: an SLI that it reads. `kinds`:
    what it finds in every log. `at_most`: length of its state as JSON, without `packed`, whatever comes."""

    stage: Stage
    log: Callable[[int, int], list[Message]]
    seconds: int
    one: Callable[[float], Sli]
    kinds: frozenset[str]
    at_most: int
    packed: str = ""

    def fold(self, log: list[Message]) -> tuple[BaseModel | None, list[Message]]:
        return self.stage.step(None, log)


(SIZING,) = stages(sizing_desk.SETTINGS)
STEERING = steering_stage(steering_desk.SETTINGS)
WATCHED = {
    "sizing": Watched(
        SIZING, sizing_desk.random_log, 600, sizing_desk.latest, frozenset({"sizing"}), 20_000, packed="mind"
    ),
    "steering": Watched(
        STEERING, steering_desk.random_log, 1200, steering_desk.latest, frozenset({"balance", "tuning"}), 30_000
    ),
    "resource": Watched(
        memory_desk.STAGE,
        memory_desk.random_log,
        1500,
        memory_desk.window,
        frozenset({"pressure", "tiers", "context"}),
        25_000,
    ),
}
