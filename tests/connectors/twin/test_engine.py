"""The engine keeps its books: nothing is lost, nothing is counted twice, and time may be cut anywhere."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.engine import Engine
from connectors.twin.meters import Bins, Meters
from connectors.twin.profiles import BLOCK_TOKENS, LLAMA_70B_4XH100
from connectors.twin.request import Request
from connectors.twin.spec import EngineSpec
from contracts.errors import ConfigError
from contracts.laws.histogram import empty, observe

ROOMY = EngineSpec(max_model_len=2048)
TIGHT = EngineSpec(max_num_seqs=8, max_num_batched_tokens=64, max_model_len=256, kv_blocks=20)
"""Room for one long request and a little: preemptions are the rule."""


def request(number: int, at_ms: float, prompt: int = 100, output: int = 20, **changes: object) -> Request:
    return replace(Request(number, at_ms, prompt, output, max_tokens=1000), **changes)  # type: ignore[arg-type]  # test


gaps_ms = st.floats(0, 400)
requests = st.lists(
    st.tuples(gaps_ms, st.integers(1, 180), st.integers(1, 60), st.integers(0, 3), st.floats(0, 1), st.booleans()),
    min_size=1,
    max_size=25,
).map(
    lambda drawn: [
        request(
            i,
            sum(gap for gap, *_ in drawn[: i + 1]),
            prompt,
            output,
            max_tokens=output if limited else 100,
            prefix_id=prefix_id,
            prefix_tokens=int(prompt * share),
            patience_ms=2_000.0 if i % 5 == 0 else 60_000.0,
            fails=i % 11 == 10,
        )
        for i, (_, prompt, output, prefix_id, share, limited) in enumerate(drawn)
    ]
)
specs = st.sampled_from([ROOMY, TIGHT])


def run(spec: EngineSpec, asked: list[Request], cuts: list[float], until_ms: float) -> Engine:
    engine = Engine(spec)
    moments: list[tuple[float, int, Request | None]] = [(r.arrival_ms, 1, r) for r in asked]
    moments += [(cut, 0, None) for cut in cuts] + [(until_ms, 2, None)]
    for at_ms, _, arrived in sorted(moments, key=lambda m: m[:2]):
        engine.advance(at_ms)
        if arrived is not None:
            assert engine.submit(arrived)
        assert 0 <= engine.kv.used <= spec.kv_blocks
        assert engine.running <= spec.max_num_seqs
    return engine


def books(meters: Meters) -> dict[str, object]:
    return {
        name: (tuple(value.counts), value.total) if isinstance(value, Bins) else value
        for name, value in vars(meters).items()
    }


@given(spec=specs, asked=requests)
@settings(max_examples=60, deadline=None)
def test_every_request_ends_and_every_token_is_counted_once(spec: EngineSpec, asked: list[Request]) -> None:
    engine = run(spec, asked, [], 10_000_000)
    meters = engine.meters
    served = meters.finished["stop"] + meters.finished["length"]

    assert engine.outstanding == 0
    assert sum(meters.finished.values()) == len(asked)
    assert engine.kv.used == 0
    for bins in (meters.e2e_s, meters.queue_s, meters.prefill_s, meters.decode_s, meters.inference_s, meters.ttft_s):
        assert bins.count == served
    assert meters.generation_tokens == meters.request_generation_tokens.total
    assert meters.prompt_tokens == meters.request_prompt_tokens.total
    assert meters.prompt_tokens_computed == meters.request_computed_tokens.total
    assert meters.prompt_tokens == meters.prompt_tokens_computed + meters.prompt_tokens_cached
    assert meters.inter_token_s.count == meters.generation_tokens - served
    assert meters.inter_token_s.total == pytest.approx(meters.decode_s.total)
    assert meters.inference_s.total == pytest.approx(meters.prefill_s.total + meters.decode_s.total)
    assert meters.e2e_s.total == pytest.approx(meters.queue_s.total + meters.inference_s.total)
    assert meters.iteration_tokens.total == meters.prompt_tokens_computed + meters.generation_tokens
    assert meters.request_preemptions.total <= meters.preemptions


@given(spec=specs, asked=requests, cuts=st.lists(st.floats(0, 20_000), max_size=20), until_ms=st.floats(0, 20_000))
@settings(max_examples=60, deadline=None)
def test_where_time_is_cut_does_not_matter(
    spec: EngineSpec, asked: list[Request], cuts: list[float], until_ms: float
) -> None:
    asked = [r for r in asked if r.arrival_ms <= until_ms]
    cuts = [cut for cut in cuts if cut <= until_ms]

    whole, cut = run(spec, asked, [], until_ms), run(spec, asked, cuts, until_ms)

    assert books(whole.meters) == books(cut.meters)
    assert (whole.running, whole.waiting, whole.kv.used) == (cut.running, cut.waiting, cut.kv.used)
    assert sum(whole.meters.finished.values()) + whole.outstanding == len(asked)


@given(asked=requests, cuts=st.lists(st.floats(0, 20_000), min_size=2, max_size=12))
@settings(max_examples=30, deadline=None)
def test_counters_never_fall(asked: list[Request], cuts: list[float]) -> None:
    earlier, later = (run(TIGHT, [r for r in asked if r.arrival_ms <= t], [], t) for t in (min(cuts), max(cuts)))
    for name, value in vars(earlier.meters).items():
        after = vars(later.meters)[name]
        if isinstance(value, Bins):
            assert all(a <= b for a, b in zip(value.counts, after.counts, strict=True)), name
        elif isinstance(value, int):
            assert value <= after, name


def test_a_tight_cache_preempts_and_recomputes() -> None:
    asked = [request(i, 0.0, prompt=100, output=100) for i in range(6)]
    engine = run(TIGHT, asked, [], 1_000_000)
    assert engine.meters.preemptions > 0
    assert engine.meters.finished["stop"] == 6
    assert engine.meters.request_preemptions.total == engine.meters.preemptions
    assert engine.meters.generation_tokens == 600


def test_one_request_alone_takes_its_prefill_and_its_decode_steps() -> None:
    """The limit in which theory is exact: no queue, no batch."""
    engine = run(ROOMY, [request(1, 1000.0, prompt=400, output=11)], [], 100_000)
    model = LLAMA_70B_4XH100.coefficients
    prefill_ms = model.prefill_ms(400, 400 * 200)
    decode_ms = sum(model.decode_ms(1, 400 + i) for i in range(10))
    assert engine.meters.ttft_s.total == pytest.approx(prefill_ms / 1000)
    assert engine.meters.decode_s.total == pytest.approx(decode_ms / 1000)
    assert engine.meters.queue_s.total == 0


def test_utilisation_follows_littles_law() -> None:
    """Mean requests in the system = rate x mean time in it, whatever the scheduling."""
    asked = [request(i, i * 200.0, prompt=300, output=60) for i in range(500)]
    engine, inside, samples = Engine(ROOMY), 0, 0
    due = asked[::-1]
    for at_ms in range(0, 100_000, 10):
        while due and due[-1].arrival_ms <= at_ms:
            engine.advance(due[-1].arrival_ms)
            engine.submit(due.pop())
        engine.advance(at_ms)
        inside, samples = inside + engine.outstanding, samples + 1
    mean_s = engine.meters.e2e_s.total / engine.meters.e2e_s.count
    assert inside / samples == pytest.approx(5.0 * mean_s, rel=0.03)


def test_overload_makes_a_queue_that_grows_until_clients_give_up() -> None:
    asked = [request(i, i * 20.0, prompt=500, output=200) for i in range(4000)]
    lengths = [run(ROOMY, [r for r in asked if r.arrival_ms <= t], [], t).waiting for t in (5_000, 20_000, 50_000)]
    assert 0 < lengths[0] < lengths[1] < lengths[2]
    late = run(ROOMY, asked, [], 200_000)
    assert late.meters.finished["abort"] > 0


def test_a_pause_lengthens_what_was_in_flight_and_loses_nothing() -> None:
    engine = Engine(ROOMY)
    engine.submit(request(1, 0.0, output=50))
    engine.advance(500)
    before = books(engine.meters)
    engine.pause(500)
    engine.submit(request(2, 600.0))
    engine.advance(10_000)
    assert books(engine.meters) == before
    assert (engine.running, engine.waiting) == (1, 1)
    engine.resume(10_500)
    engine.advance(60_000)
    assert engine.outstanding == 0
    gaps = engine.meters.inter_token_s
    assert gaps.counts[gaps.edges.index(20.0)] == 1, "one gap of a little more than ten seconds"


def test_a_prefix_is_found_by_the_second_who_brings_it_but_not_after_a_restart() -> None:
    asked = [request(i, i * 5000.0, prompt=100, prefix_id=7, prefix_tokens=90) for i in range(2)]
    meters = run(ROOMY, asked, [], 60_000).meters
    assert meters.prefix_queries_tokens == 200
    assert meters.prefix_hits_tokens == 90 // BLOCK_TOKENS * BLOCK_TOKENS
    assert Engine(ROOMY).kv.known(asked[0].block_hashes(BLOCK_TOKENS)) == 0


def test_a_whole_cached_prompt_still_computes_one_token() -> None:
    asked = [request(i, i * 5000.0, prompt=64, prefix_id=7, prefix_tokens=64) for i in range(2)]
    meters = run(ROOMY, asked, [], 60_000).meters
    assert meters.prefix_hits_tokens == 48
    assert meters.ttft_s.count == 2


@given(st.lists(st.floats(0, 100), max_size=40))
def test_bins_agree_with_the_law_of_histograms(values: list[float]) -> None:
    bins = Bins((0.1, 0.5, 20.0))
    for value in values:
        bins.add(value)
    assert bins.histogram() == observe(empty(bins.edges), values)


def test_settings_that_cannot_work_are_refused_with_a_remedy() -> None:
    with pytest.raises(ConfigError, match="at least 128 blocks"):
        EngineSpec(max_model_len=2048, kv_blocks=100)
    with pytest.raises(ConfigError, match="above 64"):
        EngineSpec(max_num_batched_tokens=64)


def test_a_prompt_beyond_the_models_length_is_refused() -> None:
    engine = Engine(ROOMY)
    assert not engine.submit(request(1, 0.0, prompt=2048, output=1))
    assert engine.outstanding == 0


def test_the_kv_cache_has_the_published_size() -> None:
    assert LLAMA_70B_4XH100.kv_bytes_per_token == 320 * 1024
    assert LLAMA_70B_4XH100.kv_blocks() == 28_228


@pytest.mark.parametrize(("batch", "measured_ms"), [(1, 29.5), (8, 31.4), (32, 36.9), (64, 52.4)])
def test_decode_times_are_those_of_the_table(batch: int, measured_ms: float) -> None:
    assert LLAMA_70B_4XH100.coefficients.decode_ms(batch, batch * 576) == pytest.approx(measured_ms, rel=0.05)


@pytest.mark.parametrize(("prompt", "measured_ms"), [(128, 49.1), (512, 59.7), (2048, 200.7), (8192, 953.6)])
def test_prefill_times_are_those_of_the_table(prompt: int, measured_ms: float) -> None:
    assert LLAMA_70B_4XH100.coefficients.prefill_ms(prompt, prompt * prompt / 2) == pytest.approx(measured_ms, rel=0.10)
