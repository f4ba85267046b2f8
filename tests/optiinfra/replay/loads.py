"""Small generated loads and options for tests of the replay: minutes, not weeks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from contracts.events import Message, Sli
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.pipeline import Surroundings, replay_pipeline

CAPACITY_RPS = 4.0
PLAIN = (Path(__file__).parent / "plain.yaml",)
"""Rules for tests of how a replay works, which must not change with the numbers of the built-in pack."""
BUILT_IN: tuple[Path, ...] = ()
"""The rules that the platform brings, for tests of what those promise."""


def steady(rps: float, seconds: int, seed: int = 1) -> NDArray[np.int64]:
    """Poisson arrivals."""
    return np.random.default_rng(seed).poisson(rps, seconds).astype(np.int64)


def steps(*parts: tuple[float, int]) -> NDArray[np.int64]:
    """One rate after the other, each for its seconds."""
    return np.concatenate([steady(rps, seconds, seed) for seed, (rps, seconds) in enumerate(parts, 1)])


def options(**changes: Any) -> PipelineOptions:
    """A fleet that starts within a minute under the plain rules, all of the trace scored."""
    values: dict[str, Any] = {
        "workload": "chat",
        "capacity_rps": CAPACITY_RPS,
        "startup_s": 60,
        "scored_from_s": 0,
        "initial_replicas": 4,
        "timeline_s": 60,
        "rules": PLAIN,
    }
    return PipelineOptions(**(values | changes))


def played(
    arrivals: NDArray[np.int64], around: Surroundings | None = None, **changes: Any
) -> tuple[PipelineResult, list[Message]]:
    """The result, and every message in the order in which it was handled."""
    heard: list[Message] = []
    result = replay_pipeline(arrivals, options(**changes), around, listen=heard.append)
    return result, heard


def workload_slis(messages: list[Message]) -> dict[tuple[int, int], Sli]:
    """The last revision of each window of the workload, by size and start."""
    found = [each for each in messages if isinstance(each, Sli) and each.instance_id is None]
    return {(each.size_s, each.start_ms): each for each in found}
