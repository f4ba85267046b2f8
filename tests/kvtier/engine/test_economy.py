"""What is written a day has a bound."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvtier.engine.economy import Wear


@given(st.lists(st.tuples(st.integers(1, 10_000), st.floats(-100, 10_000)), max_size=100))
def test_no_more_is_spent_than_an_hour_in_hand_and_what_time_brought(spends: list[tuple[int, float]]) -> None:
    wear, now_s, most_s, spent = Wear(24 * 36_000, 0.0), 0.0, 0.0, 0
    for size, step_s in spends:
        now_s += step_s
        forward_s = max(now_s, most_s) - most_s
        most_s += forward_s
        spent += size if wear.spend(size, now_s) else 0
    walked_s = sum(max(0.0, step_s) for _, step_s in spends)
    assert spent <= 36_000 + 10.0 * walked_s + 1e-6


def test_without_a_budget_all_may_be_written() -> None:
    assert Wear(None, 0.0).spend(1 << 60, 0.0)
