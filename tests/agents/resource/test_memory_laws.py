"""The two laws of a stage for `resource`: cuts do not matter, repeats do not matter."""

from __future__ import annotations

import random
from typing import Any

from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from agents.resource.core.memory_state import ResourceState
from contracts.codec import decode, encode
from contracts.events import Action, ActionKind, EndState, Finding, Message
from tests.agents.resource.memory_desk import STAGE, action, outcome, tick, window
from tests.streams.test_stage_laws import fold_in_cuts

SEEDS = st.integers(min_value=0, max_value=2**32)
few = effort(max_examples=12, deadline=None)


def random_log(seed: int, seconds: int = 1500) -> list[Message]:
    """Memory that fills and empties, with windows missing, late, told again and of wrong clocks, engines that begin
    anew, and actions of which some are never heard again."""
    rng = random.Random(seed)
    log: list[Message] = []
    actions: list[Action] = []
    kv = rng.uniform(0.3, 0.9)
    for at_s in range(0, seconds, 10):
        kv = min(1.0, max(0.0, kv + rng.uniform(-0.04, 0.05)))
        wrong_s = rng.choice([0.0] * 30 + [-40.0, 40.0, 500.0])
        changes: dict[str, Any] = {
            "kv_cache_usage_ratio": rng.choice([kv] * 9 + [None]),
            "kv_cache_usage_max_ratio": min(1.0, kv * 1.05),
            "preemptions_per_s": rng.choice([0.0] * 9 + [0.4, None]),
            "kv_allocation_failures_per_s": rng.choice([None, 0.0, 0.2]),
            "restarts": rng.choice([0.0] * 20 + [1.0, 2.0]),
        }
        if rng.random() < 0.92:
            log.append(window(at_s + wrong_s, **changes))
        if at_s % 60 == 0:
            log += [window(at_s, size_s=60, name=f"chat-{each}") for each in range(2) if rng.random() < 0.8]
        if at_s % 300 == 0:
            lengths: dict[str, Any] = {
                f"request_tokens_{name}": (rng.uniform(100, 9000), 200) for name in ("mean", "p95", "p99")
            }
            log.append(window(at_s, size_s=300, prefix_cache_hit_ratio=(rng.random(), 20_000), **lengths))
        if rng.random() < 0.05:
            rule = rng.choice(["scale-up-on-kv-pressure", "scale-up-to-forecast"])
            actions.append(action(at_s, rule=rule, kind=rng.choice([ActionKind.SCALE_UP, ActionKind.TUNE])))
            log.append(actions[-1])
        if actions and rng.random() < 0.05:
            log.append(outcome(rng.choice(actions), at_s, rng.choice(list(EndState))))
        if log and rng.random() < 0.1:
            log.append(rng.choice(log[-8:]))
        if rng.random() < 0.95:
            log.append(tick(at_s))
    return log


def dumped(state: object) -> object:
    return state.model_dump() if isinstance(state, ResourceState) else state


@given(seed=SEEDS)
@few
def test_cutting_the_log_into_batches_changes_nothing(seed: int) -> None:
    log = random_log(seed)
    cuts = sorted(random.Random(seed).sample(range(1, len(log)), k=12))
    whole_state, whole = STAGE.step(None, log)
    state, outputs = fold_in_cuts(STAGE, log, cuts)
    assert [m.model_dump() for m in outputs] == [m.model_dump() for m in whole]
    assert dumped(state) == dumped(whole_state)
    assert {each.kind for each in whole if isinstance(each, Finding)} == {"pressure", "tiers", "context"}


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
def test_the_state_survives_being_written_down(seed: int) -> None:
    state, _ = STAGE.step(None, random_log(seed))
    assert isinstance(state, ResourceState)
    assert ResourceState.model_validate_json(state.model_dump_json()) == state


@given(seed=SEEDS)
@few
def test_all_that_is_found_is_a_valid_message(seed: int) -> None:
    for each in STAGE.step(None, random_log(seed))[1]:
        assert decode(encode(each, source="test")) == each
