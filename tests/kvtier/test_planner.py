"""Plans of KV tiers: each reason to do nothing, when to add a disk, and the laws that hold for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.errors import ConfigError
from kvtier.planner import Offer, Option, Plan, Verdict, plan
from kvtier.planner_replica import Replica, Traffic
from kvtier.planner_trial import Fleet, places, reuse
from kvtier.planner_words import cautions, verdict
from kvtier.prefill import Disk, Prefill
from kvtier.simulator import Prompt
from tests.kvtier.worlds import BLOCK, conversations, popular

HOUR_S = 3600.0
BLOCK_BYTES = 10**8
ALONE = Fleet()
REPLICA = Replica(
    gpus=1,
    tensor_parallel=1,
    usd_per_h=5.0,
    prefill=Prefill(1.0, 0.001, flops_per_s=20.0),  # a block takes 0.8 s or more
    memory=Disk(BLOCK_BYTES, BLOCK, 1e10, 0.0),
    weight_bytes=10**10,
    gpu_kv_bytes=20 * BLOCK_BYTES,
    gpu_kv_tokens=20 * BLOCK,
    token_bytes=BLOCK_BYTES // BLOCK,
    memory_bytes_per_s=1e12,
)
CHEAP = Offer(disk_bytes_per_s=1e9, disk_usd_gb_month=0.01)
FRESH: list[Prompt] = [([3 * number, 3 * number + 1], 2 * BLOCK) for number in range(200)]


def made(prompts: Sequence[Prompt], offer: Offer = CHEAP, replica: Replica = REPLICA, fleet: Fleet = ALONE) -> Plan:
    return plan(Traffic(prompts, HOUR_S, [10] * len(prompts)), replica, fleet, offer)


def test_a_disk_that_helps_is_named_with_its_size_and_what_it_saves() -> None:
    found = made(conversations(500, 1))
    assert found.adds
    assert found.best is not None
    trial = found.best.trial
    assert trial.disk_bytes <= -(-found.reuse.distinct * BLOCK_BYTES // 10**10) * 10**10
    assert trial.ttft_mean_s < trial.ttft_mean_without_s
    assert found.best.net_ratio == pytest.approx(found.best.gain_ratio - 0.03)
    assert found.best.throughput_ratio > 1
    assert trial.gpu_hit_ratio + trial.memory_hit_ratio + trial.disk_hit_ratio <= found.reuse.reused_ratio
    words = verdict(found, ALONE, CHEAP)
    assert words.startswith("Add ")
    assert "GB of disk, behind 16 GB of host memory" in words


def test_where_nothing_comes_again_the_answer_is_no() -> None:
    found = made(FRESH)
    assert found.verdict is Verdict.NOTHING_REUSED
    assert found.options == []
    assert "nothing is reused" in verdict(found, ALONE, CHEAP)


def test_where_the_gpus_hold_it_the_answer_is_no() -> None:
    found = made(conversations(300, 1), replica=replace(REPLICA, gpu_kv_tokens=10**6))
    assert found.verdict is Verdict.GPU_HOLDS_IT
    assert "the GPUs' cache holds it already" in verdict(found, ALONE, CHEAP)


def test_where_loading_is_slower_the_answer_is_no_and_names_the_bandwidth_that_would_do() -> None:
    offer = replace(CHEAP, disk_bytes_per_s=1e8)
    found = made(conversations(300, 1), offer)
    assert found.verdict is Verdict.LOADING_SLOWER
    even = found.break_even_bytes_per_s
    assert even is not None
    assert "loading is slower than computing at 0.1 GB/s" in verdict(found, ALONE, offer)
    assert made(conversations(300, 1), replace(offer, disk_bytes_per_s=1.05 * even)).adds


def test_where_less_is_saved_than_tiers_cost_the_answer_is_no() -> None:
    offer = replace(CHEAP, overhead_ratio=0.5)
    found = made([*FRESH, *FRESH[:60]], offer)
    assert found.verdict is Verdict.TOO_LITTLE
    assert found.break_even_bytes_per_s is None
    assert "having any costs 50%" in verdict(found, ALONE, offer)


def test_where_disks_cost_more_than_gpus_the_answer_is_no() -> None:
    offer = replace(CHEAP, disk_usd_gb_month=1000.0, memory_usd_gb_month=1000.0)
    found = made(conversations(300, 1), offer)
    assert found.verdict is Verdict.COSTS_MORE
    assert "costs more than it saves" in verdict(found, ALONE, offer)


def test_dollars_are_never_more_than_the_fleet_can_save() -> None:
    slow = replace(REPLICA, prefill=replace(REPLICA.prefill, flops_per_s=2.0))
    found = made(conversations(500, 1), replica=slow)
    assert found.load_replicas > 1
    assert found.best is not None
    assert found.best.saved_usd_month == pytest.approx(found.best.net_ratio * 730 * REPLICA.usd_per_h)


def test_a_disk_that_would_have_to_read_all_the_time_is_not_added() -> None:
    prompts, fleet, replica = conversations(500, 1), Fleet(50, shared=True), replace(REPLICA, usd_per_h=500.0)
    offer = replace(CHEAP, disk_bytes=[10**11], disk_bytes_per_s=6e8)
    traffic = Traffic(prompts, 60.0, [10] * len(prompts))
    found = plan(traffic, replica, fleet, offer)
    assert found.best is not None
    assert found.best.net_ratio > 0
    assert found.best.trial.disk_read_busy_ratio > 1
    assert found.verdict is Verdict.DISK_TOO_BUSY
    assert "the disk is too slow for this traffic. At 0.6 GB/s it would read for" in verdict(found, fleet, offer)
    assert found.pays_bytes_per_s is not None
    assert plan(traffic, replica, fleet, replace(offer, disk_bytes_per_s=1.05 * found.pays_bytes_per_s)).adds


def test_wear_is_counted_when_the_tiers_are_full() -> None:
    first: list[Prompt] = [([number], BLOCK) for number in range(300)]
    trial = made([*first, *first], replace(CHEAP, disk_bytes=[10**11])).options[0].trial
    assert trial.disk_hit_ratio > 0
    assert trial.drive_writes_a_day == trial.written_bytes_a_day == 0.0


def test_a_bandwidth_that_pays_pays_dollars_too() -> None:
    offer = replace(CHEAP, disk_bytes_per_s=1e8, disk_usd_gb_month=1000.0)
    found = made(conversations(300, 1), offer)
    assert (found.verdict, found.pays_bytes_per_s) == (Verdict.LOADING_SLOWER, None)
    said = verdict(found, ALONE, offer)
    assert "Tiers cover their overhead from" in said
    assert "and what they cost at no speed" in said


@pytest.mark.parametrize("price", [0.0, 0.05, 3.0])
def test_a_larger_offer_of_memory_never_lowers_what_is_left(price: float) -> None:
    offer = replace(CHEAP, disk_bytes=[10**11], memory_usd_gb_month=price)
    best = [
        max(each.net_usd_month for each in made(conversations(200, 1), replace(offer, memory_bytes=size)).options)
        for size in (16 * 10**9, 32 * 10**9, 128 * 10**9, 512 * 10**9)
    ]
    assert best == sorted(best)


def test_gpus_without_a_price_are_weighed_by_their_time() -> None:
    found = made(conversations(500, 1), replica=replace(REPLICA, usd_per_h=0.0))
    assert found.adds
    assert found.best is not None
    assert found.best.net_usd_month < 0 < found.best.worth == found.best.net_ratio


def test_memory_alone_is_enough_where_it_holds_all() -> None:
    found = made(conversations(300, 1), replace(CHEAP, memory_bytes=10**12))
    assert found.adds
    assert found.best is not None
    assert (found.best.trial.memory_bytes, found.best.trial.disk_bytes) == (10**12, 0)
    assert verdict(found, ALONE, CHEAP).startswith("Add 1 TB of host memory: ")


def test_it_says_what_it_rests_on_and_what_may_go_wrong() -> None:
    prompts, offer = conversations(500, 1), replace(CHEAP, drive_writes_a_day=0.1)
    traffic = Traffic(prompts, HOUR_S, [10] * len(prompts))
    found = made(prompts, offer)
    said = " ".join(cautions(found, traffic, REPLICA, ALONE, offer))
    assert "500 prompts in 1 h" in said
    assert found.best is not None
    days = 182.5 / found.best.trial.drive_writes_a_day
    assert f"a drive rated for 0.1 over five years lasts {days:,.0f} days" in said
    assert "second half of the trace" in said
    busy = made(prompts, replica=replace(REPLICA, prefill=replace(REPLICA.prefill, flops_per_s=5.0)))
    assert "replicas busy, and there are 1" in " ".join(cautions(busy, traffic, REPLICA, ALONE, CHEAP))


def test_it_warns_of_engines_that_always_load_and_of_disks_that_are_too_busy() -> None:
    prompts = conversations(500, 1)
    found, traffic = made(prompts), Traffic(prompts, HOUR_S, [10] * len(prompts))
    assert found.best is not None
    plain = cautions(found, traffic, REPLICA, ALONE, CHEAP)
    trial = replace(found.best.trial, saved_always_loading_s=-5.0, disk_read_busy_ratio=0.9)
    warned = cautions(replace(found, best=replace(found.best, trial=trial)), traffic, REPLICA, ALONE, CHEAP)
    more = [line for line in warned if line not in plain]
    assert [line.split(":")[0].split(".")[0] for line in more] == [
        "Counts on an engine that computes where loading is slower",
        "The disk reads for 90% of the time",
    ]
    assert "saves -5 s of prefill" in more[0]


def test_disks_that_are_passed_over_since_they_would_be_swamped_are_told() -> None:
    prompts = conversations(500, 1)
    found, traffic = made(prompts), Traffic(prompts, HOUR_S, [10] * len(prompts))
    assert found.best is not None

    def swamped(disk: int, busy: float) -> Option:
        assert found.best is not None
        return replace(found.best, trial=replace(found.best.trial, disk_bytes=disk, disk_read_busy_ratio=busy))

    def told(*more: Option, best: Option = found.best) -> list[str]:
        wider = replace(found, options=[*found.options, *more], best=best)
        return [line for line in cautions(wider, traffic, REPLICA, ALONE, CHEAP) if "Passed over" in line]

    one, two = swamped(10**12, 1.4), swamped(2 * 10**12, 1.8)
    assert told() == []
    assert told(one) == ["Passed over, since it would have to read for 140% of the time: 1 TB of disk."]
    (line,) = told(one, two)
    assert line.endswith("read for 140% to 180% of the time: 1 TB, 2 TB of disk.")
    assert told(replace(one, net_ratio=-0.1)) == [], "it would not pay anyway"
    assert told(one, best=one) == [], "the verdict says it"


def test_a_shared_disk_sees_all_prompts_and_a_local_one_its_replicas_own() -> None:
    prompts = conversations(600, 3)
    apart, shared, sent = (
        made(prompts, replace(CHEAP, disk_bytes=[10**12]), fleet=fleet).options[0].trial
        for fleet in (Fleet(4), Fleet(4, shared=True), Fleet(4, sticky=True))
    )
    assert apart.disk_hit_ratio < shared.disk_hit_ratio
    assert apart.gpu_hit_ratio + apart.disk_hit_ratio < sent.gpu_hit_ratio + sent.disk_hit_ratio
    assert apart.drive_writes_a_day < shared.drive_writes_a_day


def test_it_says_what_several_replicas_would_need() -> None:
    prompts = conversations(600, 3)
    traffic = Traffic(prompts, HOUR_S, [10] * len(prompts))
    said = {
        fleet: " ".join(cautions(made(prompts, fleet=fleet), traffic, REPLICA, fleet, CHEAP))
        for fleet in (ALONE, Fleet(4), Fleet(4, sticky=True), Fleet(4, shared=True))
    }
    assert [fleet for fleet, text in said.items() if "see one in 4" in text] == [Fleet(4)]
    assert [fleet for fleet, text in said.items() if "serves one server" in text] == [Fleet(4, shared=True)]


def test_a_sticky_router_sends_a_conversation_back_and_shares_out_new_ones() -> None:
    told = [([0, number, 100 + number, 200 + number], 4 * BLOCK) for number in (1, 2, 3)]
    again = [([*keys, 1000 + keys[1]], 5 * BLOCK) for keys, _ in told]
    assert places([*told, *again], Fleet(3, sticky=True)) == [0, 1, 2, 0, 1, 2]
    assert places([*told, *again], Fleet(2)) == [0, 1, 0, 1, 0, 1]


@given(st.integers(0, 50), st.floats(1e8, 1e10), st.floats(1.0, 20.0))
@settings(max_examples=8, deadline=None)
def test_more_bandwidth_never_lowers_what_is_saved(seed: int, pace: float, times: float) -> None:
    prompts, offer = conversations(120, seed), replace(CHEAP, disk_bytes=[5 * 10**9, 5 * 10**10])
    slow, fast = (made(prompts, replace(offer, disk_bytes_per_s=each)) for each in (pace, pace * times))
    for before, after in zip(slow.options, fast.options, strict=True):
        assert after.trial.saved_s >= before.trial.saved_s - 1e-9


@given(st.lists(st.integers(1, 6), min_size=1, max_size=30), st.floats(1e6, 1e12), st.floats(0, 0.5))
@settings(max_examples=25, deadline=None)
def test_without_reuse_nothing_is_ever_added(lengths: list[int], pace: float, overhead: float) -> None:
    prompts: list[Prompt] = [
        ([(number, place) for place in range(length)], length * BLOCK) for number, length in enumerate(lengths)
    ]
    found = made(prompts, replace(CHEAP, disk_bytes_per_s=pace, overhead_ratio=overhead))
    assert found.verdict is Verdict.NOTHING_REUSED


@given(st.integers(0, 50), st.floats(1.0, 50.0))
@settings(max_examples=10, deadline=None)
def test_room_for_more_than_all_blocks_adds_nothing(seed: int, times: float) -> None:
    prompts = popular(150, 30, seed)
    everything = reuse(prompts).distinct * BLOCK_BYTES
    offer = replace(CHEAP, disk_bytes=[everything, int(everything * times)])
    whole, more = made(prompts, offer, replace(REPLICA, gpu_kv_tokens=BLOCK)).options
    assert more.trial.saved_s == whole.trial.saved_s
    assert more.trial.disk_hit_ratio == whole.trial.disk_hit_ratio


@given(st.floats(0.1, 10.0), st.floats(0.1, 10.0))
@settings(max_examples=4, deadline=None)
def test_dollars_are_linear_in_prices(gpu_times: float, disk_times: float) -> None:
    prompts, offer = conversations(150, 1), replace(CHEAP, disk_bytes=[10**11])
    (plain,) = made(prompts, offer).options
    dearer = replace(offer, disk_usd_gb_month=offer.disk_usd_gb_month * disk_times)
    (priced,) = made(prompts, dearer, replace(REPLICA, usd_per_h=REPLICA.usd_per_h * gpu_times)).options
    assert priced.saved_usd_month == pytest.approx(plain.saved_usd_month * gpu_times)
    assert priced.cost_usd_month == pytest.approx(plain.cost_usd_month * disk_times)


def test_a_trace_of_a_moment_is_refused() -> None:
    with pytest.raises(ConfigError, match="spans no time"):
        plan(Traffic(FRESH, 0.0, [1] * len(FRESH)), REPLICA, ALONE, CHEAP)


def test_progress_never_falls() -> None:
    told: list[float] = []
    prompts = conversations(300, 1)
    plan(Traffic(prompts, HOUR_S, [1] * 300), REPLICA, ALONE, CHEAP, lambda _, share: told.append(share))
    assert told == sorted(told)
    assert len(told) > 2
