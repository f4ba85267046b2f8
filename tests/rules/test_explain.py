"""Why a rule fired, or did not: every condition in words, with its numbers."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.events import Sli
from rules.core.ruleset import RuleSet, make_ruleset
from rules.explain import RuleAccount, RuleState, replay, with_ticks
from tests.rules.builders import START_MS, WAITING, Workload, pack, random_log, rule, sli

LOAD = {"sli": "load_per_replica", "window": "10s", "above": 6, "for": "10s", "on_missing": False, "doc": "d"}


def rules(*, conditions: dict[str, Any] | None = None, **changes: Any) -> RuleSet:
    return make_ruleset([pack({"up": rule(**changes)}, conditions)])


def account(ruleset: RuleSet, at_s: float, *slis: Sli) -> RuleAccount:
    (found,) = replay(ruleset, slis, START_MS + int(at_s * 1000))
    return found


def latest(value: float | None, *seconds: int, **more: Any) -> list[Sli]:
    return [sli(second, requests_waiting=value, **more) for second in seconds]


def test_a_value_that_is_not_enough_is_told_with_what_is_needed() -> None:
    found = account(rules(), 3, *latest(0.4, 2))
    assert (found.rule, found.pack, found.priority) == ("up", "demo", 100)
    assert (found.state, found.why) == (RuleState.QUIET, ("waiting: requests_waiting is 0.4, needs > 4",))


def test_a_hold_that_is_too_short_is_told_with_what_is_left() -> None:
    ruleset = rules(conditions={"waiting": LOAD})
    slis = [sli(0, 10, load_per_replica=9.0), sli(10, 10, load_per_replica=9.0)]
    assert account(ruleset, 4, *slis).why == ("waiting: load_per_replica over 10 s is 9, > 6, held 4 s of 10 s",)
    assert account(ruleset, 12, *slis).state is RuleState.COOLING


@pytest.mark.parametrize(
    ("slis", "at_s", "said"),
    [
        (latest(None, 0), 1, "missing"),
        (latest(9.0, 0), 60, "too old (60 s)"),
    ],
)
def test_a_missing_value_is_told_with_why_and_what_follows(slis: list[Sli], at_s: float, said: str) -> None:
    found = account(rules(cooldown="1s"), at_s, *slis)
    assert found.why == (f"waiting: requests_waiting is {said}, on_missing: false, needs > 4",)


def test_a_window_that_was_never_told_is_told_so() -> None:
    ruleset = rules(conditions={"waiting": LOAD, "other": WAITING}, any=["other"])
    (why,) = account(ruleset, 1, *latest(9.0, 0)).why
    assert why == "waiting: load_per_replica over 10 s is not told yet, on_missing: false, needs > 6"


def test_a_condition_that_stays_by_hysteresis_is_told_so() -> None:
    ruleset = rules(conditions={"waiting": WAITING | {"until": 1}}, cooldown="1s")
    found = account(ruleset, 5, *latest(9.0, 0), *latest(2.0, 4))
    assert found.why == ("waiting: requests_waiting is 2, was > 4 and stays true while > 1, held 5 s",)


def test_what_is_held_on_missing_data_is_told_so() -> None:
    ruleset = rules(conditions={"waiting": WAITING | {"on_missing": True}}, cooldown="1s")
    found = account(ruleset, 5, *latest(None, 0))
    assert (found.state, found.why) == (
        RuleState.PROPOSES,
        ("waiting: requests_waiting is missing, on_missing: true, held 5 s",),
    )


def test_a_rule_that_is_forbidden_says_by_what() -> None:
    conditions = {"waiting": WAITING, "held": WAITING | {"sli": "stalled", "at_least": 1}}
    del conditions["held"]["above"]
    ruleset = rules(conditions=conditions, none=["held"])
    found = account(ruleset, 1, *latest(9.0, 0, stalled=1.0))
    assert (found.state, found.why) == (RuleState.QUIET, ("forbidden by held: stalled is 1, ≥ 1, held 1 s",))


def test_a_rule_that_lacks_its_number_says_which() -> None:
    action = {"kind": "scale_up", "replicas": {"sli": "replicas_up", "most": 3}}
    found = account(rules(action=action), 1, *latest(9.0, 0))
    assert found.state is RuleState.NUMBERLESS
    assert found.why[0].startswith("replicas_up (latest) is missing")


def test_a_rule_that_cools_down_says_for_how_long() -> None:
    found = account(rules(), 20, *latest(9.0, 0, 10, 20))
    assert (found.state, found.cooldown_left_s, found.last_ms) == (RuleState.COOLING, 40.0, START_MS)
    assert found.why == ("cooling down, 40 s of 60 s left", "waiting: requests_waiting is 9, > 4, held 20 s")


def test_a_rule_that_proposes_at_the_moment_says_so() -> None:
    assert account(rules(), 0, *latest(9.0, 0)).state is RuleState.PROPOSES
    assert account(rules(), 60, *latest(9.0, *range(0, 61, 10))).state is RuleState.PROPOSES


def test_what_came_later_is_not_known_yet() -> None:
    assert "needs > 4" in account(rules(), 5, *latest(1.0, 0), *latest(9.0, 6)).why[0]


def test_a_workload_of_which_nothing_is_known_is_told_so() -> None:
    found = account(rules(), 5)
    assert (found.state, found.why) == (RuleState.QUIET, ("nothing is known of the workload at this moment",))


def test_the_history_that_is_enough_covers_holds_windows_and_cooldowns() -> None:
    assert rules(cooldown="5s").history_s == 5.0
    assert rules(conditions={"waiting": LOAD}, cooldown="5s").history_s == 30.0


def test_the_account_agrees_with_the_stage_whatever_the_log() -> None:
    ruleset = make_ruleset([pack({"up": rule(cooldown="1s")}, {"waiting": LOAD | {"on_missing": True}})])
    log = [m for m in random_log(3, 200) if isinstance(m, Sli) and m.end_ms - m.cause_ms <= 0]
    for at_s in range(10, 200, 7):
        known = [m for m in log if m.cause_ms <= START_MS + at_s * 1000]
        found = account(ruleset, at_s, *known)
        workload = Workload(ruleset.packs)
        fired = workload.fired(*with_ticks(known, START_MS + at_s * 1000))
        assert (found.state is RuleState.PROPOSES) == (bool(fired) and fired[-1][0] == at_s)
