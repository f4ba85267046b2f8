"""What each kind of action and step must say, what it may not, and which part of a workload it changes."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from contracts.events import ActionKind, ActionSpec, Effect, PlanStep, StepKind, target_of
from contracts.laws.bounds import Bound, Comparator

EFFECT = Effect(expect=Bound(sli="replicas_up", size_s=0, comparator=Comparator.GE, value=2.0), by_s=60)
TUNE = {"kind": ActionKind.TUNE, "replicas": 1, "settings": {"max_num_seqs": 64.0}, "by_replica": {"chat-0": 1.0}}
ROUTE = {"kind": ActionKind.ROUTE, "replicas": 2, "by_replica": {"chat-0": 0.25, "chat-1": 0.75}}
QUEUE = {"kind": ActionKind.QUEUE, "replicas": 1, "settings": {"max_in_flight": 96.0}}
UP = {"kind": ActionKind.SCALE_UP, "replicas": 1}
SETTINGS = {"max_num_seqs": 64.0}


def spec(fields: dict[str, Any], **changes: Any) -> ActionSpec:
    return ActionSpec(effect=EFFECT, **(fields | changes))


@pytest.mark.parametrize("fields", [TUNE, ROUTE, UP, QUEUE], ids=["tune", "route", "up", "queue"])
def test_an_action_that_says_what_its_kind_needs_stays_the_same_on_its_way(fields: dict[str, Any]) -> None:
    made = spec(fields)
    assert ActionSpec.model_validate_json(made.model_dump_json(exclude_defaults=True)) == made


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    (TUNE, {"settings": {}}, "a tune has engine settings"),
    (TUNE, {"by_replica": {}}, "0 replicas are named, and `replicas` says 1"),
    (TUNE, {"replicas": 2}, "1 replicas are named, and `replicas` says 2"),
    (TUNE, {"by_replica": {"chat-0": 0.5}}, "named with 1"),
    (ROUTE, {"settings": SETTINGS}, "a tune has engine settings, and a route came with"),
    (ROUTE, {"by_replica": {"chat-0": 0.25, "chat-1": 0.7}}, "one in sum"),
    (ROUTE, {"by_replica": {"chat-0": -0.5, "chat-1": 1.5}}, "none below zero"),
    (ROUTE, {"by_replica": {"chat-0": float("nan"), "chat-1": 1.0}}, "finite"),
    (ROUTE, {"replicas": 1}, "2 replicas are named"),
    (UP, {"settings": SETTINGS}, "a tune has engine settings, and a scale_up came with"),
    (UP, {"by_replica": {"chat-0": 1.0}}, "its controller chooses them"),
    (QUEUE, {"settings": {}}, "a queue sets max_in_flight at one gateway"),
    (QUEUE, {"settings": {"max_in_flight": 9.0, "breaker_s": 9.0}}, "and nothing else"),
    (QUEUE, {"replicas": 2}, "at one gateway"),
    (QUEUE, {"by_replica": {"chat-0": 1.0}}, "and nothing else"),
]


@pytest.mark.parametrize(("fields", "changes", "said"), WRONG, ids=[f"{n}: {s[2][:30]}" for n, s in enumerate(WRONG)])
def test_an_action_that_lacks_something_or_says_too_much_is_refused(
    fields: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        spec(fields, **changes)


def test_shares_of_a_thousand_replicas_may_be_as_inexact_as_floating_point() -> None:
    shares = {f"chat-{n}": 1 / 999 for n in range(999)}
    assert spec(ROUTE, replicas=999, by_replica=shares).replicas == 999


@pytest.mark.parametrize(
    ("kind", "fields", "fits"),
    [
        (StepKind.RETUNE, {"settings": SETTINGS}, True),
        (StepKind.RETUNE, {}, False),
        (StepKind.DRAIN, {"settings": SETTINGS}, False),
        (StepKind.WEIGH, {"by_replica": {"chat-0": 1.0}}, True),
        (StepKind.WEIGH, {}, False),
        (StepKind.RETUNE, {"settings": SETTINGS, "by_replica": {"chat-0": 1.0}}, False),
        (StepKind.LIMIT, {"settings": {"max_in_flight": 9.0}, "before": {"max_in_flight": 0.0}}, True),
        (StepKind.LIMIT, {"settings": {"max_in_flight": 9.0}}, False),
        (StepKind.RETUNE, {"settings": SETTINGS, "before": SETTINGS}, False),
    ],
)
def test_a_step_says_what_its_kind_needs_and_nothing_else(kind: StepKind, fields: dict[str, Any], fits: bool) -> None:
    if fits:
        assert PlanStep(kind=kind, **fields).kind is kind
    else:
        with pytest.raises(ValidationError, match="came with"):
            PlanStep(kind=kind, **fields)


def test_settings_shares_and_replicas_are_parts_of_their_own() -> None:
    targets = [target_of("chat", kind) for kind in ActionKind]
    gateway = ["chat/queue", "chat/context", "chat/breaker"]
    assert targets == ["chat/replicas", "chat/replicas", "chat/engine", "chat/router", *gateway]


def test_names_that_are_too_long_for_a_target_are_told_apart() -> None:
    one, two = (target_of("x" * 198 + end, ActionKind.TUNE) for end in ("a", "b"))
    assert one != two
    assert max(len(one), len(two)) <= 200


def test_a_restart_takes_capacity_if_only_for_a_while_and_shares_take_none() -> None:
    assert {kind for kind in ActionKind if kind.takes_capacity} == {ActionKind.SCALE_DOWN, ActionKind.TUNE}
