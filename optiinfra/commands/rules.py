"""`optiinfra rules`: check rule packs, run the tests that they carry, and list what is in force."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from contracts.errors import ConfigError, OptiInfraError
from optiinfra.commands.common import JsonOption, StateOption, loaded, print_json, print_table

if TYPE_CHECKING:
    from rules.core.pack import Pack

app = typer.Typer(no_args_is_help=True, help="Rule packs: check them, run their tests, list their rules.")

PathsArgument = Annotated[
    list[Path] | None, typer.Argument(metavar="FILE", help="Packs, or directories of them; else those in force.")
]


def _paths(given: list[Path] | None, state: Path | None) -> tuple[Path, ...]:
    return tuple(given) if given else loaded(state=state).settings.rules


def _sound(given: list[Path] | None, state: Path | None) -> tuple[Pack, ...]:
    from rules.proving import check as read

    found = read(_paths(given, state))
    if found.errors:
        raise ConfigError("\n".join(found.errors))
    return found.packs


@app.command()
def check(files: PathsArgument = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Check packs: every error of every file at once, each with its line and the edit that mends it. Exit code 2.

    Example: `optiinfra rules check my-rules.yaml`
    """
    from rules.proving import check as read

    found = read(_paths(files, state))
    if as_json:
        rules = {pack.pack: sorted(pack.rules) for pack in found.packs}
        print_json({"ok": not found.errors, "errors": list(found.errors), "packs": rules})
        if found.errors:
            raise typer.Exit(ConfigError.exit_code)
        return
    if found.errors:
        raise ConfigError("\n".join(found.errors))
    for pack in found.packs:
        typer.echo(
            f"{pack.pack} version {pack.version}: {len(pack.rules)} rules, {len(pack.conditions)} conditions, ok"
        )


@app.command("test")
def run_tests(files: PathsArgument = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """Run the tests of packs on every engine there is. Exit code 1 where one fails, with the reason.

    Example: `optiinfra rules test`
    """
    from optiinfra.wiring.stages import engine_maker, engine_name
    from rules.proving import prove

    engines = dict.fromkeys(("python", engine_name("auto")))
    results = [
        result
        for pack in _sound(files, state)
        for engine in engines
        for result in prove(pack, engine_maker(engine, lambda name, detail: typer.echo(f"{name}: {detail}", err=True)))
    ]
    failed = [result for result in results if not result.passed]
    if as_json:
        print_json(
            [
                {
                    "pack": r.pack,
                    "rule": r.rule,
                    "test": r.test,
                    "engine": r.engine,
                    "passed": r.passed,
                    "why": r.detail,
                }
                for r in results
            ]
        )
    else:
        for r in results:
            typer.secho(
                f"{'ok  ' if r.passed else 'FAIL'} {r.rule} · {r.test} ({r.engine})", fg=None if r.passed else "red"
            )
            for line in r.detail if not r.passed else ():
                typer.echo(f"       {line}")
        typer.echo(f"{len(results) - len(failed)} of {len(results)} passed, on {' and '.join(engines)}")
        if "durable" not in engines:
            typer.echo("durable_rules is not installed: only the reference evaluator was asked")
    if failed:
        raise typer.Exit(OptiInfraError.exit_code)


@app.command("list")
def list_(files: PathsArgument = None, state: StateOption = None, as_json: JsonOption = False) -> None:
    """List rules, the highest priority first, with what each does and what it says of itself.

    Example: `optiinfra rules list`
    """
    packs = _sound(files, state)
    rules = sorted(
        ((pack, name, rule) for pack in packs for name, rule in pack.rules.items()), key=lambda each: -each[2].priority
    )
    if as_json:
        print_json([{"pack": pack.pack, "rule": name, **rule.model_dump(mode="json")} for pack, name, rule in rules])
        return
    print_table(
        ("rule", "pack", "priority", "when all", "any", "none", "does", "doc"),
        [
            (
                name,
                pack.pack,
                rule.priority,
                ", ".join(rule.all),
                ", ".join(rule.any),
                ", ".join(rule.none),
                rule.action.kind.value,
                " ".join(rule.doc.split()),
            )
            for pack, name, rule in rules
        ],
    )
