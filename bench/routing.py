"""Does it pay to route by the length of the prompt? The plan's answer, and what the twin says of both ways."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agents.performance.core.routing import Pool, Routing, plan
from agents.performance.core.trials import Setting
from bench.calibration import traces
from bench.report import Row, report
from optiinfra.replay.pools import Router, fewest, serve
from optiinfra.replay.trials import Goal, Mix, capacity_by_length, joined, read_mix, spec_of

ENGINE, SETTING = "llama2-70b/h100-80gb", Setting(128, 512, 4)
SHORT = 2048
DEMANDS = {"Azure conversation and code": (6.0, 30.0, 90.0), "Mooncake conversation": (1.5, 6.0)}
GOALS = {"Azure conversation and code": Goal(), "Mooncake conversation": Goal(ttft_s=30.0)}
"""Prompts of 100,000 tokens take longer than any usual TTFT: 30 s is what most of Mooncake's can have at all."""


def by_length(pools: Sequence[Pool]) -> Router:
    """Each request to its pool, and there to the replica with the fewest outstanding."""
    ends: list[int] = np.cumsum([each.replicas for each in pools]).tolist()

    def route(tokens: int, outstanding: Sequence[int]) -> int:
        place = next(n for n, each in enumerate(pools) if tokens < each.below)
        first = ends[place] - pools[place].replicas
        return first + fewest(tokens, outstanding[first : ends[place]])

    return route


def figures(mix: Mix, goal: Goal, demand_rps: float, replicas: int, route: Router) -> tuple[float, float, float]:
    """TTFT p95 of short requests and of all, in seconds, and requests in time a second for each replica."""
    trace = mix.arriving(demand_rps, 3)
    answered = serve(trace, [spec_of(ENGINE, SETTING, mix.longest)] * replicas, route)
    short = mix.prompt_tokens < SHORT
    good = float(np.sum(answered.in_time(goal.ttft_s, goal.itl_s))) / trace.arrival_s[-1] / replicas
    return float(np.quantile(answered.ttft_s[short], 0.95)), float(np.quantile(answered.ttft_s, 0.95)), good


def rows(name: str, mix: Mix, demand_rps: float, found: Routing) -> list[Row]:
    """Both ways, each with the replicas that the plan gives it."""
    goal, pools = GOALS[name], found.pools if found.pays else found.refused
    print(f"{name}, {demand_rps:g} req/s: {found.explain()}")
    one = figures(mix, goal, demand_rps, found.together.replicas, fewest)
    split_of = sum(each.replicas for each in pools)
    own = figures(mix, goal, demand_rps, split_of, by_length(pools))
    what = f"{name}, {demand_rps:g} req/s, {len(pools)} pools ({'proposed' if found.pays else 'refused'})"
    peer = "one pool, fewest outstanding"
    names = ("TTFT p95 of prompts below 2048", "TTFT p95 of all", "in time for each replica")
    units, table = ("s", "s", "req/s"), list[Row]()
    ratio = found.together.replicas / split_of
    table.append(_row(f"{what}: replicas", split_of, "", peer, found.together.replicas, ratio))
    for number, label in enumerate(names):
        ratio = own[number] / one[number] if number == 2 else one[number] / own[number]
        table.append(_row(f"{what}: {label}", own[number], units[number], peer, one[number], ratio))
    return table


def _row(name: str, value: float, unit: str, peer: str, peer_value: float, ratio: float) -> Row:
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}


def main() -> None:
    """Both mixes at every demand; half a minute."""
    folder = traces()
    if not folder.is_dir():
        print(f"skipped: no {folder}; set OPTIINFRA_TRACES to the folder that holds azure2023/ and mooncake/")
        return
    azure = [read_mix(folder / "azure2023" / f"AzureLLMInferenceTrace_{each}.csv.gz") for each in ("conv", "code")]
    mixes = {
        "Azure conversation and code": joined(azure),
        "Mooncake conversation": read_mix(folder / "mooncake" / "conversation_trace.jsonl.gz"),
    }
    table: list[Row] = []
    for name, whole in mixes.items():
        mix = whole.drawn(2000, 0)
        capacity = capacity_by_length(ENGINE, SETTING, mix, GOALS[name])
        for demand_rps in DEMANDS[name]:
            table += rows(name, mix, demand_rps, plan(mix.prompt_tokens.tolist(), capacity, demand_rps))
    report("routing", table)


if __name__ == "__main__":
    main()
