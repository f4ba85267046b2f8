"""How soon a dead child is started again: a pure fold over its deaths."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """Wall seconds: double from `first_s` to `longest_s`; begin anew after `healthy_s` alive. `alarm_deaths` deaths
    inside `alarm_within_s` are a crash loop: a person is told, and attempts go on every `slow_s`. Who fell with a
    broker that was away starts again `fell_s` after it answers, and no death is counted."""

    first_s: float = 0.5
    longest_s: float = 10.0
    healthy_s: float = 60.0
    alarm_deaths: int = 5
    alarm_within_s: float = 60.0
    slow_s: float = 30.0
    fell_s: float = 1.0


@dataclass(frozen=True)
class Deaths:
    """What is remembered of a child: deaths in a row, and when the recent ones were (monotonic seconds)."""

    in_a_row: int = 0
    recent_s: tuple[float, ...] = ()
    looping: bool = False


@dataclass(frozen=True)
class Verdict:
    """Wait `delay_s`, then start again; `alarm` is True once per crash loop."""

    delay_s: float
    alarm: bool


def after_death(deaths: Deaths, policy: Backoff, started_s: float, died_s: float) -> tuple[Deaths, Verdict]:
    """Fold in one death of a child that ran from `started_s` to `died_s`.

    >>> deaths, verdict = after_death(Deaths(), Backoff(), 0.0, 1.0)
    >>> verdict.delay_s, after_death(deaths, Backoff(), 1.5, 2.0)[1].delay_s
    (0.5, 1.0)
    """
    if died_s - started_s >= policy.healthy_s:
        deaths = Deaths()
    recent = (*(s for s in deaths.recent_s if died_s - s < policy.alarm_within_s), died_s)
    looping = deaths.looping or len(recent) >= policy.alarm_deaths
    delay_s = policy.slow_s if looping else min(policy.longest_s, policy.first_s * 2.0**deaths.in_a_row)
    return Deaths(deaths.in_a_row + 1, recent, looping), Verdict(delay_s, looping and not deaths.looping)
