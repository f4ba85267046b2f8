"""`optiinfra kv simulate` and `kv plan`: rows, tables, the page, the command that follows, and errors."""

from __future__ import annotations

import html
import json
import math
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from kvtier.study import Row
from optiinfra import kv_files
from optiinfra.cli import app
from optiinfra.kv_charts import lines, panels
from optiinfra.kv_page import cells
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
    assert "300 prompts, blocks of 512 tokens and 64 MiB, prefill at 3,956 TFLOP/s: 8 H100 at" in done.stdout
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


def test_all_beside_a_name_is_all(files: tuple[Path, Path]) -> None:
    rows = json.loads(run(files, "--capacity", "5GB", "--policy", "belady,all", "--json").stdout)
    assert [row["policy"] for row in rows][:2] == ["belady", "fifo"]
    assert len(rows) == 9


def test_prompts_without_a_block_count(files: tuple[Path, Path]) -> None:
    rows = [{"timestamp": at, "input_length": 600, "output_length": 1, "hash_ids": [1, 2][:at]} for at in (0, 2, 2)]
    files[0].write_text("\n".join(map(json.dumps, rows)))
    done = run(files, "--capacity", "5GB", "--policy", "all")
    assert done.exit_code == 0, done.output
    assert "trace.jsonl: 3 prompts" in done.stdout


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
        pytest.param(
            0, '{"timestamp": 1, "input_length": 5, "output_length": 1, "hash_ids": []}', "no prompt has", id="no ids"
        ),
        pytest.param(
            0,
            '{"timestamp": 1, "input_length": 90000000000, "output_length": 1, "hash_ids": [1]}',
            "a prompt of 90,000,000,000 tokens",
            id="too many tokens",
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


def plan(files: tuple[Path, Path], *more: str) -> Result:
    given = ["--trace", str(files[0]), "--model", str(files[1]), "--gpu", "L4", "--gpu-memory-utilization", "0.8"]
    given += [] if "--replicas" in more else ["--replicas", "1"]
    return CliRunner().invoke(app, ["kv", "plan", *given, *more])


def test_a_plan_ends_with_the_command_that_writes_its_flags(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = plan(files, "--disk", "5GB,50GB", "--overhead", "0.01", "--mfu", "0.05", "--disk-price", "0.0001")
    assert done.exit_code == 0, done.output
    assert "\nAdd 50 GB of disk, behind 16 GB of host memory: " in done.stdout
    assert "Rests on 300 prompts in 0.0083 h." in done.stdout
    before, after = map(float, re.findall(r"Throughput of these GPUs ([\d.]+) → ([\d.]+) prompts", done.stdout)[0])
    assert after > before > 0
    line = done.stdout.strip().splitlines()[-1]
    assert line.startswith("next: optiinfra kv config --for vllm ")
    written = CliRunner().invoke(app, shlex.split(line)[2:])
    assert written.exit_code == 0, written.output
    assert '"cap_gb": 50' in written.stdout
    assert '"cpu_bytes_to_use": 16000000000' in written.stdout


def test_a_plan_as_json_says_the_same(files: tuple[Path, Path]) -> None:
    more = ["--disk", "5GB,50GB", "--overhead", "0.01", "--mfu", "0.05", "--disk-price", "0.0001", "--json"]
    told = json.loads(plan(files, *more).stdout)
    assert told["verdict"] == "add"
    assert told["words"].startswith("Add 50 GB of disk")
    assert told["next"].startswith("optiinfra kv config --for vllm ")
    assert [each["disk_bytes"] for each in told["options"]] == [5 * 10**9, 50 * 10**9]
    assert told["best"] == told["options"][1]
    assert told["best"]["saved_usd_month"] > told["best"]["cost_usd_month"] > 0
    assert told["prefill_s"] == pytest.approx(told["base"]["prefill_s"])


def test_a_plan_takes_as_many_replicas_as_the_trace_keeps_busy(files: tuple[Path, Path]) -> None:
    told = json.loads(plan(files, "--disk", "5GB", "--replicas", "0", "--json").stdout)
    one = json.loads(plan(files, "--disk", "5GB", "--json").stdout)
    assert (one["replicas"], one["load_replicas"] > 2) == (1, True)
    assert told["replicas"] == math.ceil(one["load_replicas"])


def test_no_flags_are_named_for_a_disk_that_replicas_share(files: tuple[Path, Path]) -> None:
    more = [
        "--disk",
        "50GB",
        "--overhead",
        "0.01",
        "--mfu",
        "0.05",
        "--disk-price",
        "0.0001",
        "--shared-disk",
        "--json",
    ]
    alone, shared = (json.loads(plan(files, *more, "--replicas", each).stdout) for each in ("1", "3"))
    assert alone["verdict"] == shared["verdict"] == "add"
    assert alone["next"] is not None
    assert shared["next"] is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--kv-dtype", "fp8"], "has no --kv-cache-dtype fp8, which"),
        (["--gpus", "2", "--tensor-parallel", "1"], "has no --pipeline-parallel-size 2, which"),
    ],
)
def test_no_command_deploys_another_server(files: tuple[Path, Path], more: list[str], said: str) -> None:
    given = ["--disk", "50GB", "--overhead", "0.001", "--mfu", "0.01", "--disk-price", "0.0001", "--json"]
    told = json.loads(plan(files, *given, *more).stdout)
    assert told["verdict"] == "add"
    assert told["next"] is None
    assert said in " ".join(told["notes"])


