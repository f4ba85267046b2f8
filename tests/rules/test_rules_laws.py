"""The laws of stage `rules`: cuts of the log do not matter, repeats add nothing new, ids are unique."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import Alert, CandidateSet, Message
from rules.book import EngineSeat, RuleBook
from rules.core.fold import RuleSettings
from rules.core.reference import PythonEngine
from rules.core.ruleset import make_ruleset
from rules.stages import stages
from tests.rules.builders import down, dumped, pack, random_log, rule
from tests.streams.test_stage_laws import fold_in_cuts

SEEDS = st.integers(min_value=0, max_value=2**32)

# Beside the built-in pack one with everything in it: short cooldowns, `keep`, rules without their numbers.
_EVERYTHING = {
    "busy": {"sli": "load_per_replica", "window": "latest", "above": 14, "until": 9, "on_missing": "keep", "doc": "d"},
    "long": {"sli": "load_per_replica", "window": "10s", "above": 8, "for": "25s", "on_missing": False, "doc": "d"},
    "easy": {"sli": "load_per_replica", "window": "latest", "below": 6, "on_missing": False, "doc": "d"},
    "some": {"sli": "requests_waiting", "window": "latest", "above": 0, "on_missing": True, "doc": "d"},
    "burnt": {"sli": "ttft_burn_rate", "window": "60s", "above": 1, "on_missing": True, "doc": "d"},
    "dark": {"sli": "replicas_up", "window": "latest", "below": 1, "for": "3s", "on_missing": True, "doc": "d"},
}
_AMOUNT = {"kind": "scale_up", "replicas": {"sli": "replicas_up", "most": 3}}

_LESS = {"kind": "scale_down", "replicas": {"sli": "replicas_up", "most": 3}}


_RULES = {
    "keeps": rule(priority=1, all=["busy"], cooldown="7s"),
    "lasts": rule(priority=2, all=None, any=["busy", "long"], none=["dark"], cooldown="30s", action=_AMOUNT),
    "blind": rule(priority=3, all=["dark"], cooldown="20s", action=_AMOUNT),
    "eases": down(priority=4, all=["easy"], none=["some", "burnt"], cooldown="5s", action=_LESS),
}
BOOK = RuleBook()
BOOK.rules = RULES = make_ruleset([*BOOK.rules.packs, pack(_RULES, _EVERYTHING)])
(STAGE,) = stages(BOOK, EngineSeat(PythonEngine), RuleSettings())


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
def test_capacity_is_taken_only_on_fresh_values_of_every_condition_that_asks_for_it(seed: int) -> None:
    rules = {each.name: each.rule for each in RULES.rules}
    _, outputs = STAGE.step(None, random_log(seed, 700))
    for found in _sets(outputs):
        for each in found.candidates:
            if each.spec.kind.takes_capacity:
                asking = {*rules[each.rule].all, *rules[each.rule].any}
                assert all(fact.value is not None for fact in each.facts if fact.condition in asking)
                assert not any(fact.holds for fact in each.facts if fact.condition not in asking)
                assert found.replicas is not None


@given(seed=SEEDS)
@settings(max_examples=20, deadline=None)
def test_slack_decides_only_where_nobody_sizes_and_the_forecast_only_on_what_is_fresh(seed: int) -> None:
    _, outputs = STAGE.step(None, random_log(seed, 700))
    for found in _sets(outputs):
        rules = {each.rule for each in found.candidates}
        if "replicas_wanted" in found.evidence.get(15, {}):
            assert "scale-down-on-slack" not in rules
        if not found.evidence.get(15):
            assert not {rule for rule in rules if rule.endswith("-to-forecast")}


def test_the_logs_make_every_rule_fire() -> None:
    outputs = [m for seed in range(12) for m in STAGE.step(None, random_log(seed, 700))[1]]
    fired = {each.rule for found in _sets(outputs) for each in found.candidates}
    assert fired == {each.name for each in RULES.rules} - {"blind"}
    assert "blind" in {m.subject for m in outputs if isinstance(m, Alert)}


def _sets(outputs: list[Message]) -> list[CandidateSet]:
    return [each for each in outputs if isinstance(each, CandidateSet)]
