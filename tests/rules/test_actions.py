"""Actions that name replicas: engine settings by a finding, shares of requests by a finding, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.errors import ConfigError
from contracts.events import ActionKind, ActionSpec, Alert, CandidateSet, Finding, Message
from rules.core.loader import load_pack
from rules.proving import prove
from tests.rules.builders import CASES, START_MS, WORKLOAD, Workload, pack, pack_text, rule, sli

TRIAL = {"finding": "trial_stage", "at_least": 1, "on_missing": False, "doc": "a trial is wanted"}
CALM = {"sli": "requests_waiting", "window": "latest", "below": 4, "on_missing": False, "doc": "nobody waits"}
UNEVEN = {"finding": "imbalance_ratio", "above": 0.1, "on_missing": False, "doc": "one replica has more than others"}
CONDITIONS = {"trial": TRIAL, "calm": CALM, "uneven": UNEVEN}
SETTINGS = {"max_num_seqs": {"finding": "seqs_wanted", "least": 8, "most": 512}}
TUNE = {"kind": "tune", "replicas_of": "tuning", "settings": SETTINGS}
ROUTE = {"kind": "route", "shares_of": "balance"}
EFFECT = {
    "expect": {"sli": "replicas_up", "window": "latest", "at_least": {"now": "replicas_up", "minus": 0}},
    "by": "120s",
    "guards": [{"sli": "requests_waiting", "window": "10s", "at_most": 4}],
    "settle": "30s",
}


def tuner(**changes: Any) -> dict[str, Any]:
    """A sound rule that gives engine settings to the replicas that a finding names."""
    return rule(**({"all": ["trial", "calm"], "action": TUNE, "effect": EFFECT, "undo": None} | changes))


def router(**changes: Any) -> dict[str, Any]:
    """A sound rule that sets the shares that a finding has."""
    return rule(**({"all": ["uneven"], "action": ROUTE, "effect": EFFECT, "undo": None} | changes))


def found(kind: str, by_replica: dict[str, float], at_s: float = 0.0, **values: float) -> Finding:
    at_ms = START_MS + int(at_s * 1000)
    return Finding(workload=WORKLOAD, kind=kind, at_ms=at_ms, cause_ms=at_ms, values=values, by_replica=by_replica)


def proposed(body: dict[str, Any], *messages: Message) -> ActionSpec | str:
    """What the rule proposes, or why it proposes nothing."""
    told = Workload([pack({"it": body}, CONDITIONS)]).tell(sli(0, requests_waiting=1, replicas_up=3), *messages)
    if specs := [each.candidates[0].spec for each in told if isinstance(each, CandidateSet)]:
        return specs[0]
    return next(each.summary for each in told if isinstance(each, Alert))


def test_a_setting_may_be_none_at_all() -> None:
    tiers = {"kv_disk_gb": {"finding": "disk_gb_wanted", "least": 0, "most": 500}}
    for wanted, given_gb in ((0, 0), (900, 500)):
        told = found("tuning", {"chat-0": 1}, trial_stage=1, disk_gb_wanted=wanted)
        spec = proposed(tuner(action=TUNE | {"settings": tiers}), told)
        assert isinstance(spec, ActionSpec)
        assert spec.settings == {"kv_disk_gb": given_gb}


def test_a_tune_may_say_that_it_restores() -> None:
    for more, expected in (({}, False), ({"restores": True}, True)):
        spec = proposed(tuner(action=TUNE | more), found("tuning", {"chat-0": 1}, trial_stage=1, seqs_wanted=64))
        assert isinstance(spec, ActionSpec)
        assert spec.restores is expected


def test_a_tune_gives_the_settings_found_to_the_replicas_named() -> None:
    spec = proposed(tuner(), found("tuning", {"chat-2": 1, "chat-0": 1, "chat-1": 0}, trial_stage=2, seqs_wanted=256))
    assert isinstance(spec, ActionSpec)
    assert (spec.kind, spec.replicas, spec.settings) == (ActionKind.TUNE, 2, {"max_num_seqs": 256.0})
    assert spec.by_replica == {"chat-0": 1.0, "chat-2": 1.0}


@pytest.mark.parametrize(("wanted", "given_"), [(3, 8), (8, 8), (255.6, 256), (512, 512), (9000, 512)])
def test_a_setting_found_is_rounded_and_kept_within_its_limits(wanted: float, given_: float) -> None:
    spec = proposed(tuner(), found("tuning", {"chat-0": 1}, trial_stage=1, seqs_wanted=wanted))
    assert isinstance(spec, ActionSpec)
    assert spec.settings == {"max_num_seqs": given_}


def test_a_plain_number_is_a_setting_too() -> None:
    body = tuner(action=TUNE | {"settings": {"max_num_seqs": 64}})
    spec = proposed(body, found("tuning", {"chat-0": 1}, trial_stage=1))
    assert isinstance(spec, ActionSpec)
    assert spec.settings == {"max_num_seqs": 64.0}


def test_a_route_sets_the_shares_found_in_sum_one() -> None:
    spec = proposed(router(), found("balance", {"chat-0": 3.0, "chat-1": 1.0}, imbalance_ratio=0.5))
    assert isinstance(spec, ActionSpec)
    assert (spec.kind, spec.replicas, spec.settings) == (ActionKind.ROUTE, 2, {})
    assert spec.by_replica == {"chat-0": 0.75, "chat-1": 0.25}


NOTHING = [
    (tuner(), found("tuning", {}, trial_stage=1, seqs_wanted=64), "the finding tuning names no replicas"),
    (tuner(), found("tuning", {"chat-0": 0}, trial_stage=1, seqs_wanted=64), "the finding tuning names no replicas"),
    (tuner(), found("tuning", {"chat-0": 1}, trial_stage=1), "seqs_wanted (finding) is missing"),
    (router(), found("balance", {}, imbalance_ratio=0.5), "the finding balance names no replicas"),
    (router(), found("balance", {"chat-0": 0.0}, imbalance_ratio=0.5), "the finding balance names no replicas"),
    (router(), found("balance", {"a": 2.0, "b": -1.0}, imbalance_ratio=0.5), "the finding balance names no replicas"),
]


@pytest.mark.parametrize(("body", "finding", "why"), NOTHING, ids=range(len(NOTHING)))
def test_a_finding_that_does_not_say_which_replicas_or_what_makes_the_rule_propose_nothing(
    body: dict[str, Any], finding: Finding, why: str
) -> None:
    said = proposed(body, finding)
    assert isinstance(said, str)
    assert why in said


def test_what_a_finding_says_of_each_replica_is_kept_only_where_a_rule_rests_on_it() -> None:
    condition = {"waiting": UNEVEN}
    workload = Workload([pack({"up": rule()}, condition)])
    workload.tell(found("balance", {"chat-0": 1.0}, imbalance_ratio=0.0))
    assert workload.state is not None
    assert {each.by_replica.get("chat-0") for each in workload.state.watch.evidence.values()} == {None}


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.floats(0.001, 1000), min_size=1, max_size=50))
def test_shares_found_are_always_shares(by_replica: dict[str, float]) -> None:
    spec = proposed(router(), found("balance", by_replica, imbalance_ratio=0.5))
    assert isinstance(spec, ActionSpec)
    assert sum(spec.by_replica.values()) == pytest.approx(1.0)
    assert spec.by_replica.keys() == by_replica.keys()


def refused(body: dict[str, Any]) -> str:
    try:
        load_pack(pack_text({"it": body}, CONDITIONS), "demo.yaml")
    except ConfigError as error:
        return str(error)
    return ""


def queue(**changes: Any) -> dict[str, Any]:
    """A sound rule that lifts the queue at the gateway, without guards: nothing is lost there."""
    action = {"kind": "queue", "settings": {"max_in_flight": 0}} | changes
    told = {name: value for name, value in action.items() if value is not None}
    return rule(all=["calm"], action=told, effect=EFFECT | {"guards": [], "settle": "0s"}, undo=None)


def test_what_is_done_at_a_gateway_is_one_setting_of_one_gateway_and_needs_no_guard() -> None:
    spec = proposed(queue())
    assert isinstance(spec, ActionSpec)
    assert (spec.kind, spec.replicas, spec.settings) == (ActionKind.QUEUE, 1, {"max_in_flight": 0.0})


def without(action: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in action.items() if key != name}


WRONG: list[tuple[dict[str, Any], str]] = [
    (tuner(action=without(TUNE, "settings")), "a tune needs `settings`. As `settings: {max_num_seqs:"),
    (tuner(action=without(TUNE, "replicas_of")), "a tune needs `replicas_of`. As `replicas_of: tuning`"),
    (tuner(action=TUNE | {"replicas": 1}), "a tune has no `replicas`. It has replicas_of and settings."),
    (tuner(action=TUNE | {"shares_of": "balance"}), "a tune has no `shares_of`"),
    (tuner(action=TUNE | {"replicas_of": "tunings"}), "unknown kind of finding 'tunings'. There are sizing, balance"),
    (router(action={"kind": "route"}), "a route needs `shares_of`. As `shares_of: balance`"),
    (router(action=ROUTE | {"settings": SETTINGS}), "a route has no `settings`. It has shares_of."),
    (rule(action={"kind": "scale_up"}, all=["uneven"]), "a scale_up needs `replicas`. As `replicas: 1`."),
    (
        tuner(action=TUNE | {"settings": {"max_num_seqs": {"finding": "seqs_wanted"}}}),
        "a setting that is worked out needs `finding`, `least` and `most`. Or write a plain number.",
    ),
    (
        tuner(action=TUNE | {"settings": {"max_num_seqs": {"finding": "seqs_wanted", "least": 9, "most": 8}}}),
        "most 8 is below least 9. Put them in order.",
    ),
    (
        tuner(action=TUNE | {"settings": {"max_num_seqs": {"exactly": 3, "least": 2}}}),
        "a fixed setting is not worked out as well. Keep the number, or the finding.",
    ),
    (
        tuner(undo={"guards": EFFECT["guards"]}),
        "the undo of this action sets back what was before and is always allowed. Remove `undo`.",
    ),
    (tuner(effect=EFFECT | {"guards": []}), "an action that takes capacity is tried before it is final. Add `guards`"),
    (router(effect=EFFECT | {"settle": "0s"}), "an action that moves requests is tried before it is final"),
    (tuner(all=["trial"]), "rule 'it' takes capacity on what an agent finds alone"),
    (queue(settings=None), "a queue needs `settings`. As `settings:"),
    (queue(settings={"breaker_s": 9}), "a queue sets max_in_flight alone. As `settings: {max_in_flight: 0}`."),
    (queue(replicas=2), "a queue has no `replicas`. It has settings."),
    (tuner(action=TUNE | {"settings": {"max_num_seqs": 0}}), "an engine setting is a number above 0."),
]


@pytest.mark.parametrize(("body", "said"), WRONG, ids=[said[:40] for _, said in WRONG])
def test_an_action_that_cannot_be_is_refused_with_its_line_and_the_edit_that_mends_it(
    body: dict[str, Any], said: str
) -> None:
    told = refused(body)
    assert said in told
    assert all(line.startswith("demo.yaml:") for line in told.splitlines())


def test_a_route_may_rest_on_what_an_agent_finds_alone() -> None:
    assert refused(router()) == ""


def test_tests_of_rules_name_replicas_and_expect_settings_and_shares() -> None:
    first = {
        "at": "0s",
        "values": {"trial_stage": 1, "seqs_wanted": 64, "requests_waiting": 0, "replicas_up": 2},
        "by_replica": {"tuning": {"chat-1": 1}},
    }
    expect = {"fires_at": "0s", "replicas": 1, "settings": {"max_num_seqs": 64}, "by_replica": {"chat-1": 1}}
    good = {"given": [first], "until": "2s", "expect": expect}
    bad = {"given": [first], "until": "2s", "expect": {"fires_at": "0s", "settings": {"max_num_seqs": 65}}}
    results = {
        each.test: each for each in prove(pack({"it": tuner(tests=CASES | {"good": good, "bad": bad})}, CONDITIONS))
    }
    assert results["good"].passed
    assert not results["bad"].passed
    assert "fires at 0s, settings: {'max_num_seqs': 64.0}" in results["bad"].detail[0]


def test_replicas_are_named_when_such_a_finding_is_told() -> None:
    late = {"at": "5s", "values": {"requests_waiting": 0}, "by_replica": {"tuning": {"chat-1": 1}}}
    body = tuner(tests=CASES | {"late": {"given": [late], "until": "9s", "expect": {"fires": "never"}}})
    assert "'by_replica of tuning' changes at 5s, where no such finding is told" in refused(body)
