"""`optiinfra decisions`, `approve`, `reject`, `mode`, `kill` and `resume`: what people say to the platform."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import ConfigError, Conflict, Unavailable
from contracts.events import Answer, ControlKind, Mode
from optiinfra.commands.common import FLAG, JsonOption, KafkaOption, StateOption, loaded, print_json, print_table

if TYPE_CHECKING:
    from pathlib import Path

    from contracts.clock import ClockAnchor
    from contracts.events import Control, Decision

AsOption = Annotated[str | None, typer.Option("--as", metavar="NAME", help="Who speaks; by default your user name.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why: it stands in the audit log.")]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Id of a decision; its first characters are enough.")]

MOST_READ = 1000
"""Records of each partition in which the newest decisions are looked for."""

mode_app = typer.Typer(no_args_is_help=True, help="Who acts: advisory, semi_autonomous or autonomous.")


@mode_app.callback()
def _group() -> None:
    """Who acts: people on recommendations, the platform at low risk, or the platform."""


class Place:
    """Where a running `up` is reached: broker, ledger, clock."""

    def __init__(self, kafka: str | None, state: Path | None) -> None:
        import time

        from contracts.clock import ClockAnchor
        from optiinfra.statedir import StateDir

        settings = loaded(kafka=kafka, state=state).settings
        run = StateDir(settings.state).run_info()
        self.bootstrap = settings.kafka or (run.bootstrap if run else "")
        self.redis_url = settings.redis or (run.redis_url if run else "")
        self.store_url = run.store_url if run else ""
        self.running = run is not None
        wall_ms = int(time.time() * 1000)
        self.anchor: ClockAnchor = (
            run.anchor if run else ClockAnchor(wall_anchor_ms=wall_ms, event_anchor_ms=wall_ms, speed=1.0)
        )

    def now_ms(self) -> int:
        """Event time now."""
        import time

        return self.anchor.event_ms(time.time() * 1000)

    @property
    def broker(self) -> str:
        """The broker's address. Raises Unavailable where none is known."""
        if not self.bootstrap:
            raise Unavailable(
                "no broker is known", where="broker", fix="Run `optiinfra up`, or give --kafka HOST:PORT."
            )
        return self.bootstrap


