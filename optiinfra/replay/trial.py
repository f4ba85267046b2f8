"""A thin command to try the replay of the whole policy on a file of arrivals: `python -m optiinfra.replay.pipeline`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ConfigError, OptiInfraError
from optiinfra.replay.account import PipelineResult
from optiinfra.replay.counterfactual import counterfactuals
from optiinfra.replay.options import Entry, PipelineOptions
from optiinfra.replay.pipeline import Surroundings, replay_pipeline
from optiinfra.replay.spot import SteadyZone, read_zone


def main(arguments: list[str] | None = None) -> None:
    """Replay, and print the account; exits with the code of what went wrong."""
    told = _parser().parse_args(arguments)
    try:
        _run(told)
    except OptiInfraError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="optiinfra.replay.pipeline", description=__doc__)
    parser.add_argument("arrivals", type=Path, help="requests of each second: .npy, or text with one number a line")
    parser.add_argument("--replicas", type=float, default=15.0, help="that the mean load needs (sets the capacity)")
    parser.add_argument("--startup", type=int, default=180, help="seconds from the order until a replica serves")
    parser.add_argument("--scrape", type=int, default=15, help="seconds between two scrapes")
    parser.add_argument("--entry", choices=[each.value for each in Entry], default=Entry.WORKLOAD.value)
    parser.add_argument("--days", type=float, help="only so many days of it")
    parser.add_argument("--rules", type=Path, action="append", default=[], help="packs; without, the built-in ones")
    parser.add_argument("--without", action="append", default=[], metavar="RULE", help="a rule that is off")
    parser.add_argument("--spot", type=Path, help="record of a spot zone")
    parser.add_argument("--spot-ratio", type=float, default=0.5, help="share of spot replicas, with --spot")
    parser.add_argument("--review-log", type=Path, help="recorded answers of a reviewer")
    parser.add_argument("--counterfactuals", action="store_true", help="once more without each rule")
    parser.add_argument("--json", type=Path, help="write the whole result there")
    return parser


def _run(told: argparse.Namespace) -> None:
    arrivals = _read(told.arrivals)
    capacity_rps = float(arrivals.mean()) / told.replicas
    if told.days is not None:
        arrivals = arrivals[: int(told.days * 86_400)]
    options = PipelineOptions(
        workload=told.arrivals.stem,
        capacity_rps=capacity_rps,
        startup_s=told.startup,
        scrape_s=told.scrape,
        entry=Entry(told.entry),
        rules=tuple(told.rules),
        rules_off=frozenset(told.without),
        spot_ratio=told.spot_ratio if told.spot else 0.0,
    )
    around = Surroundings(zone=read_zone(told.spot) if told.spot else SteadyZone(), review_log=told.review_log)
    began_s, worked_s = time.perf_counter(), time.process_time()
    result = replay_pipeline(arrivals, options, around, progress=_progress)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - worked_s
    messages = sum(result.handled.values())
    sys.stderr.write(
        f"\n{wall_s:.1f} s, {cpu_s:.1f} s of work, {messages:,} messages, {messages / cpu_s:,.0f} a second\n"
    )
    _tell(result)
    if told.counterfactuals:
        for each in counterfactuals(arrivals, options, result, around, progress=_progress):
            sys.stdout.write(f"without {each.rule}: {each.model_dump_json()}\n")
    if told.json:
        told.json.write_text(result.to_json(), encoding="utf-8")


def _read(path: Path) -> NDArray[np.int64]:
    try:
        raw = np.load(path) if path.suffix == ".npy" else np.loadtxt(path, dtype=np.int64, ndmin=1)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="Name a file of whole numbers.") from error
    return np.asarray(raw).astype(np.int64)


def _tell(result: PipelineResult) -> None:
    sys.stdout.write(result.model_dump_json(indent=1, exclude={"deeds", "timeline"}) + "\n")


def _progress(done: int, of: int) -> None:
    sys.stderr.write(f"\r{100 * done // of:3d} %")
    sys.stderr.flush()
