"""Slots lie on a grid that a restart does not move, and pauses after failures grow, are capped and spread."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from connectors.vllm.core.schedule import Backoff, Grid

times = st.integers(0, 2_000_000_000_000)
intervals = st.integers(1, 600_000)


@given(st.text(min_size=1), intervals, times, times)
def test_the_next_slot_is_due_after_now_and_within_one_interval(
    name: str, interval: int, epoch: int, later: int
) -> None:
    grid = Grid.of(name, interval, epoch)
    now = epoch + later
    due = grid.due_ms(grid.next_slot(now))
    assert now < due <= now + interval
    assert not grid.is_missed(grid.next_slot(now), due + interval - 1)
    assert grid.is_missed(grid.next_slot(now), due + interval)


@given(st.text(min_size=1), intervals, times, times)
def test_a_restart_keeps_the_grid_and_counts_anew(name: str, interval: int, epoch: int, later: int) -> None:
    first, second = Grid.of(name, interval, epoch), Grid.of(name, interval, later)
    assert (first.first_ms - second.first_ms) % interval == 0
    assert 0 <= first.first_ms - epoch < interval


def test_a_fleet_spreads_over_the_interval() -> None:
    tenths = {Grid.of(f"host-{i}:8000", 1000, 0).first_ms // 100 for i in range(200)}
    assert tenths == set(range(10))


@given(st.text(min_size=1), st.integers(1, 1000), st.integers(1, 40))
def test_pauses_grow_to_a_cap_and_end_with_success(name: str, cap: int, failures: int) -> None:
    backoff, pauses = Backoff(name, cap), []
    for _ in range(failures):
        slot = backoff.next_attempt
        backoff = backoff.failed(slot, "boom")
        pauses.append(backoff.next_attempt - slot)
    for i, pause in enumerate(pauses):
        wanted = min(2**i, cap)
        assert max(1, wanted - wanted // 4) <= pause <= min(wanted + wanted // 4, cap)
    assert backoff.failures == failures
    assert backoff.reason().endswith(": boom")
    assert not backoff.succeeded().waits(0)


def test_targets_that_failed_together_do_not_come_back_together() -> None:
    returns = set()
    for i in range(50):
        backoff = Backoff(f"host-{i}", 1000)
        for _ in range(8):
            backoff = backoff.failed(backoff.next_attempt, "x")
        returns.add(backoff.next_attempt)
    assert len(returns) > 20
