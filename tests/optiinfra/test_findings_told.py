"""A case that rests on a finding is told with the finding's words, and stage `sizing` is told what settings say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.performance.core.sizing_state import SizingSettings
from contracts.clock import ClockAnchor
from contracts.events import Decision, Fact, Finding, Message
from contracts.laws.bounds import Bound, Comparator
from contracts.ports import Row, Scalar
from optiinfra.history import case_records
from optiinfra.orders import ChildOrders
from optiinfra.settings import Settings
from optiinfra.story import case_of, tell
from optiinfra.wiring.stages import sizing_settings
from rules.core.language import Condition
from rules.core.pack import place_of_value
from tests.contracts.messages import FULL

AT_MS = 1_700_000_000_000
WORDS = "6 replicas: 20 req/s expected after the start-up"
FOUND = Finding(workload="chat", kind="sizing", at_ms=AT_MS, cause_ms=AT_MS, values={"replicas_short": 2}, words=WORDS)


class Store:
    """Holds one case and findings, asked as the real one is."""

    def __init__(self, decision: Decision, *findings: Finding) -> None:
        self._decision, self._findings = decision, findings

    async def insert(self, table: str, rows: Sequence[Row]) -> None:
        raise AssertionError(table)

    async def query(self, name: str, **params: Scalar) -> list[dict[str, Scalar]]:
        if name == "records_of":
            found: list[Message] = [self._decision]
        else:
            assert (name, params["type"], params["workload"]) == ("records_between", Finding.TYPE, "chat")
            found = [
                each for each in self._findings if int(params["from_ms"] or 0) <= each.at < int(params["to_ms"] or 0)
            ]
        return [{"type": each.TYPE, "body": each.model_dump_json()} for each in found]


def decided(sli: str, size_s: int) -> Decision:
    """A decision whose rule rests on one number."""
    decision = next(each for each in FULL if isinstance(each, Decision))
    bound = Bound(sli=sli, size_s=size_s, comparator=Comparator.GE, value=1)
    fact = Fact(condition="short", bound=bound, value=2, holds=True, end_ms=AT_MS)
    candidate = decision.candidate.model_copy(update={"facts": (fact,)})
    return decision.model_copy(update={"workload": "chat", "decision_id": "d" * 32, "candidate": candidate})


async def test_a_case_that_rests_on_a_finding_is_told_with_its_words() -> None:
    other = FOUND.model_copy(update={"at_ms": AT_MS + 15_000, "words": "something else"})
    lines = tell(case_of(await case_records(Store(decided("replicas_short", 15), FOUND, other), "dddddd")))
    assert [line.split("sizing found at ")[1] for line in lines if "sizing found" in line] == [f"22:13:20: {WORDS}"]


async def test_a_case_that_rests_on_slis_asks_for_no_finding() -> None:
    found = await case_records(Store(decided("replicas_up", 0), FOUND), "dddddd")
    assert not any(isinstance(each, Finding) for each in found)


def told(**settings: object) -> SizingSettings:
    blob = Settings.from_blob(settings).model_dump(mode="json")
    anchor = ClockAnchor(wall_anchor_ms=0, event_anchor_ms=0, speed=20)
    return sizing_settings(ChildOrders(settings=blob, anchor=anchor, state_dir=Path(), parent_pid=1))


def test_what_workloads_promise_and_their_limits_are_told_to_sizing() -> None:
    own = told(
        objectives={"attainment_target_ratio": 0.9},
        workloads={"chat": {"attainment_target_ratio": 0.99}},
        limits={"min_replicas": 2, "max_replicas": 6},
        workload_limits={"chat": {"min_replicas": 3, "turns_a_day": 120}},
        targets=("a.json",),
    )
    assert (own.target_of("chat"), own.target_of("code")) == (0.99, 0.9)
    assert (own.bounds_of("chat"), own.bounds_of("code")) == ((3, 1000), (2, 6))
    assert (own.turns_of("chat"), own.turns_of("code")) == (120, 36)
    assert own.max_age_s == 60.0


def test_a_simulated_workload_without_limits_has_those_of_the_twin() -> None:
    assert told().bounds_of("chat") == (1, 8)


def test_a_window_of_arrivals_is_refused_since_only_the_latest_is_told() -> None:
    written = {"sli": "arrivals_per_s", "above": 4, "on_missing": False, "doc": "much comes"}
    assert Condition.model_validate(written | {"window": "latest"}).bound.size_s == 0
    with pytest.raises(ValueError, match="'arrivals_per_s' has a latest value alone"):
        Condition.model_validate(written | {"window": "60s"})
    assert place_of_value("arrivals_per_s") == ("arrivals_per_s", 0)
    with pytest.raises(ValueError, match="'arrivals_per_s' has a latest value alone"):
        place_of_value("arrivals_per_s@60s")
