"""What the scaler costs on four kinds of made-up load, beside a reactive one tuned in hindsight on each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bench.report import Row, report
from bench.scaling import PEER, costs
from connectors.traces.servegen import Client, Windows, arrivals
from connectors.traces.shape import Seconds
from optiinfra.replay.course import Fleet, Race
from optiinfra.replay.registry import OURS

DAYS, WINDOW_S, STARTUP_S, SEED = 7, 600, 180.0, 7


@dataclass(frozen=True)
class Batches:
    """A client that sends now and then, at 0.6 to 1.4 times `rate_rps`. `on_h`, `off_h`: shortest and longest time;
    `shape` of its Weibull gaps."""

    rate_rps: float
    on_h: tuple[float, float]
    off_h: tuple[float, float]
    shape: float


@dataclass(frozen=True)
class Kind:
    """A made-up workload. `night_rps`, `day_rps`: at 4 and at 16 o'clock; `power`: of the sine that leads from one to
    the other; `moves`: how far each window goes from the last, as a ratio; `clients`: how many, the next always
    smaller; `shapes`: least and most of their gaps (1 is Poisson, less is burstier), which are Gamma or `weibull`;
    `weekend`: times so much on the last two days; `batches`: who else sends."""

    name: str
    night_rps: float
    day_rps: float
    moves: float
    clients: int
    shapes: tuple[float, float]
    power: float = 1.0
    weekend: float = 1.0
    weibull: bool = False
    batches: tuple[Batches, ...] = ()


KINDS = (
    Kind("smooth: many chats", 24.0, 96.0, 0.03, 80, (0.7, 1.0), weekend=0.7),
    Kind("bursty: few clients, quiet nights", 1.6, 33.6, 0.06, 40, (0.2, 0.5), power=2.0),
    Kind(
        *("batches beside chats", 8.0, 32.0, 0.06, 40, (0.4, 0.7)),
        weibull=True,
        batches=(Batches(18.0, (0.5, 3.0), (1.0, 8.0), 0.45), Batches(12.0, (0.2, 1.0), (1.0, 5.0), 0.4)),
    ),
    Kind("small: three requests a second", 0.6, 5.1, 0.08, 15, (0.3, 0.8)),
)


def windows(kind: Kind) -> Windows:
    """A week of it, every ten minutes."""
    random = np.random.default_rng(SEED)
    at_s = np.arange(0, DAYS * 86_400, WINDOW_S)
    sine = (0.5 - 0.5 * np.cos(2 * np.pi * (at_s / 86_400 - 4 / 24))) ** kind.power
    rate = (kind.night_rps + (kind.day_rps - kind.night_rps) * sine) * _wander(random, len(at_s), kind.moves)
    rate *= np.where(at_s // 86_400 >= 5, kind.weekend, 1.0)
    weights = 1 / np.arange(1, kind.clients + 1) ** 0.9
    steady = [(rate * share, kind.weibull, float(random.uniform(*kind.shapes))) for share in weights / weights.sum()]
    now_and_then = [(_batches(random, len(at_s), each), True, each.shape) for each in kind.batches]
    lines = [*steady, *now_and_then]
    clients = tuple(
        tuple(Client(float(line[at]), weibull, shape) for line, weibull, shape in lines if line[at] > 0)
        for at in range(len(at_s))
    )
    total = np.sum([line for line, _, _ in lines], axis=0)
    return Windows(kind.name, WINDOW_S, 0, total, clients, "made up")


def _wander(random: np.random.Generator, count: int, moves: float) -> Seconds:
    """Factors that stray and come back within hours."""
    steps, at = np.zeros(count), 0.0
    for number, step in enumerate(random.standard_normal(count) * moves):
        steps[number] = at = 0.92 * at + step
    return np.exp(steps)


def _batches(random: np.random.Generator, count: int, kind: Batches) -> Seconds:
    """Its rate in each window."""
    rate, at = np.zeros(count), 0
    while at < count:
        at += int(random.uniform(*kind.off_h) * 3600 / WINDOW_S)
        last = at + max(1, int(random.uniform(*kind.on_h) * 3600 / WINDOW_S))
        rate[at:last] = kind.rate_rps * random.uniform(0.6, 1.4)
        at = last
    return rate


def main() -> None:
    """Four loads, scored on their second half; some twenty minutes."""
    rows: list[Row] = []
    for kind in KINDS:
        race = Race(arrivals(windows(kind), SEED), Fleet())
        rows += costs(race, (OURS, PEER), STARTUP_S, f"{kind.name}: ")
        print(f"{kind.name}: done", flush=True)
    report("strangers", rows)


if __name__ == "__main__":
    main()
