"""Findings as evidence: order, age, clocks, the numbers of an action that rest on them, and why a rule did not fire."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.events import ActionSpec, Alert, CandidateSet, Finding, Message
from rules.book import RuleBook
from rules.core.fold import RuleSettings
from rules.core.ruleset import make_ruleset
from rules.explain import RuleAccount, RuleState, replay
from tests.rules.builders import START_MS, WORKLOAD, Workload, pack, rule, sizing, sli, tick

SHORT = {"finding": "replicas_short", "above": 0, "on_missing": False, "doc": "too few"}
QUICK = pack({"up": rule(cooldown="1s")}, {"waiting": SHORT})


def ticks(first: int, last: int) -> list[Message]:
    return [tick(second) for second in range(first, last + 1)]


def test_a_finding_alone_makes_a_rule_fire_and_is_in_the_set() -> None:
    workload = Workload([QUICK])
    (found,) = workload.tell(sizing(0, replicas_short=2, replicas_wanted=5))
    assert isinstance(found, CandidateSet)
    assert (found.workload, found.at_ms, found.cause_ms) == (WORKLOAD, START_MS, START_MS - 500)
    assert found.evidence == {15: {"replicas_short": 2.0}}, "what no rule speaks of is not kept"
    assert (found.replicas, found.coverage_ratio) == (None, 0.0), "an opinion covers nothing"


def test_coverage_is_that_of_the_slis() -> None:
    workload = Workload([QUICK])
    workload.tell(sli(0, replicas_up=3).model_copy(update={"coverage_ratio": 0.75}))
    (found,) = workload.tell(sizing(1, replicas_short=2))
    assert isinstance(found, CandidateSet)
    assert (found.replicas, found.coverage_ratio) == (3, 0.75)


def test_a_finding_is_fresh_until_the_next_is_due_and_as_long_as_slis_may_be_old() -> None:
    workload = Workload([QUICK])
    fired = workload.fired(sizing(0, replicas_short=1), tick(0), *ticks(1, 80))
    assert [at_s for at_s, _ in fired] == [float(second) for second in range(46)]


def test_the_age_of_the_evidence_behind_a_finding_counts() -> None:
    workload = Workload([QUICK])
    fired = workload.fired(sizing(0, replicas_short=1, freshness_s=40), tick(0), *ticks(1, 80))
    assert fired[-1] == (5.0, ("up",))


def test_an_older_finding_and_a_repeat_change_nothing() -> None:
    workload = Workload([QUICK])
    workload.tell(sizing(15, replicas_short=0), tick(15))
    before = workload.state
    assert workload.tell(sizing(0, replicas_short=3), sizing(15, replicas_short=0)) == []
    assert workload.state == before


def test_a_number_that_is_left_out_is_missing_at_once_whatever_was_said_before() -> None:
    workload = Workload([QUICK])
    workload.tell(sizing(0, replicas_short=1), tick(0))
    assert workload.fired(sizing(15, replicas_wanted=3), *ticks(16, 40)) == []


def test_a_finding_pushes_time_a_little_past_the_ticks_and_looks_no_fresher_for_that() -> None:
    workload = Workload([QUICK])
    workload.tell(sizing(0, replicas_short=0), tick(0))
    fired = workload.fired(sizing(50, replicas_short=1), *ticks(1, 80))
    assert (fired[0], fired[-1]) == ((5.0, ("up",)), (50.0, ("up",)))


def test_a_finding_from_far_ahead_is_no_evidence() -> None:
    workload = Workload([QUICK])
    workload.tell(sizing(0, replicas_short=0), tick(0))
    assert workload.fired(sizing(61, replicas_short=1), *ticks(1, 20)) == []


def test_a_workload_of_which_only_findings_come_is_not_forgotten() -> None:
    workload = Workload([QUICK], RuleSettings(forget_s=60))
    for second in range(0, 200, 15):
        workload.tell(sizing(second, replicas_short=0), tick(second))
    assert workload.state is not None
    workload.tell(tick(300))
    assert workload.state is None


def asking(**fields: Any) -> dict[str, Any]:
    replicas = {"finding": "replicas_short", "most": 50} | fields
    return rule(action={"kind": "scale_up", "replicas": replicas})


def proposed(body: dict[str, Any], up: float | None = 4, **values: float) -> ActionSpec:
    workload = Workload([pack({"it": body}, {"waiting": SHORT})])
    workload.tell(sli(0, replicas_up=up))
    (found,) = workload.tell(sizing(0, **({"replicas_short": 1.0} | values)))
    assert isinstance(found, CandidateSet), found
    return found.candidates[0].spec


@pytest.mark.parametrize(
    ("fields", "short", "up", "count"),
    [
        ({}, 3, 4, 3),
        ({}, 2.2, 4, 3),
        ({"round": "down"}, 2.8, 4, 2),
        ({"most": 2}, 9, 4, 2),
        ({"share": 1}, 9, 4, 4),
        ({"share": 1}, 3, 4, 3),
        ({"share": 0.2}, 9, 10, 2),
        ({"share": 0.2}, 9, 14, 2),
        ({"share": 0.2}, 9, 3, 1),
        ({"share": 0.3}, 9, 10, 3),  # 0.3 × 10 is a hair below 3 in floating point
        ({"share": 0.2, "least": 5}, 9, 10, 2),
        ({"share": 1}, 5, 0, 1),
    ],
)
def test_a_number_rests_on_a_finding_and_on_a_share_of_the_fleet(
    fields: dict[str, Any], short: float, up: float, count: int
) -> None:
    assert proposed(asking(**fields), up=up, replicas_short=short).replicas == count


def test_without_the_fleet_there_is_no_share_of_it_and_people_are_told() -> None:
    workload = Workload([pack({"it": asking(share=1)}, {"waiting": SHORT})])
    (alert,) = workload.tell(sizing(0, replicas_short=2))
    assert isinstance(alert, Alert)
    assert "replicas_up (latest) is missing" in alert.summary


def test_a_finding_that_a_number_rests_on_and_that_is_missing_is_named_as_one() -> None:
    wanted = SHORT | {"finding": "replicas_wanted"}
    workload = Workload([pack({"it": asking()}, {"waiting": wanted})])
    (alert,) = workload.tell(sizing(0, replicas_wanted=2))
    assert isinstance(alert, Alert)
    assert "replicas_short (finding) is missing" in alert.summary


def timed(**fields: Any) -> dict[str, Any]:
    span = {"finding": "startup_s", "times": 2, "plus": "60s", "least": "120s", "most": "1800s"} | fields
    return rule(effect={"expect": {"sli": "replicas_up", "window": "latest", "at_least": 1}, "by": span})


@pytest.mark.parametrize(
    ("fields", "startup_s", "by_s"),
    [
        ({}, 180, 420),
        ({}, 10, 120),
        ({}, 3600, 1800),
        ({}, None, 1800),
        ({"on_missing": "240s"}, None, 240),
        ({"on_missing": "240s"}, 180, 420),
        ({"times": 1.25}, 40, 120),
    ],
)
def test_the_time_of_an_action_rests_on_a_finding_and_a_missing_one_stops_nothing(
    fields: dict[str, Any], startup_s: float | None, by_s: float
) -> None:
    known = {} if startup_s is None else {"startup_s": startup_s}
    assert proposed(timed(**fields), **known).effect.by_s == by_s


def account(at_s: float, *messages: Finding, **condition: Any) -> RuleAccount:
    rules = make_ruleset([pack({"up": rule(cooldown="1s")}, {"waiting": SHORT | condition})])
    (found,) = replay(rules, messages, START_MS + int(at_s * 1000))
    return found


@pytest.mark.parametrize(
    ("at_s", "messages", "said"),
    [
        (3, [sizing(0, replicas_short=0)], "replicas_short is 0, needs > 0"),
        (3, [sizing(0, replicas_wanted=4)], "replicas_short is missing, on_missing: false, needs > 0"),
        (60, [sizing(0, replicas_short=3)], "replicas_short is too old (60 s), on_missing: false, needs > 0"),
        (14, [sizing(0, replicas_short=0), sizing(15, replicas_short=2)], "replicas_short is 0, needs > 0"),
    ],
)
def test_a_rule_that_does_not_fire_says_what_was_found(at_s: float, messages: list[Finding], said: str) -> None:
    found = account(at_s, *messages)
    assert (found.state, found.why) == (RuleState.QUIET, (f"waiting: {said}",))


def test_a_rule_that_fires_says_what_was_found() -> None:
    found = account(15, sizing(0, replicas_short=2), sizing(15, replicas_short=1))
    assert (found.state, found.why) == (RuleState.PROPOSES, ("waiting: replicas_short is 1, > 0, held 15 s",))


def of_pack(*messages: Message) -> dict[str, ActionSpec]:
    workload = Workload(RuleBook().rules.packs)
    sets = [each for each in workload.tell(*messages) if isinstance(each, CandidateSet)]
    return {each.rule: each.spec for found in sets for each in found.candidates}


BURNING = [
    sli(0, 60, ttft_burn_rate=6.0, load_per_replica=9.0),
    sli(0, 10, ttft_burn_rate=9.0),
]


@pytest.mark.parametrize(("startup_s", "by_s"), [(60, 180), (180, 420), (360, 780), (None, 600)])
def test_the_built_in_rules_on_burn_and_queue_wait_for_a_start_up(startup_s: float | None, by_s: float) -> None:
    known = {"replicas_short": 0.0} | ({} if startup_s is None else {"startup_s": startup_s})
    queue = [
        message
        for second in range(2, 12, 2)
        for message in (sli(second, requests_waiting=40.0, load_per_replica=20.0, replicas_up=3), tick(second))
    ]
    found = of_pack(sizing(0, **known), tick(0), sli(0, replicas_up=3), *BURNING, *queue)
    assert {name: spec.effect.by_s for name, spec in found.items()} == {
        "scale-up-on-burn": by_s,
        "scale-up-on-queue": by_s,
    }
    # A goal would hold the fleet's one target until its deadline, while users wait for more capacity.
    assert {spec.effect.goal for spec in found.values()} == {None}


def test_the_built_in_forecast_and_the_rules_beneath_it_may_speak_at_once_and_it_goes_first() -> None:
    found = of_pack(sli(0, replicas_up=3), *BURNING, sizing(0, replicas_short=2, startup_s=180), tick(1))
    assert {name: spec.replicas for name, spec in found.items()} == {"scale-up-to-forecast": 2, "scale-up-on-burn": 1}
    priorities = {each.name: each.rule.priority for each in RuleBook().rules.rules}
    ups = [name for name in sorted(priorities, key=lambda name: -priorities[name]) if name.startswith("scale-up")]
    assert ups == [
        "scale-up-to-forecast",
        "scale-up-on-burn",
        "scale-up-on-lasting-queue",
        "scale-up-on-queue",
        "scale-up-on-kv-pressure",
    ]
    assert all(priorities[up] > priorities[name] for up in ups for name in priorities if "down" in name)
