"""What spot capacity of five recorded zones is worth to the whole policy and to its peers, and what a notice heeded is.

The zones are those of V100s (skypilot-org/spot-traces), the prices those of p5.48xlarge: the pattern of losses is real,
its joining to this GPU is assumed. Half of the replicas are spot; those on demand alone serve half of the load.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

from bench.outage import STARTUP_S, TRACES, TUNED, WORKLOAD
from bench.report import Row, report
from connectors.traces import reading
from optiinfra.replay.bill import Cost
from optiinfra.replay.course import Fleet, Race
from optiinfra.replay.peer_scene import beside
from optiinfra.replay.registry import WHOLE
from optiinfra.replay.whole import Asked
from optiinfra.replay.whole import run as run_whole

STATIC = "static p99, on demand"


def asked(*, heeds: bool = True) -> Asked:
    """The five zones."""
    return Asked(spot=TRACES / "spot", spot_ratio=0.5, spot_floor=0.5, spot_heed=heeds)


def costs(race: Race) -> dict[str, Cost]:
    """Static, the whole policy and each peer, with the notice heeded and without."""
    found: dict[str, Cost] = {}
    for heeds in (True, False):
        how = "" if heeds else ", notices ignored"
        whole = run_whole(race, asked(heeds=heeds), STARTUP_S).result
        found[STATIC] = whole.static_p99.cost
        found[WHOLE + how] = whole.cost
        for policy, knobs in TUNED:
            found[policy.name + how] = beside(race, asked(heeds=heeds), STARTUP_S, policy, knobs).cost
    whole = run_whole(race, replace(asked(), spot=None), STARTUP_S).result
    found[f"{WHOLE}, all on demand"] = whole.cost
    return found


def rows(found: Mapping[str, Cost]) -> list[Row]:
    """US dollars beside static, attainment and interrupted requests."""
    told: list[Row] = []
    peer = found[STATIC]
    for name, cost in found.items():
        told += [
            _row(f"{name}: cost", cost.usd, "USD", peer.usd, peer.usd / cost.usd),
            _row(f"{name}: in time", cost.attainment_ratio, "share", peer.attainment_ratio, None),
            _row(f"{name}: interrupted", cost.interrupted, "requests", None, None),
        ]
    return told


def _row(name: str, value: float, unit: str, peer_value: float | None, ratio: float | None) -> Row:
    peer = None if peer_value is None else STATIC
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}


def main() -> None:
    """Some eight minutes."""
    if not (TRACES / "servegen").is_dir() or not (TRACES / "spot").is_dir():
        print(f"skipped: no servegen/ and spot/ in {TRACES}; set OPTIINFRA_TRACES to their folder", file=sys.stderr)
        return
    report("spot", rows(costs(Race(reading.load(TRACES / "servegen", WORKLOAD, 0), Fleet()))))


if __name__ == "__main__":
    main()
