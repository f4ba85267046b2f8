"""The disk tier in a real vLLM on the CPU (`make test-vllm`): blocks are written, served after a kill -9, evicted under
a cap, and computed anew where the slab was damaged or computing is faster; what the server answers is always what it
answered cold."""

from __future__ import annotations

import fcntl
from pathlib import Path
from random import Random

import pytest

from kvtier.engine.terms import Settings
from kvtier.engine.tier import DiskTier
from tests.kvtier.real_vllm.server import (
    BLOCK_BYTES,
    CHUNK_HITS,
    FROM_DISK,
    answer,
    metric,
    ours,
    page,
    scraped,
    served,
    tiered,
)

PROMPTS = 16
pytestmark = pytest.mark.timeout(1200)


def answers() -> list[str]:
    """What the server says to every prompt."""
    return [answer(number) for number in range(PROMPTS)]


def test_a_real_server_keeps_its_prefixes_over_a_kill_and_computes_what_is_damaged_or_faster_so(
    model: Path, tmp_path: Path
) -> None:
    disk, log = tmp_path / "disk", tmp_path / "server.log"
    DiskTier(disk / "another-model", Settings(1 << 20, 4096, "another")).close()
    with served(model, log, tiered(disk, 0.1)):
        cold = answers()
        written = ours("blocks")
        assert written > 5 * PROMPTS
        assert metric(*FROM_DISK) == 0
        assert answers() == cold
        raw = page()
        assert metric(*FROM_DISK, raw) == pytest.approx(written * 64, rel=0.1)
        assert metric(*CHUNK_HITS, raw) == pytest.approx(written, rel=0.1)
        assert ours("recomputed_blocks_total", raw) == 0
        assert scraped(raw).problems == ()
        assert "Not in use now: " in log.read_text()
        assert "another-model (0.0 GB, last written" in log.read_text()
    with served(model, log, tiered(disk, 0.1, prefill_tokens_per_s=1.0)):  # slower than any disk
        assert answers() == cold
        assert ours("recovered_blocks_total") == written
        assert metric(*FROM_DISK) == pytest.approx(written * 64, rel=0.1)
    with served(model, log, tiered(disk, 0.1, prefill_tokens_per_s=1e9)):  # faster than any
        assert answers() == cold
        raw = page()
        assert 0 < metric(*FROM_DISK, raw) <= 9 * written * 64 / PROMPTS, "the first eight, to measure loads"
        assert ours("recomputed_blocks_total", raw) >= written * (PROMPTS - 9) / PROMPTS
        assert ours("blocks", raw) == written
    _damage(next(disk.glob("*/slab-00000.kv")), round(written))
    with served(model, log, tiered(disk, 0.1)):
        assert answers() == cold
        assert ours("corrupt_blocks_total") >= PROMPTS
        assert metric(*FROM_DISK) < written * 64 / 2


def test_a_real_server_evicts_under_a_cap_that_holds(model: Path, tmp_path: Path) -> None:
    disk, cap_gb = tmp_path / "disk", 0.005
    with served(model, tmp_path / "server.log", tiered(disk, cap_gb)):
        cold = answers()
        assert answers() == cold
        raw = page()
        assert ours("evicted_blocks_total", raw) > 50
        assert ours("blocks", raw) == ours("slots", raw) > 50
        assert sum(path.stat().st_size for path in disk.rglob("*")) <= cap_gb * 1e9 + 3 * 4096


def test_a_real_server_whose_folder_another_holds_lives_without_a_disk(model: Path, tmp_path: Path) -> None:
    disk, log = tmp_path / "disk", tmp_path / "server.log"
    with served(model, log, tiered(disk, 0.1)):
        cold = answers()
        assert ours("blocks") > 5 * PROMPTS
    (lock,) = disk.glob("*/lock")
    with lock.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with served(model, log, tiered(disk, 0.1)):
            assert answers() == cold
            assert metric(*FROM_DISK) == 0
    assert "The disk tier stays closed, and every lookup misses" in log.read_text()
    assert "another process holds it" in log.read_text()


def test_each_rank_of_a_real_server_has_a_folder_of_its_own_and_finds_it_again(model: Path, tmp_path: Path) -> None:
    disk, log = tmp_path / "disk", tmp_path / "server.log"
    flags = [*tiered(disk, 0.1), "--data-parallel-size", "2"]
    with served(model, log, flags):
        cold = answers()
        folders = sorted(path.name for path in disk.iterdir())
        assert folders == [folders[0], f"{folders[0]}-rank1"]
        assert "stays closed" not in log.read_text()
    with served(model, log, flags):
        assert answers() == cold
        assert ours("recovered_blocks_total") > 5 * PROMPTS


def _damage(slab: Path, blocks: int) -> None:
    raw, chance = bytearray(slab.read_bytes()), Random(1)
    for block in range(0, blocks, 2):
        raw[block * BLOCK_BYTES + chance.randrange(BLOCK_BYTES)] ^= 1 << chance.randrange(8)
    slab.write_bytes(raw)
