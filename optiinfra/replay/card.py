"""Sets up the races that a command line names: each trace read, cut, put at its level, with what is not measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from connectors.traces import kept, lengths, reading
from connectors.traces.cut import Cut
from connectors.traces.shape import Load
from contracts.errors import ConfigError
from optiinfra.replay import place, requests
from optiinfra.replay.course import Fleet, Race, outages, unmeasured

NOT_NAMED = "-"


class Level(StrEnum):
    """`fluid`: requests all alike, in steps of a second; `requests`: each with its tokens, in the twin's engines."""

    FLUID = "fluid"
    REQUESTS = "requests"


@dataclass(frozen=True)
class Ask:
    """What holds for every trace. `outage`: start, None for each day's peak, and length in seconds; None: none.
    `state`: the state directory of `own`; None: that of the settings."""

    seed: int = 0
    raw: bool = False
    cut: Cut = field(default_factory=Cut)
    level: Level = Level.FLUID
    fleet: Fleet = field(default_factory=Fleet)
    twin: requests.Twin = field(default_factory=requests.Twin)
    outage: tuple[float | None, float] | None = None
    state: Path | None = None


def pairs(traces: Sequence[str], workloads: Sequence[str]) -> list[tuple[str, str | None]]:
    """Each trace with its workload, None where none is named. Raises ConfigError where they do not pair."""
    if workloads and len(workloads) != len(traces):
        raise ConfigError(
            f"{len(workloads)} workloads for {len(traces)} traces",
            where="--workload",
            fix=f"Write one for each --trace, in their order; {NOT_NAMED} where a trace needs none.",
        )
    named = [None if each == NOT_NAMED else each for each in workloads] or [None] * len(traces)
    return list(zip(traces, named, strict=True))


def race(trace: str, workload: str | None, ask: Ask) -> Race:
    """One trace as a race. Raises ConfigError for what cannot be read, is too short, or has no request to score."""
    single = None
    if place.is_own(trace):
        load = ask.cut.load(place.own(trace, workload, ask.seed, ask.state))
        if ask.level is Level.REQUESTS:
            single = lengths.requests(load, {}, ask.seed)
    elif ask.level is Level.FLUID:
        load = reading.load(Path(trace), workload, ask.seed, raw=ask.raw, cut=ask.cut, keep=kept.default_folder())
    else:
        load, single = reading.requests(Path(trace), workload, ask.seed, raw=ask.raw, cut=ask.cut)
    if single is not None:
        load = replace(load, generated=single.generated)  # lengths may be drawn where arrivals are not
    gaps = unmeasured(load)
    run = Race(load, ask.fleet, gaps) if single is None else requests.race(load, single, ask.twin, gaps)
    if ask.outage is None:
        return run
    return replace(run, blind=(*run.blind, *outages(load, *ask.outage, run.scored)))


def apart(loads: Sequence[Load]) -> None:
    """Raises ConfigError where two traces would stand under one name."""
    names = [load.workload for load in loads]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(
            f"two traces stand under the name {twice[0]!r}", where="--trace", fix="Name each with --workload."
        )
