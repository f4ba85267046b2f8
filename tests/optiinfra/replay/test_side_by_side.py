"""Policies tried in several processes reach the same points as one after the other, in the same order."""

import numpy as np

from connectors.traces.shape import Load
from optiinfra.replay import side_by_side
from optiinfra.replay.course import Fleet, Race
from optiinfra.replay.peers import hpa, static


def race(size_s: int = 1200) -> Race:
    load = Load("small", np.random.default_rng(3).poisson(40, size_s).astype(np.int64), "drawn")
    return Race(load, Fleet(4.0))


def test_two_processes_find_what_one_finds() -> None:
    tries = [(policy, startup_s) for startup_s in (60.0, 180.0) for policy in (static.POLICY, hpa.POLICY)]
    told: list[int] = []
    apart = side_by_side.points(race(), tries, 2, told.append)
    assert apart == side_by_side.points(race(), tries, 1, lambda _: None)
    assert [found[0].policy for found in apart] == [policy.name for policy, _ in tries]
    assert len(told) == len(tries)


def test_little_work_stays_in_this_process_unless_asked() -> None:
    tries = [(static.POLICY, 60.0), (hpa.POLICY, 60.0)]
    assert side_by_side.processes(race(), tries, None) == 1
    assert side_by_side.processes(race(), tries, 8) == 2
    assert side_by_side.processes(race(), [], 8) == 1
