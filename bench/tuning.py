"""Does the safe search find the best engine setting, in how many trials, and how many of them break the objective?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import log2

import numpy as np

from agents.performance.core.trials import Measured, Setting, Tried
from agents.performance.core.tuning import Care, Space, search
from bench.calibration import traces
from bench.report import Row, report
from optiinfra.replay.trials import SEQS, TOKENS, Goal, Mix, TwinTrials, read_mix, settings_of

CASES = (
    ("Azure conversation, H100", "AzureLLMInferenceTrace_conv.csv.gz", "llama2-70b/h100-80gb"),
    ("Azure code, H100", "AzureLLMInferenceTrace_code.csv.gz", "llama2-70b/h100-80gb"),
    ("Azure conversation, A100", "AzureLLMInferenceTrace_conv.csv.gz", "llama2-70b/a100-80gb"),
)
REQUESTS = 1000
STARTS = 12
"""Present settings from which each search begins, drawn from those that keep the objective at all."""
LIVE_SHARE = 0.7
"""Of what the present setting bears: the load of live traffic."""


class Table:
    """A runner whose goodput was measured once for every setting; latencies at the live rate are measured anew."""

    def __init__(self, engine: str, mix: Mix) -> None:
        self.engine, self.mix, self.goal = engine, mix, Goal()
        self.settings = settings_of(engine, mix.longest, 8, SEQS, TOKENS)
        trials = TwinTrials(engine, mix, self.goal, 0.25)
        self.goodput = {each: trials.run(each).goodput_rps for each in self.settings}

    def per_gpu(self, setting: Setting) -> float:
        """Goodput for each GPU of a setting."""
        return self.goodput[setting] / setting.tensor_parallel


class Live:
    """The table under the live rate of one present setting, each GPU of which gets `live_rps`."""

    def __init__(self, table: Table, present: Setting, care: Care) -> None:
        live_rps = table.per_gpu(present) * LIVE_SHARE
        alike = tuple(s for s in table.settings if s.tensor_parallel == present.tensor_parallel)
        self.table, self.care, self.space = table, care, Space(alike, present, live_rps)
        self._trials = TwinTrials(table.engine, table.mix, table.goal, live_rps)

    def run(self, setting: Setting) -> Measured:
        """As the port says."""
        return replace(self._trials.live(setting), goodput_rps=self.table.goodput[setting])


Search = Callable[[Live, int, int], Sequence[Tried]]


def safe(live: Live, trials: int, seed: int) -> Sequence[Tried]:
    """The search of `agents.performance.core.tuning`; it says itself when it is done."""
    return search(live, live.space, live.care)[1]


def at_random(live: Live, trials: int, seed: int) -> Sequence[Tried]:
    """The present setting, then any other, as many as the safe search needed."""
    rng, space = np.random.default_rng(seed), live.space
    others = [each for each in space.settings if each != space.present]
    order = [others[place] for place in rng.permutation(len(others))[: trials - 1]]
    return [Tried(each, live.run(each)) for each in (space.present, *order)]


def climbing(live: Live, trials: int, seed: int) -> Sequence[Tried]:
    """Greedy: neighbours one doubling away, one knob at a time; goes where it is better; ends where none is."""
    rng, past, here = np.random.default_rng(seed), list[Tried](), live.space.present
    past.append(Tried(here, live.run(here)))
    best, moved = past[0], True
    while moved:
        moved = False
        around = [each for each in live.space.settings if _apart(each, here) == 1]
        for place in rng.permutation(len(around)):
            if any(each.setting == around[place] for each in past):
                continue
            past.append(Tried(around[place], live.run(around[place])))
            if past[-1].measured.kept and past[-1].per_gpu_rps > best.per_gpu_rps:
                best, here, moved = past[-1], around[place], True
                break
    return past


def _apart(one: Setting, other: Setting) -> float:
    pairs = (
        (one.max_num_seqs, other.max_num_seqs),
        (one.max_num_batched_tokens, other.max_num_batched_tokens),
        (one.tensor_parallel, other.tensor_parallel),
    )
    return sum(abs(log2(a / b)) for a, b in pairs)


@dataclass(frozen=True)
class Score:
    """Means over starts: regret against every setting of that degree, its worst, gain on the present setting, trials,
    and those of them that broke the objective."""

    regret: float
    worst: float
    gain: float
    trials: float
    broken: float


def scores(table: Table, care: Care) -> dict[str, Score]:
    """Every search from every start."""
    top = max(map(table.per_gpu, table.settings))
    good = [each for each in table.settings if table.per_gpu(each) > 0.2 * top]
    starts = [good[place] for place in np.random.default_rng(5).permutation(len(good))[:STARTS]]
    rows: dict[str, list[tuple[float, float, float, float]]] = {}
    for number, present in enumerate(starts):
        live, made = Live(table, present, care), 0
        best_there = max(map(table.per_gpu, live.space.settings))
        for name, way in SEARCHES.items():
            past = way(live, made, number)
            made = made or len(past)
            best = max(each.per_gpu_rps for each in past if each.measured.kept)
            broken = sum(not each.measured.kept for each in past)
            gain = best / table.per_gpu(present) - 1
            rows.setdefault(name, []).append((1 - best / best_there, gain, len(past), broken))
    found = {name: np.array(each) for name, each in rows.items()}
    return {
        name: Score(float(each[:, 0].mean()), float(each[:, 0].max()), *each[:, 1:].mean(axis=0).tolist())
        for name, each in found.items()
    }


SEARCHES: dict[str, Search] = {"safe": safe, "random": at_random, "hill climbing": climbing}


def rows_of(case: str, found: dict[str, Score]) -> Iterator[Row]:
    """A row for each figure and each peer of the safe search."""
    own = found["safe"]
    yield _row(f"{case}: gain on the present setting", 100 * own.gain, "%")
    for peer in ("random", "hill climbing"):
        other = found[peer]
        yield _row(f"{case}: regret against every setting, mean", 100 * own.regret, "%", peer, 100 * other.regret)
        yield _row("  worst", 100 * own.worst, "%", peer, 100 * other.worst)
        yield _row("  trials", own.trials, "", peer, other.trials)
        yield _row("  of them broke the objective", own.broken, "", peer, other.broken)


def _row(name: str, value: float, unit: str, peer: str | None = None, peer_value: float | None = None) -> Row:
    """A row; less is better, so the ratio is that of the peer to ours."""
    ratio = peer_value / value if peer_value is not None and value else None
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}


def main() -> None:
    """Every case; some two minutes of one core."""
    folder = traces()
    if not folder.is_dir():
        print(f"skipped: no {folder}; set OPTIINFRA_TRACES to the folder that holds azure2023/")
        return
    rows: list[Row] = []
    for case, name, engine in CASES:
        mix = read_mix(folder / "azure2023" / name).drawn(REQUESTS, 0)
        rows += rows_of(case, scores(Table(engine, mix), Care()))
    report("tuning", rows)


if __name__ == "__main__":
    main()
