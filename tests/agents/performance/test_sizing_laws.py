"""The two laws of a stage for `sizing`: cuts do not matter, repeats do not matter; and what it may never say."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st
from pydantic import BaseModel

from agents.performance.core.sizing_state import SizingState
from agents.performance.stages import stages
from contracts.codec import decode, encode
from contracts.events import Action, EndState, Finding, Message
from tests.agents.performance.sizing_desk import SETTINGS, action, latest, outcome, tick, window
from tests.streams.test_stage_laws import fold_in_cuts

SEEDS = st.integers(min_value=0, max_value=2**32)
(STAGE,) = stages(SETTINGS)
few = effort(max_examples=12, deadline=None)


def random_log(seed: int, seconds: int = 600) -> list[Message]:
    """A load that wanders, replicas that come and go, with scrapes missing and late, clocks that are wrong now and
    then, messages told again, and actions of which some are never heard again."""
    rng = random.Random(seed)
    log: list[Message] = []
    actions: list[Action] = []
    rps, up, scrape_s = rng.uniform(1, 20), 4, rng.choice([2, 5, 5, 15])
    for at_s in range(0, seconds, scrape_s):
        rps = max(0.0, rps * rng.uniform(0.8, 1.25))
        up = max(1, min(9, up + rng.choice([0] * 12 + [-1, 1])))
        wrong_s = rng.choice([0.0] * 30 + [-40.0, 3.0, 40.0, 500.0])
        if rng.random() < 0.92:
            told = rng.choice([up] * 9 + [max(0, up - 1), 0])
            known = None if rng.random() < 0.03 else rps
            shares = {"coverage_ratio": rng.choice([1.0] * 9 + [0.3]), "freshness_s": rng.choice([0.0] * 9 + [50.0])}
            log.append(latest(at_s + wrong_s, known, samples=told, instances=up, replicas_up=float(up), **shares))
        for size_s in (10, 60, 300):
            if at_s % size_s == 0 and rng.random() < 0.9:
                log.append(window(at_s, rps, size_s=size_s, good=rng.randrange(400, 481)))
        if rng.random() < 0.05:
            actions.append(action(rng.choice([-2, -1, 1, 2, 3]), at_s, f"number {at_s}"))
            log.append(actions[-1])
        if actions and rng.random() < 0.05:
            log.append(outcome(rng.choice(actions), at_s, rng.choice(list(EndState))))
        if log and rng.random() < 0.1:
            log.append(rng.choice(log[-8:]))
        if rng.random() < 0.95:
            log.append(tick(at_s))
    return log


def dumped(state: object) -> object:
    return state.model_dump() if isinstance(state, SizingState) else state


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
def test_reading_every_message_twice_at_once_is_as_reading_it_once(seed: int) -> None:
    log = random_log(seed, 300)
    _, once = STAGE.step(None, log)
    _, twice = STAGE.step(None, [m for message in log for m in (message, message)])
    assert [m.model_dump() for m in twice] == [m.model_dump() for m in once]


@given(seed=SEEDS)
@few
def test_findings_are_told_once_in_order_no_oftener_than_they_speak_for_and_fit_their_topic(seed: int) -> None:
    found = [each for each in STAGE.step(None, random_log(seed))[1] if isinstance(each, Finding)]
    times = [each.at_ms // 15_000 for each in found]
    assert times == sorted(set(times))
    assert len({each.id for each in found}) == len(found)
    for each in found:
        assert decode(encode(each, source="test")) == each


@given(seed=SEEDS)
@few
def test_nothing_is_short_and_spare_at_once_and_nothing_spare_on_old_evidence(seed: int) -> None:
    for each in STAGE.step(None, random_log(seed))[1]:
        assert isinstance(each, Finding)
        wanted, ordered = each.value("replicas_wanted"), each.value("replicas_ordered")
        short, spare = each.value("replicas_short"), each.value("replicas_spare")
        if ordered is None:
            assert (wanted, short, spare) == (None, None, None)
            continue
        assert not (short and spare)
        assert (spare or 0) < max(1, ordered)
        if each.freshness_s > SETTINGS.max_age_s:
            assert spare is None
        if wanted is None:  # until it is known what a replica bears
            continue
        assert short == max(0, wanted - ordered)
        assert spare in (None, max(0, ordered - wanted))
        assert wanted >= ordered or each.freshness_s <= SETTINGS.max_age_s


def test_what_is_kept_is_small() -> None:
    for seed in range(3):
        state, _ = STAGE.step(None, random_log(seed, 1800))
        assert isinstance(state, SizingState)
        rest = state.model_copy(update={"mind": None})
        assert len(rest.model_dump_json()) < 20_000


def steady_log(rps: float) -> list[Message]:
    """Four replicas that serve so much, ten minutes long."""
    log: list[Message] = []
    for at_s in range(0, 600, 15):
        closed = [window(at_s, rps, good=round(60 * rps), total=round(60 * rps))] if at_s % 60 == 0 else []
        log += [*closed, latest(at_s, rps), tick(at_s)]
    return log


def test_what_was_worked_out_for_one_state_is_never_told_of_another() -> None:
    """Two pasts of one workload take turns at one stage, and each hears what a stage that remembers nothing says."""
    kept: list[BaseModel | None] = [None, None]
    anew: list[BaseModel | None] = [None, None]
    capacities: set[float] = set()
    for both in zip(steady_log(8.0), steady_log(20.0), strict=True):
        for past, message in enumerate(both):
            (new,) = stages(SETTINGS)
            kept[past], said = STAGE.step(kept[past], [message])
            anew[past], told = new.step(anew[past], [message])
            assert said == told
            capacities |= {each.values.get("capacity_rps", 0.0) for each in told if isinstance(each, Finding)}
    assert len(capacities) == 3  # none as yet, and another one of each
