"""What was served in time is proven, a little more is tried, and where users waited no more is tried for a while."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.capacity import CapacityModel
from agents.performance.core.proven import HALF_LIFE_S, STEP_RATIO, STRAIN_HALF_LIFE_S, Proven
from agents.performance.core.replicas import ReplicaSeen


def served(rps: float, *, late: float = 0.0, replicas: int = 10, span_s: float = 60.0) -> ReplicaSeen:
    """A window in which a replica served so much, a share of it late."""
    done = rps * span_s
    return ReplicaSeen(span_s, done, rps, 0.0, 0.0, 0.0, done, done * (1.0 - late), replicas=replicas)


def after(proven: Proven, *windows: ReplicaSeen) -> Proven:
    for window in windows:
        proven = proven.seen(window, 0.99, other=False)
    return proven


def test_the_most_that_was_served_in_time_is_proven_and_a_little_more_is_tried() -> None:
    proven = after(Proven(), served(3.0), served(4.0), served(2.0))
    assert proven.rps == pytest.approx(4.0, rel=1e-3)
    assert proven.tried_rps == pytest.approx(4.0 * (1 + STEP_RATIO), rel=1e-3)
    assert not proven.strained


def test_each_step_that_goes_well_allows_the_next() -> None:
    proven = after(Proven(), served(1.0))
    for _ in range(10):
        proven = after(proven, served(proven.tried_rps))
    assert proven.rps > 3.5


def test_where_users_waited_no_more_is_tried_for_half_a_day() -> None:
    proven = after(Proven(), served(4.0), served(4.4, late=0.2), served(4.4, late=0.2))
    assert proven.strained
    assert proven.rps < 4.0
    assert proven.tried_rps == pytest.approx(proven.rps)
    idle = served(0.0, span_s=60.0)
    rested = after(proven, *[idle] * round(2.5 * STRAIN_HALF_LIFE_S / 60))
    assert not rested.strained
    assert rested.tried_rps > 1.1 * rested.rps


def test_replicas_that_were_put_back_are_a_step_too_far() -> None:
    assert after(Proven(), served(4.0)).failed().strained


def test_lateness_at_little_load_is_not_laid_at_the_load() -> None:
    assert not after(Proven(), served(4.0), *[served(1.0, late=0.2)] * 3).strained


def test_a_few_requests_prove_nothing_and_strain_nothing() -> None:
    assert after(Proven(), served(0.04, replicas=1)).rps == 0.0
    assert after(Proven(), served(0.4, replicas=1)).rps == 0.0
    before = after(Proven(), served(0.6, replicas=1))
    assert before.rps == 0.6
    assert not after(before, *[served(0.45, replicas=1, late=0.5)] * 3).strained


def test_one_late_window_is_chance_and_two_in_a_row_are_strain() -> None:
    before, late, well, idle = after(Proven(), served(0.8)), served(0.8, late=0.08), served(0.8), served(0.0)
    assert not after(before, late).strained
    assert not after(before, late, well, late, well).strained
    assert after(before, late, late).strained
    assert after(before, late, idle, late).strained, "a window that tells nothing lies between"


def test_replicas_that_do_half_of_what_they_did_are_found_out_within_minutes() -> None:
    proven = after(Proven(), served(4.0))
    for _ in range(12):
        proven = after(proven, served(2.0, late=0.9))
    assert proven.rps < 1.5
    assert proven.strained
    assert after(proven, served(2.0)).rps == 2.0


def test_it_is_forgotten_by_half_in_four_days_and_at_once_where_requests_are_others() -> None:
    proven = after(Proven(), served(4.0), *[served(0.0)] * (HALF_LIFE_S // 60))
    assert proven.rps == pytest.approx(2.0, rel=1e-6)
    assert proven.seen(served(4.0), 0.99, other=True) == Proven()


def test_until_its_limit_is_seen_a_replica_is_planned_with_what_it_served_in_time() -> None:
    window = served(3.0, replicas=4)
    told = CapacityModel().seen(window, 0.99).estimate()
    assert not told.sure
    assert told.planned_rps == pytest.approx(3.0 * (1 + STEP_RATIO))
    assert told.hoped_rps == told.upper_rps
    strained = CapacityModel().seen(window, 0.99).failed().estimate()
    assert strained.planned_rps == pytest.approx(3.0)
    assert strained.hoped_rps is None


def test_of_a_replica_that_served_nothing_there_is_nothing_to_plan_with() -> None:
    assert CapacityModel().seen(served(0.1, replicas=1), 0.99).estimate().planned_rps is None


@given(st.lists(st.tuples(st.floats(0, 50), st.floats(0, 1), st.integers(1, 40)), max_size=40))
def test_no_more_is_proven_than_was_served_and_no_more_tried_than_a_step(seen: list[tuple[float, float, int]]) -> None:
    proven = after(Proven(), *(served(rps, late=late, replicas=many) for rps, late, many in seen))
    assert 0.0 <= proven.rps <= max((rps for rps, _, _ in seen), default=0.0) * (1 + 1e-9)
    assert 0.0 <= proven.strain <= 1.0
    assert proven.rps <= proven.tried_rps <= proven.rps * (1 + STEP_RATIO)
