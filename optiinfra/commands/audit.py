"""`optiinfra audit`: what was done and by whom, and whether anybody changed the log since."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import OptiInfraError, Unavailable
from optiinfra.commands.common import JsonOption, KafkaOption, StateOption, print_json, print_table
from optiinfra.commands.people import Place

if TYPE_CHECKING:
    from contracts.events import AuditEntry

app = typer.Typer(no_args_is_help=True, help="The audit log: show it, and check that nobody changed it.")

_PAGE = 500


@app.command()
def show(
    kafka: KafkaOption = None,
    state: StateOption = None,
    count: Annotated[int, typer.Option("-n", min=1, help="At most so many lines, the newest.")] = 40,
    as_json: JsonOption = False,
) -> None:
    """Print the newest lines: each phase of each action, and each switch that a person threw.

    Example: `optiinfra audit show -n 100`
    """
    from optiinfra.view_deeds import clock, short

    lines = _all(Place(kafka, state))[-count:]
    if as_json:
        print_json([line.model_dump(mode="json") for line in lines])
        return
    print_table(
        ("no", "at", "workload", "subject", "what", "by", "detail"),
        [(x.number, clock(x.at_ms), x.workload, short(x.subject), x.what, x.actor, x.detail) for x in lines],
    )


@app.command()
def verify(kafka: KafkaOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Check the chain of hashes over the whole log. Exit code 1 where a line was changed, dropped or put in.

    Example: `optiinfra audit verify`
    """
    from agents.audit import verify as first_broken

    lines = _all(Place(kafka, state))
    broken = first_broken(lines)
    if as_json:
        print_json({"lines": len(lines), "broken_at": broken, "head": lines[-1].hash if lines else ""})
    elif broken is None:
        typer.echo(f"{len(lines)} lines, unbroken; head {lines[-1].hash if lines else 'none'}")
    else:
        typer.secho(f"the log was changed: line {broken} does not follow from the one before it", fg="red")
    if broken is not None:
        raise typer.Exit(OptiInfraError.exit_code)


@app.command()
def prevented(kafka: KafkaOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Count what the rules against running out of memory prevented, by workload, beside forecasts that nobody answered.

    Prevented is a forecast that memory fills within ten minutes, on which a rule acted, and that did not come true.

    Example: `optiinfra audit prevented`
    """
    from contracts.events import Finding
    from contracts.topics import FINDINGS
    from optiinfra.health import OOM_COUNTS
    from streams.brokers import admin

    place = Place(kafka, state)
    if not place.bootstrap:
        raise Unavailable("no broker is known", where="audit", fix="Run `optiinfra up` here, or set OPTIINFRA_KAFKA.")
    newest: dict[str, Finding] = {}
    for seen in admin.tail(place.bootstrap, FINDINGS.name, from_beginning=True, follow=False):
        found = seen.message
        if isinstance(found, Finding) and found.kind == "pressure":
            newest[found.workload] = max(found, newest.get(found.workload, found), key=lambda each: each.at_ms)
    rows = {
        name: {OOM_COUNTS[key]: int(found.values.get(key, 0)) for key in OOM_COUNTS}
        for name, found in sorted(newest.items())
    }
    if as_json:
        print_json(rows)
        return
    heads = ("workload", *(result.replace("_", " ") for result in OOM_COUNTS.values()))
    print_table(heads, [(name, *counts.values()) for name, counts in rows.items()])


def _all(place: Place) -> list[AuditEntry]:
    from optiinfra.controls import ledger_at

    async def run() -> list[AuditEntry]:
        async with ledger_at(place.redis_url) as ledger:
            if ledger is None:
                raise Unavailable(
                    "no ledger is known", where="audit", fix="Run `optiinfra up` here, or set OPTIINFRA_REDIS."
                )
            lines: list[AuditEntry] = []
            while page := await ledger.audit(after=lines[-1].number if lines else 0, limit=_PAGE):
                lines += page
            return lines

    return asyncio.run(run())
