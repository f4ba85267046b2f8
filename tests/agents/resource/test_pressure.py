"""The pressure score: what it weighs, that more of anything never lowers it, and that unknown is not zero."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.resource.core.pressure import Level, Pressure, Signs, pressure_of

shares = st.floats(min_value=0.0, max_value=1.0)
maybe = st.none() | shares
signs = st.builds(Signs, kv_p95_ratio=shares, preempted_ratio=maybe, failures_per_s=maybe, truncated_ratio=maybe)
NAMES = ("kv_p95_ratio", "preempted_ratio", "failures_per_s", "truncated_ratio")
CALM = Signs(kv_p95_ratio=0.0, preempted_ratio=0.0, failures_per_s=0.0, truncated_ratio=0.0)


def scored(told: Signs) -> Pressure:
    found = pressure_of(told)
    assert found is not None
    return found


def test_a_calm_workload_has_no_points_and_one_with_everything_has_all() -> None:
    assert scored(CALM).score == 0
    assert scored(Signs(1.0, 0.1, 0.1, 0.25)).score == pytest.approx(100)


@pytest.mark.parametrize(
    ("kv", "preempted", "level"),
    [(0.7, 0.0, Level.LOW), (0.85, 0.0, Level.MEDIUM), (0.96, 0.02, Level.HIGH), (0.99, 0.1, Level.CRITICAL)],
)
def test_the_levels_follow_the_kv_cache_and_preemptions(kv: float, preempted: float, level: Level) -> None:
    assert scored(Signs(kv_p95_ratio=kv, preempted_ratio=preempted, truncated_ratio=0.0)).level is level


@pytest.mark.parametrize(
    ("score", "level"), [(39.9, Level.LOW), (40, Level.MEDIUM), (60, Level.HIGH), (80, Level.CRITICAL)]
)
def test_levels_begin_at_40_60_and_80_points(score: float, level: Level) -> None:
    assert Pressure(score, {}, 1.0, ()).level is level


def test_without_the_kv_cache_there_is_no_score() -> None:
    assert pressure_of(Signs(preempted_ratio=0.5, failures_per_s=1.0, truncated_ratio=1.0)) is None


@given(signs, st.sampled_from(NAMES), shares)
def test_more_of_anything_never_lowers_the_score(told: Signs, name: str, more: float) -> None:
    before = getattr(told, name)
    if before is not None:
        assert scored(replace(told, **{name: max(before, more)})).score >= scored(told).score - 1e-9


@given(signs, st.sampled_from(NAMES[1:]))
def test_a_term_that_nobody_told_is_left_out_and_said(told: Signs, name: str) -> None:
    found = scored(replace(told, **{name: None}))
    term = {"preempted_ratio": "preemption", "failures_per_s": "allocation", "truncated_ratio": "truncation"}[name]
    assert term in found.unknown
    assert term not in found.points
    assert term in found.explain().partition("left out")[2]


@given(signs, st.sampled_from(NAMES[1:]))
def test_unknown_is_never_counted_as_zero(told: Signs, name: str) -> None:
    unknown, zero = scored(replace(told, **{name: None})), scored(replace(told, **{name: 0.0}))
    assert unknown.score >= zero.score - 1e-9
    assert unknown.score > zero.score or zero.score in (0.0, unknown.score)
    if zero.score > 1e-6:
        assert unknown.score > zero.score


@given(signs)
def test_the_points_add_up_to_the_score_and_stand_in_values_and_words(told: Signs) -> None:
    found = scored(told)
    assert sum(found.points.values()) == pytest.approx(found.score)
    values = found.values()
    assert all(values[f"pressure_{term}_points"] == points for term, points in found.points.items())
    assert all(f"{term} {points:.1f}" in found.explain() for term, points in found.points.items())
    assert 0 <= values["pressure_score"] <= 100
    assert 0 < values["pressure_known_ratio"] <= 1
