"""The virtual driver: one order for all messages, states by key, and the same outcome as the stages have elsewhere."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from contracts.events import Alert, DeadLetter, FleetEvent, Message, MetricsSnapshot, Severity, Tick
from contracts.stage import Scope, Stage, fold
from contracts.topics import ALERTS, BY_MESSAGE, EVENTS, TICKS
from optiinfra.replay.virtual import Reader, VirtualDriver
from streams.core.slis import SliSettings
from streams.stages import stages
from tests.streams.chain import PureChain, by_workload
from tests.streams.recording import record, with_ticks


def event(at_ms: int, workload: str = "chat", number: int = 0) -> FleetEvent:
    return FleetEvent(workload=workload, name="something", number=number, at_ms=at_ms)


def alert(at_ms: int, workload: str = "chat", name: str = "heard") -> Alert:
    return Alert(workload=workload, name=name, severity=Severity.INFO, subject=workload, at_ms=at_ms, summary="a test")


class Count(BaseModel):
    """How many messages a key has had."""

    n: int = 0


def counting(state: Count | None, message: Message) -> tuple[Count | None, list[Message]]:
    n = (state.n if state else 0) + 1
    if isinstance(message, FleetEvent) and message.summary == "break":
        raise ValueError("broken")
    if isinstance(message, FleetEvent) and message.summary == "stray":
        return Count(n=n), [message]
    return Count(n=n), [alert(message.at, message.key, f"{type(message).__name__} {n}")]


def counter() -> Stage:
    return Stage(
        name="counter",
        inputs=(EVENTS, TICKS),
        outputs=(ALERTS,),
        scope=Scope.WORKLOAD,
        state=Count,
        step=fold(counting, Count),
        doc="counts",
    )


some_messages = st.lists(
    st.builds(event, st.integers(0, 5), st.sampled_from("abc"), st.integers(0, 3))
    | st.builds(alert, st.integers(0, 5), st.sampled_from("abc"))
    | st.builds(Tick, at_ms=st.integers(0, 5), partition=st.integers(0, 3)),
    max_size=30,
)


@given(messages=some_messages)
def test_of_one_source_what_is_equal_in_time_rank_and_key_keeps_its_order(messages: list[Message]) -> None:
    heard: list[Message] = []
    driver = VirtualDriver((), heard=heard.append)
    driver.put_in_order(messages)
    driver.run(10)
    assert heard == sorted(messages, key=lambda each: (each.at, BY_MESSAGE[type(each)].rank, each.key))


@given(messages=some_messages, chance=st.randoms(use_true_random=False))
def test_messages_from_outside_are_handled_by_time_rank_key_and_id_however_they_were_handed_in(
    messages: list[Message], chance: random.Random
) -> None:
    chance.shuffle(messages)
    heard: list[Message] = []
    driver = VirtualDriver((), heard=heard.append)
    cut = chance.randrange(len(messages) + 1)
    driver.put(messages[:cut])
    driver.put(messages[cut:])
    driver.run(10)
    assert heard == sorted(messages, key=lambda m: (m.at, BY_MESSAGE[type(m)].rank, m.key, m.id))


def test_nothing_later_than_asked_for_is_handled() -> None:
    heard: list[Message] = []
    driver = VirtualDriver((), heard=heard.append)
    driver.put([event(1), event(7)])
    driver.run(5)
    assert [each.at for each in heard] == [1]
    assert driver.now_ms == 1
    driver.run(7)
    assert [each.at for each in heard] == [1, 7]


def test_what_is_made_goes_on_as_in_a_log_and_what_is_late_comes_next() -> None:
    """Two outputs of one time and key keep the order in which they were made, whatever their ids are."""

    def make(message: Message) -> Sequence[Message]:
        return [alert(message.at, name=f"{number}") for number in range(20)] + [alert(1, name="late")]

    heard: list[Message] = []
    driver = VirtualDriver((), (Reader("maker", (EVENTS,), make),), heard=heard.append)
    driver.put([event(5), Tick(at_ms=5, partition=0)])
    driver.run(5)
    names = [each.name for each in heard if isinstance(each, Alert)]
    assert names == ["late", *(f"{number}" for number in range(20))]
    assert isinstance(heard[-1], Tick), "a tick comes after the data of its time, and after what comes of that"


def test_a_tick_goes_to_every_key_that_has_state() -> None:
    heard: list[Message] = []
    driver = VirtualDriver((counter(),), heard=heard.append)
    driver.put([Tick(at_ms=1, partition=0), event(2, "b"), event(3, "a"), Tick(at_ms=4, partition=0)])
    driver.run(9)
    assert [each.name for each in heard if isinstance(each, Alert)] == ["FleetEvent 1"] * 2 + ["Tick 2"] * 2
    assert driver.seats["counter"].states == {"a": Count(n=2), "b": Count(n=2)}


@pytest.mark.parametrize(("summary", "why"), [("break", "ValueError: broken"), ("stray", "does not declare")])
def test_a_message_that_makes_a_step_fail_is_dead_lettered_and_changes_no_state(summary: str, why: str) -> None:
    heard: list[Message] = []
    driver = VirtualDriver((counter(),), heard=heard.append)
    bad = event(2).model_copy(update={"summary": summary})
    driver.put([event(1), bad, event(3)])
    driver.run(9)
    (letter,) = [each for each in heard if isinstance(each, DeadLetter)]
    assert why in letter.detail
    assert letter.source == "counter"
    assert driver.seats["counter"].states == {"chat": Count(n=2)}


def sensing(coded: bool, messages: Sequence[Message]) -> list[Message]:
    heard: list[Message] = []
    driver = VirtualDriver(stages(SliSettings()), heard=heard.append, coded=coded)
    driver.put(messages)
    driver.run(max(each.at for each in messages))
    return [each for each in heard if not isinstance(each, MetricsSnapshot | Tick)]


@pytest.mark.parametrize("seed", range(4))
def test_the_stages_say_what_they_say_as_plain_folds_and_on_the_other_driver(seed: int) -> None:
    """`PureChain` is what the workers on Kafka are held against."""
    log = sorted(record(seed, instances=2, scrapes=90, faults=False), key=lambda m: (m.at, m.key, m.id))
    ticks = [Tick(at_ms=log[-1].at // 1000 * 1000 + s * 1000, partition=0) for s in (11, 30, 60)]
    chain = PureChain()
    chain.scrapes(log)
    chain.ticks(ticks)
    assert by_workload(sensing(False, [*log, *ticks])) == by_workload(chain.outputs)


@pytest.mark.parametrize("seed", range(3))
def test_going_through_bytes_changes_nothing(seed: int) -> None:
    log = with_ticks(record(seed, instances=3, scrapes=60))
    assert sensing(True, log) == sensing(False, log)
