"""The laws of stage `rules`: cuts of the log do not matter, repeats add nothing new, ids are unique."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import CandidateSet, Message
from contracts.stage import Stage
from rules.book import EngineSeat, RuleBook
from rules.core.fold import RuleSettings
from rules.core.reference import PythonEngine
from rules.core.ruleset import make_ruleset
from rules.stages import stages
from tests.rules.builders import dumped, pack, random_log, rule
from tests.streams.test_stage_laws import fold_in_cuts

SEEDS = st.integers(min_value=0, max_value=2**32)

# Beside the built-in pack one with everything in it: short cooldowns, `keep`, rules without their numbers.
_EVERYTHING = {
    "busy": {"sli": "load_per_replica", "window": "latest", "above": 14, "until": 9, "on_missing": "keep", "doc": "d"},
    "long": {"sli": "load_per_replica", "window": "10s", "above": 8, "for": "25s", "on_missing": False, "doc": "d"},
    "dark": {"sli": "replicas_up", "window": "latest", "below": 1, "for": "3s", "on_missing": True, "doc": "d"},
}
_AMOUNT = {"kind": "scale_up", "replicas": {"sli": "replicas_up", "most": 3}}


def make_stage() -> Stage:
    book = RuleBook()
    rules = {
        "keeps": rule(priority=1, all=["busy"], cooldown="7s"),
        "lasts": rule(priority=2, all=None, any=["busy", "long"], none=["dark"], cooldown="30s", action=_AMOUNT),
        "blind": rule(priority=3, all=["dark"], cooldown="20s", action=_AMOUNT),
    }
    book.rules = make_ruleset([*book.rules.packs, pack(rules, _EVERYTHING)])
    (stage,) = stages(book, EngineSeat(PythonEngine), RuleSettings())
    return stage


STAGE = make_stage()


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_cutting_the_log_into_batches_changes_nothing(seed: int) -> None:
    log = random_log(seed)
    cuts = sorted(random.Random(seed).sample(range(1, len(log)), k=12))
    whole_state, whole = STAGE.step(None, log)
    for places in (cuts, list(range(1, len(log)))):
        state, outputs = fold_in_cuts(STAGE, log, places)
        assert [m.model_dump() for m in outputs] == [m.model_dump() for m in whole]
        assert dumped(state) == dumped(whole_state)
    assert whole, "the log must exercise the stage"


@given(seed=SEEDS, last=st.sampled_from([1, 5, 20]))
@settings(max_examples=30, deadline=None)
def test_reading_a_stretch_twice_adds_nothing(seed: int, last: int) -> None:
    log = random_log(seed)
    at = random.Random(seed).randrange(50, len(log))
    state, _ = STAGE.step(None, log[:at])
    after, again = STAGE.step(state, log[at - last : at])
    assert again == []
    assert dumped(after) == dumped(state)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_reading_every_message_twice_at_once_is_as_reading_it_once(seed: int) -> None:
    log = random_log(seed)
    _, once = STAGE.step(None, log)
    _, twice = STAGE.step(None, [m for message in log for m in (message, message)])
    assert [m.model_dump() for m in twice] == [m.model_dump() for m in once]


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_ids_are_unique_and_time_does_not_run_backwards(seed: int) -> None:
    _, outputs = STAGE.step(None, random_log(seed))
    ids = [m.id for m in outputs]
    assert len(ids) == len(set(ids))
    assert [m.at for m in outputs] == sorted(m.at for m in outputs)


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_no_rule_fires_within_its_cooldown_and_sets_stay_small(seed: int) -> None:
    _, outputs = STAGE.step(None, random_log(seed))
    last: dict[str, int] = {}
    for found in _sets(outputs):
        assert len(found.model_dump_json()) < 10_000
        for each in found.candidates:
            assert found.at_ms - last.get(each.rule, 0) >= each.cooldown_s * 1000
            last[each.rule] = found.at_ms


@given(seed=SEEDS)
@settings(max_examples=30, deadline=None)
def test_no_capacity_is_taken_on_a_fact_that_holds_without_a_value(seed: int) -> None:
    _, outputs = STAGE.step(None, random_log(seed, 700))
    for found in _sets(outputs):
        for each in found.candidates:
            if each.spec.kind.takes_capacity:
                assert all(fact.value is not None for fact in each.facts if fact.holds)
                assert found.replicas is not None


def _sets(outputs: list[Message]) -> list[CandidateSet]:
    return [each for each in outputs if isinstance(each, CandidateSet)]
