"""`optiinfra pools` says whether a split by length of prompt pays, with the numbers that say so."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from optiinfra.cli import app


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    """Many short prompts, and some that hold a replica up for seconds."""
    rng, path = np.random.default_rng(2), tmp_path / "some.csv"
    lengths = np.where(rng.random(300) < 0.9, rng.integers(100, 400, 300), rng.integers(8000, 12_000, 300))
    lines = [f"2023-11-16 18:{n // 60:02}:{n % 60:02}.00,{length},40" for n, length in enumerate(lengths)]
    path.write_text("\n".join(["TIMESTAMP,ContextTokens,GeneratedTokens", *lines]))
    return path


def told(*words: str | Path) -> str:
    result = CliRunner().invoke(app, ["pools", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_a_split_is_told_with_what_each_pool_needs(trace: Path) -> None:
    words = ("--trace", trace, "--demand", "60", "--edge", "2048", "--ttft", "4s")
    found = json.loads(told(*words, "--json"))
    assert len(found["pools"]) == found["pools_wanted"]
    assert sum(each["share"] for each in found["pools"]) == pytest.approx(1)
    assert found["replicas_saved_by_pools"] == found["replicas_in_one_pool"] - sum(
        each["replicas"] for each in found["pools"]
    )
    assert all(each["replicas"] >= each["load"] for each in found["pools"])
    text = told(*words)
    assert found["words"] in text
    assert "on the twin" in text


def test_a_small_demand_is_served_by_one_pool(trace: Path) -> None:
    found = json.loads(told("--trace", trace, "--demand", "0.5", "--ttft", "4s", "--json"))
    assert found["pools_wanted"] == 1
    assert found["words"].startswith("no split")


def test_what_cannot_be_served_or_read_is_said(trace: Path, tmp_path: Path) -> None:
    for words, what in (
        (("--trace", trace, "--ttft", "0.001s"), "one replica cannot serve this mix"),
        (("--trace", trace, "--engine", "llama2-70b"), "is no engine"),
        (
            (
                "--trace",
                tmp_path / "none.csv",
            ),
            "none.csv",
        ),
    ):
        result = CliRunner().invoke(app, ["pools", "--demand", "5", *map(str, words)])
        assert result.exit_code == 2
        assert what in result.stderr
