"""A canary is kept or stopped on evidence, looked at all the time, and seldom wrongly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.canary import Canary, Decision, Seen, Terms, Verdict, bounds
from contracts.errors import ConfigError


def judged(canary: float, rest: float, seed: int, terms: Terms | None = None, spells: float = 0.0) -> Verdict:
    """Looks of 50 requests beside 150, until it is settled; with `spells` the share of late ones swings by look."""
    rng, state = np.random.default_rng(seed), Canary(terms or Terms())
    for number in range(1, 2000):
        late, others = 1 - canary, 1 - rest
        if spells:
            late *= rng.gamma(1 / spells, spells)
            others *= rng.gamma(1 / spells, spells)
        good = rng.binomial(50, 1 - min(late, 1.0)), rng.binomial(150, 1 - min(others, 1.0))
        state = state.see(Seen(50, int(good[0]), 150, int(good[1])))
        if number % 5 == 0 and (verdict := state.verdict()).decision is not Decision.CONTINUE:
            break
    return verdict


def share(
    decision: Decision, canary: float, rest: float, *, terms: Terms | None = None, spells: float = 0.0, runs: int = 40
) -> float:
    return float(np.mean([judged(canary, rest, seed, terms, spells).decision is decision for seed in range(runs)]))


def test_one_that_is_as_good_is_kept_and_seldom_stopped() -> None:
    assert share(Decision.KEEP, 0.97, 0.97) >= 0.95
    assert share(Decision.STOP, 0.97, 0.97, terms=Terms(error=0.2)) <= 0.2


def test_one_that_is_worse_by_more_than_the_margin_is_seldom_kept() -> None:
    assert share(Decision.KEEP, 0.945, 0.97, terms=Terms(error=0.2)) <= 0.2
    assert share(Decision.STOP, 0.90, 0.97) >= 0.95


def test_late_requests_in_clumps_do_not_raise_the_errors() -> None:
    terms = Terms(error=0.1, most=10**6)
    assert share(Decision.STOP, 0.97, 0.97, terms=terms, spells=2.0) <= 0.1
    assert share(Decision.KEEP, 0.945, 0.97, terms=terms, spells=2.0) <= 0.1
    assert judged(0.97, 0.97, 1, spells=2.0).clump > 1.5


def test_a_bad_one_is_stopped_within_a_few_hundred_requests() -> None:
    verdict = judged(0.6, 0.97, 3)
    assert verdict.decision is Decision.STOP
    assert verdict.canary_requests <= 250


def test_bounds_hold_at_all_times_at_once() -> None:
    rng, missed = np.random.default_rng(2), 0
    for _ in range(200):
        sums = np.cumsum(rng.random(400) < 0.9)
        looks = [bounds(float(sums[at]), at + 1.0, 0.1) for at in range(0, 400, 10)]
        missed += any(not low <= 0.9 <= high for low, high in looks)
    assert missed / 200 <= 0.1


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.001, 0.5))
def test_bounds_hold_the_share_that_was_seen_and_narrow_with_evidence(good: int, bad: int, error: float) -> None:
    count = good + bad
    low, high = bounds(float(good), float(count), error)
    assert 0 <= low <= (good / count if count else 0.5) <= high <= 1
    more_low, more_high = bounds(good * 4.0, count * 4.0, error)
    assert more_high - more_low <= high - low + 1e-9


def test_before_anything_is_seen_it_goes_on_and_says_so() -> None:
    verdict = Canary().verdict()
    assert verdict.decision is Decision.CONTINUE
    assert (verdict.canary_low, verdict.canary_high) == (0.0, 1.0)


def test_what_is_never_settled_is_stopped() -> None:
    state = Canary(Terms(most=100))
    for _ in range(2):
        state = state.see(Seen(50, 48, 150, 144))
    assert state.verdict().decision is Decision.STOP
    assert "100 requests did not settle it" in state.verdict().explain()


def test_none_is_kept_below_the_least_share_however_the_rest_fares() -> None:
    assert judged(0.8, 0.8, 1, Terms(least_good=0.9)).decision is Decision.STOP
    assert judged(0.8, 0.8, 1, Terms(most=10**6)).decision is Decision.KEEP


def test_terms_that_bound_nothing_are_refused() -> None:
    with pytest.raises(ConfigError, match="terms"):
        Terms(error=0.0)
