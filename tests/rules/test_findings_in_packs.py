"""Findings in the rule language: what a pack may say of them, what it may not, and what its tests make of them."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import ConfigError
from contracts.laws.bounds import Bound, Comparator
from rules.core.loader import load_pack
from rules.proving import prove
from tests.rules.builders import CASES, WAITING, down, pack, pack_text, rule

SHORT = {"finding": "replicas_short", "above": 0, "on_missing": False, "doc": "too few"}
SPARE = {"finding": "replicas_spare", "at_least": 1, "on_missing": False, "doc": "too many"}
SLACK = {"sli": "load_per_replica", "window": "60s", "below": 6, "on_missing": False, "doc": "little to do"}
SIZED = {"finding": "replicas_wanted", "at_least": 0, "on_missing": False, "doc": "somebody sizes"}


def told(rules: dict[str, Any] | None = None, conditions: dict[str, Any] | None = None) -> str:
    """What is refused; empty when nothing is."""
    try:
        load_pack(pack_text(rules, conditions), "demo.yaml")
    except ConfigError as error:
        return str(error)
    return ""


def test_a_condition_on_a_finding_is_a_bound_over_what_the_finding_speaks_for() -> None:
    found = pack(conditions={"waiting": SHORT}).conditions["waiting"]
    assert found.bound == Bound(sli="replicas_short", size_s=15, comparator=Comparator.GT, value=0)


def test_the_bound_of_a_finding_is_told_without_a_window() -> None:
    bound = pack(conditions={"waiting": SHORT | {"at_least": 1, "above": None}}).conditions["waiting"].bound
    assert (str(bound), bound.subject) == ("replicas_short ≥ 1", "replicas_short")
    assert str(bound.model_copy(update={"sli": "ttft_burn_rate", "size_s": 10})) == "ttft_burn_rate over 10 s ≥ 1"


@pytest.mark.parametrize(
    ("sli", "comparator", "value", "asks"),
    [
        ("replicas_wanted", Comparator.GE, 0, True),
        ("replicas_wanted", Comparator.GE, 1, False),
        ("replicas_wanted", Comparator.GT, 0, False),
        ("replicas_wanted", Comparator.LE, 0, False),
        ("requests_waiting", Comparator.GE, 0, False),
    ],
)
def test_only_a_bound_that_every_finding_meets_asks_whether_there_is_one(
    sli: str, comparator: Comparator, value: float, asks: bool
) -> None:
    assert Bound(sli=sli, size_s=15, comparator=comparator, value=value).asks_presence is asks


CONDITIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"finding": "replica_short"},
        "unknown finding 'replica_short'. Did you mean 'replicas_short'? See optiinfra catalog findings.",
    ),
    ({"window": "latest"}, "the finding 'replicas_short' has no windows. Leave `window` out."),
    ({"window": "60s"}, "the finding 'replicas_short' has no windows. Leave `window` out."),
    ({"sli": "replicas_up"}, "an SLI and a finding are two things to look at. Keep `sli` or `finding`."),
    ({"finding": None}, "it looks at nothing. Write `sli` and `window`, or `finding`."),
    ({"finding": "replicas_up"}, "'replicas_up' is an SLI, not a number of a finding. Write `sli: replicas_up`"),
    (
        {"finding": None, "sli": "replicas_short", "window": "latest"},
        "'replicas_short' is a number of a finding, not an SLI. Write `finding: replicas_short`, without a window.",
    ),
    ({"finding": None, "sli": "replicas_up"}, "nothing says over which window 'replicas_up' is. Add `window`: latest"),
    ({"on_missing": None}, "field 'on_missing' is missing"),
]


@pytest.mark.parametrize(("change", "said"), CONDITIONS, ids=[said[:40] for _, said in CONDITIONS])
def test_a_condition_that_cannot_be_is_refused_with_the_edit_that_mends_it(change: dict[str, Any], said: str) -> None:
    body = {name: value for name, value in (SHORT | change).items() if value is not None}
    assert said in told(conditions={"waiting": body})


def effect(**changes: Any) -> dict[str, Any]:
    return {"effect": {"expect": {"sli": "replicas_up", "window": "latest", "at_least": 1}, "by": "60s"} | changes}


def by(**fields: Any) -> dict[str, Any]:
    return effect(by={"finding": "startup_s", "least": "60s", "most": "600s"} | fields)


SHORTFALL = {"finding": "replicas_short", "at_most": 0}
RULES: list[tuple[dict[str, Any], str]] = [
    (effect(expect=SHORTFALL), "an effect does not rest on a finding. What verifies or guards an action is an SLI"),
    (effect(goal=SHORTFALL), "an effect does not rest on a finding"),
    (effect(guards=[SHORTFALL]), "an effect does not rest on a finding"),
    ({"undo": {"guards": [SHORTFALL]}}, "an effect does not rest on a finding"),
    (effect(goal={"sli": "replicas_short", "window": "latest", "at_most": 0}), "never what an agent thinks of it"),
    (
        effect(expect={"sli": "replicas_up", "window": "latest", "at_least": {"now": "replicas_wanted", "plus": 1}}),
        "'replicas_wanted' is a number of a finding",
    ),
    (by(finding="startup"), "unknown finding 'startup'. Did you mean 'startup_s'?"),
    (by(finding="replicas_short"), "'replicas_short' is no time: its unit is replicas. There is startup_s, kv_above_s"),
    (by(most="30s"), "least, on_missing and most do not rise. Put them in order."),
    (by(on_missing="20s"), "least, on_missing and most do not rise"),
    (by(exactly="20s"), "a fixed time is not worked out as well. Keep the duration, or the finding."),
    (by(least=None), "a time that is worked out needs `finding`, `least` and `most`. Or write a duration."),
    (by(plus=60), "60 is no duration. Write a number and its unit"),
    (by(times=0), "times: input should be greater than 0"),
    (
        {"action": {"kind": "scale_up", "replicas": {"finding": "replicas_short"}}},
        "a number that is worked out needs `sli` and `most`",
    ),
    (
        {"action": {"kind": "scale_up", "replicas": {"finding": "replicas_short", "window": "10s", "most": 5}}},
        "the finding 'replicas_short' has no windows",
    ),
    (
        {"action": {"kind": "scale_up", "replicas": {"finding": "replicas_short", "most": 5, "share": 0}}},
        "share: input should be greater than 0",
    ),
]


@pytest.mark.parametrize(("change", "said"), RULES, ids=[f"{n}: {said[:40]}" for n, (_, said) in enumerate(RULES)])
def test_a_rule_that_cannot_be_is_refused_with_its_line(change: dict[str, Any], said: str) -> None:
    found = told({"up": rule(**change)})
    assert said in found
    assert all(line.startswith("demo.yaml:") for line in found.splitlines())


@pytest.mark.parametrize(("least", "refused"), [("31s", False), ("30s", True)])
def test_even_the_shortest_time_for_a_trial_must_let_it_end_well(least: str, refused: bool) -> None:
    guards = [{"sli": "requests_waiting", "window": "latest", "at_most": 1}]
    body = down(all=["slack"], **by(least=least, times=9) | {})
    body["effect"] |= {"guards": guards, "settle": "30s"}
    assert ("by 30s leaves no time for settle 30s" in told({"less": body}, {"slack": SLACK})) is refused


@pytest.mark.parametrize("on_missing", [True, "keep"])
@pytest.mark.parametrize("part", ["all", "any"])
def test_no_finding_that_may_hold_while_it_is_missing_takes_capacity(part: str, on_missing: object) -> None:
    body = down(**({"all": ["slack", "spare"]} if part == "all" else {"all": ["slack"], "any": ["spare"]}))
    conditions = {"slack": SLACK, "spare": SPARE}
    assert told({"less": body}, conditions) == ""
    said = told({"less": body}, conditions | {"spare": SPARE | {"on_missing": on_missing}})
    assert "'spare' may hold while its value is missing, and this rule takes capacity" in said


@pytest.mark.parametrize(
    ("forbids", "allowed"),
    [
        (SHORT | {"on_missing": True}, True),
        (SHORT, False),
        (SHORT | {"on_missing": "keep"}, False),
        (SHORT | {"on_missing": True, "for": "20s"}, False),
        (SIZED, True),
        (SIZED | {"at_least": 1}, False),
        (SIZED | {"on_missing": "keep"}, False),
        (SIZED | {"for": "20s"}, False),
    ],
)
def test_doubt_about_a_finding_forbids_save_where_it_is_asked_only_whether_there_is_one(
    forbids: dict[str, Any], allowed: bool
) -> None:
    said = told({"less": down(all=["slack"], none=["held"])}, {"slack": SLACK, "held": forbids})
    assert (said == "") is allowed, said


def test_what_may_be_asked_instead_is_told() -> None:
    said = told({"less": down(all=["slack"], none=["held"])}, {"slack": SLACK, "held": SHORT})
    assert "Or ask only whether it is there: `at_least: 0` and `on_missing: false`." in said


@pytest.mark.parametrize("parts", [{"all": ["spare"]}, {"all": None, "any": ["spare"]}, {"all": ["spare", "sized"]}])
def test_capacity_is_never_taken_on_what_an_agent_finds_alone(parts: dict[str, Any]) -> None:
    conditions = {"spare": SPARE, "sized": SIZED, "slack": SLACK}
    said = told({"less": down(**parts)}, conditions)
    assert "rule 'less' takes capacity on what an agent finds alone. Add a condition on an SLI to `all`" in said
    assert told({"less": down(**parts | {"all": [*(parts["all"] or ()), "slack"]})}, conditions) == ""
    assert told({"more": rule(**parts)}, conditions) == "", "adding capacity may rest on it"


def case(expect: dict[str, Any], *given: dict[str, Any]) -> dict[str, Any]:
    return {"given": list(given), "until": "120s", "expect": expect}


def results(cases: dict[str, Any], condition: dict[str, Any]) -> list[tuple[str, bool, tuple[str, ...]]]:
    found = prove(pack({"up": rule(tests=CASES | cases)}, {"waiting": condition}))
    return [(each.test, each.passed, each.detail) for each in found if each.test in cases]


def test_tests_of_rules_give_findings_by_their_bare_names() -> None:
    first, later = {"at": "0s", "values": {"replicas_short": 0}}, {"at": "45s", "values": {"replicas_short": 2}}
    assert results({"one": case({"fires_at": "45s"}, first, later)}, SHORT) == [
        ("one", True, ("expected at 45s, fires at 45s",))
    ]


def test_a_finding_without_a_number_is_told_no_more_and_its_last_word_grows_old() -> None:
    missing = SHORT | {"above": 5, "on_missing": True}
    first = {"at": "0s", "values": {"replicas_short": 1, "replicas_wanted": 4}}
    gone = {"at": "15s", "values": {"replicas_short": None, "replicas_wanted": None}}
    some = {"at": "15s", "values": {"replicas_short": None}}
    assert [passed for _, passed, _ in results({"gone": case({"fires_at": "46s"}, first, gone)}, missing)] == [True]
    assert [passed for _, passed, _ in results({"some": case({"fires_at": "15s"}, first, some)}, missing)] == [True]


def test_a_test_that_fails_names_the_finding() -> None:
    given = {"at": "0s", "values": {"replicas_short": 0}}
    ((_, passed, detail),) = results({"one": case({"fires_at": "15s"}, given)}, SHORT)
    assert (passed, detail[1]) == (False, "waiting: replicas_short is 0, needs > 0")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"at": "10s", "values": {"replicas_short": 1}},
            "'replicas_short' changes at 10s, where no such finding is told. Such findings are told at 0s, 15s, 30s",
        ),
        ({"at": "0s", "values": {"replicas_short@60s": 1}}, "the finding 'replicas_short' has no windows. Write"),
        ({"at": "0s", "values": {"replica_short": 1}}, "Did you mean 'replicas_short'? See optiinfra catalog slis and"),
    ],
)
def test_a_test_that_cannot_be_is_refused(given: dict[str, Any], said: str) -> None:
    cases = CASES | {"one": case({"fires": "never"}, given)}
    assert said in told({"up": rule(tests=cases)}, {"waiting": WAITING})
