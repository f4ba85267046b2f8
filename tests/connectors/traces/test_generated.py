"""Generated traffic: as many requests as asked for, with the waves and bursts asked for, and labelled as drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from connectors.traces import reading
from connectors.traces.generated import DAY_S, Profile, Surge, arrivals
from contracts.errors import ConfigError

CALM = Profile(mean_rps=20, day_ratio=0.0, week_ratio=0.0, drift_ratio=0.0, bursts_per_day=0.0, gap_cv=1.0)


def test_a_calm_profile_is_poisson_at_its_mean() -> None:
    counts = arrivals(CALM, DAY_S, 1).per_second
    assert counts.mean() == pytest.approx(20, rel=0.01)
    assert counts.var() == pytest.approx(20, rel=0.05)


def test_gaps_that_vary_more_make_counts_that_vary_more() -> None:
    counts = arrivals(replace(CALM, gap_cv=3.0), DAY_S, 1).per_second
    assert counts.mean() == pytest.approx(20, rel=0.03)
    assert counts.var() == pytest.approx(9 * 20, rel=0.1)


def test_the_day_has_its_top_at_its_hour() -> None:
    hours = arrivals(replace(CALM, day_ratio=0.5, peak_h=15.0), DAY_S, 1).per_second.reshape(24, -1).mean(axis=1)
    assert int(np.argmax(hours)) in (14, 15)
    assert hours.max() / hours.mean() == pytest.approx(1.5, rel=0.05)


def test_bursts_come_as_often_and_as_high_as_asked_for() -> None:
    profile = replace(CALM, mean_rps=400.0, bursts_per_day=24.0, burst_s=60.0, burst_ratio=4.0)
    high = arrivals(profile, 10 * DAY_S, 1).per_second > 1000
    assert high.mean() == pytest.approx(24 * 60 / DAY_S, rel=0.4)


def test_the_same_seed_repeats_and_the_label_says_that_all_is_drawn() -> None:
    first, again, other = (arrivals(Profile(), 7200, seed) for seed in (1, 1, 2))
    assert (first.per_second == again.per_second).all()
    assert (first.per_second != other.per_second).any()
    assert first.generated.startswith("everything")


def test_the_word_generated_is_a_trace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert len(reading.load(Path("generated"), None, 0).per_second) == 14 * DAY_S


@pytest.mark.parametrize("wrong", [{"mean_rps": 0.0}, {"gap_cv": -1.0}, {"day_ratio": 0.9, "week_ratio": 0.2}])
def test_a_profile_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Profile(**wrong)


def test_a_surge_multiplies_the_rate_while_it_lasts_and_ramps_to_it_and_back() -> None:
    surge = Surge(begin_s=7200, length_s=3600, ratio=3.0, ramp_s=600)
    calm, surged = (arrivals(CALM, 4 * 3600, 1, surges=each).per_second for each in ((), (surge,)))
    assert (calm[:7200] == surged[:7200]).all()
    assert surged[7800:10800].mean() == pytest.approx(60, rel=0.02)
    assert surged[7200:7800].mean() == pytest.approx(40, rel=0.05)
    assert surged[11400:].mean() == pytest.approx(20, rel=0.03)


def test_a_launch_stays() -> None:
    launch = Surge(begin_s=3600, length_s=DAY_S, ratio=4.0)
    assert arrivals(CALM, 2 * 3600, 1, surges=(launch,)).per_second[3601:].mean() == pytest.approx(80, rel=0.02)


@pytest.mark.parametrize("wrong", [{"ratio": 0.0}, {"length_s": 0}, {"ramp_s": -1}])
def test_a_surge_that_cannot_be_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        Surge(**{"begin_s": 0, "length_s": 60, "ratio": 2.0} | wrong)  # type: ignore[arg-type]
