"""Where queueing theory has an answer, the twin gives it: M/D/1, M/M/1, M/G/1, Lindley, Little."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from statistics import mean, stdev

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.coefficients import Coefficients
from connectors.twin.engine import Engine
from connectors.twin.offline import Served, simulate
from connectors.twin.profiles import LLAMA_70B_4XH100
from connectors.twin.request import Request, Sequence
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace

BY_PROMPT = Coefficients(0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
"""A millisecond for each token of the prompt, nothing for those of the answer."""

BY_ANSWER = Coefficients(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0)
"""A millisecond for each token of the answer after the first."""

REQUESTS, BATCHES = 16_000, 32
Service = Callable[[Random], int]


def one_at_a_time(made: Coefficients) -> EngineSpec:
    profile = replace(LLAMA_70B_4XH100, coefficients=made)
    return EngineSpec(profile, 1, 1_000_000, 1_000_000, kv_blocks=62_500)


def poisson(rps: float, service: Service, made: Coefficients, count: int = REQUESTS) -> tuple[Trace, list[int]]:
    random, now_s, arrivals, services = Random(7), 0.0, [], []
    for _ in range(count):
        now_s += random.expovariate(rps)
        arrivals.append(now_s)
        services.append(service(random))
    ones = [1] * count
    by_prompt = made is BY_PROMPT
    return Trace(arrivals, services if by_prompt else ones, ones if by_prompt else [s + 1 for s in services]), services


def waits_of(trace: Trace, made: Coefficients) -> Served:
    return simulate(trace, one_at_a_time(made), replicas=1)


SERVICES: dict[str, Service] = {
    "deterministic": lambda _: 1000,
    "exponential": lambda random: max(1, round(random.expovariate(1 / 1000))),
    "two kinds": lambda random: 200 if random.random() < 0.8 else 4200,
}


@pytest.mark.parametrize("made", [BY_PROMPT, BY_ANSWER], ids=["prefill", "decode"])
@pytest.mark.parametrize("kind", SERVICES)
def test_the_mean_wait_is_pollaczek_and_khinchines(kind: str, made: Coefficients) -> None:
    """M/D/1, M/M/1 and a service of two kinds; the interval is from means of batches, 99.9 % wide."""
    rps = 0.6
    trace, services = poisson(rps, SERVICES[kind], made)
    waits_s = waits_of(trace, made).queue_s.tolist()
    second_moment = mean((s / 1000) ** 2 for s in services)
    expected_s = rps * second_moment / (2 * (1 - rps * mean(services) / 1000))
    size = REQUESTS // BATCHES
    means = [mean(waits_s[i * size : (i + 1) * size]) for i in range(BATCHES)]
    half_s = 3.63 * stdev(means) / BATCHES**0.5
    assert abs(mean(waits_s) - expected_s) < half_s
    assert half_s < 0.2 * expected_s, "the interval is narrow enough to tell"


@pytest.mark.parametrize("made", [BY_PROMPT, BY_ANSWER], ids=["prefill", "decode"])
def test_one_at_a_time_follows_lindleys_recursion_so_no_time_is_lost_while_somebody_waits(made: Coefficients) -> None:
    trace, services = poisson(0.8, SERVICES["two kinds"], made, 2000)
    served, free_s = waits_of(trace, made), 0.0
    for arrival_s, service, wait_s, e2e_s in zip(
        trace.arrival_s, services, served.queue_s.tolist(), served.e2e_s.tolist(), strict=True
    ):
        begin_s = max(arrival_s, free_s)
        free_s = begin_s + service / 1000
        assert wait_s == pytest.approx(begin_s - arrival_s, abs=1e-6)
        assert e2e_s == pytest.approx(free_s - arrival_s, abs=1e-6)


class Ends:
    """Keeps when requests ended."""

    def __init__(self) -> None:
        self.at_ms: list[float] = []
        self.inside_ms = 0.0

    def began(self, sequence: Sequence, at_ms: float) -> None:
        """Nothing."""

    def turned_away(self, request: Request, reason: str) -> None:
        """Nothing."""

    def ended(self, sequence: Sequence, reason: str, at_ms: float) -> None:
        self.at_ms.append(at_ms)
        self.inside_ms += at_ms - sequence.submitted_ms


crowds = st.lists(st.tuples(st.floats(0, 900), st.integers(1, 400), st.integers(1, 120)), min_size=1, max_size=40).map(
    lambda drawn: [
        Request(i, sum(gap for gap, _, _ in drawn[: i + 1]), prompt, output, 999, patience_ms=1e12)
        for i, (_, prompt, output) in enumerate(drawn)
    ]
)
CROWDED = EngineSpec(max_num_seqs=8, max_num_batched_tokens=128, max_model_len=640, kv_blocks=60)


@given(asked=crowds)
@settings(max_examples=40, deadline=None)
def test_littles_law_holds_exactly(asked: list[Request]) -> None:
    """The area under the number in the system, looked at from outside, is the sum of the times spent in it."""

    def run(looks_ms: list[float], ends: Ends) -> float:
        engine, area, before_ms, due = Engine(CROWDED, ends), 0.0, 0.0, asked[::-1]
        for at_ms in sorted([*looks_ms, *(r.arrival_ms for r in asked)]):
            area += engine.outstanding * (at_ms - before_ms)
            engine.advance(at_ms)
            while due and due[-1].arrival_ms <= at_ms:
                engine.submit(due.pop())
            before_ms = at_ms
        engine.advance(1e9)
        return area

    first, second = Ends(), Ends()
    run([], first)
    area = run(first.at_ms, second)
    assert first.at_ms == second.at_ms
    assert area == pytest.approx(second.inside_ms, rel=1e-9)


@given(asked=crowds)
@settings(max_examples=40, deadline=None)
def test_an_engine_that_holds_requests_is_always_at_work(asked: list[Request]) -> None:
    """Within the longest an iteration can take, something was computed."""
    made, engine = CROWDED.profile.coefficients, Engine(CROWDED)
    longest_ms = made.prefill_ms(128, 128 * 640) + made.added_by_decode_ms(8, 8 * 640)
    due, at_ms, still = asked[::-1], 0.0, 0
    while due or engine.outstanding:
        at_ms += longest_ms
        while due and due[-1].arrival_ms <= at_ms:
            engine.advance(due[-1].arrival_ms)
            engine.submit(due.pop())
        held, said = engine.outstanding, engine.meters.iteration_tokens.total
        at_ms += longest_ms
        if not due or due[-1].arrival_ms > at_ms:
            engine.advance(at_ms)
            computed = engine.meters.iteration_tokens.total > said
            # A prompt of 640 tokens is counted when its last chunk is done: five iterations at most.
            still = 0 if computed or not held else still + 1
            assert still < 5
