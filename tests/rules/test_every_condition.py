"""Stage `rules` works out little of conditions that are off; what comes of it is as if each had been asked."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.laws.bounds import Comparator
from rules.core.conditions import Standing, holds, stands, still_fresh
from rules.core.fold import RuleSettings, WatchState, look
from rules.core.ruleset import make_ruleset
from tests.rules.builders import pack, random_log, rule

SETTINGS = RuleSettings()

_LATEST = {"sli": "load_per_replica", "window": "latest", "doc": "d"}
_CONDITIONS = {
    "busy": _LATEST | {"above": 14, "until": 9, "on_missing": "keep"},
    "calm": _LATEST | {"below": 6, "until": 8, "on_missing": False},
    "long": _LATEST | {"window": "10s", "at_least": 8, "for": "25s", "on_missing": False},
    "burnt": {"sli": "ttft_burn_rate", "window": "60s", "above": 1, "on_missing": True, "doc": "d"},
    "never": {"sli": "ttft_burn_rate", "window": "300s", "above": 1, "on_missing": True, "doc": "d"},
    "silent": {"sli": "ttft_burn_rate", "window": "300s", "at_most": 1, "on_missing": False, "doc": "d"},
    "short": {"finding": "replicas_short", "above": 0, "on_missing": "keep", "doc": "d"},
}
RULES = make_ruleset([pack({"up": rule(any=["never"], all=list(_CONDITIONS)[:1])}, _CONDITIONS)])


def asked(before: WatchState, after: WatchState) -> dict[str, Standing]:
    """Every condition that is on, each asked for itself."""
    current = still_fresh(after.evidence, after.at_ms, SETTINGS.max_age_s)
    gap = after.at_ms - before.at_ms > SETTINGS.max_age_s * 1000
    on: dict[str, Standing] = {}
    for condition in RULES.conditions:
        was = Standing() if gap else before.conditions.get(condition.memory, Standing())
        reading = current.get(condition.bound.size_s)
        value = None if reading is None else reading.value(condition.bound.sli)
        standing = stands(condition, was, value, at_ms=after.at_ms, before_ms=before.at_ms)
        if standing.on:
            on[condition.memory] = standing
    return on


@settings(max_examples=20, deadline=None)
@given(st.integers(min_value=0, max_value=2**32))
def test_a_moment_knows_every_condition_as_if_each_had_been_asked(seed: int) -> None:
    watch: WatchState | None = None
    for message in random_log(seed):
        before, (watch, moment) = watch, look(RULES, SETTINGS, watch, message)
        if before is None or watch is None or watch is before or before.tick_ms is None:
            continue  # the first tick may begin the workload anew
        assert watch.conditions == asked(before, watch)
        if moment is not None:
            on = {each.key: watch.conditions.get(each.memory, Standing()) for each in RULES.conditions}
            assert moment.facts == {each.key: holds(each, on[each.key], watch.at_ms) for each in RULES.conditions}


@given(st.sampled_from(Comparator), st.floats(), st.floats())
def test_a_comparison_with_one_bound_answers_as_the_comparison_does(
    how: Comparator, value: float, bound: float
) -> None:
    assert how.against(bound)(value) == how.compare(value, bound)
