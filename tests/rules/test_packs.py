"""Packs prove themselves: every test of the built-in ones, of the ladder and of the docs runs, with golden results."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from contracts.catalog.slis import SLIS
from contracts.events import ActionKind, CandidateSet
from rules.book import BUILT_IN, MakeEngine, RuleBook, pack_files
from rules.core import fold
from rules.core.fold import RuleSettings
from rules.core.loader import load_pack
from rules.core.pack import Pack
from rules.core.reference import PythonEngine
from rules.core.ruleset import make_ruleset
from rules.core.shapes import Engine, RuleShape
from rules.engines.durable import DurableEngine
from rules.explain import with_ticks
from rules.proving import START_MS, TestResult, check, prove, series
from tests.rules.builders import CASES, pack, rule

LADDER = sorted((Path(__file__).parent / "ladder").glob("*.yaml"))
DOCS = Path(__file__).parents[2] / "docs" / "rules.md"


def durable(rules: Sequence[RuleShape]) -> Engine:
    """The engine in its child process. That it needed no help is part of the proof."""

    def trouble(name: str, detail: str) -> None:
        raise AssertionError(f"{name}: {detail}")

    return DurableEngine(rules, on_trouble=trouble, clock_s=time.monotonic, ask_timeout_s=60)


@pytest.mark.parametrize("engine", [PythonEngine, durable], ids=["python", "durable"])
@pytest.mark.parametrize("file", [*pack_files(), *LADDER], ids=lambda file: file.stem)
def test_every_rule_of_a_pack_proves_itself(file: Path, engine: MakeEngine) -> None:
    results = prove(load_pack(file.read_bytes(), file.name), engine)
    assert results
    assert [(r.rule, r.test, r.detail) for r in results if not r.passed] == []


def told(found: Pack) -> dict[str, object]:
    """Everything that the tests of a pack bring forth, in a form that a person can read in a diff."""
    rules = make_ruleset([found])
    out: dict[str, object] = {}
    for name, body in found.rules.items():
        for test, case in body.tests.items():
            log = with_ticks(series(case), START_MS + int(case.until * 1000))
            _, outputs = fold.step(rules, PythonEngine(rules.shapes), RuleSettings(), None, log)
            out[f"{name}/{test}"] = [
                {
                    "at_s": (each.at_ms - START_MS) / 1000,
                    "candidates": [
                        {
                            "rule": c.rule,
                            "replicas": c.spec.replicas,
                            "expect": str(c.spec.effect.expect),
                            "facts": [f"{f.condition}: {f.value} held {f.held_s:g}s {f.holds}" for f in c.facts],
                        }
                        for c in each.candidates
                    ],
                }
                for each in outputs
                if isinstance(each, CandidateSet)
            ]
    return out


@pytest.mark.parametrize("file", LADDER, ids=lambda file: file.stem)
def test_the_ladder_gives_what_is_written_down(file: Path, request: pytest.FixtureRequest) -> None:
    today = json.dumps(told(load_pack(file.read_bytes(), file.name)), indent=1, ensure_ascii=False) + "\n"
    golden = file.with_suffix(".json")
    if request.config.getoption("--update-golden"):
        golden.write_text(today)
    assert golden.read_text() == today


def test_every_pack_of_the_docs_proves_itself() -> None:
    blocks = re.findall(r"^```yaml\n(pack:.*?)^```", DOCS.read_text(), re.M | re.S)
    assert blocks
    for block in blocks:
        results = prove(load_pack(block.encode(), "docs/rules.md"))
        assert [(r.rule, r.test, r.detail) for r in results if not r.passed] == []


def test_the_docs_name_every_window_and_field() -> None:
    text = DOCS.read_text()
    words = ("above", "at_least", "below", "at_most", "until", "for", "on_missing", "cooldown", "priority", "guards")
    assert [word for word in (*words, "settle", "300s", "latest", "keep") if f"`{word}" not in text] == []


def test_the_built_in_packs_scale_set_engines_and_shares_and_hold_requests_at_the_gateway() -> None:
    kinds = {rule.name: rule.rule.action.kind for rule in RuleBook().rules.rules}
    assert kinds == {
        "scale-up-to-forecast": ActionKind.SCALE_UP,
        "scale-down-to-forecast": ActionKind.SCALE_DOWN,
        "scale-up-on-burn": ActionKind.SCALE_UP,
        "scale-up-on-lasting-queue": ActionKind.SCALE_UP,
        "scale-up-on-queue": ActionKind.SCALE_UP,
        "scale-down-on-slack": ActionKind.SCALE_DOWN,
        "scale-up-on-kv-pressure": ActionKind.SCALE_UP,
        "take-back-engine-setting": ActionKind.TUNE,
        "roll-out-engine-setting": ActionKind.TUNE,
        "try-engine-setting": ActionKind.TUNE,
        "rebalance": ActionKind.ROUTE,
        "take-back-kv-tiers": ActionKind.TUNE,
        "roll-out-kv-tiers": ActionKind.TUNE,
        "try-kv-tiers": ActionKind.TUNE,
        "break-circuit-on-restarts": ActionKind.BREAKER,
        "queue-at-gateway": ActionKind.QUEUE,
        "release-gateway-queue": ActionKind.QUEUE,
        "cut-context-on-kv-pressure": ActionKind.CONTEXT,
        "restore-context-at-gateway": ActionKind.CONTEXT,
        "right-size-context": ActionKind.TUNE,
    }


def test_the_built_in_packs_lie_in_the_package() -> None:
    assert BUILT_IN.parent.name == "rules"
    assert [file.name for file in pack_files()] == ["performance.yaml", "resource.yaml", "tiers.yaml", "tuning.yaml"]


def test_guards_of_what_takes_capacity_can_be_seen_on_an_idle_workload() -> None:
    for each in RuleBook().rules.rules:
        if each.rule.action.kind.takes_capacity:
            assert all(SLIS[guard.sli].latest for guard in each.rule.effect.guards)


def results(expect: dict[str, object], **values: float) -> list[TestResult]:
    given = [{"at": "0s", "values": {"requests_waiting": 0, "replicas_up": 1} | values}]
    one = {"given": given, "until": "30s", "expect": expect}
    return [r for r in prove(pack({"up": rule(tests=CASES | {"one": one})})) if r.test == "one"]


def test_a_test_that_fails_says_what_was_expected_and_why_the_rule_did_not_fire() -> None:
    (found,) = results({"fires_at": "0s"})
    assert (found.passed, found.fired_at_s, found.replicas, found.engine) == (False, None, None, "python")
    assert found.detail == ("expected at 0s, fires never", "waiting: requests_waiting is 0, needs > 4")


def test_a_test_that_fails_says_when_the_rule_fired_and_with_how_many() -> None:
    (late,) = results({"fires_at": "9s", "replicas": 2}, requests_waiting=9)
    assert late.detail == ("expected at 9s, replicas: 2, fires at 0s, replicas: 1",)
    (never,) = results({"fires": "never"}, requests_waiting=9)
    assert never.detail == ("expected never, fires at 0s",)


def test_a_missing_number_is_said_by_the_test() -> None:
    action = {"kind": "scale_up", "replicas": {"sli": "load_per_replica", "most": 3}}
    given = [{"at": "0s", "values": {"requests_waiting": 9}}]
    one = {"given": given, "until": "30s", "expect": {"fires_at": "0s"}}
    found = prove(pack({"up": rule(action=action, tests=CASES | {"one": one})}))[-1]
    assert not found.passed
    assert any("load_per_replica (latest) is missing" in line for line in found.detail)


def test_check_tells_all_errors_of_all_files_and_gives_no_packs_then(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("pack: a")
    (tmp_path / "b.yaml").write_text("- b")
    found = check([tmp_path])
    assert found.packs == ()
    assert len([line for line in found.errors if "a.yaml:1:" in line]) == 4
    assert any("b.yaml:1: a pack is a mapping" in line for line in found.errors)
    assert check([tmp_path / "c.yaml"]).errors == (
        f"rules: no such file: {tmp_path / 'c.yaml'}. Correct the path of the pack.",
    )
    assert [each.pack for each in check().packs] == ["performance", "resource", "tiers", "tuning"]
