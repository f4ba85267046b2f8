"""Tries policies side by side, each in a process of its own: the same operating points, sooner."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from optiinfra.replay import frontier, registry
from optiinfra.replay.course import Race
from optiinfra.replay.frontier import Point
from optiinfra.replay.policy import Policy

WORTH_S = 50_000_000
"""Seconds of trace, summed over all runs, below which starting processes takes longer than they save."""

Try = tuple[Policy, float]
"""A policy and a start-up in seconds."""


def processes(race: Race, tries: Sequence[Try], wanted: int | None) -> int:
    """How many to use: what is wanted, else the cores there are where the work is worth it."""
    most = wanted or len(os.sched_getaffinity(0))
    work_s = len(race.load.per_second) * sum(frontier.runs(policy) for policy, _ in tries)
    return max(1, min(most, len(tries))) if wanted or work_s >= WORTH_S else 1


def points(race: Race, tries: Sequence[Try], count: int, told: Callable[[int], object]) -> list[list[Point]]:
    """The points of each try, in their order, from `count` processes; `told` of runs as they are made. Policies are
    those of the registry. What a run raises is raised here."""
    if count == 1:
        return [
            frontier.points(race, race.tried(policy, startup_s), startup_s, lambda: told(1))
            for policy, startup_s in tries
        ]
    longest = sorted(range(len(tries)), key=lambda at: -frontier.runs(tries[at][0]))
    found: dict[int, list[Point]] = {}
    with ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _sit, (race,)) as pool:
        places = {pool.submit(_points, tries[at][0].name, tries[at][1]): at for at in longest}
        try:
            for done in as_completed(places):
                at = places[done]
                found[at] = done.result()
                told(frontier.runs(tries[at][0]))
        finally:
            pool.shutdown(cancel_futures=True)
    return [found[at] for at in range(len(tries))]


_seats: list[Race] = []
"""The one race that a process of the pool serves."""


def _sit(race: Race) -> None:
    _seats.append(race)


def _points(name: str, startup_s: float) -> list[Point]:
    (race,) = _seats
    (policy,) = (each for each in registry.POLICIES if each.name == name)
    return frontier.points(race, race.tried(policy, startup_s), startup_s)
