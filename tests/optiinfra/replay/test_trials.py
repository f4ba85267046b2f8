"""A trial on the twin says what a replica bears, and `optiinfra tune` searches with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from agents.performance.core.trials import Setting
from connectors.twin.offline import simulate
from connectors.twin.spec import EngineSpec
from contracts.errors import ConfigError
from optiinfra.cli import app
from optiinfra.replay.pools import fewest, serve
from optiinfra.replay.trials import Goal, Mix, TwinTrials, settings_of

KIND = "llama2-70b/h100-80gb"


def mix(count: int = 300) -> Mix:
    rng = np.random.default_rng(4)
    return Mix(rng.integers(50, 2000, count), rng.integers(10, 200, count), "drawn")


def test_routed_to_the_fewest_it_is_what_the_twins_fleet_does() -> None:
    trace = mix().arriving(8.0, 1)
    own = serve(trace, [EngineSpec()] * 3, fewest)
    theirs = simulate(trace, EngineSpec(), replicas=3)
    assert own.ttft_s == pytest.approx(theirs.ttft_s)
    assert own.e2e_s == pytest.approx(theirs.e2e_s)
    assert own.queue_s == pytest.approx(theirs.queue_s)
    assert set(own.replica.tolist()) == {0, 1, 2}


def test_the_goodput_is_the_highest_rate_that_keeps_the_objective() -> None:
    setting, crowd = Setting(64, 512, 4), mix()
    found = TwinTrials(KIND, crowd, Goal(), 0.4).run(setting)
    assert found.kept
    assert TwinTrials(KIND, crowd, Goal(), found.goodput_rps / 4).live(setting).kept
    assert not TwinTrials(KIND, crowd, Goal(), found.goodput_rps / 4 * 1.05).live(setting).kept


def test_a_live_rate_beyond_what_is_borne_breaks_the_objective_and_tells_the_same_goodput() -> None:
    setting, crowd = Setting(64, 512, 4), mix()
    calm, dense = (TwinTrials(KIND, crowd, Goal(), rate).run(setting) for rate in (0.4, 4.0))
    assert calm.kept
    assert not dense.kept
    assert dense.goodput_rps == pytest.approx(calm.goodput_rps, rel=0.05)
    assert dense.running > calm.running


def test_settings_without_memory_for_the_longest_request_are_left_out() -> None:
    some = settings_of(KIND, 15_000, 8, (8, 64), (256, 1024))
    assert {each.tensor_parallel for each in some} == {4, 8}
    assert {each.tensor_parallel for each in settings_of(KIND, 2_000, 4, (8,), (256,))} == {2, 4}
    with pytest.raises(ConfigError, match="Engines: "):
        settings_of("gpt-9/abacus", 2_000, 8, (8,), (256,))


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path, crowd = tmp_path / "some.csv", mix(60)
    rows = zip(crowd.prompt_tokens, crowd.output_tokens, strict=True)
    lines = [f"2023-11-16 18:{n // 60:02}:{n % 60:02}.00,{a},{b}" for n, (a, b) in enumerate(rows)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    return path


def told(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["tune", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_tune_prints_the_best_setting_its_gain_and_every_trial(trace: Path) -> None:
    words = ("--trace", trace, "--max-num-seqs", "16", "--seed", "3", "--requests", "150", "--json")
    data = json.loads(told(*words))
    first, best = data["trials"][0], data["best"]
    flags = {"max_num_seqs": 16, "max_num_batched_tokens": 512, "tensor_parallel": 4}
    assert first["setting"] == flags | {"kv_offloading_size": 0, "kv_disk_gb": 0}
    assert best["trials"] == len(data["trials"])
    assert best["best_rps"] == max(each["per_gpu_rps"] for each in data["trials"])
    assert best["gain_ratio"] == pytest.approx(best["best_rps"] / first["per_gpu_rps"] - 1)
    assert best["gain_ratio"] > 0
    assert {each["setting"]["tensor_parallel"] for each in data["trials"]} == {4}
    assert told(*words) == json.dumps(data, indent=1) + "\n"


def test_tune_refuses_what_cannot_be(trace: Path) -> None:
    for words, what in (
        (("--engine", "llama2-70b"), "is no engine"),
        (("--max-num-seqs", "512"), "cannot hold"),
        (("--ttft", "0.001s"), "breaks the objective at any load"),
    ):
        result = CliRunner().invoke(app, ["tune", "--trace", str(trace), *words])
        assert result.exit_code == 2
        assert what in result.stderr
