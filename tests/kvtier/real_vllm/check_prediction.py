"""What a real server was asked is recorded, and played against the simulator: it says what the disk then served."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest

from kvtier.simulator import Prompt
from optiinfra.kv_files import read_trace
from tests.kvtier.real_vllm.server import (
    BLOCK_BYTES,
    BLOCK_TOKENS,
    FROM_DISK,
    GPU_BLOCK_TOKENS,
    GPU_BLOCKS,
    ROOT,
    VENV,
    answer,
    metric,
    ours,
    page,
    served,
    tiered,
)

SLOTS = 100
pytestmark = pytest.mark.timeout(1200)


@pytest.mark.parametrize("policy", ["lru", "optiinfra"])
def test_the_simulator_says_what_the_disk_of_a_real_server_serves(model: Path, tmp_path: Path, policy: str) -> None:
    trace, chance = tmp_path / "requests.jsonl", Random(1)
    asked = chance.choices(range(24), [1 / (1 + rank) for rank in range(24)], k=120)
    cap_bytes = SLOTS * (BLOCK_BYTES + 128)
    record = {"record": str(trace), "record_block_tokens": BLOCK_TOKENS}
    flags = tiered(tmp_path / "disk", cap_bytes / 1e9, policy=policy, **record)
    with served(model, tmp_path / "server.log", flags):
        for number, document in enumerate(asked):
            answer(document, f"question {number} of many, what is word{number}?" if number % 2 else "")
        raw = page()
    served_tokens, written = metric(*FROM_DISK, raw), ours("blocks", raw) + ours("evicted_blocks_total", raw)
    recorded = read_trace(trace)
    prompts, block_tokens = recorded.prompts, recorded.block_tokens
    assert ours("unrecorded_requests_total", raw) == 0
    assert [len(prompts), block_tokens] == [len(asked), BLOCK_TOKENS]
    assert len({keys[:1] for keys, _ in prompts}) == len(set(asked)), "a document begins with the same block every time"
    said = _simulated(trace, model / "config.json", cap_bytes, _memory_slots(prompts), policy)
    print(f"{policy}: from disk {served_tokens:,.0f} tokens, said {said['saved_tokens']:,}; ", end="")
    print(f"written {written:,.0f} blocks, said {said['written_blocks']:,}")
    assert served_tokens == pytest.approx(said["saved_tokens"], rel=0.15)
    assert written == pytest.approx(said["written_blocks"], rel=0.15)


def _memory_slots(prompts: list[Prompt]) -> int:
    """Blocks of prompts that the GPU holds. Each prompt takes two of the GPU's more, for its end and the answer. The
    memory below holds the newest of the same, and adds nothing."""
    mean = sum(len(keys) for keys, _ in prompts) / len(prompts)
    return int(GPU_BLOCKS / (mean * BLOCK_TOKENS / GPU_BLOCK_TOKENS + 2) * mean)


def _simulated(trace: Path, config: Path, cap_bytes: int, memory_slots: int, policy: str) -> dict[str, int]:
    command = [sys.executable, "-m", "optiinfra", "kv", "simulate", "--json", "--policy", policy]
    files = ["--trace", str(trace), "--model", str(config)]
    sizes = ["--capacity", f"{cap_bytes / 1000:.3f}kB", "--memory", f"{memory_slots * BLOCK_BYTES / 1024}KiB"]
    done = subprocess.run([*command, *files, *sizes], cwd=ROOT, capture_output=True, text=True, check=True)
    (row,) = json.loads(done.stdout)
    return dict(row)


def test_the_events_of_a_server_without_a_tier_are_a_trace_too(model: Path, tmp_path: Path) -> None:
    endpoint, trace = f"ipc://{tmp_path}/events", tmp_path / "requests.jsonl"
    events = {"enable_kv_cache_events": True, "publisher": "zmq", "endpoint": endpoint}
    asked = [(0, ""), (1, ""), (0, "what is it?"), (2, ""), (3, ""), (4, ""), (5, ""), (0, "")]
    command = [str(VENV / "bin/python"), "-m", "kvtier.serving.listen", endpoint, str(trace)]
    options = ["--block-tokens", str(GPU_BLOCK_TOKENS), "--pause", "0.7"]
    listener = subprocess.Popen([*command, *options], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    with served(model, tmp_path / "server.log", ["--kv-events-config", json.dumps(events)]):
        for document, question in asked:
            answer(document, question)
            time.sleep(1.5)
    listener.terminate()
    _, told = listener.communicate(timeout=30)
    recorded = read_trace(trace)
    prompts, block_tokens = recorded.prompts, recorded.block_tokens
    print(told, [len(keys) for keys, _ in prompts])
    assert "0 messages missed, 0 blocks of unknown beginning" in told
    assert block_tokens == GPU_BLOCK_TOKENS
    first = [keys[:8] for keys, _ in prompts]
    assert [first.index(each) for each in first] == [0, 1, 0, 3, 4, 5, 6, 0], "who asks of the same document"