def decisions(
    kafka: KafkaOption = None,
    state: StateOption = None,
    waiting: Annotated[
        bool, typer.Option("--waiting", metavar=FLAG, help="Only those that wait for a person.")
    ] = False,
    count: Annotated[int, typer.Option("-n", min=1, help="At most so many, the newest.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List the newest decisions: what was approved, what waits for you, what was refused and why.

    Example: `optiinfra decisions --waiting`
    """
    from optiinfra import people
    from optiinfra.view_deeds import change, clock, short

    broker = Place(kafka, state).broker
    if waiting:
        told = people.waiting(broker)[-count:]
    else:
        newest = {each.decision_id: each for each in people.decisions(broker, max(MOST_READ, 10 * count))}
        told = sorted(newest.values(), key=lambda each: each.at_ms)[-count:]
    if as_json:
        print_json([each.model_dump(mode="json") for each in told])
        return
    if waiting and not told:
        typer.echo("nothing waits")
        return
    rows = [
        (
            short(each.decision_id),
            clock(each.at_ms),
            each.workload,
            change(each.candidate.spec.kind.value, each.replicas or each.candidate.spec.replicas),
            each.answer.value,
            ", ".join(reason.value for reason in each.reasons),
            each.candidate.rule,
            each.actor,
        )
        for each in told
    ]
    print_table(("id", "at", "workload", "what", "answer", "reasons", "rule", "by"), rows)


def approve(
    ident: IdArgument,
    actor: AsOption = None,
    reason: ReasonOption = "",
    kafka: KafkaOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Approve a decision that waits for a person. All limits are checked again; exit code 4 when it is refused.

    Example: `optiinfra approve 3f9a1c --reason "launch at noon"`
    """
    _answer(ident, True, actor, reason, Place(kafka, state), as_json)


def reject(
    ident: IdArgument,
    actor: AsOption = None,
    reason: ReasonOption = "",
    kafka: KafkaOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Reject a decision that waits for a person.

    Example: `optiinfra reject 3f9a1c --reason "a batch job ends soon"`
    """
    _answer(ident, False, actor, reason, Place(kafka, state), as_json)


def _answer(ident: str, yes: bool, actor: str | None, reason: str, place: Place, as_json: bool) -> None:
    from optiinfra import people
    from optiinfra.controls import publisher_at

    async def run() -> Decision:
        async with publisher_at(place.broker, "cli") as publisher:
            if publisher is None:
                raise Unavailable("the broker does not answer", where=place.broker, fix="See optiinfra status.")
            return await people.answer(
                place.broker,
                publisher,
                place.anchor,
                ident,
                approve=yes,
                actor=people.actor_name(actor),
                reason=reason,
            )

    told = asyncio.run(run())
    # What somebody else has answered stands, be it the same: whoever comes second has not done it.
    late = any(line.startswith("already ") for line in told.detail[:1])
    if as_json:
        print_json(told.model_dump(mode="json"))
    else:
        for line in told.detail or (told.code,):
            typer.echo(line)
        typer.echo(f"{told.answer.value}: {told.candidate.rule} on {told.workload}" + ("" if late else _by(told)))
    meant = Answer.APPROVED if yes else Answer.REFUSED
    if late or told.answer is not meant:
        raise typer.Exit(Conflict.exit_code)


def _by(told: Decision) -> str:
    return f", by {told.actor}" if told.actor else ""


@mode_app.command("set")
def mode_set(
    workload: Annotated[str, typer.Argument(help="A workload, or `all`.")],
    mode: Annotated[str, typer.Argument(help="advisory, semi_autonomous (semi-autonomous) or autonomous.")],
    actor: AsOption = None,
    reason: ReasonOption = "",
    kafka: KafkaOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Set who acts on a workload. It holds for what is decided from then on, and for actions that have not begun.

    Example: `optiinfra mode set chat advisory --reason "launch day"`
    """
    try:
        wanted = Mode(mode.replace("-", "_"))
    except ValueError:
        known = ", ".join(each.value for each in Mode)
        raise ConfigError(f"no mode {mode!r}", where="mode", fix=f"Known: {known}.") from None
    names = None if workload == "all" else (workload,)
    _set(ControlKind.MODE, names, Place(kafka, state), actor, reason, as_json, mode=wanted)


def kill(
    workloads: Annotated[list[str] | None, typer.Argument(help="Workloads; all of the fleet without any.")] = None,
    actor: AsOption = None,
    reason: ReasonOption = "",
    kafka: KafkaOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop all action: nothing new begins, and what is under way is left or taken back, whichever leaves more capacity.

    Example: `optiinfra kill --reason "incident 7"`; `optiinfra resume` takes it back.
    """
    _set(ControlKind.KILL, tuple(workloads) if workloads else None, Place(kafka, state), actor, reason, as_json)


def resume(
    workloads: Annotated[list[str] | None, typer.Argument(help="Workloads; all of the fleet without any.")] = None,
    actor: AsOption = None,
    reason: ReasonOption = "",
    kafka: KafkaOption = None,
    state: StateOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take `kill` back. Without workloads that is the fleet's kill and the kill of every single workload.

    Example: `optiinfra resume --reason "incident 7 is over"`
    """
    _set(ControlKind.RESUME, tuple(workloads) if workloads else None, Place(kafka, state), actor, reason, as_json)


def _set(
    kind: ControlKind,
    names: tuple[str, ...] | None,
    place: Place,
    actor: str | None,
    reason: str,
    as_json: bool,
    mode: Mode | None = None,
) -> None:
    from optiinfra import controls
    from optiinfra.people import actor_name

    who = actor_name(actor)

    def made(workload: str) -> Control:
        return controls.control(workload, kind, place.anchor, actor=who, reason=reason, mode=mode)

    said = asyncio.run(controls.say(made, names, redis_url=place.redis_url, bootstrap=place.bootstrap))
    heard = [name for name, yes in (("ledger", said.ledger), ("arbiter", said.topic)) if yes]
    if as_json:
        told = {"workloads": said.workloads, "unseen": said.unseen, "known": said.known}
        print_json(told | {"heard_by": heard, "trouble": said.trouble})
        return
    what = f"mode {mode.value}" if mode else kind.value
    whole = ", ".join(said.workloads)
    if names is None and mode is None:
        whole = f"the fleet and each of its workloads ({whole})" if whole else "the fleet"
    typer.echo(f"{what} for {whole}, by {who}; heard by {' and '.join(heard)}")
    if said.unseen:
        nobody = f"no workload {', '.join(said.unseen)} has been seen; known: {', '.join(said.known) or 'none yet'}"
        typer.secho(
            f"{nobody}\nIt stands all the same, for one that comes under this name.", fg="red", bold=True, err=True
        )
    for line in said.trouble:
        typer.secho(line, fg="yellow", err=True)
