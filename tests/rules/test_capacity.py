"""An action that takes capacity never rests on missing data: what the language refuses, and what it still allows."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.errors import ConfigError
from rules.core.loader import load_pack
from tests.rules.builders import down, pack_text, rule


def condition(sli: str, window: str, on_missing: object, **more: Any) -> dict[str, Any]:
    return {"sli": sli, "window": window, "on_missing": on_missing, "doc": "d"} | (more or {"below": 6})


SLACK = condition("load_per_replica", "60s", False)
BURNING = condition("ttft_burn_rate", "60s", False, above=1)


def told(rules: dict[str, Any], conditions: dict[str, Any]) -> str:
    """What is refused; empty when nothing is."""
    try:
        load_pack(pack_text(rules, conditions), "demo.yaml")
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("on_missing", [True, "keep"])
@pytest.mark.parametrize("part", ["all", "any"])
def test_no_condition_that_may_hold_on_missing_data_takes_capacity(part: str, on_missing: object) -> None:
    body = down(**({"all": None, "any": ["slack"]} if part == "any" else {"all": ["slack"]}))
    said = told({"less": body}, {"slack": SLACK | {"on_missing": on_missing}})
    assert "'slack' may hold while its value is missing, and this rule takes capacity" in said
    assert told({"less": body}, {"slack": SLACK}) == ""


@pytest.mark.parametrize("on_missing", [True, "keep"])
def test_capacity_may_be_added_on_missing_data(on_missing: object) -> None:
    assert told({"more": rule(all=["slack"])}, {"slack": SLACK | {"on_missing": on_missing}}) == ""


@pytest.mark.parametrize(
    ("forbids", "allowed"),
    [
        (condition("requests_waiting", "latest", True, above=2), True),
        (condition("requests_waiting", "latest", False, above=2), False),
        (condition("requests_waiting", "60s", False, above=2), False),
        (condition("stalled", "60s", False, at_least=1), False),
        (condition("requests_waiting", "latest", "keep", above=2), False),
        (BURNING, True),
        (BURNING | {"window": "10s"}, False),
        (BURNING | {"on_missing": "keep"}, False),
        (BURNING | {"on_missing": True, "window": "10s"}, True),
        (BURNING | {"on_missing": True, "for": "10s"}, False),
        (condition("error_ratio", "60s", False, above=0.1), True),
    ],
)
def test_doubt_forbids_save_where_silence_is_idleness(forbids: dict[str, Any], allowed: bool) -> None:
    said = told({"less": down(all=["slack"], none=["held"])}, {"slack": SLACK, "held": forbids})
    assert ("demo.yaml" not in said) is allowed, said


@pytest.mark.parametrize(
    "instead",
    [
        {"above": 6, "below": None},  # a bound from below says nothing of idleness
        {"sli": "replicas_up"},
        {"window": "10s"},
    ],
)
def test_only_little_load_over_the_same_window_shows_idleness(instead: dict[str, Any]) -> None:
    slack = {name: value for name, value in (SLACK | instead).items() if value is not None}
    said = told({"less": down(all=["slack"], none=["held"])}, {"slack": slack, "held": BURNING})
    assert "'held' may not hold while its value is missing, and this rule takes capacity" in said
    assert "Or `on_missing: false` beside a condition in `all` that bounds" in said


def test_load_in_any_shows_nothing_of_idleness() -> None:
    low = condition("replicas_up", "latest", False, above=1)
    body = down(all=["low"], any=["slack", "quiet"], none=["held"])
    conditions = {"low": low, "slack": SLACK, "quiet": low | {"above": 2}, "held": BURNING}
    assert "'held' may not hold while its value is missing" in told({"less": body}, conditions)


def test_what_takes_capacity_is_tried_before_it_is_final() -> None:
    effect = {"expect": {"sli": "replicas_up", "window": "latest", "at_most": 5}, "by": "60s"}
    said = told({"less": down(all=["slack"], effect=effect)}, {"slack": SLACK})
    assert "an action that takes capacity is tried before it is final" in said


def test_an_undo_that_gives_capacity_back_has_no_guards() -> None:
    undo = {"guards": [{"sli": "requests_waiting", "window": "latest", "at_most": 1}]}
    assert "Remove `undo`." in told({"less": down(all=["slack"], undo=undo)}, {"slack": SLACK})


def trying(by: str, settle: str, *windows: str) -> dict[str, Any]:
    guards = [{"sli": "requests_waiting", "window": window, "at_most": 1} for window in windows]
    expect = {"sli": "replicas_up", "window": "latest", "at_most": 5}
    return {"expect": expect, "by": by, "settle": settle, "guards": guards}


def line_of(text: bytes, word: str) -> int:
    return next(n for n, line in enumerate(text.decode().splitlines(), 1) if word in line)


@pytest.mark.parametrize(
    ("windows", "allowed"),
    [(("latest",), True), (("60s", "latest"), True), (("60s",), False), (("10s", "300s"), False)],
)
def test_what_takes_capacity_has_a_guard_that_sees_at_once_what_it_does(
    windows: tuple[str, ...], allowed: bool
) -> None:
    rules = {"less": down(all=["slack"], effect=trying("900s", "10s", *windows))}
    said = told(rules, {"slack": SLACK})
    line = line_of(pack_text(rules, {"slack": SLACK}), "guards:")
    wanted = f"demo.yaml:{line}: an action that takes capacity has no guard that sees it at once. Add one with"
    assert said.startswith(wanted) if not allowed else said == ""


@pytest.mark.parametrize(
    ("by", "settle", "windows", "said"),
    [
        ("31s", "30s", ("latest",), ""),
        ("30s", "30s", ("latest",), "by 30s leaves no time for settle 30s: it could never end well. Make `by` longer"),
        ("240s", "300s", ("latest",), "by 240s leaves no time for settle 300s"),
        ("91s", "30s", ("latest", "60s"), ""),
        ("90s", "30s", ("latest", "60s"), "by 90s leaves no time for settle 30s and a guard over 60s: it could"),
        ("330s", "30s", ("300s", "latest", "10s"), "and a guard over 300s: it could never end well. Make `by` longer"),
    ],
)
def test_a_trial_that_could_never_end_well_is_refused(
    by: str, settle: str, windows: tuple[str, ...], said: str
) -> None:
    rules = {"less": down(all=["slack"], effect=trying(by, settle, *windows))}
    found = told(rules, {"slack": SLACK})
    if not said:
        assert found == ""
    else:
        assert found.startswith(f"demo.yaml:{line_of(pack_text(rules, {'slack': SLACK}), 'by:')}: by {by} leaves")
        assert said in found
