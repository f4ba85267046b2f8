"""What a gateway is advised: on from one threshold to another, and a breaker that trips once."""

from __future__ import annotations

import pytest

from agents.resource.core.readings import Reading
from agents.resource.core.valves import BREAKER_MS, Valves, of_memory


def after(levels: list[float | None]) -> Valves:
    valves = Valves()
    for level in levels:
        valves = valves.looked(0, level, 0)
    return valves


@pytest.mark.parametrize(
    ("levels", "queue", "cut"),
    [
        ([0.85], False, False),
        ([0.86], True, False),
        ([0.86, 0.75], True, False),
        ([0.86, 0.74], False, False),
        ([0.91], True, True),
        ([0.91, 0.85], True, True),
        ([0.91, 0.84], True, False),
        ([0.91, None], True, True),
        ([None], False, False),
    ],
    ids=str,
)
def test_advice_begins_at_one_threshold_and_ends_at_another(levels: list[float | None], queue: bool, cut: bool) -> None:
    valves = after(levels)
    assert (valves.queue, valves.cut) == (queue, cut)


def test_three_restarts_trip_the_breaker_for_two_minutes() -> None:
    assert Valves().looked(1_000_000, 0.5, 2).breaker_until_ms == 0
    tripped = Valves().looked(1_000_000, 0.5, 3)
    assert (tripped.breaker_until_ms, tripped.tripped_ms) == (1_000_000 + BREAKER_MS, 1_000_000)
    assert tripped.looked(1_000_000 + BREAKER_MS - 1, 0.5, 9) == tripped
    told = [tripped.values(at_ms, None)["breaker_advised"] for at_ms in (1_000_000, 1_000_000 + BREAKER_MS)]
    assert told == [1.0, 0.0]


def reading(end_s: int, kv: float | None, restarts: float = 0.0, preempted: float = 0.0) -> Reading:
    return Reading(end_ms=end_s * 1000, size_s=10, cause_ms=0, kv=kv, restarts=restarts, preempted=preempted)


@pytest.mark.parametrize(
    ("before", "counts"),
    [
        (reading(0, 0.02), False),
        (reading(0, 0.89), False),
        (reading(0, 0.90), True),
        (reading(0, 0.5, preempted=0.2), False),
        (reading(-10, 0.95), False),
    ],
    ids=str,
)
def test_a_restart_counts_where_memory_was_short_in_the_five_minutes_before(before: Reading, counts: bool) -> None:
    died = reading(300, 0.1, restarts=1.0)
    assert list(of_memory([before, died])) == ([died] if counts else [])


def test_of_a_large_fleet_a_tenth_trips_the_breaker() -> None:
    assert Valves().looked(1_000_000, 0.5, 3, 31).breaker_until_ms == 0
    assert Valves().looked(1_000_000, 0.5, 4, 40).breaker_until_ms == 1_000_000 + BREAKER_MS


def test_the_breaker_needs_no_kv_use() -> None:
    assert Valves(queue=True).looked(1_000_000, None, 3) == Valves(queue=True, breaker_until_ms=1_000_000 + BREAKER_MS)


def test_a_fifth_less_context_is_advised_where_the_present_one_is_known() -> None:
    assert after([0.95]).values(0, 16_384)["context_cut_tokens"] == 13_107
    assert "context_cut_tokens" not in after([0.95]).values(0, None)
    assert "context_cut_tokens" not in after([0.88]).values(0, 16_384)


def test_all_that_is_advised_is_said_in_words_and_nothing_else() -> None:
    assert after([0.5]).explain(0) == ""
    words = after([0.95]).looked(0, 0.95, 3).explain(0)
    assert words == (
        "let requests queue at the gateway until KV use is below 75%; take no request longer than 80% of max_model_len "
        "until it is below 85%; answer 503 for 120 s: 3 engines or more, a tenth of all at least, began anew within "
        "five minutes after memory was short"
    )
