"""The laws of every stage that watches a workload: cuts do not matter, repeats do not matter, and what it says fits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import BaseModel

from contracts.codec import decode, encode
from contracts.events import Finding, Message
from tests.agents.watched import WATCHED, Watched
from tests.streams.test_stage_laws import fold_in_cuts

SEEDS = st.integers(min_value=0, max_value=2**32)
few = effort(max_examples=12, deadline=None)
every = pytest.mark.parametrize("one", WATCHED.values(), ids=WATCHED)


def dumped(state: BaseModel | None) -> object:
    return state and state.model_dump()


def told(messages: list[Message]) -> list[object]:
    return [each.model_dump() for each in messages]


@every
@given(seed=SEEDS)
@few
def test_cutting_the_log_into_batches_changes_nothing(one: Watched, seed: int) -> None:
    log = one.log(seed, one.seconds)
    cuts = sorted(random.Random(seed).sample(range(1, len(log)), k=12))
    whole_state, whole = one.fold(log)
    state, outputs = fold_in_cuts(one.stage, log, cuts)
    assert told(outputs) == told(whole)
    assert dumped(state) == dumped(whole_state)
    assert {each.kind for each in whole if isinstance(each, Finding)} == one.kinds


@every
@given(seed=SEEDS, last=st.sampled_from([1, 5, 20]))
@few
def test_reading_a_stretch_twice_says_nothing_and_changes_nothing(one: Watched, seed: int, last: int) -> None:
    log = one.log(seed, one.seconds)
    at = random.Random(seed).randrange(30, len(log))
    state, _ = one.fold(log[:at])
    again, outputs = one.stage.step(state, log[at - last : at])
    assert outputs == []
    assert dumped(again) == dumped(state)


@every
@given(seed=SEEDS)
@few
def test_reading_every_message_twice_at_once_is_as_reading_it_once(one: Watched, seed: int) -> None:
    log = one.log(seed, one.seconds // 2)
    _, once = one.fold(log)
    _, twice = one.fold([m for message in log for m in (message, message)])
    assert told(twice) == told(once)


@every
@given(seed=SEEDS)
@few
def test_what_it_says_fits_its_topic_and_is_said_once(one: Watched, seed: int) -> None:
    said = one.fold(one.log(seed, one.seconds))[1]
    assert len({each.id for each in said}) == len(said)
    for each in said:
        assert decode(encode(each, source="test")) == each


@every
@given(seed=SEEDS)
@few
def test_the_state_survives_being_written_down(one: Watched, seed: int) -> None:
    state, _ = one.fold(one.log(seed, one.seconds))
    assert state is not None
    assert one.stage.state.model_validate_json(state.model_dump_json()).model_dump() == state.model_dump()


@every
def test_what_is_kept_is_small(one: Watched) -> None:
    for seed in range(3):
        state, _ = one.fold(one.log(seed, 3 * one.seconds))
        assert state is not None
        assert len(state.model_dump_json(exclude={one.packed})) < one.at_most
