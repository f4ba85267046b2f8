"""What a load costs is learnt from loads; a prompt's blocks are loaded or computed, whichever is faster."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvtier.serving.choice import Choice, Computing, Meter

MIB = 1 << 20


def test_loads_of_two_sizes_tell_the_fixed_part_from_the_bandwidth() -> None:
    meter = Meter()
    for turn in range(200):
        size = 1_000_000 if turn % 2 else 9_000_000
        meter.saw(size, 0.002 + size / 5e9)
    assert meter.expected_s(20_000_000) == pytest.approx(0.002 + 20_000_000 / 5e9, rel=0.02)


def test_loads_of_one_size_tell_the_time_of_that_size() -> None:
    meter = Meter()
    for _ in range(50):
        meter.saw(4096, 0.001)
    assert meter.expected_s(4096) == pytest.approx(0.001)


def test_a_disk_that_became_slow_is_known_after_some_tens_of_loads() -> None:
    meter = Meter()
    for _ in range(500):
        meter.saw(MIB, 0.001)
    for _ in range(100):
        meter.saw(MIB, 0.050)
    assert meter.expected_s(MIB) == pytest.approx(0.050, rel=0.1)


@given(
    st.lists(st.tuples(st.integers(1, 1 << 30), st.floats(0, 100)), min_size=1, max_size=60), st.integers(1, 1 << 30)
)
def test_an_expectation_is_never_below_zero(loads: list[tuple[int, float]], size: int) -> None:
    meter = Meter()
    for load in loads:
        meter.saw(*load)
    expected_s = meter.expected_s(size)
    assert expected_s is not None
    assert expected_s >= 0


def test_a_token_takes_twice_as_long_where_it_is_said_to() -> None:
    computing = Computing(1000.0, doubles_at_tokens=50_000)
    assert computing.seconds(0, 1) == pytest.approx(0.001, rel=1e-3)
    assert computing.seconds(50_000, 50_001) == pytest.approx(0.002, rel=1e-3)
    assert Computing(1000.0).seconds(50_000, 50_001) == pytest.approx(0.001)


@given(st.integers(0, 10**6), st.integers(0, 10**5), st.integers(0, 10**5))
def test_computing_a_prompt_takes_as_long_as_its_parts(start: int, some: int, more: int) -> None:
    computing = Computing(20_000.0, 53_000)
    parts = computing.seconds(start, start + some) + computing.seconds(start + some, start + some + more)
    assert computing.seconds(start, start + some + more) == pytest.approx(parts)


@given(st.floats(10, 1e6), st.floats(100, 1e6), st.integers(0, 100_000), st.integers(1, 60), st.floats(1e-5, 1.0))
def test_no_part_of_a_run_saves_more_than_all_of_it_or_none(
    tokens_per_s: float, doubles: float, start: int, blocks: int, block_s: float
) -> None:
    computing = Computing(tokens_per_s, doubles)
    saved_s = [computing.seconds(start, start + 512 * count) - count * block_s for count in range(blocks + 1)]
    assert max(saved_s) <= max(0.0, saved_s[-1]) + 1e-9 * (1 + abs(saved_s[-1]) + blocks * block_s)


def test_a_long_run_is_loaded_and_a_short_one_computed_where_the_disk_lies_between() -> None:
    choice = Choice(Computing(512 / 0.018, 53_000))
    for _ in range(20):
        choice.meter.saw(160 * MIB, 0.024)
    assert not choice.load(b"k", 0, 10 * 512, 10 * 160 * MIB)
    assert choice.load(b"k", 0, 100 * 512, 100 * 160 * MIB)
    assert choice.load(b"k", 90 * 512, 100 * 512, 10 * 160 * MIB), "late in a prompt computing is dear"


def test_what_is_told_or_measured_of_nothing_is_loaded() -> None:
    unsaid, unseen = Choice(None), Choice(Computing(1e12))
    unsaid.meter.saw(MIB, 100.0)
    assert not unsaid.open
    assert unsaid.load(b"k", 0, 512, MIB)
    assert unseen.load(b"k", 0, 512, MIB)


def test_a_disk_that_is_too_slow_is_tried_now_and_then() -> None:
    choice = Choice(Computing(1e6))
    for _ in range(8):
        choice.saw((), MIB, 10.0)
    loaded = [choice.load(b"k", 0, 512, MIB) for _ in range(640)]
    assert sum(loaded) == 10


@pytest.mark.parametrize("first_s", [0.2, 1.0, 5.0])
def test_one_slow_load_closes_a_quick_disk_for_no_more_than_one_probe(first_s: float) -> None:
    choice, answers = Choice(Computing(512 / 0.020)), []
    for number in range(200):
        answers.append(choice.load(b"%d" % number, 0, 512, MIB))
        if answers[-1]:
            choice.saw((b"%d" % number,), MIB, 0.005 if number else first_s)
    assert answers.count(False) <= 63
    assert all(answers[-100:])


def test_only_the_probe_itself_says_that_the_disk_is_quick_again() -> None:
    choice = Choice(Computing(512 / 0.020))
    for _ in range(20):
        choice.saw((), MIB, 1.0)
    while not choice.load(b"probe", 0, 512, MIB):
        pass
    choice.saw((b"another",), MIB, 0.001)
    assert choice.meter.expected_s(MIB) == pytest.approx(1.0, rel=0.1)
    choice.saw((b"first", b"probe"), MIB, 0.001)
    assert choice.meter.expected_s(MIB) == pytest.approx(0.001)


def test_a_probe_that_is_slow_keeps_the_disk_closed() -> None:
    choice = Choice(Computing(512 / 0.020))
    for _ in range(20):
        choice.saw((), MIB, 1.0)
    while not choice.load(b"probe", 0, 512, MIB):
        pass
    choice.saw((b"probe",), MIB, 0.021)
    assert not choice.load(b"next", 0, 512, MIB)


def test_an_engine_that_looks_from_the_end_has_a_sliding_window_and_nothing_is_chosen() -> None:
    choice = Choice(Computing(1e12))
    for _ in range(20):
        choice.saw((), MIB, 1.0)
    for end in (640, 624, 608):
        assert not choice.load(b"k", end - 16, end, MIB)
        choice.looked("one", end, 16)
    assert not choice.open
    assert choice.load(b"k", 0, 16, MIB)


@pytest.mark.parametrize(
    "looks",
    [
        [("one", end) for end in (16, 32, 48, 16, 32, 48, 32, 48)],
        [("one", 48), ("two", 32), ("one", 32), ("two", 16), ("one", 16)],
        [("one", 32), ("one", 16), ("one", 32), ("one", 16)],
    ],
)
def test_an_engine_that_looks_again_from_a_prompts_beginning_has_none(looks: list[tuple[str, int]]) -> None:
    choice = Choice(Computing(1e12))
    for request, end in looks:
        choice.looked(request, end, 16)
    assert choice.open


@pytest.mark.parametrize("wrong", [(0.0, 1.0), (-5.0, 1.0), (1.0, 0.0), (float("nan"), 1.0)])
def test_speeds_that_mean_nothing_are_refused(wrong: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Computing(*wrong)
