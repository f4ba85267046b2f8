"""ServeGen: any workload and any number of windows, totals that stay as measured, and drawing that repeats."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.traces import servegen
from connectors.traces.servegen import Client, Windows
from contracts.errors import ConfigError
from tests.connectors.traces import tables

RATES = ["chat,0,2.0", "chat,600,5.0", "code,0,1.0", "chat,1200,0.5"]
CLIENTS = [
    "chat,a,0,1.5,3.0,Gamma,0.1,6.0",
    "chat,b,0,0.5,1.5,Weibull,0.4,0.3",
    "chat,a,600,5.0,1.0,Gamma,1.0,0.2",
    "code,a,0,1.0,1.0,Gamma,1.0,1.0",
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tables.servegen(tmp_path, RATES, CLIENTS)


def per_window(windows: Windows, seconds: np.ndarray) -> list[int]:
    sums: list[int] = seconds.reshape(-1, windows.window_s).sum(axis=1).tolist()
    return sums


def test_a_workload_is_read_with_its_clients(folder: Path) -> None:
    windows = servegen.read(folder, "chat")
    assert windows.rate_rps.tolist() == [2.0, 5.0, 0.5]
    assert windows.clients[0] == (Client(1.5, False, 0.1), Client(0.5, True, 0.4))
    assert windows.clients[2] == ()
    assert servegen.workloads(folder) == ["chat", "code"]


def test_packed_tables_read_the_same(folder: Path, tmp_path: Path) -> None:
    packed = tables.servegen(tmp_path / "gz", RATES, CLIENTS, packed=True)
    assert servegen.read(packed, "chat").clients == servegen.read(folder, "chat").clients


@pytest.mark.parametrize("raw", [False, True])
def test_each_window_keeps_its_measured_total(folder: Path, raw: bool) -> None:
    windows = servegen.read(folder, "chat")
    assert per_window(windows, servegen.arrivals(windows, 3, raw=raw).per_second) == [1200, 3000, 300]


def test_the_same_seed_draws_the_same_and_another_seed_does_not(folder: Path) -> None:
    windows = servegen.read(folder, "chat")
    first = servegen.arrivals(windows, 3).per_second
    assert (first == servegen.arrivals(windows, 3).per_second).all()
    assert (first != servegen.arrivals(windows, 4).per_second).any()


def test_what_was_drawn_is_said(folder: Path) -> None:
    windows = servegen.read(folder, "chat")
    assert "10-minute" in servegen.arrivals(windows, 3).generated
    assert "Poisson" in servegen.arrivals(windows, 3, raw=True).generated


def test_a_later_window_changes_nothing_two_windows_before(tmp_path: Path) -> None:
    one = servegen.read(tables.servegen(tmp_path / "1", RATES, CLIENTS), "chat")
    other = servegen.read(tables.servegen(tmp_path / "2", [*RATES[:3], "chat,1200,9.0"], CLIENTS), "chat")
    first, second = (servegen.arrivals(each, 3).per_second for each in (one, other))
    assert (first[:600] == second[:600]).all()
    assert (first[600:] != second[600:]).any()


def test_rates_without_clients_are_served_by_poisson_arrivals(tmp_path: Path) -> None:
    windows = servegen.read(tables.servegen(tmp_path, RATES, None), "chat")
    assert per_window(windows, servegen.arrivals(windows, 0).per_second) == [1200, 3000, 300]


def test_a_window_that_is_missing_is_silent(tmp_path: Path) -> None:
    windows = servegen.read(tables.servegen(tmp_path, ["chat,0,2.0", "chat,300,2.0", "chat,900,2.0"]), "chat")
    assert windows.window_s == 300
    assert per_window(windows, servegen.arrivals(windows, 0).per_second) == [600, 600, 0, 600]


def test_clients_that_fall_short_are_scaled_to_the_measured_total(tmp_path: Path) -> None:
    windows = servegen.read(tables.servegen(tmp_path, ["chat,0,2.0"], [CLIENTS[1]]), "chat")
    assert per_window(windows, servegen.arrivals(windows, 0).per_second) == [1200]


def test_even_gaps_follow_the_line_from_window_middle_to_window_middle(tmp_path: Path) -> None:
    rates = ["chat,0,10.0", "chat,600,20.0", "chat,1200,10.0"]
    even = [f"chat,a,{600 * n},1.0,0.0,Gamma,1e9,1" for n in range(3)]
    seconds = servegen.arrivals(servegen.read(tables.servegen(tmp_path, rates, even), "chat"), 0).per_second
    middles = np.interp(np.arange(1800) + 0.5, [300, 900, 1500], [10.0, 20.0, 10.0]).reshape(3, 600)
    line = (middles * np.array([[10.0], [20.0], [10.0]]) / middles.mean(axis=1, keepdims=True)).reshape(-1)
    assert np.abs(seconds - line).max() <= 1.5
    assert np.abs(np.cumsum(seconds - line)).max() <= 1.5


def test_a_heavy_tail_makes_more_bursts_than_poisson(tmp_path: Path) -> None:
    rates = [f"chat,{600 * n},5.0" for n in range(6)]
    bursty = [f"chat,a,{600 * n},5.0,4.0,Gamma,0.06,3.0" for n in range(6)]
    windows = servegen.read(tables.servegen(tmp_path, rates, bursty), "chat")
    assert servegen.arrivals(windows, 0).per_second.var() > 3 * servegen.arrivals(windows, 0, raw=True).per_second.var()


@settings(max_examples=40, deadline=None)
@given(
    rates=st.lists(st.floats(0, 20), min_size=1, max_size=4),
    shapes=st.lists(st.tuples(st.floats(0.001, 50), st.booleans(), st.floats(0.001, 5)), max_size=4),
    seed=st.integers(0, 2**32),
)
def test_totals_are_exact_whatever_the_clients(
    rates: list[float], shapes: list[tuple[float, bool, float]], seed: int
) -> None:
    clients = tuple(Client(*shape) for shape in shapes)
    windows = Windows("chat", 60, 0, np.array(rates), (clients,) * len(rates), "a test")
    load = servegen.arrivals(windows, seed)
    assert per_window(windows, load.per_second) == windows.totals().tolist()
    assert (load.per_second >= 0).all()


@pytest.mark.parametrize(
    ("rates", "clients", "where", "what"),
    [
        (["chat,0,many"], [], "workload_rate_10min.csv:2", "rate_rps is 'many'"),
        (["chat,0,-1"], [], "workload_rate_10min.csv:2", "rate_rps is '-1'"),
        (["chat,0,nan"], [], "workload_rate_10min.csv:2", "rate_rps is 'nan'"),
        (["chat,0.5,1"], [], "workload_rate_10min.csv:2", "whole seconds"),
        (["chat,0,1", "chat,0,2"], [], "workload_rate_10min.csv:3", "second window"),
        (["chat,0,1", "chat,600,1", "chat,1500,1"], [], "workload_rate_10min.csv", "overlaps"),
        (["chat,0"], [], "workload_rate_10min.csv:2", "2 fields, 3 columns"),
        (["code,0,1"], [], "workload_rate_10min.csv", "Its workloads: code"),
        (["chat,0,1"], ["chat,a,0,1,1,Pareto,1,1"], "client_arrivals_10min.csv:2", "Gamma, Weibull or Poisson"),
        (["chat,0,1"], ["chat,a,0,1,1,Gamma,0,1"], "client_arrivals_10min.csv:2", "p1 is 0"),
        (["chat,0,1"], ["chat,a,600,1,1,Gamma,1,1"], "client_arrivals_10min.csv:2", "no window"),
    ],
)
def test_a_broken_table_is_refused_with_its_line_and_the_fix(
    tmp_path: Path, rates: list[str], clients: list[str], where: str, what: str
) -> None:
    tables.servegen(tmp_path, rates, clients)
    with pytest.raises(ConfigError) as error:
        servegen.read(tmp_path, "chat")
    assert where in str(error.value)
    assert what in str(error.value)
    assert error.value.fix


def test_a_table_without_its_columns_is_refused(tmp_path: Path) -> None:
    tables.write(tmp_path / "workload_rate_10min.csv", ["workload,rate", "chat,1"])
    with pytest.raises(ConfigError, match="no column t_s, rate_rps"):
        servegen.read(tmp_path, "chat")
