"""The two laws of a Stage, for every registered stage: cuts do not matter, repeats do not matter."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from contracts.events import Message, Tick
from contracts.stage import Stage
from streams.core.slis import SliSettings
from streams.stages import stages
from tests.streams.recording import record, with_ticks

STAGES = {stage.name: stage for stage in stages(SliSettings())}
SEEDS = st.integers(min_value=0, max_value=2**32)


def key_log(stage: Stage, seed: int) -> list[Message]:
    """The messages of one state key in log order, made by the stages before it where need be."""
    log: list[Message] = list(with_ticks(record(seed, workloads=("chat",), instances=2, scrapes=40)))
    if stage.name != "slis":
        return [m for m in log if isinstance(m, Tick) or stage.state_key(m) in ("chat", "chat\x1fchat-0")]
    states: dict[str, BaseModel | None] = {}
    out: list[Message] = []
    for message in log:
        if isinstance(message, Tick):
            out.append(message)
            continue
        key = STAGES["windows"].state_key(message) or ""
        states[key], made = STAGES["windows"].step(states.get(key), [message])
        out += made
    return out


def fold_in_cuts(stage: Stage, log: list[Message], cuts: list[int]) -> tuple[BaseModel | None, list[Message]]:
    state: BaseModel | None = None
    outputs: list[Message] = []
    for start, end in zip([0, *cuts], [*cuts, len(log)], strict=True):
        state, made = stage.step(state, log[start:end])
        # Between batches the driver keeps the state as JSON.
        state = stage.state.model_validate_json(state.model_dump_json()) if state else None
        outputs += made
    return state, outputs


@pytest.mark.parametrize("name", STAGES)
@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_cutting_the_log_into_batches_changes_nothing(name: str, seed: int) -> None:
    stage = STAGES[name]
    log = key_log(stage, seed)
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(log)), k=min(12, len(log) - 1)))
    whole_state, whole = stage.step(None, log)
    state, outputs = fold_in_cuts(stage, log, cuts)
    assert [m.model_dump() for m in outputs] == [m.model_dump() for m in whole]
    assert (state and state.model_dump()) == (whole_state and whole_state.model_dump())
    assert whole, "the recording must exercise the stage"


@pytest.mark.parametrize("name", STAGES)
@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_reading_a_stretch_twice_adds_no_new_id(name: str, seed: int) -> None:
    stage = STAGES[name]
    log = key_log(stage, seed)
    at = random.Random(seed).randrange(1, len(log))
    state, once = stage.step(None, log[:at])
    _, again = stage.step(state, log[max(0, at - 20) : at])
    told = {m.id: m for m in once}
    assert all(m.id in told and told[m.id] == m for m in again)


@pytest.mark.parametrize("name", STAGES)
@given(seed=SEEDS)
@settings(max_examples=8, deadline=None)
def test_ids_are_unique_within_a_run(name: str, seed: int) -> None:
    stage = STAGES[name]
    _, outputs = stage.step(None, key_log(stage, seed))
    ids = [m.id for m in outputs]
    assert len(ids) == len(set(ids))
