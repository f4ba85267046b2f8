"""Back-off: doubling up to a bound, begun anew after health, slow and told once in a crash loop."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from optiinfra.backoff import Backoff, Deaths, after_death

POLICY = Backoff()


def delays(lives: list[tuple[float, float]]) -> list[tuple[float, bool]]:
    deaths, told = Deaths(), []
    for started_s, died_s in lives:
        deaths, verdict = after_death(deaths, POLICY, started_s, died_s)
        told.append((verdict.delay_s, verdict.alarm))
    return told


def test_delays_double_up_to_ten_seconds() -> None:
    lives = [(i * 100.0, i * 100.0 + 1) for i in range(7)]
    assert [delay for delay, _ in delays(lives)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_minute_of_health_begins_anew() -> None:
    assert delays([(0, 1), (2, 3), (5, 66)])[-1] == (0.5, False)


def test_five_deaths_in_a_minute_are_told_once_and_slow_down() -> None:
    told = delays([(float(i), i + 0.5) for i in range(8)])
    assert [alarm for _, alarm in told] == [False] * 4 + [True] + [False] * 3
    assert all(delay == POLICY.slow_s for delay, _ in told[4:])


@given(st.lists(st.floats(0.01, 500), max_size=30))
def test_every_death_is_followed_by_another_attempt(lifetimes_s: list[float]) -> None:
    lives, now_s = [], 0.0
    for life_s in lifetimes_s:
        lives.append((now_s, now_s + life_s))
        now_s += life_s + 1
    assert all(0 < delay <= POLICY.slow_s for delay, _ in delays(lives))
