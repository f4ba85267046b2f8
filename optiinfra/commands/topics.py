"""`optiinfra topics`: the public contract, and what a broker holds of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from contracts.errors import ConfigError, Unavailable
from optiinfra.commands.common import FLAG, JsonOption, KafkaOption, StateOption, loaded, print_json, print_table

if TYPE_CHECKING:
    from contracts.topics import Topic

app = typer.Typer(no_args_is_help=True, help="The topics: list them, make them, read along, print their schemas.")


def bootstrap_of(kafka: str | None, state: Any) -> str | None:
    """The broker that is meant: the flag's, the setting's, or that of the `up` that runs here."""
    from optiinfra.statedir import StateDir

    settings = loaded(kafka=kafka, state=state).settings
    run = StateDir(settings.state).run_info()
    return settings.kafka or (run.bootstrap if run else None)


def _needed(kafka: str | None, state: Any) -> str:
    found = bootstrap_of(kafka, state)
    if found is None:
        raise Unavailable("no broker is known", where="topics", fix="Run `optiinfra up`, or give --kafka HOST:PORT.")
    return found


@app.command("list")
def list_(kafka: KafkaOption = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """List the topics with key, writers and readers; with a broker at hand also what it holds.

    Example: `optiinfra topics list --json`
    """
    from contracts.topics import TOPICS

    held: dict[str, int] = {}
    bootstrap = bootstrap_of(kafka, state)
    if bootstrap is not None:
        from streams.brokers.admin import list_topics

        held = {info.name: info.held for info in list_topics(bootstrap)}
    rows = [
        {
            "name": topic.name,
            "key": topic.key,
            "written_by": topic.written_by,
            "read_by": topic.read_by,
            "partitions": topic.partitions,
            "retention_h": topic.retention_ms // 3_600_000,
            "cleanup": topic.cleanup.value,
            "public": topic.public,
            "held": held.get(topic.name),
        }
        for topic in TOPICS
    ]
    if as_json:
        print_json(rows)
        return
    columns = {"name": "name", "key": "key", "partitions": "parts", "retention_h": "kept h", "held": "messages"}
    columns |= {"written_by": "written by", "read_by": "read by"}
    print_table(list(columns.values()), [[row[column] for column in columns] for row in rows])


@app.command()
def apply(
    kafka: KafkaOption = None,
    state: StateOption = None,
    replication: Annotated[int, typer.Option(help="Copies of each partition; 3 on a production cluster.")] = 1,
    as_json: JsonOption = False,
) -> None:
    """Make the topics of the table on a Kafka cluster, and mend their configuration. Safe to repeat.

    Example: `optiinfra topics apply --kafka broker:9092 --replication 3`
    """
    from optiinfra.plan import STAGES
    from streams.brokers.admin import apply_topics

    reports = apply_topics(_needed(kafka, state), STAGES, replication)
    if as_json:
        print_json([{"name": r.name, "outcome": r.outcome.value, "detail": r.detail} for r in reports])
        return
    print_table(("topic", "outcome", "detail"), [(r.name, r.outcome.value, r.detail) for r in reports])


@app.command()
def tail(
    topic: Annotated[str, typer.Argument(help="A topic: `slis`, or in full `optiinfra.slis.v1`.")],
    kafka: KafkaOption = None,
    state: StateOption = None,
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", metavar=FLAG, help="Start with the oldest message.")
    ] = False,
    count: Annotated[int | None, typer.Option("-n", min=1, help="Stop after so many messages.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Print messages as they come, one a line, Ctrl-C to end. What cannot be read is shown with the reason.

    Example: `optiinfra topics tail slis --from-beginning -n 3 --json`
    """
    from streams.brokers import admin

    name = _topic(topic).name
    # With a count and from the beginning, what is there is all that is asked for: do not wait for more.
    follow = not (from_beginning and count)
    bootstrap = _needed(kafka, state)
    if follow and not any(each.held for each in admin.list_topics(bootstrap) if each.name == name):
        typer.echo("none so far; Ctrl-C ends", err=True)
    try:
        for seen in admin.tail(bootstrap, name, from_beginning=from_beginning, n=count, follow=follow):
            value = (
                seen.message.model_dump_json(exclude_defaults=True) if seen.message else f"unreadable: {seen.problem}"
            )
            if as_json:
                body = value if seen.message else "null"
                typer.echo(f'{{"partition": {seen.partition}, "offset": {seen.offset}, "message": {body}}}')
            else:
                typer.echo(f"{seen.partition}:{seen.offset} {seen.record.key.decode('utf-8', 'replace')} {value}")
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


@app.command()
def schema(topic: Annotated[str | None, typer.Argument(help="A topic; all without it.")] = None) -> None:
    """Print the JSON Schema of a topic's message, or of all.

    Example: `optiinfra topics schema slis`
    """
    from contracts.topics import TOPICS

    if topic is not None:
        print_json(_topic(topic).message.model_json_schema())
        return
    print_json({one.name: one.message.model_json_schema() for one in TOPICS})


def _topic(name: str) -> Topic:
    from difflib import get_close_matches

    from contracts.topics import BY_NAME

    short = {full.split(".")[1]: full for full in BY_NAME}
    found = BY_NAME.get(short.get(name, name))
    if found is None:
        close = get_close_matches(name, [*short, *BY_NAME], n=1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Known: {', '.join(short)}."
        raise ConfigError(f"unknown topic '{name}'", where="topics", fix=hint)
    return found
