"""The numbers of an action: how many replicas, and what is expected of it."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.events import ActionSpec, Alert, CandidateSet, Severity
from contracts.laws.bounds import Bound, Comparator
from tests.rules.builders import START_MS, Workload, down, pack, rule, sli, tick


def proposed(body: dict[str, Any], **values: Any) -> ActionSpec:
    workload = Workload([pack({"it": body})])
    outputs = workload.tell(sli(0, requests_waiting=9.0, **values))
    assert isinstance(outputs[0], CandidateSet), outputs
    return outputs[0].candidates[0].spec


def amount(**fields: Any) -> dict[str, Any]:
    return rule(action={"kind": "scale_up", "replicas": {"sli": "replicas_up", "most": 8} | fields})


@pytest.mark.parametrize(
    ("fields", "replicas_up", "count"),
    [
        ({}, 3, 3),
        ({"times": 0.25}, 3, 1),
        ({"times": 0.25}, 5, 2),
        ({"times": 0.25, "round": "down"}, 7, 1),
        ({"times": 0.3}, 10, 3),  # 0.3 × 10 is a hair above 3 in floating point
        ({"times": 0.1, "plus": 0.2}, 1, 1),
        ({"over": 2}, 7, 4),
        ({"over": 2, "plus": 1, "round": "down"}, 7, 4),
        ({"times": 0}, 7, 1),
        ({"times": 0, "least": 2}, 7, 2),
        ({"most": 4}, 40, 4),
        ({"times": -1}, 7, 1),
    ],
)
def test_a_number_is_worked_out_from_an_sli(fields: dict[str, Any], replicas_up: float, count: int) -> None:
    assert proposed(amount(**fields), replicas_up=replicas_up).replicas == count


def test_a_plain_number_needs_no_sli() -> None:
    assert proposed(rule(action={"kind": "scale_up", "replicas": 2})).replicas == 2


def test_a_scale_up_may_say_that_it_stacks() -> None:
    asked = {"kind": "scale_up", "replicas": 2}
    assert not proposed(rule(action=asked)).stacks
    assert proposed(rule(action=asked | {"stacks": True})).stacks


def expecting(level: object, comparison: str = "at_least") -> dict[str, Any]:
    return {"expect": {"sli": "replicas_up", "window": "latest", comparison: level}, "by": "60s"}


@pytest.mark.parametrize(
    ("level", "value"),
    [
        (5, 5.0),
        ({"now": "replicas_up", "plus": "replicas"}, 6.0),
        ({"now": "replicas_up", "minus": "replicas"}, 2.0),
        ({"now": "replicas_up", "plus": 1.5}, 5.5),
        ({"now": "replicas_up", "minus": 0}, 4.0),
    ],
)
def test_what_is_expected_may_start_from_what_is(level: object, value: float) -> None:
    body = rule(action={"kind": "scale_up", "replicas": 2}, effect=expecting(level))
    found = proposed(body, replicas_up=4).effect.expect
    assert found == Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=value)


def test_an_action_has_all_its_bounds() -> None:
    effect = expecting({"now": "replicas_up", "minus": "replicas"}, "at_most") | {
        "goal": {"sli": "ttft_burn_rate", "window": "10s", "at_most": 1},
        "guards": [{"sli": "requests_waiting", "window": "latest", "below": {"now": "requests_waiting", "plus": 1}}],
        "settle": "30s",
    }
    found = proposed(down(effect=effect), replicas_up=4)
    assert str(found.effect.expect) == "replicas_up ≤ 3"
    assert str(found.effect.goal) == "ttft_burn_rate over 10 s ≤ 1"
    assert [str(guard) for guard in found.effect.guards] == ["requests_waiting < 10"]
    assert (found.effect.by_s, found.effect.settle_s, found.undo_guards) == (60, 30, ())
    assert [str(guard) for guard in proposed(rule()).undo_guards] == ["requests_waiting ≤ 1"]


@pytest.mark.parametrize(
    "body",
    [amount(), rule(effect=expecting({"now": "replicas_up", "plus": 1}))],
    ids=["replicas", "expectation"],
)
def test_without_the_sli_nothing_is_proposed_and_people_are_told_once_a_cooldown(body: dict[str, Any]) -> None:
    workload = Workload([pack({"it": body})])
    outputs = workload.tell(*(m for s in range(90) for m in (sli(s, requests_waiting=9.0), tick(s))))
    assert all(isinstance(each, Alert) for each in outputs)
    assert [(each.at - START_MS) // 1000 for each in outputs] == [0, 60]
    alert = outputs[0]
    assert isinstance(alert, Alert)
    assert (alert.name, alert.subject, alert.severity) == ("rule_without_number", "it", Severity.WARNING)
    assert "replicas_up (latest) is missing" in alert.summary
    # As soon as there is a number, the rule proposes: telling people is not proposing.
    assert workload.fired(sli(90, requests_waiting=9.0, replicas_up=3)) == [(90, ("it",))]


def test_a_number_that_is_too_old_is_no_number() -> None:
    waiting = {"sli": "requests_waiting", "window": "10s", "above": 4, "on_missing": False, "doc": "d"}
    workload = Workload([pack({"it": amount()}, {"waiting": waiting})])
    assert workload.tell(sli(0, replicas_up=3)) == []
    outputs = workload.tell(*(tick(s) for s in range(0, 35)), sli(35, 10, requests_waiting=9.0))
    assert [type(each) for each in outputs] == [Alert]
