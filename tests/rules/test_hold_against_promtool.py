"""Holds are Prometheus' `for`: promtool, which is independent of us, finds the same alerts on the same series."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import yaml

from tests.rules.builders import WAITING
from tests.rules.test_conditions import held

SERIES = 40
SECONDS = 40


def made(rng: random.Random) -> dict[int, float | None]:
    """Values by second that go over and under 4 for stretches of all lengths, and are missing now and then."""
    told: dict[int, float | None] = {}
    while len(told) < SECONDS:
        value = rng.choice((0.0, 4.0, 5.0, 9.0, 9.0, None))
        for second in range(len(told), len(told) + rng.randrange(1, 14)):
            told[second] = value
    return {second: told[second] for second in range(SECONDS)}


def test_an_alert_fires_when_a_condition_holds(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "needs promtool: apt install prometheus"
    rng = random.Random(20_240_229)
    cases = {f"s{n}": (made(rng), rng.choice((0, 1, 5, 10, 13))) for n in range(SERIES)}
    alerts = [
        {"alert": name, "expr": f"{name} > 4", "for": f"{for_s}s", "labels": {"severity": "page"}}
        for name, (_, for_s) in cases.items()
    ]
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "g", "interval": "1s", "rules": alerts}]}))
    ours = {name: held(WAITING | {"for": f"{for_s}s"}, told, SECONDS) for name, (told, for_s) in cases.items()}
    test = {
        "interval": "1s",
        "input_series": [
            {"series": name, "values": " ".join("stale" if v is None else f"{v:g}" for v in told.values())}
            for name, (told, _) in cases.items()
        ],
        "alert_rule_test": [
            {
                "eval_time": f"{second}s",
                "alertname": name,
                "exp_alerts": [{"exp_labels": {"severity": "page"}}] if second in ours[name] else [],
            }
            for name in cases
            for second in range(SECONDS)
        ],
    }
    suite = {"rule_files": ["rules.yaml"], "evaluation_interval": "1s", "tests": [test]}
    (tmp_path / "suite.yaml").write_text(yaml.safe_dump(suite))
    told = subprocess.run([promtool, "test", "rules", "suite.yaml"], cwd=tmp_path, capture_output=True, text=True)
    assert told.returncode == 0, f"{told.stdout}{told.stderr}"[:3000]
    assert "SUCCESS" in told.stdout
    assert 0 < sum(map(len, ours.values())) < SERIES * SECONDS
