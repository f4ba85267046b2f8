"""What the disk tier records of a live engine is a trace that the simulator plays, in blocks as long as recorded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kvtier.serving.recorder import Recorder
from optiinfra.cli import app
from optiinfra.kv_files import read_trace

MODEL = {
    "num_hidden_layers": 2,
    "hidden_size": 256,
    "intermediate_size": 512,
    "vocab_size": 1024,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "torch_dtype": "bfloat16",
}
BLOCK_BYTES = 64 * 2 * 2 * 2 * 64 * 2


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """Three documents of ten blocks, asked for in turn, three times."""
    recorder = Recorder(tmp_path / "requests.jsonl", 64, 1 << 20, 64)
    for turn in range(9):
        keys = [bytes([turn % 3, block]) * 18 for block in range(10)]
        recorder.note(1.7e9 + turn, keys, 0)
    recorder.close()
    return tmp_path / "requests.jsonl"


def test_a_recording_is_read_in_blocks_as_long_as_recorded(recorded: Path) -> None:
    found = read_trace(recorded)
    assert found.block_tokens == 64
    assert [tokens for _, tokens in found.prompts] == [640] * 9
    assert found.prompts[0][0] == found.prompts[3][0] != found.prompts[1][0]


@pytest.mark.parametrize(("slots", "hits"), [(30, 60), (29, 0)])
def test_the_simulator_plays_a_recording(recorded: Path, tmp_path: Path, slots: int, hits: int) -> None:
    (tmp_path / "config.json").write_text(json.dumps(MODEL))
    asked = ["kv", "simulate", "--trace", str(recorded), "--model", str(tmp_path / "config.json"), "--policy", "lru"]
    done = CliRunner().invoke(app, [*asked, "--capacity", f"{slots * BLOCK_BYTES / 1000:.3f}kB", "--json"])
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout)
    assert [row["hit_blocks"], row["saved_tokens"]] == [hits, hits * 64]
