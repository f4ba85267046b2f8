"""Files of the rule language to packs, or every mistake of every file at once, each with its line and its remedy."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from contracts.catalog.findings import FINDINGS
from contracts.catalog.slis import SLIS
from contracts.errors import ConfigError
from rules.core import checks
from rules.core.language import Clause, Condition
from rules.core.pack import Pack, Rule
from rules.core.places import Place, Problem, Tree, read_tree


@dataclass(frozen=True)
class Loaded:
    """One file: the pack when it is sound by itself, and what is wrong with it."""

    file: str
    tree: Tree
    pack: Pack | None
    problems: tuple[Problem, ...]


_FAMILIES: dict[str, Iterable[str]] = {"slis": SLIS, "findings": FINDINGS, "values": (*SLIS, *FINDINGS)}
"""Names by the family in which a similar one is looked for."""


def load_pack(raw: bytes, file: str) -> Pack:
    """The pack in `raw`; `file` names it in errors. Raises ConfigError with all mistakes, a line each."""
    return load_packs([(file, raw)])[0]


def load_packs(files: Iterable[tuple[str, bytes]]) -> tuple[Pack, ...]:
    """Packs that are to work together. Raises ConfigError with the mistakes of all files, a line each.

    >>> load_pack(b"pack: demo", "demo.yaml")
    Traceback (most recent call last):
    contracts.errors.ConfigError: demo.yaml:1: field 'version' is missing. Add it.
    demo.yaml:1: field 'doc' is missing. Add it.
    demo.yaml:1: field 'conditions' is missing. Add it.
    demo.yaml:1: field 'rules' is missing. Add it.
    """
    loaded, problems = read_packs(files)
    if problems:
        raise ConfigError("\n".join(problems))
    return tuple(each.pack for each in loaded if each.pack is not None)


def read_packs(files: Iterable[tuple[str, bytes]]) -> tuple[list[Loaded], list[str]]:
    """Every file with what could be read of it, and all mistakes as lines for people."""
    loaded = [_read(raw, file) for file, raw in files]
    told = [problem.at(each.file) for each in loaded for problem in sorted(each.problems, key=lambda p: p.line)]
    together = [(each.file, each.tree) for each in loaded]
    told += [problem.at(file) for file, problem in checks.across(together)]
    return loaded, told


def _read(raw: bytes, file: str) -> Loaded:
    tree = read_tree(raw)
    if tree.root is None:
        return Loaded(file, tree, None, tuple(tree.problems))
    if not isinstance(tree.root, dict):
        shape = Problem(tree.line(()), "a pack is a mapping", "It begins with `pack:`, `version:` and `doc:`.")
        return Loaded(file, tree, None, (*tree.problems, shape))
    pack: Pack | None = None
    problems = list(tree.problems)
    try:
        pack = Pack.model_validate(tree.root)
    except ValidationError as error:
        problems += _explained(error, tree)
    # Parts that are sound are checked against each other even where another part is not.
    conditions = _sound(Condition, tree.root.get("conditions"))
    rules = _sound(Rule, tree.root.get("rules"))
    problems += [Problem(tree.line(place), what, fix) for place, what, fix in checks.names(tree.root)]
    problems += [Problem(tree.line(place), what, fix) for place, what, fix in checks.meaning(rules, conditions)]
    return Loaded(file, tree, pack if not problems else None, tuple(dict.fromkeys(problems)))


def _sound(model: type[Any], told: object) -> dict[str, Any]:
    found = {}
    for name, item in told.items() if isinstance(told, Mapping) else ():
        try:
            found[name] = model.model_validate(item)
        except ValidationError:
            continue  # told with the pack
    return found


def _explained(error: ValidationError, tree: Tree) -> Iterator[Problem]:
    told: set[tuple[int, Place]] = set()
    for one in error.errors(include_url=False):
        place = tuple(part for part in one["loc"] if part != "[key]")
        while place and place not in tree.lines and one["type"] != "missing":
            place = place[:-1]  # a branch of a union is no place of the file
        line = tree.line(place)
        if (line, place) in told:
            continue  # each branch of a union says in its own words why it is not meant
        told.add((line, place))
        what, fix = _words(one, place)
        yield Problem(line, what, fix)


def _words(one: ErrorDetails, place: Place) -> tuple[str, str]:
    """What to say of one of pydantic's errors, and the remedy."""
    field = str(place[-1]) if place else "the pack"
    context = one.get("ctx", {})
    match one["type"]:
        case "missing":
            return f"field {field!r} is missing", "Add it."
        case "extra_forbidden":
            known = _fields(place[:-1])
            if one["input"] is None and " " in field:
                return f"unknown field {field!r}", "A comma in {…} begins a field: put text that has one in quotes."
            return f"unknown field {field!r}", similar(field, known) or f"There are {', '.join(known)}."
        case "rule":
            what = str(context["what"])
            near = similar(what.split("'")[1], _FAMILIES[context["known"]]) if context["known"] else ""
            return what, f"{near} {context['fix']}".strip()
        case "string_pattern_mismatch":
            return f"{one['input']!r} is no name", "Names have small letters, digits, - and _, and begin with a letter."
        case "enum" | "literal_error":
            return f"{field}: {one['input']!r} is not known", f"There is {context['expected']}."
        case _:
            return f"{field}: {one['msg'][0].lower()}{one['msg'][1:]}", f"It says {one['input']!r:.60}."


def similar(name: str, known: Iterable[str]) -> str:
    """`Did you mean …?`, or nothing when no known name is near."""
    near = get_close_matches(name, list(known), n=1)
    return f"Did you mean {near[0]!r}?" if near else ""


def _fields(place: Place) -> list[str]:
    """The names of the fields that may stand at a place, by walking the models down."""
    kind: Any = Pack
    for part in place:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            by_name = {info.alias or name: info.annotation for name, info in kind.model_fields.items()}
            kind = _inner(by_name.get(str(part)))
        else:
            kind = _inner(get_args(kind)[-1] if get_origin(kind) is dict else get_args(kind)[0])
    is_clause = isinstance(kind, type) and issubclass(kind, Clause)
    return [info.alias or name for name, info in kind.model_fields.items()] if is_clause else []


def _inner(annotation: Any) -> Any:
    """What stands behind `X | None` and Annotated."""
    if get_origin(annotation) in (dict, tuple) or isinstance(annotation, type):
        return annotation
    for inner in get_args(annotation):
        if get_origin(inner) in (dict, tuple) or (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return inner
        if get_args(inner):
            return _inner(inner)
    return annotation
