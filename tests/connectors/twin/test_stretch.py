"""Many steps at once are what they are one by one."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.engine import Engine
from connectors.twin.meters import Bins
from connectors.twin.request import Request, Sequence
from connectors.twin.spec import EngineSpec
from connectors.twin.stretch import Stretch

TIGHT = EngineSpec(max_num_seqs=4, max_num_batched_tokens=64, max_model_len=256, kv_blocks=24)
ROOMY = EngineSpec(max_num_seqs=4, max_num_batched_tokens=64, max_model_len=256)

stretches = st.builds(Stretch, st.floats(0, 1e12), st.floats(1, 200), st.floats(0, 1), st.integers(1, 300))


class StepByStep(Engine):
    """An engine that plans a single iteration at a time, and counts them."""

    iterations = 0

    def _begin(self, at_ms: float, tokens: int, pairs: float, alike: int) -> None:
        self.iterations += 1
        super()._begin(at_ms, tokens, pairs, 1)


class Told:
    """Keeps what it is told, with its time."""

    def __init__(self) -> None:
        self.what: list[tuple[str, int]] = []
        self.at_ms: list[float] = []

    def began(self, sequence: Sequence, at_ms: float) -> None:
        self.what.append(("began", sequence.request.request_id))
        self.at_ms.append(at_ms)

    def ended(self, sequence: Sequence, reason: str, at_ms: float) -> None:
        self.what.append((reason, sequence.request.request_id))
        self.at_ms.append(at_ms)

    def turned_away(self, request: Request, reason: str) -> None:
        raise AssertionError("an engine has no router")


crowds = st.lists(
    st.tuples(st.floats(0, 2000), st.integers(1, 150), st.integers(1, 100), st.booleans()), min_size=1, max_size=25
).map(
    lambda drawn: [
        Request(i, at_ms, prompt, output, 999, 1, prompt // 2, 3_000.0 if hasty else 1e12)
        for i, ((_, prompt, output, hasty), at_ms) in enumerate(
            zip(drawn, accumulate(gap for gap, *_ in drawn), strict=True)
        )
    ]
)


@given(
    asked=crowds,
    spec=st.sampled_from([TIGHT, ROOMY]),
    pause=st.none() | st.tuples(st.floats(0, 9e3), st.floats(1, 5e3)),
)
@settings(max_examples=80, deadline=None)
def test_an_engine_that_skips_does_what_one_does_that_goes_step_by_step(
    asked: list[Request], spec: EngineSpec, pause: tuple[float, float] | None
) -> None:
    def run(kind: type[Engine], told: Told) -> Engine:
        engine = kind(spec, told)
        acts: list[tuple[float, int, Request | None]] = [(r.arrival_ms, 1, r) for r in asked]
        if pause is not None:
            acts += [(pause[0], 0, None), (pause[0] + pause[1], 2, None)]
        for at_ms, what, request in sorted(acts, key=lambda act: act[:2]):
            engine.advance(at_ms)
            if request is not None:
                assert engine.submit(request)
            elif what == 0:
                engine.pause(at_ms)
            else:
                engine.resume(at_ms)
        engine.advance(1e9)
        return engine

    skipping, stepping = Told(), Told()
    fast, slow = run(Engine, skipping), run(StepByStep, stepping)

    assert isinstance(slow, StepByStep)
    if all(what != "abort" for what, _ in stepping.what):
        assert slow.iterations >= max(request.output_tokens for request in asked)

    assert skipping.what == stepping.what
    assert skipping.at_ms == pytest.approx(stepping.at_ms, rel=1e-9, abs=1e-6)
    for name, value in vars(slow.meters).items():
        found = vars(fast.meters)[name]
        if isinstance(value, Bins):
            assert (found.counts, found.total) == (value.counts, pytest.approx(value.total)), name
        else:
            assert found == value, name


@given(stretch=stretches, at=st.floats(-0.1, 1.1))
def test_the_steps_done_by_a_moment_are_those_that_ended_by_then(stretch: Stretch, at: float) -> None:
    at_ms = stretch.began_ms + at * (stretch.end_ms(stretch.steps) - stretch.began_ms)
    ended = [step for step in range(1, stretch.steps + 1) if stretch.end_ms(step) <= at_ms]
    assert stretch.done_by(at_ms) == len(ended)


@given(stretch=stretches)
def test_steps_end_one_after_another_and_what_they_take_adds_up(stretch: Stretch) -> None:
    ends = [stretch.end_ms(step) for step in range(stretch.steps + 1)]
    assert ends == sorted(ends)
    took_ms = sum(stretch.took_ms(step) for step in range(1, stretch.steps + 1))
    assert ends[-1] - ends[0] == pytest.approx(took_ms, rel=1e-6, abs=1e-3)


@given(stretch=stretches, held_ms=st.sampled_from([0.0, 5000.0]), split=st.floats(0, 1))
def test_steps_fall_into_the_bins_they_would_one_by_one(stretch: Stretch, held_ms: float, split: float) -> None:
    stretch.held_ms = held_ms
    at_once, one_by_one, middle = Bins((0.02, 0.05, 0.1, 1.0)), Bins((0.02, 0.05, 0.1, 1.0)), int(split * stretch.steps)
    for after, upto in ((0, middle), (middle, stretch.steps)):
        if upto > after:
            at_once.add_steps(stretch, after, upto, 3)
    for step in range(1, stretch.steps + 1):
        one_by_one.add(stretch.took_ms(step) / 1000.0, 3)
    assert at_once.counts == one_by_one.counts


def test_a_stretch_that_is_cut_ends_with_the_step_under_way() -> None:
    stretch = Stretch(0.0, 10.0, 0.0, 50)
    stretch.cut(25.0)
    assert stretch.steps == 3
    stretch.cut(1000.0)
    assert stretch.steps == 3
