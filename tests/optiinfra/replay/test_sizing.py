"""In a replay the scaler of life sees the load as it is, and says the same whichever way the SLIs came about."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.events import Finding, Message, Sli
from optiinfra.replay.options import Outage
from tests.optiinfra.replay.loads import played, steps

STORY = steps((8, 300), (30, 330), (3, 600))
"""A burst on which capacity is added, then slack in which it is given back."""


def findings(heard: list[Message]) -> dict[int, Finding]:
    return {each.at_ms: each for each in heard if isinstance(each, Finding)}


def test_a_replay_tells_a_finding_every_fifteen_seconds_beside_what_rules_do() -> None:
    result, heard = played(STORY)
    found = findings(heard)
    assert len(found) == len(STORY) // 15 - 1  # none at the first tick, which has nothing before it
    assert result.dead_letters == 0
    assert all(each.value("capacity_rps") is not None for each in list(found.values())[8:])
    assert list(found.values())[-1].value("replicas_wanted") is not None, "the burst has shown what a replica can do"
    ordered = {each.value("replicas_ordered") for each in found.values()}
    assert len(ordered) > 1, "the story must change the fleet"


def test_the_arrivals_that_are_told_are_those_that_came() -> None:
    _, heard = played(STORY, scrape_s=5)
    told = [each for each in heard if isinstance(each, Sli) and each.size_s == 0]
    begin_ms = told[0].end_ms - 5000
    known = [each for each in told if each.values["arrivals_per_s"].samples == each.instances]
    assert len(known) > 0.9 * len(told)
    for each in known:
        end_s = (each.end_ms - begin_ms) // 1000
        assert each.value("arrivals_per_s") == pytest.approx(np.mean(STORY[end_s - 5 : end_s]), abs=0.25)


@pytest.mark.parametrize("outages", [(), (Outage(begin_s=350, end_s=500),)], ids=["seen", "with an outage"])
def test_both_entries_lead_to_the_same_findings(outages: tuple[Outage]) -> None:
    _, pages = played(STORY, scrape_s=5, entry="replica", outages=outages)
    _, fluid = played(STORY, scrape_s=5, entry="workload", outages=outages)
    by_page, by_fluid = findings(pages), findings(fluid)
    assert by_page.keys() == by_fluid.keys()
    for at_ms, each in by_page.items():
        other = by_fluid[at_ms]
        assert each.values.keys() == other.values.keys()
        assert each.values == pytest.approx(other.values, rel=1e-6)


def test_while_nothing_is_measured_nothing_is_spare() -> None:
    _, heard = played(STORY, scrape_s=5, outages=(Outage(begin_s=350, end_s=500),))
    found = findings(heard)
    begin_ms = min(found) - 15_000 - 15_000 % 5000
    dark = [each for at_ms, each in found.items() if begin_ms + 395_000 < at_ms < begin_ms + 500_000]
    assert len(dark) >= 6
    assert all(each.value("replicas_spare") is None for each in dark)
    ordered = [each.value("replicas_ordered") or 0 for each in dark]
    assert all((each.value("replicas_wanted") or many) >= many for each, many in zip(dark, ordered, strict=True))
