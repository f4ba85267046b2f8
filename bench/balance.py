"""What are weights by capacity, and fewest outstanding, worth on a fleet whose replicas are not alike?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.performance.core.balance import Replica, balance
from agents.performance.core.trials import Setting
from bench.calibration import traces
from bench.report import Row, report
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace
from optiinfra.replay.pools import Answered, Router, fewest, serve
from optiinfra.replay.trials import Goal, Mix, TwinTrials, read_mix, spec_of

FLEETS = {
    "2 x H100 TP4, 2 x A100 TP4": ("llama2-70b/h100-80gb",) * 2 + ("llama2-70b/a100-80gb",) * 2,
    "3 x H100 TP4, 1 x A100 TP4": ("llama2-70b/h100-80gb",) * 3 + ("llama2-70b/a100-80gb",),
}
SETTING = Setting(128, 512, 4)
REQUESTS = 2000
MEAN_PROMPT, MEAN_OUTPUT = 1155, 211
"""Tokens of Azure's conversations."""
LOADS = (0.6, 0.85)
"""Of the sum of the replicas' capacities."""


class ByWeight:
    """Smooth weighted round robin: each turn goes to the replica that is furthest behind its share."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights, self._owed = weights, [0.0] * len(weights)

    def __call__(self, tokens: int, outstanding: Sequence[int]) -> int:
        self._owed = [owed + weight for owed, weight in zip(self._owed, self._weights, strict=True)]
        chosen = max(range(len(self._owed)), key=self._owed.__getitem__)
        self._owed[chosen] -= sum(self._weights)
        return chosen


class FewestByWeight:
    """The replica with the fewest outstanding for its weight, the new request counted."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = weights

    def __call__(self, tokens: int, outstanding: Sequence[int]) -> int:
        return min(range(len(outstanding)), key=lambda place: (outstanding[place] + 1) / self._weights[place])


def learnt(trace: Trace, specs: Sequence[EngineSpec], capacities: Sequence[float]) -> tuple[list[float], float, float]:
    """Weights after the steps that `balance` takes, each from a run with the last; first and last imbalance."""
    names = [f"r{n}" for n in range(len(specs))]
    weights, scores = [1 / len(specs)] * len(specs), list[float]()
    for _ in range(12):
        answered = serve(trace, specs, ByWeight(weights))
        held = [float(np.sum(answered.e2e_s[answered.replica == n])) / trace.arrival_s[-1] for n in range(len(specs))]
        seen = [Replica(*each) for each in zip(names, held, capacities, strict=True)]
        found = balance(seen, dict(zip(names, weights, strict=True)))
        scores.append(found.imbalance)
        if not found.act:
            break
        weights = list(found.weights.values())
    return weights, scores[0], scores[-1]


def figures(trace: Trace, specs: Sequence[EngineSpec], route: Router, goal: Goal) -> tuple[float, float]:
    """TTFT p95 in seconds, and requests a second that met both limits."""
    answered: Answered = serve(trace, specs, route)
    good = float(np.sum(answered.in_time(goal.ttft_s, goal.itl_s)))
    return float(np.quantile(answered.ttft_s, 0.95)), good / trace.arrival_s[-1]


def rows(fleet: str, kinds: Sequence[str], mix: Mix, capacity: dict[str, float]) -> list[Row]:
    """TTFT p95 and goodput of every way of routing, at every load."""
    goal, found = Goal(), list[Row]()
    specs = [spec_of(kind, SETTING, mix.longest) for kind in kinds]
    capacities = [capacity[kind] for kind in kinds]
    for load in LOADS:
        trace = mix.arriving(load * sum(capacities), 7)
        weights, first, last = learnt(trace, specs, capacities)
        shares = ", ".join(f"{each:.2f}" for each in weights)
        print(f"{fleet}, load {load:.0%}: imbalance {first:.2f} -> {last:.2f}, weights {shares}")
        even = [1.0] * len(specs)
        ways: dict[str, Router] = {
            "round robin": ByWeight(even),
            "weights": ByWeight(weights),
            "weights by capacity": ByWeight(capacities),
            "fewest outstanding": fewest,
            "fewest outstanding by capacity": FewestByWeight(capacities),
        }
        told = {name: figures(trace, specs, way, goal) for name, way in ways.items()}
        base = told["round robin"]
        for name, (ttft_s, goodput) in told.items():
            what = f"{fleet}, load {load:.0%}, {name}"
            found.append(_row(f"{what}: TTFT p95", ttft_s, "s", base[0], base[0] / ttft_s))
            found.append(_row(f"{what}: goodput", goodput, "req/s", base[1], goodput / base[1]))
    return found


def alike(variation: float, seqs: int) -> list[Row]:
    """Three equal replicas at 0.9 of what they bear, answers of one mean length and that variation: fewest against
    round robin. A batch of 24 is full at that load, one of 128 never."""
    rng, kind = np.random.default_rng(3), "llama2-70b/h100-80gb"
    spread = float(np.sqrt(np.log(1 + variation**2)))
    lengths = np.rint(MEAN_OUTPUT * np.exp(rng.normal(0.0, spread, REQUESTS) - spread**2 / 2))
    mix = Mix(np.full(REQUESTS, MEAN_PROMPT), np.clip(lengths, 1, 6000).astype(np.int64), "drawn")
    setting = Setting(seqs, 512, 4)
    capacity = TwinTrials(kind, mix.drawn(1000, 1), Goal(), 0.9).run(setting).goodput_rps
    specs = [spec_of(kind, setting, mix.longest)] * 3
    trace = mix.arriving(0.9 * 3 * capacity, 7)
    base = figures(trace, specs, ByWeight([1.0] * 3), Goal())
    own = figures(trace, specs, fewest, Goal())
    what = f"equal replicas, batch of {seqs}, lengths vary by {variation:g}, fewest outstanding"
    return [
        _row(f"{what}: TTFT p95", own[0], "s", base[0], base[0] / own[0]),
        _row(f"{what}: goodput", own[1], "req/s", base[1], own[1] / base[1]),
    ]


def _row(name: str, value: float, unit: str, peer_value: float, ratio: float) -> Row:
    return {
        "name": name,
        "value": value,
        "unit": unit,
        "peer": "round robin",
        "peer_value": peer_value,
        "ratio": ratio,
    }


def main() -> None:
    """Both fleets; half a minute."""
    folder = traces()
    if not folder.is_dir():
        print(f"skipped: no {folder}; set OPTIINFRA_TRACES to the folder that holds azure2023/")
        return
    mix = read_mix(folder / "azure2023" / "AzureLLMInferenceTrace_conv.csv.gz").drawn(REQUESTS, 0)
    kinds = {kind for fleet in FLEETS.values() for kind in fleet}
    capacity = {kind: TwinTrials(kind, mix, Goal(), 0.3).run(SETTING).goodput_rps for kind in kinds}
    found = [row for name, fleet in FLEETS.items() for row in rows(name, fleet, mix, capacity)]
    report("balance", found + [row for seqs in (24, 128) for each in (0.0, 1.0, 1.5, 2.0) for row in alike(each, seqs)])


if __name__ == "__main__":
    main()
