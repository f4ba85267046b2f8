"""The two laws of a stage for `steering`: cuts do not matter, repeats do not matter; and what it may never say."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from agents.performance.core.steering_state import SteeringState
from agents.performance.core.trials import Setting
from agents.performance.stages import steering_stage
from contracts.codec import decode, encode
from contracts.events import Action, EndState, Finding, Message
from tests.agents.performance.steering_desk import NAMES, SETTINGS, latest, minute, outcome, route, tick, tune
from tests.streams.test_stage_laws import fold_in_cuts

SEEDS = st.integers(min_value=0, max_value=2**32)
STAGE = steering_stage(SETTINGS)
few = effort(max_examples=10, deadline=None)


def random_log(seed: int, seconds: int = 1200) -> list[Message]:
    """Replicas that are full and idle, fail and come back, scrapes that are missing, told twice or of a wrong clock,
    and actions of which some are never heard again."""
    rng = random.Random(seed)
    log: list[Message] = []
    actions: list[Action] = []
    for at_s in range(10, seconds, 10):
        wrong_s = rng.choice([0.0] * 30 + [-40.0, -400.0, 3.0, 500.0])
        up = [name for name in NAMES if rng.random() < 0.97]
        log += [latest(at_s + wrong_s, name, load=rng.uniform(0, 70), up=int(name in up)) for name in NAMES]
        log.append(latest(at_s, None, instances_up=len(up)))
        if at_s % 60 == 0:
            busy = rng.random() < 0.4
            log += [minute(at_s, name, busy=busy, late=rng.choice([0.0, 0.0, 0.02])) for name in up]
        if rng.random() < 0.03:
            setting = Setting(rng.choice([32, 64, 128]), 512, 1)
            actions.append(tune(at_s, setting, *rng.sample(NAMES, rng.choice([1, 1, 2]))))
            log.append(actions[-1])
        if rng.random() < 0.02:
            actions.append(route(at_s, {"chat-0": 0.4, "chat-1": 0.4, "chat-2": 0.2}))
            log.append(actions[-1])
        if actions and rng.random() < 0.05:
            log.append(outcome(rng.choice(actions), at_s, rng.choice(list(EndState))))
        if rng.random() < 0.1:
            log.append(rng.choice(log[-8:]))
        if rng.random() < 0.95:
            log.append(tick(at_s))
    return log


def dumped(state: object) -> object:
    return state.model_dump() if isinstance(state, SteeringState) else state


@given(seed=SEEDS)
@few
def test_cutting_the_log_into_batches_changes_nothing(seed: int) -> None:
    log = random_log(seed)
    cuts = sorted(random.Random(seed).sample(range(1, len(log)), k=12))
    whole_state, whole = STAGE.step(None, log)
    state, outputs = fold_in_cuts(STAGE, log, cuts)
    assert [m.model_dump() for m in outputs] == [m.model_dump() for m in whole]
    assert dumped(state) == dumped(whole_state)
    assert whole, "the log must exercise the stage"


@given(seed=SEEDS, last=st.sampled_from([1, 5, 20]))
@few
def test_reading_a_stretch_twice_says_nothing_and_changes_nothing(seed: int, last: int) -> None:
    log = random_log(seed)
    at = random.Random(seed).randrange(30, len(log))
    state, _ = STAGE.step(None, log[:at])
    again, outputs = STAGE.step(state, log[at - last : at])
    assert outputs == []
    assert dumped(again) == dumped(state)


@given(seed=SEEDS)
@few
def test_what_it_says_fits_its_topic_and_asks_only_replicas_that_answer_for_settings_that_are_possible(
    seed: int,
) -> None:
    found = [each for each in STAGE.step(None, random_log(seed))[1] if isinstance(each, Finding)]
    assert len({each.id for each in found}) == len(found)
    for each in found:
        assert decode(encode(each, source="test")) == each
        assert set(each.by_replica) <= set(NAMES)
        if each.kind == "balance":
            assert abs(sum(each.by_replica.values()) - 1) < 1e-9
            continue
        stage = each.value("trial_stage")
        assert bool(stage) == bool(each.by_replica)
        assert (each.value("seqs_wanted") is None) == (not stage)
        if stage == 1:
            assert len(each.by_replica) == 1


def test_what_is_kept_is_small() -> None:
    for seed in range(3):
        state, _ = STAGE.step(None, random_log(seed, 3600))
        assert isinstance(state, SteeringState)
        assert len(state.model_dump_json()) < 30_000
