"""Entering at the SLIs of the workload tells, and makes the policy do, what a page of each replica does.

Of pages the last revision is compared: of the very first window nobody knows how many will report it, so that it is
told with one replica and then again with each other.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from contracts.events import Decision, Sli
from optiinfra.replay.options import Outage
from tests.optiinfra.replay.loads import BUILT_IN, PLAIN, played, steps, workload_slis

STORY = steps((8, 150), (30, 330), (3, 720))
"""A burst on which capacity is added, then slack in which it is given back."""


def differences(page: Sli, fluid: Sli) -> dict[str, object]:
    """What two messages say differently: exact, but for sums of fractions in another order."""
    found: dict[str, object] = {}
    for name in ("freshness_s", "cause_ms", "instances", "instances_up", "stalled", "attainment"):
        if getattr(page, name) != getattr(fluid, name):
            found[name] = (getattr(page, name), getattr(fluid, name))
    if page.coverage_ratio != pytest.approx(fluid.coverage_ratio, abs=1e-12):
        found["coverage_ratio"] = (page.coverage_ratio, fluid.coverage_ratio)
    for name in page.values.keys() | fluid.values.keys():
        one, other = page.values[name], fluid.values[name]
        same = one.value == other.value or one.value == pytest.approx(other.value, rel=1e-9, abs=1e-9)
        if not same or one.samples != other.samples:
            found[name] = (one, other)
    return found


@pytest.mark.parametrize("rules", [PLAIN, BUILT_IN], ids=["plain rules", "built-in rules"])
@pytest.mark.parametrize("scrape_s", [5, 15])
@pytest.mark.parametrize("outages", [(), (Outage(begin_s=350, end_s=500),)], ids=["seen", "with an outage"])
def test_both_entries_tell_the_same_slis_and_make_the_same_decisions(
    scrape_s: int, outages: tuple[Outage], rules: tuple[Path, ...]
) -> None:
    # Rules ask every 30 s. With 40 s no newcomer is first seen in the very scrape on whose first page they ask: by
    # pages they would not know of it yet.
    around: dict[str, Any] = {"scrape_s": scrape_s, "startup_s": 40, "outages": outages, "rules": rules}
    told, pages = played(STORY, entry="replica", **around)
    same, fluid = played(STORY, entry="workload", **around)
    by_page, by_fluid = workload_slis(pages), workload_slis(fluid)
    assert by_page.keys() == by_fluid.keys()
    compared = {key: differences(by_page[key], by_fluid[key]) for key in by_fluid}
    assert len(compared) > 90
    assert {key: found for key, found in compared.items() if found} == {}
    # The latest value is told anew with each page: on the first of them a rule may ask for what is under way already.
    decided = [
        [
            (d.at_ms, d.candidate.rule, d.reasons, d.replicas)
            for d in heard
            if isinstance(d, Decision) and d.code == "approved"
        ]
        for heard in (pages, fluid)
    ]
    assert decided[0] == decided[1]
    assert len(decided[0]) >= 1
    # And a rule that can fire on the first of them remembers its numbers.
    by_numbers = [[each.model_copy(update={"because": ()}) for each in result.deeds] for result in (told, same)]
    assert by_numbers[0] == by_numbers[1]
    assert told.cost == same.cost
