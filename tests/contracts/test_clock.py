"""Event time runs at its speed from its anchor and is not moved by the wall clock."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from contracts.clock import ClockAnchor, EventClock


@given(speed=st.floats(0.1, 1000), wall=st.integers(0, 2**40))
def test_wall_and_event_time_are_inverse(speed: float, wall: int) -> None:
    anchor = ClockAnchor(wall_anchor_ms=1000, event_anchor_ms=5000, speed=speed)
    assert abs(anchor.wall_ms(anchor.event_ms(wall)) - wall) <= 1 / speed + 1e-3


def test_a_step_of_the_wall_clock_does_not_move_event_time() -> None:
    wall, monotonic = [100.0], [7.0]
    anchor = ClockAnchor(wall_anchor_ms=100_000, event_anchor_ms=0, speed=20)
    clock = EventClock(anchor, lambda: wall[0], lambda: monotonic[0])
    wall[0] -= 3600
    monotonic[0] += 2.0
    assert clock.now_ms() == 40_000
    assert clock.wall_s(10.0) == 0.5
