"""What `optiinfra replay` can be told: its options, and what their texts mean."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import ConfigError
from optiinfra.commands.common import duration_s

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from connectors.traces.cut import Cut
    from contracts.ports import Reviewer
    from optiinfra.replay.card import Level
    from optiinfra.replay.whole import Asked

MOST_SCRAPE_S, MOST_SERVICE_S, DAY_S = 150, 3_600, 86_400

TraceOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trace",
        help="A ServeGen folder, an Azure or BurstGPT csv, a Mooncake jsonl (or .gz), or the word generated; "
        "own: what OptiInfra's store in this directory recorded, store:URL: another store. May be repeated.",
    ),
]
WorkloadOption = Annotated[
    list[str] | None,
    typer.Option(
        "--workload",
        help="A workload of a ServeGen folder, a model of BurstGPT; elsewhere only a name. One for each trace.",
    ),
]
StartupOption = Annotated[
    list[str] | None, typer.Option("--startup", help="How long a replica takes to start, 3m or 90s; may be repeated.")
]
OutageOption = Annotated[
    str | None,
    typer.Option(
        "--outage",
        metavar="START/LENGTH",
        help="Measure nothing for a while: 200h/30m into the trace, or peak/30m around the peak of each scored day.",
    ),
]
ScenarioOption = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="NAME",
        help="A made-up day on which something happens, in place of a trace; list tells them all.",
    ),
]
PolicyOption = Annotated[
    str | None,
    typer.Option(
        "--policy",
        help="all, or names with commas between them; default all, of a scenario hpa,kpa,rules.",
        show_default=False,
    ),
]
FromOption = Annotated[str | None, typer.Option("--from", help="Where in the trace to begin: 8d, 90m.")]
ForOption = Annotated[str | None, typer.Option("--for", help="How much of the trace to replay from there: 1h.")]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write a report for people there (extra optiinfra[report]).")
]
CompareOption = Annotated[
    Path | None, typer.Option("--compare", metavar="OTHER.json", help="In the report: beside a run kept with --json.")
]
AnywayOption = Annotated[bool, typer.Option("--compare-anyway", help="Even where that run is of other traffic.")]
LevelOption = Annotated[
    str,
    typer.Option("--level", help="fluid: requests are alike; requests: each with its tokens, in the twin's engines."),
]
EngineOption = Annotated[
    str | None, typer.Option("--engine", help="Level requests: the kind of replica, model/hardware/tpN.")
]
TtftOption = Annotated[str, typer.Option("--ttft", help="Level requests: in time is a first token no later than this.")]
ItlOption = Annotated[
    str, typer.Option("--itl", help="Level requests: the longest mean interval between tokens that counts as good.")
]
BatchOption = Annotated[
    int,
    typer.Option("--batched-tokens", min=65, help="Level requests: tokens of an iteration, vLLM's flag of that name."),
]
CapacityOption = Annotated[
    float | None,
    typer.Option(
        "--capacity", min=0.001, help="Level requests: requests a second that a replica serves; else measured."
    ),
]
ServiceOption = Annotated[
    str | None,
    typer.Option(
        "--service",
        help="Level fluid: how long a request is in service. Else 8s for scalers on a trace, and for rules and in "
        "scenarios as long as it takes that a full replica holds 48.",
        show_default=False,
    ),
]
ReviewLogOption = Annotated[
    Path | None,
    typer.Option(
        "--review-log",
        metavar="FILE",
        help="Policy rules: a reviewer's answers. What is not in it the deterministic reviewer judges.",
    ),
]
ReviewRecordOption = Annotated[
    bool,
    typer.Option(
        "--review-record", help="Ask the model of the settings (OPTIINFRA_REVIEW__…) what --review-log lacks; keep it."
    ),
]
JsonPathOption = Annotated[Path | None, typer.Option("--json", help="Write every operating point there.")]


def unstaged(given: Mapping[str, object]) -> None:
    """Refuse what a scenario sets itself: flags by name, false where they were not given. Raises ConfigError that names
    them all."""
    if flags := [f"--{name}" for name, value in given.items() if value]:
        raise ConfigError(f"a scenario sets {', '.join(flags)} itself", where="--scenario", fix="Leave that out.")


def unused(given: Mapping[str, object]) -> None:
    """Refuse what only the whole policy heeds, where it does not play. Raises ConfigError that names them all."""
    if flags := [f"--{name}" for name, value in given.items() if value]:
        what = f"{', '.join(flags)} would change nothing: the policy rules does not play"
        raise ConfigError(what, where="--policy", fix="Name rules among the policies, on --level fluid.")


def playable(asked: Asked, startups_s: Sequence[float]) -> None:
    """Look at all that the whole policy is told before anything is replayed. Raises ConfigError."""
    from optiinfra.replay.reviews import RecordedReviewer
    from rules.book import RuleBook

    if not 1 <= asked.scrape_s <= MOST_SCRAPE_S:
        what = f"{asked.scrape_s} s between two scrapes"
        raise ConfigError(what, where="--scrape", fix=f"Write 1s to {MOST_SCRAPE_S}s, in whole seconds.")
    if max(startups_s) > DAY_S:
        raise ConfigError("a start-up of more than a day", where="--startup", fix="Write 24h at most.")
    asked.around()
    RuleBook(asked.packs)
    if asked.review_log is not None:
        RecordedReviewer(asked.review_log)


def traces(trace: Sequence[str] | None) -> Sequence[str]:
    """The traces that are named. Raises ConfigError where none is."""
    if not trace:
        raise ConfigError("no trace named", where="--trace", fix="Name one, or a --scenario (list tells them all).")
    return trace


def outage(text: str) -> tuple[float | None, float]:
    """Start, None for each day's peak, and length in seconds."""
    start, slash, length = text.partition("/")
    if not slash:
        raise ConfigError(f"{text!r} is no outage", where="--outage", fix="Write 200h/30m or peak/30m.")
    begin_s = None if start.strip() == "peak" else duration_s(start, "--outage", zero=True)
    return begin_s, duration_s(length, "--outage")