def test_a_plan_that_adds_nothing_names_no_command(files: tuple[Path, Path]) -> None:
    more = ["--disk", "50GB", "--overhead", "0.01", "--mfu", "0.05", "--disk-bandwidth", "1MB/s"]
    done = plan(files, *more)
    assert done.exit_code == 0, done.output
    assert "Do nothing: loading is slower than computing at 0.001 GB/s" in done.stdout
    assert "next:" not in done.stdout
    assert json.loads(plan(files, *more, "--json").stdout)["next"] is None


@pytest.mark.parametrize(
    ("more", "said"),
    [
        pytest.param(["--gpu", "T800"], "no GPU 'T800'. One of A100-40", id="gpu"),
        pytest.param(["--gpus", "3", "--tensor-parallel", "2"], "3 GPUs are no multiple of 2", id="ranks"),
        pytest.param(["--trace", "."], ".: a folder. Name a trace in it", id="folder"),
        pytest.param(["--disk", "1MB"], "hold no block of 67,108,864. Give a larger tier", id="disk"),
        pytest.param(["--host-memory", "1MB"], "--host-memory: 1,000,000 bytes hold no block", id="memory"),
    ],
)
def test_a_plan_refuses_with_the_edit(files: tuple[Path, Path], more: list[str], said: str) -> None:
    done = plan(files, *more)
    assert done.exit_code == 2
    assert said in done.stderr


def test_the_page_holds_what_the_rows_say(files: tuple[Path, Path], tmp_path: Path) -> None:
    page = tmp_path / "kv.html"
    more = ["--capacity", "5GB,20GB", "--policy", "lru,optiinfra,belady", "--bandwidth", "1GB/s,14GB/s"]
    done = run(files, *more, "--html", str(page), "--json")
    assert done.exit_code == 0, done.output
    rows = [Row(**each) for each in json.loads(done.stdout)]
    text = page.read_text()
    found = re.findall(r"<tr[^>]*>(<td.*?)</tr>", text)
    told = [tuple(html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", each)) for each in found]
    by_bandwidth = sorted(rows, key=lambda row: row.bandwidth_bytes_per_s)
    assert told == [cells(row) for row in by_bandwidth]
    assert text.count("<svg") == 2
    assert "http" not in re.sub(r'xmlns(:\w+)?="[^"]*"|http-equiv', "", text)
    assert "optiinfra kv simulate --trace" in text
    for panel in panels(64 * 2**20):
        assert panel.title in html.unescape(text)
    again = run(files, *more, "--html", str(page))
    assert again.exit_code == 0
    assert page.read_text().replace(" --json", "") == text.replace(" --json", "")


def test_pictures_draw_each_policy_over_capacity(files: tuple[Path, Path]) -> None:
    rows = [
        Row(**each) for each in json.loads(run(files, "--capacity", "20GB,5GB", "--policy", "lru", "--json").stdout)
    ]
    hits, tokens, written, *_ = (lines(rows, panel) for panel in panels(64 * 2**20))
    small, large = sorted(rows, key=lambda row: row.capacity_bytes)
    assert hits["lru"] == [(5.0, 100 * small.hit_blocks / small.asked_blocks), (20.0, pytest.approx(hits["lru"][1][1]))]
    assert tokens["lru"][1] == (20.0, large.saved_tokens / 1e6)
    assert written["lru"][0] == (5.0, small.written_blocks * 64 * 2**20 / 1e12)


def test_a_page_that_cannot_be_written_is_named(files: tuple[Path, Path], tmp_path: Path) -> None:
    done = run(files, "--policy", "lru", "--capacity", "5GB", "--html", str(tmp_path / "no" / "kv.html"))
    assert done.exit_code == 2
    assert "Name a file that can be written." in done.stderr


def test_a_reader_of_another_format_is_chosen_by_the_ending(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = files[0].rename(files[0].with_name("trace.events.jsonl"))
    monkeypatch.setitem(
        kv_files.READERS, ".events.jsonl", lambda _: kv_files.Recorded([([1], 10)], [0.0], [0], block_tokens=64)
    )
    done = run((other, files[1]), "--policy", "lru", "--capacity", "5GB")
    assert "1 prompts, blocks of 64 tokens and 8 MiB" in done.stdout
