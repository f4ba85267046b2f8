"""The command line. Commands live in `optiinfra.commands`; what is heavy is imported when a command runs."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from contracts.errors import OptiInfraError
from optiinfra.commands import (
    audit,
    catalog,
    config,
    explaining,
    kv,
    kv_configs,
    kv_plan,
    looking,
    people,
    pooling,
    replaying,
    rules,
    topics,
    tuning,
    up,
)


class _Group(TyperGroup):
    """Turns an OptiInfraError into one red line (or one line a mistake) on stderr and the error's exit code."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except OptiInfraError as error:
            typer.secho(str(error), fg="red", err=True)
            raise typer.Exit(error.exit_code) from None


app = typer.Typer(
    cls=_Group,
    name="optiinfra",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Optimises LLM inference fleets: live metrics become SLIs on Kafka, rules propose, actions are verified.\n\n"
    "Begin with `optiinfra up`: it runs everything on this machine, with a simulated fleet. "
    "`optiinfra doctor` says what is missing.",
)
app.command("up")(up.up)
app.command("status")(looking.status)
app.command("doctor")(looking.doctor)
app.command("reset")(looking.reset)
app.command("version")(looking.version)
app.command("decisions")(people.decisions)
app.command("explain")(explaining.explain)
app.command("approve")(people.approve)
app.command("reject")(people.reject)
app.add_typer(people.mode_app, name="mode")
app.command("kill")(people.kill)
app.command("resume")(people.resume)
app.command("replay")(replaying.replay)
app.command("tune")(tuning.tune)
app.command("pools")(pooling.pools)
app.add_typer(rules.app, name="rules")
app.add_typer(audit.app, name="audit")
app.add_typer(config.app, name="config")
app.add_typer(topics.app, name="topics")
app.add_typer(catalog.app, name="catalog")
kv.app.add_typer(kv_configs.app)
kv.app.add_typer(kv_plan.app)
app.add_typer(kv.app, name="kv")


def main() -> None:
    """The console script."""
    app()


if __name__ == "__main__":
    main()
