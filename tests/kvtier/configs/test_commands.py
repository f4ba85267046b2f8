"""`optiinfra kv config` and `kv lint`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from optiinfra.cli import app
from tests.kvtier.configs.linted import serve, transfer

ASKED = ("config", "--for", "vllm", "--version", "0.32", "--memory", "64GiB", "--disk", "1TB", "--folder", "/no/such")


def run(*words: str, told: str | None = None) -> Result:
    return CliRunner().invoke(app, ["kv", *words], input=told)


def test_what_is_written_can_be_piped_into_the_lint() -> None:
    written = run(*ASKED)
    assert written.exit_code == 0
    assert "note:" in written.stderr
    assert "note:" not in written.stdout
    linted = run("lint", "-", told=written.stdout)
    assert (linted.exit_code, linted.stdout) == (0, "Nothing found.\n")


def test_json_has_text_form_and_notes() -> None:
    told = json.loads(run(*ASKED, "--json").stdout)
    assert set(told) == {"text", "form", "notes"}
    assert told["form"] == "shell"


def test_an_error_ends_with_code_1_and_a_warning_does_not(tmp_path: Path) -> None:
    wrong, poor = tmp_path / "wrong.sh", tmp_path / "poor.sh"
    wrong.write_text(serve(transfer(cpu_bytes_to_use=None)))
    poor.write_text(serve(transfer(evicton_policy="arc")))
    assert run("lint", str(wrong)).exit_code == 1
    assert run("lint", str(poor)).exit_code == 0
    told = json.loads(run("lint", str(wrong), str(poor), "--json").stdout)
    assert not told["ok"]
    assert [set(each) for each in told["findings"]] == [{"code", "severity", "where", "message", "fix"}] * 2
    assert told["findings"][0]["where"] == str(wrong)


def test_a_folder_of_this_machine_is_measured_and_a_figure_goes_before_it(tmp_path: Path) -> None:
    tier = {"type": "OptiInfraDiskTier", "module_path": "kvtier.adapter", "root_dir": str(tmp_path), "cap_gb": 10**9}
    text = serve(transfer(tier))
    assert "disk-space" in run("lint", "-", told=text).stdout
    assert run("lint", "-", "--disk-free", "1000000000GB", told=text).exit_code == 0
    assert run("lint", "-", "--disk-free", "1GB", told=text.replace(str(tmp_path), "/no/such")).exit_code == 1


@pytest.mark.parametrize(
    ("flags", "code"),
    [
        (("--vllm", "0.13"), "missing-key"),
        (("--host-memory", "63GiB"), "host-memory"),
        (("--host-memory", "127GiB", "--replicas", "2"), "host-memory"),
        (("--gpu-kv", "80GiB"), "tier-too-small"),
        (("--gpu-block", "48"), "block-size"),
    ],
)
def test_what_is_told_of_the_machine_is_used(flags: tuple[str, ...], code: str) -> None:
    text = serve(transfer(block_size=64))
    assert run("lint", "-", told=text).stdout == "Nothing found.\n"
    assert code in run("lint", "-", *flags, told=text).stdout


def test_a_model_tells_the_size_of_a_request_and_of_a_block(tmp_path: Path) -> None:
    model = tmp_path / "config.json"
    model.write_text(
        json.dumps({"num_hidden_layers": 80, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 128})
    )
    told = serve(transfer(), "--max-model-len 262144")
    assert "one request of 262,144 tokens" in run("lint", "-", "--model", str(model), told=told).stdout
    old = ("config", "--for", "vllm", "--version", "0.13", "--memory", "50GiB")
    assert '"num_cpu_blocks": 10240' in run(*old, "--model", str(model)).stdout
    assert run(*old).exit_code == 2


@pytest.mark.parametrize("words", [("lint", "/no/such/file"), ("lint", "-", "--vllm", "new"), (*ASKED[:6], "much")])
def test_what_cannot_be_used_is_refused_with_code_2(words: tuple[str, ...]) -> None:
    refused = run(*words, told=serve(transfer()))
    assert refused.exit_code == 2
    assert refused.stderr
