"""What is held in memory keeps replicas: none is spare whose part of the KV cache the others have no room for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.performance.core.holding import CALM_RATIO, held, least
from contracts.events import Finding, SliValue
from tests.agents.performance.sizing_desk import LEARNT_S, Sizer, window
from tests.agents.performance.test_sizing_unsure import unsure


def calm(**more: Any) -> Finding:
    """Four replicas after the load has fallen to an eighth, which one could serve."""
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    return sizer.goes_on(1500, 1.0, **more)[-1]


def test_where_engines_tell_no_use_the_load_alone_decides() -> None:
    told = calm()
    assert (told.value("replicas_spare"), told.value("replicas_wanted")) == (3, 1)
    assert "KV cache" not in told.words


@pytest.mark.parametrize(
    ("use", "spare", "wanted"), [(0.1, 3, 1), (0.37, 2, 2), (0.38, 1, 3), (0.56, 1, 3), (0.57, 0, 4), (0.9, 0, 4)]
)
def test_no_more_is_spare_than_leaves_room_for_what_is_held(use: float, spare: int, wanted: int) -> None:
    told = calm(kv_cache_usage_ratio=use)
    assert (told.value("replicas_spare"), told.value("replicas_wanted")) == (spare, wanted)
    assert ("the KV cache is" in told.words) == (spare < 3)


def test_a_fleet_of_three_that_memory_made_one_of_four_stays_one() -> None:
    """At 85 % in use on three a fourth was asked for; on four it is 64 %, and a load for which one would do."""
    assert calm(kv_cache_usage_ratio=0.85 * 3 / 4).value("replicas_spare") == 0


def test_where_no_forecast_says_how_many_there_should_be_memory_does() -> None:
    """So the rule that gives capacity back on slack, for want of a forecast, stands back."""
    sizer = unsure()
    assert "replicas_wanted" not in sizer.goes_on(1500, 3.0)[-1].values
    told = sizer.goes_on(60, 3.0, kv_cache_usage_ratio=0.6)[-1]
    assert (told.value("replicas_wanted"), told.value("replicas_spare")) == (4, 0)


@pytest.mark.parametrize(("age_s", "spare"), [(60, 0), (120, 0), (135, 3)])
def test_the_minute_before_counts_where_little_is_held_now_and_what_is_older_does_not(age_s: int, spare: int) -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    sizer.goes_on(1500, 1.0, kv_cache_usage_ratio=0.05)
    minute = window(sizer.at_s, 1.0)
    used = minute.values | {"kv_cache_usage_ratio": SliValue(value=0.9, samples=1)}
    sizer.send(minute.model_copy(update={"values": used}))
    told = sizer.goes_on(age_s, 1.0, kv_cache_usage_ratio=0.05)[-1]
    assert told.value("replicas_spare") == spare


@given(
    use=st.floats(0, 1),
    serving=st.integers(1, 300),
    starting=st.integers(0, 50),
    spare=st.integers(0, 300),
    wanted=st.integers(1, 400) | st.none(),
)
def test_what_is_left_never_stands_above_the_line_and_nothing_is_asked_for(
    use: float, serving: int, starting: int, spare: int, wanted: int | None
) -> None:
    ordered = serving + starting
    before = {"replicas_ordered": float(ordered), "replicas_spare": float(min(spare, ordered - 1))}
    if wanted is not None:
        before["replicas_wanted"] = float(wanted)
    after, words = held(before, use, serving)
    left = ordered - after["replicas_spare"]
    assert after["replicas_spare"] == 0 or use * serving / left <= CALM_RATIO + 1e-6
    assert after["replicas_spare"] <= before["replicas_spare"]
    assert after.get("replicas_wanted", 0.0) <= max(ordered, wanted or 0)
    assert (after == before) == (not words) or least(use, serving) >= ordered
