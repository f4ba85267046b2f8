"""A span cut out of a trace is that span, at its time of day; single requests agree with their load in every second."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectors.traces import reading
from connectors.traces.cut import Cut
from connectors.traces.lengths import AZURE, Mix, curve
from connectors.traces.shape import Load, Requests
from contracts.errors import ConfigError
from tests.connectors.traces import tables


@given(
    arrivals=st.lists(st.floats(0, 99.9), min_size=2, max_size=60).map(sorted),
    from_s=st.integers(0, 120),
    for_s=st.none() | st.integers(1, 120),
)
def test_requests_and_load_agree_in_every_second_wherever_they_are_cut(
    arrivals: list[float], from_s: int, for_s: int | None
) -> None:
    count = np.arange(len(arrivals))
    whole = Requests(np.array(arrivals), count, count, "a test", "", tuple((int(n),) for n in count), 3600.0)
    load, cut = whole.load("chat"), Cut(from_s, for_s)
    size = len(load.per_second)
    if from_s >= size:
        with pytest.raises(ConfigError, match="the trace ends"):
            cut.load(load)
        return
    part, single = cut.load(load), cut.requests(whole, size)
    assert part.per_second.tolist() == load.per_second[from_s : size if for_s is None else from_s + for_s].tolist()
    counted = np.bincount(single.arrival_s.astype(int), minlength=len(part.per_second))
    assert counted.tolist() == part.per_second.tolist()
    assert part.begin_s == single.midnight_s == 3600 + from_s
    assert single.prompt_tokens is not None
    assert single.blocks == tuple((int(n),) for n in single.prompt_tokens)


def test_a_day_later_it_is_the_same_time_of_day() -> None:
    load = Load("chat", np.ones(3 * 86_400, dtype=np.int64), "a test", begin_s=7200)
    part = Cut(86_400 * 2, 3600).load(load)
    assert (part.begin_s, len(part.per_second)) == (7200, 3600)
    assert part.origin == "a test, seconds 172800 to 176400"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tables.servegen(
        tmp_path / "s",
        [f"chat,{600 * n},{n + 1}" for n in range(4)],
        [f"chat,{name},{600 * n},{n + 1},1,Gamma,1,1" for n in range(4) for name in ("a", "b")],
    )
    stats = [
        f"chat,{client},{at_s},{field}_tokens,{mean},{mean},{mean},{mean}"
        for client, at_s, field, mean in (
            *(("a", at_s, field, mean) for at_s in (0, 1200) for field, mean in (("input", 50), ("output", 5))),
            *(("b", 1200, field, mean) for field, mean in (("input", 900), ("output", 90))),
        )
    ]
    tables.write(made / "client_token_stats.csv", ["workload,client,t_s,field,mean,p50,p90,p99", *stats])
    return made


def test_servegen_requests_are_drawn_into_the_seconds_of_its_load_with_their_clients_lengths(folder: Path) -> None:
    load, single = reading.requests(folder, "chat", 3)
    assert np.bincount(single.arrival_s.astype(int), minlength=2400).tolist() == load.per_second.tolist()
    assert load.per_second.tolist() == reading.load(folder, "chat", 3).per_second.tolist()
    assert single.prompt_tokens is not None
    assert single.output_tokens is not None
    early = single.arrival_s < 1200
    assert set(single.prompt_tokens[early]) == {50}
    assert set(single.prompt_tokens[~early]) == {50, 900}
    assert np.mean(single.prompt_tokens[~early] == 900) == pytest.approx(0.5, abs=0.05)
    assert set(single.output_tokens) == {5, 90}
    assert "each client's published" in single.generated


def test_a_span_of_servegen_has_the_lengths_of_its_own_hours(folder: Path) -> None:
    _, single = reading.requests(folder, "chat", 3, cut=Cut(1200, 600))
    assert single.prompt_tokens is not None
    assert set(single.prompt_tokens) == {50, 900}


def test_the_same_seed_draws_the_same_requests_and_another_does_not(folder: Path) -> None:
    drawn = [reading.requests(folder, "chat", seed)[1].arrival_s.tolist() for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_without_published_lengths_they_are_those_of_a_chat(folder: Path) -> None:
    (folder / "client_token_stats.csv").unlink()
    _, single = reading.requests(folder, "chat", 3)
    assert single.prompt_tokens is not None
    assert "Azure" in single.generated
    assert float(np.mean(single.prompt_tokens)) == pytest.approx(1155, rel=0.1)


def test_lengths_lie_on_the_published_percentiles_and_have_the_published_mean() -> None:
    prompt, output = AZURE.draw(200_000, np.random.default_rng(1))
    assert prompt.mean() == pytest.approx(1155, rel=0.02)
    assert output.mean() == pytest.approx(211, rel=0.02)
    ratio = np.percentile(prompt, (90, 99)) / np.percentile(prompt, 50)
    assert ratio == pytest.approx([2734 / 1020, 4147 / 1020], rel=0.03)


def test_a_length_is_never_less_than_a_token() -> None:
    tiny = curve(0.0, 0.0, 0.0, 0.0)[None]
    prompt, output = Mix(np.ones(1), tiny, tiny).draw(100, np.random.default_rng(1))
    assert set(prompt) == set(output) == {1}
