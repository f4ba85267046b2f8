"""`optiinfra explain`: the story of one decision or action, or why nothing happened at a moment."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import ConfigError, Unavailable
from optiinfra.commands.common import JsonOption, KafkaOption, StateOption, loaded, print_json
from optiinfra.commands.people import Place

if TYPE_CHECKING:
    from pathlib import Path

    from contracts.ports import Store


def explain(
    subject: Annotated[
        str | None, typer.Argument(metavar="[ID|WORKLOAD]", help="A decision or action by id, or a workload.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="TIME", help="Event time: 14:03:20, 2026-11-21T14:03:20, or `now`; UTC."),
    ] = None,
    kafka: KafkaOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Tell the story of a decision or action: what moved the rule, who judged, what was done, how it ended. With a
    workload and a time: which rules fired or did not and why, and what was decided around then.

    Examples:

        optiinfra explain 3f9a1c

        optiinfra explain chat --at 14:03:20
    """
    place = Place(kafka, state)
    if not place.store_url:
        raise Unavailable(
            "no store is running here, and the story is kept there",
            where="explain",
            fix="Start `optiinfra up` (with the extra optiinfra[store]).",
        )
    if subject is None:
        raise ConfigError("say what is to be explained", where="explain", fix="Give an id or a workload; see --help.")
    asyncio.run(_explain(subject, at, place, state, as_json))


async def _explain(subject: str, at: str | None, place: Place, state: Path | None, as_json: bool) -> None:
    from optiinfra.history import case_records
    from optiinfra.story import case_of, tell
    from streams.store.client import HttpStore

    async with HttpStore(place.store_url) as store:
        workloads = {str(row["workload"]) for row in await store.query("workloads")}
        if at is not None or subject in workloads:
            await _moment(store, subject, workloads, at, place, state, as_json)
            return
        case = case_of(await case_records(store, subject))
    if not case.decisions:
        short = "" if len(subject) >= 6 else "; of an id six characters are needed"
        raise ConfigError(
            f"no decision, action or workload {subject!r}{short}",
            where="explain",
            fix=f"`optiinfra decisions` lists ids; workloads: {', '.join(sorted(workloads)) or 'none yet'}.",
        )
    if as_json:
        told = [case.candidates, case.review, *case.decisions, *case.approvals, case.action, *case.audit, case.outcome]
        known = [*case.findings, *(each for each in told if each is not None)]
        print_json([{"type": each.TYPE, **each.model_dump(mode="json")} for each in known])
        return
    for line in tell(case):
        typer.echo(line)


async def _moment(
    store: Store, workload: str, workloads: set[str], at: str | None, place: Place, state: Path | None, as_json: bool
) -> None:
    from optiinfra.history import moment, parse_time
    from optiinfra.wiring.stages import make_book

    if workload not in workloads:
        raise ConfigError(
            f"no workload {workload!r}",
            where="explain",
            fix=f"Workloads: {', '.join(sorted(workloads)) or 'none yet'}.",
        )
    rules = make_book(loaded(state=state).settings).rules
    at_ms = parse_time(at or "now", place.now_ms())
    told = await moment(store, rules, workload, at_ms, speed=place.anchor.speed)
    if as_json:
        around = [{"type": each.TYPE, **each.model_dump(mode="json")} for each in told.around]
        rules_told = [asdict(each) for each in told.accounts]
        print_json({"workload": workload, "at_ms": at_ms, "rules": rules_told, "around": around})
        return
    for line in told.lines():
        typer.echo(line)
