"""`optiinfra kv simulate`: its rows, its table and its errors."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from optiinfra.cli import app
from tests.kvtier.worlds import conversations

CONFIG = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    trace, model = tmp_path / "trace.jsonl", tmp_path / "config.json"
    lines = [
        {"timestamp": 100 * at, "input_length": 512 * len(keys) - 5, "output_length": 1, "hash_ids": keys}
        for at, (keys, _) in enumerate(conversations(300, 1))
    ]
    trace.write_text("\n".join(map(json.dumps, lines)))
    model.write_text(json.dumps(CONFIG))
    return trace, model


def run(files: tuple[Path, Path], *more: str) -> Result:
    return CliRunner().invoke(app, ["kv", "simulate", "--trace", str(files[0]), "--model", str(files[1]), *more])


def test_json_has_a_row_for_each_policy_and_capacity(files: tuple[Path, Path]) -> None:
    done = run(files, "--capacity", "5GB,20GB", "--policy", "all", "--json")
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    names = {"fifo", "lru", "lfu", "arc", "s3fifo", "sieve", "gdsf", "optiinfra", "belady"}
    assert {(row["policy"], row["capacity_bytes"]) for row in rows} == {
        (name, size) for name in names for size in (5 * 10**9, 20 * 10**9)
    }
    assert len(rows) == 18
    for row in rows:
        assert {"hit_blocks", "written_blocks", "saved_tokens", "saved_s"} <= set(row)
        assert row["slots"] == row["capacity_bytes"] // (512 * 128 * 1024)


def test_each_bandwidth_has_its_row_and_a_faster_disk_saves_more(files: tuple[Path, Path]) -> None:
    done = run(files, "--capacity", "20GB", "--policy", "lru", "--bandwidth", "3.5GB/s,14GB/s", "--json")
    slow, fast = json.loads(done.stdout)
    assert (slow["bandwidth_bytes_per_s"], fast["bandwidth_bytes_per_s"]) == (3.5e9, 14e9)
    assert slow["saved_s"] < fast["saved_s"]


def test_fp8_and_memory_above_change_what_the_disk_does(files: tuple[Path, Path]) -> None:
    plain, packed, below = (
        json.loads(run(files, "--capacity", "5GB", "--policy", "lru", "--json", *more).stdout)[0]
        for more in ([], ["--kv-dtype", "fp8"], ["--memory", "5GB"])
    )
    assert packed["slots"] in (2 * plain["slots"], 2 * plain["slots"] + 1)
    assert packed["hit_blocks"] >= plain["hit_blocks"]
    assert plain["memory_hit_blocks"] == 0 < below["memory_hit_blocks"]


def test_people_get_a_table(files: tuple[Path, Path]) -> None:
    done = run(files, "--capacity", "5GB", "--policy", "lru,optiinfra,belady", "--for-time")
    assert done.exit_code == 0, done.output
    assert "300 prompts, blocks of 512 tokens and 64 MiB" in done.stdout
    assert "100.0%" in done.stdout


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param(["--policy", "mru"], "--policy: no policy mru. One of all, fifo, lru", id="policy"),
        pytest.param(["--capacity", "5XB"], "'5XB' is no size. Write 500GB", id="size"),
        pytest.param(["--bandwidth", "0GB/s"], "'0GB/s' is no bandwidth. Write 3.5GB/s", id="bandwidth"),
        pytest.param(["--capacity", "1MB"], "hold no block of 67,108,864. Give a larger tier", id="too small"),
        pytest.param(["--kv-dtype", "fp3"], "'fp3' is no KV dtype", id="type"),
    ],
)
def test_what_cannot_be_used_is_refused_with_the_edit(files: tuple[Path, Path], more: list[str], said: str) -> None:
    done = run(files, *more)
    assert done.exit_code == 2
    assert said in done.stderr


@pytest.mark.parametrize(
    ("place", "text", "said"),
    [
        pytest.param(1, "[]", "not a JSON object", id="config that is a list"),
        pytest.param(1, "{}", "no num_hidden_layers", id="empty config"),
        pytest.param(1, '{"n_layer": 12, "n_head": 12, "n_embd": 768}', "no num_attention_heads", id="GPT-2"),
        pytest.param(0, '{"timestamp": 1, "input_length": 5, "output_length": 1}', "hash_ids", id="no blocks"),
        pytest.param(
            0,
            '{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": [1, 2]}',
            "2 blocks for 5 tokens",
            id="too many blocks",
        ),
        pytest.param(0, None, "no such file", id="no trace"),
        pytest.param(1, None, "cannot be read", id="no config"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(files: tuple[Path, Path], place: int, text: str | None, said: str) -> None:
    if text is None:
        files[place].unlink()
    else:
        files[place].write_text(text)
    done = run(files, "--policy", "lru")
    assert done.exit_code == 2
    assert str(files[place]) in done.stderr
    assert said in done.stderr