def service(text: str | None, single: bool) -> float | None:
    """Seconds in service; None where none are named. Raises ConfigError, for `single` requests too."""
    if text is None:
        return None
    if single:
        what = "at level requests the engine says how long a request is in service"
        raise ConfigError(what, where="--service", fix="Leave it out, or name another --engine.")
    seconds = duration_s(text, "--service")
    if seconds > MOST_SERVICE_S:
        raise ConfigError("a request in service for more than an hour", where="--service", fix="Write 1h at most.")
    return seconds


def reviewer(log: Path | None, record: bool, state: Path | None) -> Reviewer | None:
    """Who is asked what the log does not hold; None: nobody. Raises ConfigError, for a log that is not there too."""
    if log is None or not record:
        if record:
            raise ConfigError("no file to record in", where="--review-record", fix="Name it with --review-log.")
        if log is not None and not log.is_file():
            raise ConfigError("no recorded answers", where=str(log), fix="Record some with --review-record.")
        return None
    from optiinfra.replay.reviews import LifeReviewer
    from optiinfra.settings_load import load

    writable(log)
    return asyncio.run(LifeReviewer.of(load({} if state is None else {"state": state}).settings.review))


def writable(path: Path) -> None:
    """Find out before weeks are replayed whether a file can be written, and leave things as they are. Raises
    ConfigError."""
    try:
        real = path.resolve()
        there = real.exists()
        if there and not (real.is_file() or real.is_dir()):
            return  # a pipe or a device: trying it would be writing to it
        real.open("a").close()
        if not there:
            real.unlink()
    except OSError as error:
        what, fix = f"cannot be written: {error.strerror or error}", "Name a file that can be written."
        raise ConfigError(what, where=str(path), fix=fix) from error


def level(text: str) -> Level:
    """A level by its name."""
    from optiinfra.replay.card import Level

    try:
        return Level(text)
    except ValueError:
        raise ConfigError(f"no level {text!r}", where="--level", fix=f"Write {' or '.join(Level)}.") from None


def cut(begin: str | None, length: str | None) -> Cut:
    """The span of a trace between `--from` and `--for`, in whole seconds."""
    from connectors.traces.cut import Cut

    for_s = None if length is None else max(1, round(duration_s(length, "--for")))
    return Cut(0 if begin is None else round(duration_s(begin, "--from", zero=True)), for_s)


def prices(text: str | None) -> tuple[Path, str, int] | None:
    """A catalogue, an instance in it, and the GPUs of a replica."""
    if text is None:
        return None
    path, instance, gpus = (["", "", *text.rsplit(":", 2)])[-3:]
    if not path or not instance or not gpus.isdigit():
        raise ConfigError(f"{text!r} names no price", where="--prices", fix="Write aws.csv:p5.48xlarge:4.")
    return Path(path), instance, int(gpus)
