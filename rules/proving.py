"""Runs the tests that rules carry: their series through the very fold that the stage runs, on any engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.catalog.findings import KINDS
from contracts.errors import ConfigError
from contracts.events import ActionSpec, Alert, CandidateSet, Finding, Message, Sli, SliValue
from rules.book import MakeEngine, read_files
from rules.core import fold
from rules.core.conditions import Told
from rules.core.fold import RuleSettings
from rules.core.loader import read_packs
from rules.core.pack import Case, Pack, place_of_value
from rules.core.reference import PythonEngine
from rules.core.ruleset import RuleSet, make_ruleset
from rules.core.shapes import Engine
from rules.explain import replay, with_ticks

WORKLOAD = "test"

START_MS = 1_700_000_100_000
"""Event time of a test's `0s`: an end of windows of every size."""


@dataclass(frozen=True)
class Checked:
    """Packs that are sound together, or every mistake of every file as `file:line: what. fix`."""

    packs: tuple[Pack, ...]
    errors: tuple[str, ...]


@dataclass(frozen=True)
class TestResult:
    """One test of one rule on one engine: when the rule first proposed (None: never) and for how many replicas.

    `detail` says what was expected and, where the rule did not fire, why not.
    """

    __test__ = False  # its name begins as pytest's do

    pack: str
    rule: str
    test: str
    engine: str
    passed: bool
    fired_at_s: float | None
    replicas: int | None
    detail: tuple[str, ...]


def check(paths: Sequence[Path] = ()) -> Checked:
    """Read packs (the built-in ones without `paths`) and tell what is wrong with them; raises nothing."""
    try:
        loaded, errors = read_packs(read_files(paths))
    except ConfigError as error:
        return Checked((), (str(error),))
    packs = tuple(each.pack for each in loaded if each.pack is not None)
    return Checked(() if errors else packs, tuple(errors))


def prove(pack: Pack, make_engine: MakeEngine = PythonEngine) -> list[TestResult]:
    """Every test of a pack on an engine made for it, in the order of the file."""
    rules = make_ruleset([pack])
    engine = make_engine(rules.shapes)
    try:
        return [
            _prove(rules, engine, rule, name, case)
            for rule, body in pack.rules.items()
            for name, case in body.tests.items()
        ]
    finally:
        engine.close()


def series(case: Case) -> list[Told]:
    """The SLIs and findings of a test: each value told at the end of each of its windows, the latest ones every second.

    A finding of which no number is known is not told: its agent is down.
    """
    sizes = sorted({place_of_value(text)[1] for given in case.given for text in given.values})
    standing: dict[int, dict[str, float | None]] = {}
    named: dict[int, dict[str, float]] = {}
    told: list[Told] = []
    for second in range(int(case.until) + 1):
        for given in case.given:
            if second - 1 < given.at <= second:
                for text, value in given.values.items():
                    name, size_s = place_of_value(text)
                    standing.setdefault(size_s, {})[name] = value
                named |= {KINDS[kind]: by_replica for kind, by_replica in given.by_replica.items()}
        for size_s in sizes:
            if size_s in standing and due(size_s, second):
                told += _told(size_s, second, standing[size_s], named.get(size_s, {}))
    return told


def due(size_s: int, second: int) -> bool:
    """Whether a window of this size ends at this second of a test."""
    return size_s == 0 or second % size_s == 0


_KIND_OF = {size_s: kind for kind, size_s in KINDS.items()}


def _told(
    size_s: int, second: int, values: Mapping[str, float | None], by_replica: Mapping[str, float]
) -> Iterator[Told]:
    at_ms = START_MS + second * 1000
    if size_s not in _KIND_OF:
        yield _sli(size_s, at_ms, values)
    elif known := {name: value for name, value in values.items() if value is not None}:
        kind, replicas = _KIND_OF[size_s], dict(by_replica)
        yield Finding(workload=WORKLOAD, kind=kind, at_ms=at_ms, cause_ms=at_ms, values=known, by_replica=replicas)


def _sli(size_s: int, end_ms: int, values: Mapping[str, float | None]) -> Sli:
    return Sli(
        workload=WORKLOAD,
        size_s=size_s,
        start_ms=end_ms - size_s * 1000,
        coverage_ratio=1.0,
        freshness_s=0.0,
        cause_ms=end_ms,
        instances=1,
        instances_up=1,
        values={name: SliValue(value=value, samples=0 if value is None else 1) for name, value in values.items()},
    )


def _prove(rules: RuleSet, engine: Engine, rule: str, name: str, case: Case) -> TestResult:
    slis = series(case)
    log = with_ticks(slis, START_MS + int(case.until * 1000))
    _, outputs = fold.step(rules, engine, RuleSettings(), None, log)
    fired_at_s, proposed = _first(outputs, rule)
    expect = case.expect
    wanted = {part: value for part in _PARTS if (value := getattr(expect, part)) is not None}
    got = {part: getattr(proposed, part, None) for part in wanted}
    passed = fired_at_s == expect.fires_at and got == wanted
    detail: tuple[str, ...] = (f"expected {_words(expect.fires_at, wanted)}, fires {_words(fired_at_s, got)}",)
    if not passed:
        if fired_at_s is None:
            at_ms = START_MS + int((expect.fires_at or 0) * 1000)
            detail += next(each.why for each in replay(rules, slis, at_ms) if each.rule == rule)
        detail += tuple(each.summary for each in outputs if isinstance(each, Alert) and each.subject == rule)
    pack = rules.packs[0].pack
    replicas = proposed.replicas if proposed else None
    return TestResult(pack, rule, name, engine.name, passed, fired_at_s, replicas, detail)


_PARTS = ("replicas", "settings", "by_replica")


def _first(outputs: Sequence[Message], rule: str) -> tuple[float | None, ActionSpec | None]:
    for output in outputs:
        for each in output.candidates if isinstance(output, CandidateSet) else ():
            if each.rule == rule and isinstance(output, CandidateSet):
                return (output.at_ms - START_MS) / 1000.0, each.spec
    return None, None


def _words(at_s: float | None, parts: Mapping[str, object]) -> str:
    return (
        "never" if at_s is None else ", ".join([f"at {at_s:g}s", *(f"{part}: {each}" for part, each in parts.items())])
    )
