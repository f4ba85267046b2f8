"""What do declared KV tiers do to the twin's first tokens, on a disk that helps and where they do not?"""

from __future__ import annotations

from dataclasses import replace

from bench.report import Row, report
from contracts.events import EndState, Finding, Outcome
from tests.optiinfra.life import BEGIN_MS, Life, Shape
from tests.optiinfra.test_tiers_in_life import asked_for, mean_ttft_s, shape

BEFORE_S, TRIAL_S, AFTER_S = 300, 780, 180
"""Untouched; one replica tries them, and what follows from that is done; how long the means at both ends are taken."""
VERDICTS = {"roll-out-kv-tiers": (2.0, "kept"), "take-back-kv-tiers": (3.0, "taken back")}


def means_s(life: Life) -> tuple[float, float]:
    """Mean TTFT before the trial and after all that follows from it, seconds."""
    life.goes_on(BEFORE_S - AFTER_S)
    before_s = mean_ttft_s(life, AFTER_S)
    life.goes_on(TRIAL_S + AFTER_S)
    return before_s, mean_ttft_s(life, AFTER_S)


def rows(name: str, tried: Shape) -> list[Row]:
    """A roll-out beside the same traffic on a fleet that has no tiers declared."""
    with Life(replace(tried, tiers=None)) as life:
        without_s = means_s(life)
    with Life(tried) as life:
        with_s = means_s(life)
        first, second = life.told(Outcome)
        stage, verdict = VERDICTS[second.action.rule]
        found = asked_for(life, stage)
    ends = first.action.rule, first.end_state, second.end_state
    if ends != ("try-kv-tiers", EndState.VERIFIED, EndState.VERIFIED):
        raise RuntimeError(f"{name}: {', '.join(ends)}; second {second.action.rule}")
    print(f"{name}: {verdict}. {found.words}\n")
    peer = "the same without tiers"
    return [
        _row(f"{name}: mean TTFT before", with_s[0], "s", peer, without_s[0]),
        _row(f"{name}: prompt tokens from the canary's tiers", found.values["tier_tokens_ratio"], "ratio"),
        _row(f"{name}: its mean TTFT over that of the rest", found.values["canary_ttft_ratio"], "ratio"),
        _row(f"{name}: {verdict} after", _minutes(found), "min"),
        _row(f"{name}: mean TTFT after", with_s[1], "s", peer, without_s[1]),
    ]


def _row(name: str, value: float, unit: str, peer: str | None = None, other: float | None = None) -> Row:
    ratio = None if other is None else other / value
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": other, "ratio": ratio}


def _minutes(found: Finding) -> float:
    return (found.at_ms - BEGIN_MS) / 60_000


def main() -> None:
    """Print the table, and the words by which each trial was decided."""
    worlds = {
        "disk of 7 GB/s": shape(),
        "disk of 0.5 GB/s": shape(disk_gb_per_s=0.5),
        "nothing reused": shape(shared=0.0),
    }
    report("kv_rollout", [each for name, world in worlds.items() for each in rows(name, world)])


if __name__ == "__main__":
    main()
