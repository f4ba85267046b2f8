"""What the strategies find can be said in a finding: every number is in the catalogue, and of its kind."""

from __future__ import annotations

from math import inf

import pytest

from agents.performance.core.balance import Balance, Replica, balance
from agents.performance.core.routing import Routing, plan
from agents.performance.core.trials import Measured, Setting, Tried
from agents.performance.core.tuning import Done, ended
from contracts.catalog.findings import FINDINGS
from contracts.events import Finding

IN_LIFE = {
    *("trial_stage", "seqs_wanted", "batched_tokens_wanted"),
    *("tier_stage", "host_gib_wanted", "disk_gb_wanted", "tier_tokens_ratio", "canary_ttft_ratio"),
}
"""What stage `steering` adds: a search says no replica what to do."""
HERE = Setting(64, 512, 4)
FOUND: dict[str, Balance | Routing | Done] = {
    "balance": balance([Replica("a", 9.0, 1.0), Replica("b", 1.0, 1.0)], {}, 1.2),
    "routing": plan([500] * 9 + [9000], lambda least, below: 1.0 if below == inf and not least else 5.0, 20.0),
    "tuning": ended([Tried(HERE, Measured(2.0, 0.5, 0.5))], "one trial"),
}


@pytest.mark.parametrize("kind", FOUND)
def test_a_finding_takes_every_number_and_the_words(kind: str) -> None:
    found = FOUND[kind]
    made = Finding(
        workload="chat", kind=kind, at_ms=60_000, cause_ms=59_000, values=found.values(), words=found.explain()
    )
    assert set(made.values) == {name for name, each in FINDINGS.items() if each.kind == kind} - IN_LIFE


def test_what_is_not_known_is_left_out() -> None:
    assert "duration_variation_ratio" not in balance([Replica("a", 9.0, 1.0)], {}).values()
    broken = ended([Tried(HERE, Measured(0.0, 2.0, 0.5))], "none")
    assert broken.values() == {"trials_made": 1.0, "trials_broken": 1.0}
