"""Loading a leading run of a prompt or none: what it saves, against every run tried one by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtier.bound import belady
from kvtier.policies import make
from kvtier.prefill import Disk, Prefill, weigh
from kvtier.simulator import Lru, Prompt, Run, Tiers, play, play_at
from tests.kvtier.worlds import BLOCK, conversations, popular

PREFILL = Prefill(1.0, 0.1, flops_per_s=1.0)
"""A block of 16 tokens takes 16 s at the beginning, and 1.6 s more for each token before it."""


def tried(run: Run, disk: Disk, memory: Disk | None) -> float:
    """The best gain of all leading runs, block by block."""
    at, gain, best = run.memory_tokens if memory is None else run.gpu_tokens, 0.0, 0.0
    while at < run.held_tokens:
        tokens = min(BLOCK, run.tokens - at)
        tier = memory if memory and at < run.memory_tokens else disk
        gain += PREFILL.block_s(at, tokens) - tier.load_s(tokens)
        best = max(best, gain)
        at += tokens
    return best


@st.composite
def runs(draw: st.DrawFn) -> Run:
    tokens = draw(st.integers(1, 12 * BLOCK))
    ends = sorted(draw(st.integers(0, -(-tokens // BLOCK))) for _ in range(3))
    gpu, memory, held = (min(tokens, blocks * BLOCK) for blocks in ends)
    return Run(tokens, gpu, memory, held)


@given(st.lists(runs(), min_size=1, max_size=5), st.floats(0.05, 5.0), st.floats(0.1, 20.0), st.booleans())
@settings(max_examples=150, deadline=None)
def test_no_leading_run_saves_more_than_the_one_that_is_loaded(
    told: list[Run], pace: float, memory_pace: float, weighs_memory: bool
) -> None:
    disk, memory = Disk(16, BLOCK, pace, 0.5), Disk(16, BLOCK, memory_pace, 0.1) if weighs_memory else None
    done = weigh(told, PREFILL, disk, choose=True, memory=memory)
    assert done.saved_s == pytest.approx([tried(run, disk, memory) for run in told], abs=1e-6)
    assert (done.with_s >= -1e-9).all()


@given(st.lists(runs(), min_size=1, max_size=20), st.floats(0.05, 5.0), st.floats(1.0, 10.0))
@settings(max_examples=50, deadline=None)
def test_a_faster_disk_never_saves_less(told: list[Run], pace: float, times: float) -> None:
    for choose in (True, False):
        slow, fast = (weigh(told, PREFILL, Disk(16, BLOCK, each), choose=choose) for each in (pace, pace * times))
        assert (fast.saved_s >= slow.saved_s - 1e-9).all()


def test_early_blocks_come_along_where_the_whole_run_saves_time() -> None:
    disk = Disk(16, BLOCK, 0.4, 0.0)  # 40 s a block; computing takes 16, 41.6, 67.2 s
    short, long = weigh([Run(48, 0, 0, 32), Run(48, 0, 0, 48)], PREFILL, disk, choose=True).saved_s
    assert short == 0
    assert long == pytest.approx(16 + 41.6 + 67.2 - 3 * 40)
    always = weigh([Run(48, 0, 0, 32)], PREFILL, disk, choose=False)
    assert always.saved_s == pytest.approx([16 + 41.6 - 80])
    assert (always.loaded_blocks, weigh([Run(48, 0, 0, 32)], PREFILL, disk, choose=True).loaded_blocks) == (2, 0)


def test_what_is_left_is_what_is_computed_and_loaded() -> None:
    done = weigh([Run(40, 0, 16, 32)], PREFILL, Disk(16, BLOCK, 1.0, 0.0), choose=False)
    assert done.without_s == pytest.approx([41.6 + 8 * (1 + 3.2)])
    assert done.with_s == pytest.approx([16 + 8 * (1 + 3.2)])


def test_no_prompts_save_nothing() -> None:
    assert weigh([], PREFILL, Disk(16, BLOCK, 1.0), choose=True).saved_s.size == 0


def test_each_prompt_has_a_run_and_hits_are_their_blocks() -> None:
    prompts = conversations(300, 1)
    for done in (play(prompts, make("lru", 1500), BLOCK, memory_slots=40), belady(prompts, 200, BLOCK)):
        assert len(done.runs) == len(prompts)
        assert sum((run.held_tokens - run.memory_tokens) // BLOCK for run in done.runs) == done.hit_blocks
        assert done.hit_blocks > 0


def test_the_gpus_answer_before_memory_and_memory_before_the_disk() -> None:
    prompts: list[Prompt] = [([1, 2, 3, 4], 4 * BLOCK)] * 2
    done = play(prompts, make("lru", 9), BLOCK, gpu_slots=1, memory_slots=3)
    assert done.runs[1] == Run(4 * BLOCK, BLOCK, 3 * BLOCK, 4 * BLOCK)
    assert (done.gpu_hit_blocks, done.memory_hit_blocks, done.hit_blocks) == (1, 2, 1)


def test_replicas_share_a_disk_but_not_their_memory() -> None:
    prompts: list[Prompt] = [([1, 2], 2 * BLOCK)] * 2
    disk = make("lru", 9)
    shared = play_at(prompts, [Tiers(Lru(9), Lru(0), disk), Tiers(Lru(9), Lru(0), disk)], BLOCK)
    assert (shared.gpu_hit_blocks, shared.hit_blocks) == (0, 2)
    apart = play_at(prompts, [Tiers(Lru(9), Lru(0), make("lru", 9)) for _ in range(2)], BLOCK)
    assert (apart.gpu_hit_blocks, apart.hit_blocks) == (0, 0)
    sent = play_at(prompts, [Tiers(Lru(9), Lru(0), None)] * 2, BLOCK, places=[1, 1])
    assert sent.gpu_hit_blocks == 2


@pytest.mark.parametrize("slots", [5, 60])
def test_an_lru_tier_holds_whole_prefixes(slots: int) -> None:
    tier = Lru(slots)
    for keys, _ in popular(200, 30, 1) + conversations(100, 2):
        tier.use(keys)
        held = np.array([key in tier for key in keys])
        assert (np.diff(held.astype(int)) <= 0).all()
