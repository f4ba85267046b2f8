"""KV tiers below the GPUs: what is found where, how long it takes, what it costs, and what outlives a restart."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.twin.engine import Engine
from connectors.twin.fleet import Fleet, Phase, Replica, WorkloadSpec
from connectors.twin.load import Lengths, LoadSpec
from connectors.twin.page import render
from connectors.twin.request import Request
from connectors.twin.spec import EngineSpec
from connectors.twin.tiers import GB, GIB, Store, Tiers, TierSpec
from contracts.errors import ConfigError

START_MS = 1_700_000_000_000
MACHINE = TierSpec(
    host_bytes_per_s=20e9, host_latency_ms=0.5, disk_bytes_per_s=2e9, disk_latency_ms=2.0, store_ratio=0.05
)
SMALL = EngineSpec(kv_blocks=1100, below=MACHINE)
"""Room for 17,600 tokens on the GPUs."""
BLOCK_BYTES = 16 * 327_680
EXTERNAL = 'vllm:external_prefix_cache_{}_total{{engine="0",model_name="m"}}'


def tiered(host_gib: int = 8, disk_gb: int = 100, spec: EngineSpec = SMALL) -> EngineSpec:
    return replace(spec, kv_offloading_size=host_gib, kv_disk_gb=disk_gb)


def ask(number: int, prefix: int, *, at_ms: float = 0.0, tokens: int = 8000) -> Request:
    """A prompt that begins with 500 blocks that all prompts of the same prefix have."""
    return Request(number, at_ms, tokens, 2, 10, prefix_id=prefix, prefix_tokens=8000)


def served(engine: Engine, number: int, prefix: int, at_ms: float) -> float:
    """Ask, alone, and be told how long the first token took, ms."""
    before = engine.meters.ttft_s.total
    assert engine.submit(ask(number, prefix, at_ms=at_ms))
    engine.advance(at_ms + 59_000.0)
    assert engine.outstanding == 0
    return (engine.meters.ttft_s.total - before) * 1000.0


def cycled(spec: EngineSpec, prefixes: int = 4) -> tuple[Engine, list[float]]:
    """Each prompt once, and then the first again, which the GPUs have no room for any more."""
    engine = Engine(spec)
    order = [*range(1, prefixes + 1), 1]
    return engine, [served(engine, n, prefix, 60_000.0 * n) for n, prefix in enumerate(order, 1)]


def test_without_tiers_what_the_gpus_gave_up_is_computed_again() -> None:
    engine, took_ms = cycled(SMALL)
    assert took_ms[-1] == pytest.approx(took_ms[0])
    assert engine.meters.external_queries_tokens == engine.meters.external_hits_tokens == 0


def test_what_the_gpus_gave_up_is_loaded_from_host_memory_in_its_latency_and_at_its_speed() -> None:
    engine, took_ms = cycled(tiered(host_gib=16))
    # All whole blocks but the last, for one token must be computed.
    load_ms = 499 * BLOCK_BYTES / 20e9 * 1000 + 0.5
    rest_ms = took_ms[-1] - load_ms
    assert rest_ms == pytest.approx(SMALL.profile.coefficients.prefill_floor_ms * 1.05, rel=0.01)
    assert (engine.meters.prompt_tokens_host, engine.meters.prompt_tokens_disk) == (499 * 16, 0)
    assert took_ms[-1] < 0.4 * took_ms[0]


def test_what_host_memory_gave_up_too_is_loaded_from_disk_and_a_slow_one_is_worse_than_computing() -> None:
    engine, took_ms = cycled(tiered(host_gib=1))
    load_ms = 499 * BLOCK_BYTES / 2e9 * 1000 + 2.0
    assert took_ms[-1] == pytest.approx(load_ms + SMALL.profile.coefficients.prefill_floor_ms * 1.05, rel=0.01)
    assert engine.meters.prompt_tokens_disk == 499 * 16
    assert took_ms[-1] > took_ms[0], "it is loaded all the same, as vLLM does"


def test_storing_makes_every_iteration_longer_by_its_ratio() -> None:
    (plain,), (stored,) = ([served(Engine(spec), 1, 1, 0.0)] for spec in (SMALL, tiered()))
    assert stored == pytest.approx(1.05 * plain)


def test_two_that_load_at_once_share_the_speed_of_the_disk() -> None:
    spec = tiered(host_gib=1)
    engine, _ = cycled(spec)
    alone_ms = 499 * BLOCK_BYTES / 2e9 * 1000
    for number, prefix in ((11, 2), (12, 3)):
        assert engine.submit(ask(number, prefix, at_ms=600_000.0))
    assert (engine.deferred, engine.running, engine.waiting) == (2, 0, 2)
    engine.advance(600_000.0 + alone_ms + 10.0)
    assert (engine.deferred, engine.running) == (1, 1)
    engine.advance(600_000.0 + 2 * alone_ms + 10.0)
    assert engine.deferred == 0


def test_others_are_served_while_one_loads() -> None:
    engine, _ = cycled(tiered(host_gib=1))
    engine.submit(ask(11, 2, at_ms=600_000.0))
    engine.submit(Request(12, 600_000.0, 100, 3, 10))
    engine.advance(600_000.0 + 300.0)
    assert (engine.deferred, engine.outstanding) == (1, 1)
    assert engine.meters.finished["stop"] == 6


def test_a_client_that_has_no_patience_for_the_load_gives_up_and_its_blocks_are_free_again() -> None:
    engine, _ = cycled(tiered(host_gib=1))
    engine.submit(replace(ask(11, 2, at_ms=600_000.0), patience_ms=100.0))
    engine.advance(660_000.0)
    assert (engine.outstanding, engine.meters.finished["abort"], engine.kv.used) == (0, 1, 0)


def test_prompt_tokens_are_those_computed_and_those_found_and_each_was_found_in_one_place() -> None:
    engine, _ = cycled(tiered(host_gib=1))
    meters = engine.meters
    assert meters.prompt_tokens == 5 * 8000 == meters.prompt_tokens_computed + meters.prompt_tokens_cached
    assert meters.prompt_tokens_device == meters.prefix_hits_tokens
    assert meters.external_hits_tokens == meters.prompt_tokens_host + meters.prompt_tokens_disk
    assert meters.external_queries_tokens == meters.prefix_queries_tokens - meters.prefix_hits_tokens


@given(
    asked=st.lists(st.tuples(st.integers(1, 5), st.integers(200, 9000), st.integers(0, 4000)), min_size=1, max_size=12),
    cuts=st.lists(st.floats(0, 60_000), max_size=8),
    host_gib=st.integers(1, 8),
)
def test_time_may_be_cut_anywhere_and_all_blocks_come_back(
    asked: list[tuple[int, int, int]], cuts: list[float], host_gib: int
) -> None:
    def run(looks: list[float]) -> tuple[dict[str, object], int]:
        engine, now_ms = Engine(tiered(host_gib)), 0.0
        times = sorted([*looks, 1e7])
        for number, (prefix, tokens, gap_ms) in enumerate(asked, 1):
            now_ms += gap_ms
            for look in [each for each in times if each < now_ms]:
                engine.advance(look)
                times.remove(look)
            engine.advance(now_ms)
            engine.submit(Request(number, now_ms, tokens, 20, 30, prefix_id=prefix, prefix_tokens=tokens))
        for look in times:
            engine.advance(look)
        assert engine.outstanding == 0
        assert engine.kv.used == 0
        seen = vars(engine.meters) | {"ttft_s": round(engine.meters.ttft_s.total, 9), "all": engine.meters.e2e_s.count}
        return {name: value for name, value in seen.items() if isinstance(value, int | float)}, engine.kv.idle

    assert run(cuts) == run([])


@given(st.lists(st.integers(0, 9), max_size=60), st.integers(0, 6))
def test_a_store_holds_what_was_used_last(asked: list[int], room: int) -> None:
    store, wanted = Store(room), OrderedDict[int, None]()
    for each in asked:
        store.put(each)
        wanted[each] = None
        wanted.move_to_end(each)
        while len(wanted) > room:
            wanted.popitem(last=False)
        assert list(store.held) == list(wanted)


def test_what_was_on_disk_counts_no_second_write() -> None:
    tiers = Tiers(MACHINE, BLOCK_BYTES, 2, 3)
    for hashed in "abcabd":
        tiers.store(hashed)
    assert tiers.counts["disk"].written_bytes == 4 * BLOCK_BYTES
    assert list(tiers.disk.held) == ["a", "b", "d"]
    assert tiers.find("abx") == (1, 1), "a is gone from host memory, not from disk"


def machine(**flags: float) -> tuple[Fleet, Replica]:
    """A replica that answers the same few prefixes again and again."""
    load = LoadSpec(
        0.5, Lengths(6000, 5500, 9000, 14_050), Lengths(20, 15, 30, 60), day_s=3e13, shared_ratio=1, prefixes=8
    )
    spec = WorkloadSpec("chat", "m", 1, load, engine=SMALL.having(flags), startup_s=10.0)
    fleet = Fleet((spec,), seed=1, start_ms=START_MS)
    return fleet, fleet.replica("chat-0")


def test_the_disk_outlives_the_process_and_host_memory_does_not() -> None:
    fleet, replica = machine(kv_offloading_size=2, kv_disk_gb=100)
    fleet.advance(START_MS + 300_000)
    assert replica.engine is not None
    assert replica.engine.tiers is not None
    on_disk = set(replica.engine.tiers.disk.held)
    fleet.reset("chat-0")
    fleet.advance(START_MS + 310_000)
    assert replica.engine.tiers is not None
    assert set(replica.engine.tiers.disk.held) == on_disk
    assert not replica.engine.tiers.host.held
    fleet.advance(START_MS + 400_000)
    assert replica.engine.meters.prompt_tokens_disk > 0


def test_a_disk_that_was_made_smaller_keeps_what_was_used_last() -> None:
    store = Store(5)
    for each in range(5):
        store.put(each)
    assert list(Tiers(MACHINE, BLOCK_BYTES, 2, 2, store).disk.held) == [3, 4]


def test_a_process_that_asks_for_more_host_memory_than_there_is_dies_in_its_start() -> None:
    fleet, replica = machine()
    fleet.drain("chat-0")
    fleet.advance(START_MS + 60_000)
    fleet.retune("chat-0", {"kv_offloading_size": 1025})
    fleet.advance(START_MS + 69_000)
    phases = [replica.phase]
    fleet.advance(START_MS + 71_000)
    phases.append(replica.phase)
    fleet.retune("chat-0", {"kv_offloading_size": 0})
    fleet.advance(START_MS + 90_000)
    assert [*phases, replica.phase] == [Phase.STARTING, Phase.FAILED, Phase.READY]


def test_the_page_tells_of_tiers_by_vllms_names_and_labels_and_is_silent_without_them() -> None:
    pages = []
    for flags in ({}, {"kv_offloading_size": 2, "kv_disk_gb": 100}):
        fleet, replica = machine(**flags)
        fleet.advance(START_MS + 300_000)
        pages.append((replica, render(replica, fleet.now_ms).decode()))
    (_, plain), (replica, page) = pages
    assert "offload_t" not in plain
    assert replica.engine is not None
    meters, tiers = replica.engine.meters, replica.engine.tiers
    assert tiers is not None
    found = {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in page.splitlines() if line[0] != "#"}

    def of(name: str, label: str) -> float:
        return found[f'vllm:{name}_total{{engine="0",model_name="m",{label}}}']

    disk, host = tiers.counts["disk"], tiers.counts["host"]
    assert found[EXTERNAL.format("hits")] == meters.external_hits_tokens > 0
    assert found[EXTERNAL.format("queries")] == meters.external_queries_tokens
    assert of("prompt_tokens_cached_by_source", 'source="disk"') == meters.prompt_tokens_disk > 0
    assert of("prompt_tokens_cached_by_source", 'source="host"') == meters.prompt_tokens_host
    assert of("prompt_tokens_by_source", 'source="external_kv_transfer"') == (
        meters.prompt_tokens_host + meters.prompt_tokens_disk
    )
    assert of("kv_offload_tiering_chunk_queries", 'tier="0:primary"') == host.queries
    assert of("kv_offload_tiering_chunk_hits", 'tier="1:fs"') == disk.hits > 0
    assert of("kv_offload_tiering_read_bytes", 'tier="1:fs"') == disk.read_bytes
    assert of("kv_offload_tiering_write_bytes", 'tier="1:fs"') == disk.written_bytes > 0
    assert 'kv_offloading_size="2.0"' in page


@pytest.mark.parametrize(
    ("flags", "what"),
    [({"kv_disk_gb": 10}, "without host memory"), ({"kv_offloading_size": -1}, "settings"), ({"kv_size": 1}, "no eng")],
)
def test_tiers_that_cannot_be_are_refused(flags: dict[str, float], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        SMALL.having(flags)
    with pytest.raises(ConfigError, match="speed"):
        TierSpec(disk_bytes_per_s=0)


def test_room_is_counted_in_gib_of_memory_and_gb_of_disk() -> None:
    tiers = tiered(3, 7).tiers()
    assert tiers is not None
    assert (tiers.host.room, tiers.disk.room) == (3 * GIB // BLOCK_BYTES, 7 * GB // BLOCK_BYTES)
    assert SMALL.tiers() is None
    assert SMALL.flags.keys() == {"max_num_seqs", "max_num_batched_tokens"}


def test_requests_that_wait_are_let_in_where_the_last_that_ran_pushed_itself_out() -> None:
    # The one that decodes has no room left beside those that load, and those have given up when their blocks come.
    spec = tiered(1, 10, EngineSpec(max_model_len=320, kv_blocks=20, max_num_seqs=2, max_num_batched_tokens=64))
    slow = replace(spec, below=TierSpec(host_bytes_per_s=1e9, disk_bytes_per_s=1e8))
    engine = Engine(slow)
    asked = [
        (58.0, 96, 1, 0, 60_000.0),
        (66.0, 208, 1, 0, 300.0),
        (104.0, 160, 100, 1, 300.0),
        (110.0, 160, 20, 0, 300.0),
        (210.0, 208, 1, 0, 60_000.0),
        (237.0, 208, 100, 0, 300.0),
    ]
    for number, (at_ms, tokens, answer, prefix, patience_ms) in enumerate(asked):
        engine.advance(at_ms)
        engine.submit(
            Request(
                number,
                at_ms,
                tokens,
                answer,
                answer,
                prefix_id=prefix,
                prefix_tokens=tokens,
                patience_ms=patience_ms,
            )
        )
    engine.advance(600_000.0)
    assert (engine.outstanding, engine.kv.free) == (0, spec.kv_blocks)
