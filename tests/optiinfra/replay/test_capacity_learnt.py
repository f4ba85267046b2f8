"""The capacity that is learnt, against fleets whose capacity is known: replay's fluid one and the twin's engine."""

from __future__ import annotations

import math
from bisect import bisect_right

import numpy as np
import pytest

from agents.performance.core.capacity import CapacityModel, ReplicaSeen
from bench.capacity import SPAN_S, TARGET, TTFT_S, windows
from connectors.twin.capacity import Objectives, capacity_of
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace
from optiinfra.replay.cloud import cloud_of
from optiinfra.replay.options import PipelineOptions
from optiinfra.replay.scene import Scene
from optiinfra.replay.spot import SteadyZone


def of_scene(rates: list[float], *, replicas: int, capacity_rps: float) -> CapacityModel:
    """What is learnt of the fluid fleet, ten minutes at each rate of Poisson arrivals."""
    random = np.random.default_rng(5)
    arrived = np.concatenate([random.poisson(rate, 600) for rate in rates]).tolist()
    options = PipelineOptions(capacity_rps=capacity_rps, least_replicas=1)
    scene = Scene(arrived, options, cloud_of(options, {"steady": SteadyZone()}, None, None), replicas)
    model, finished, timely, begun = CapacityModel(), 0.0, 0.0, 0.0
    edge = bisect_right(options.ttft_edges_s, TTFT_S)
    for begin_s in range(0, len(arrived), SPAN_S):
        batch = queue = 0.0
        for at_s in range(begin_s + 1, begin_s + SPAN_S + 1):
            scene.advance(at_s)
            batch, queue = batch + scene.running / SPAN_S, queue + scene.waiting / SPAN_S
        before = finished, timely, begun
        finished, timely, begun = scene.finished, sum(scene.buckets[:edge]), scene.served
        model = model.seen(
            ReplicaSeen(
                span_s=float(SPAN_S),
                finished=(finished - before[0]) / replicas,
                running=batch / replicas,
                waiting=queue / replicas,
                prompt_tokens=0.0,
                generation_tokens=0.0,
                done=(begun - before[2]) / replicas,
                in_time=(timely - before[1]) / replicas,
            ),
            TARGET,
        )
    return model


def test_the_fluid_fleet_is_learnt_from_a_rush_and_the_hours_around_it() -> None:
    told = of_scene([12.0, 20.0, 23.0, 26.0, 12.0, 22.0, 23.5], replicas=6, capacity_rps=4.0).estimate()
    assert told.limit_rps == pytest.approx(4.0, rel=0.03)
    assert told.rps == pytest.approx(4.0, rel=0.12)
    assert told.saturated


def test_the_fluid_fleet_is_not_said_to_be_known_before_it_was_full() -> None:
    told = of_scene([8.0, 12.0, 10.0], replicas=6, capacity_rps=4.0).estimate()
    assert not told.saturated
    assert told.lower_rps is not None
    assert told.upper_rps is not None
    assert told.lower_rps < 4.0 < told.upper_rps
    assert told.error_ratio > 0.25


def of_engine(spec: EngineSpec, trace: Trace) -> CapacityModel:
    """What is learnt of one replica of the twin while it serves a trace."""
    model = CapacityModel()
    for seen in windows(spec, trace, int(trace.arrival_s[-1])):
        model = model.seen(seen, TARGET)
    return model


def drawn(count: int, random: np.random.Generator) -> tuple[list[int], list[int]]:
    """Prompts of some 700 tokens and answers of some 130."""
    prompt = np.clip(random.lognormal(6.3, 0.7, count), 1, 4000).astype(int)
    return prompt.tolist(), np.clip(random.lognormal(4.6, 0.8, count), 1, 900).astype(int).tolist()


def test_a_replica_of_the_twin_is_learnt_within_forty_minutes_of_varied_load() -> None:
    random = np.random.default_rng(2)
    spec = EngineSpec()
    right = capacity_of(spec, *drawn(1500, random), objectives=Objectives(TTFT_S, math.inf), within=0.03).rps
    rates = [right * load for load in (0.5, 0.9, 1.2, 0.6)]
    gaps = [random.exponential(1 / rate, int(600 * rate)) for rate in rates]
    arrivals = np.cumsum(np.concatenate(gaps)).tolist()
    told = of_engine(spec, Trace(arrivals, *drawn(len(arrivals), random))).estimate()
    assert told.rps == pytest.approx(right, rel=0.2)
    assert told.error_ratio < 0.3
    assert told.saturated
    assert told.prefill_ratio is not None
    assert 0.1 < told.prefill_ratio < 0.6
