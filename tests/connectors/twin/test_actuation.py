"""Orders on the fleet: done once under their token, refused under an old fence, taken back, lied about on command."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from connectors.twin.actuation import Actuation
from connectors.twin.fleet import Fleet, Phase, WorkloadSpec
from connectors.twin.journal import Journal
from connectors.twin.load import LoadSpec
from connectors.twin.members import restored_fleet
from connectors.twin.orders import CannotDo, Faults, Told
from contracts.errors import ConfigError, Conflict
from contracts.events import StepKind
from contracts.ports import StepReport, StepState

START_MS = 1_700_000_000_000
SPECS = (
    WorkloadSpec("chat", "a/chat-model", 3, LoadSpec(3.0, day_s=300, phase=0.3), startup_s=10.0),
    WorkloadSpec("code", "a/code-model", 1, LoadSpec(1.0, day_s=300, phase=0.3), startup_s=10.0),
)
ADD, DRAIN, REMOVE = StepKind.ADD, StepKind.DRAIN, StepKind.REMOVE
DONE, FAILED, RUNNING, UNKNOWN = StepState.DONE, StepState.FAILED, StepState.RUNNING, StepState.UNKNOWN


def made(journal: Journal | None = None, start_ms: int = START_MS) -> Actuation:
    book = journal or Journal()
    return Actuation(restored_fleet(SPECS, book, seed=1, start_ms=start_ms), book)


def after(twin: Actuation, seconds: float) -> Actuation:
    twin.fleet.advance(twin.fleet.now_ms + seconds * 1000)
    twin.progress()
    return twin


def phases(fleet: Fleet, workload: str = "chat") -> dict[str, str]:
    return {r.replica_id: r.phase.value for r in fleet.members(workload)}


def test_an_added_replica_is_running_until_it_is_ready() -> None:
    twin = after(made(), 1)
    assert twin.inspect("t1") == StepReport(UNKNOWN)
    assert twin.apply("chat", ADD, "", "t1", 1) == StepReport(RUNNING, "chat-3", "starting")
    assert after(twin, 9).inspect("t1").state is RUNNING
    assert after(twin, 1).inspect("t1") == StepReport(DONE, "chat-3", "ready")
    assert twin.effects() == {"t1": 1}


def test_a_drain_is_done_when_nothing_is_left_and_then_the_replica_can_be_removed_at_once() -> None:
    twin = after(made(), 60)
    assert twin.fleet.replica("chat-0").engine.outstanding > 0  # type: ignore[union-attr]  # it serves
    assert twin.apply("chat", DRAIN, "chat-0", "t1", 1).state is RUNNING
    assert twin.check("chat", REMOVE, "chat-0") != ""
    assert after(twin, 200).inspect("t1") == StepReport(DONE, "chat-0", "drained")
    assert twin.check("chat", REMOVE, "chat-0") == ""
    assert twin.apply("chat", REMOVE, "chat-0", "t2", 1) == StepReport(DONE, "chat-0", "gone")
    assert phases(twin.fleet) == {"chat-1": "ready", "chat-2": "ready"}


def test_a_drain_of_an_idle_replica_is_done_at_once() -> None:
    assert made().apply("chat", DRAIN, "chat-0", "t1", 1) == StepReport(DONE, "chat-0", "drained")


@pytest.mark.parametrize("wait_s", [0, 3, 30], ids=["at once", "in progress", "when done"])
def test_a_token_seen_before_does_nothing_again_and_answers_as_before(wait_s: float) -> None:
    twin = made()
    twin.apply("chat", ADD, "", "t1", 1)
    after(twin, wait_s)
    assert twin.apply("chat", ADD, "", "t1", 2) == twin.inspect("t1")
    assert len(phases(twin.fleet)) == 4
    assert twin.effects() == {"t1": 1}


def test_a_token_cannot_be_used_for_another_order() -> None:
    twin = made()
    twin.apply("chat", DRAIN, "chat-0", "t1", 1)
    for workload, kind, subject in (("chat", DRAIN, "chat-1"), ("chat", ADD, ""), ("code", DRAIN, "chat-0")):
        with pytest.raises(CannotDo, match="another order"):
            twin.apply(workload, kind, subject, "t1", 1)
    with pytest.raises(CannotDo, match="another order"):
        twin.undo("chat", ADD, "", "t1", "t2", 1)
    assert twin.inspect("t2").state is UNKNOWN


def test_an_old_fence_is_refused_for_new_and_known_tokens_alike_and_fences_are_by_workload() -> None:
    twin = made()
    twin.apply("chat", ADD, "", "t1", 5)
    for token in ("t1", "t2"):
        with pytest.raises(Conflict, match="fence 4 is older than 5"):
            twin.apply("chat", ADD, "", token, 4)
    with pytest.raises(Conflict, match="fence 4"):
        twin.undo("chat", ADD, "", "t1", "t3", 4)
    twin.apply("code", ADD, "", "t4", 4)
    twin.apply("chat", ADD, "", "t5", 5)
    assert twin.effects() == {"t1": 1, "t4": 1, "t5": 1}


def test_the_fence_of_one_part_of_a_workload_says_nothing_of_the_others() -> None:
    twin = after(made(), 60)
    twin.apply("chat", DRAIN, "chat-0", "drain", 1)
    shares = Told(by_replica={"chat-1": 0.5, "chat-2": 0.5})
    twin.apply("chat", StepKind.WEIGH, "", "weigh", 2, shares)
    twin.undo("chat", DRAIN, "chat-0", "drain", "restore", 1)
    twin.apply("chat", StepKind.RETUNE, "chat-0", "tune", 3, Told(settings={"max_num_seqs": 32.0}))
    twin.apply("chat", ADD, "", "add", 1)
    assert twin.effects().keys() == {"drain", "weigh", "restore", "tune", "add"}
    for kind, told, fence in ((StepKind.WEIGH, shares, 1), (StepKind.RETUNE, Told(settings={"max_num_seqs": 8.0}), 2)):
        with pytest.raises(Conflict, match=f"fence {fence} is older than {fence + 1}"):
            twin.apply("chat", kind, "chat-1" if kind is StepKind.RETUNE else "", f"late {kind}", fence, told)


def test_a_fence_counts_as_seen_even_when_its_order_could_not_be_done() -> None:
    twin = made()
    with pytest.raises(CannotDo):
        twin.apply("chat", REMOVE, "chat-0", "t1", 7)
    with pytest.raises(Conflict):
        twin.apply("chat", ADD, "", "t2", 6)


Order = tuple[str, StepKind, str]


@pytest.mark.parametrize(
    ("order", "before", "says"),
    [
        (("nothing", ADD, ""), None, "no workload 'nothing'"),
        (("chat", ADD, "chat-7"), None, "names its replicas itself"),
        (("chat", DRAIN, "chat-7"), None, "no replica 'chat-7'"),
        (("chat", DRAIN, "code-0"), None, "no replica 'code-0'"),
        (("chat", REMOVE, ""), None, "no replica ''"),
        (("chat", REMOVE, "chat-0"), None, "cannot remove chat-0"),
        (("chat", DRAIN, "chat-0"), "drain", "draining already"),
        (("chat", DRAIN, "chat-0"), "fail", "cannot drain chat-0"),
        (("code", DRAIN, "code-0"), None, "last replica in service"),
    ],
)
def test_what_cannot_be_done_is_told_by_a_dry_run_refused_as_an_order_and_leaves_no_token(
    order: Order, before: str | None, says: str
) -> None:
    twin = made()
    if before:
        getattr(twin.fleet, before)("chat-0")
    was = phases(twin.fleet)
    assert says in twin.check(*order)
    with pytest.raises(ConfigError, match=says):
        twin.apply(*order, "t1", 1)
    assert twin.inspect("t1").state is UNKNOWN
    assert phases(twin.fleet) == was


def test_a_dry_run_of_what_can_be_done_is_empty_and_does_nothing() -> None:
    twin = made()
    assert [twin.check("chat", ADD, ""), twin.check("chat", DRAIN, "chat-0")] == ["", ""]
    assert phases(twin.fleet) == dict.fromkeys(("chat-0", "chat-1", "chat-2"), "ready")


def test_the_undo_of_an_add_drains_first_and_removes_when_nothing_is_left() -> None:
    twin = made()
    twin.apply("chat", ADD, "", "t1", 1)
    after(twin, 60)
    assert twin.undo("chat", ADD, "", "t1", "t2", 1) == StepReport(RUNNING, "chat-3", "retiring")
    assert phases(twin.fleet)["chat-3"] == "draining"
    assert after(twin, 200).inspect("t2") == StepReport(DONE, "chat-3", "gone")
    assert "chat-3" not in phases(twin.fleet)
    assert twin.inspect("t1").state is DONE
    assert twin.effects() == {"t1": 1, "t2": 1}


@pytest.mark.parametrize("lost", [False, True], ids=["starting", "failed"])
def test_the_undo_of_an_add_that_never_was_ready_removes_it_at_once(lost: bool) -> None:
    twin = made()
    twin.faults = Faults(lose=1 if lost else 0)
    twin.apply("chat", ADD, "", "t1", 1)
    after(twin, 20 if lost else 5)
    assert twin.undo("chat", ADD, "", "t1", "t2", 1).state is DONE
    assert after(twin, 1).inspect("t1").state is FAILED
    assert len(phases(twin.fleet)) == 3


def test_the_undo_of_a_drain_puts_the_replica_back_into_rotation() -> None:
    twin = after(made(), 60)
    twin.apply("chat", DRAIN, "chat-0", "t1", 1)
    assert twin.undo("chat", DRAIN, "chat-0", "t1", "t2", 1) == StepReport(DONE, "chat-0", "in rotation")
    assert phases(twin.fleet)["chat-0"] == "ready"
    assert after(twin, 1).inspect("t1").state is FAILED, "it never was drained"
    assert twin.undo("chat", DRAIN, "chat-0", "t1", "t3", 1).state is DONE
    assert twin.effects() == {"t1": 1, "t2": 1, "t3": 0}


def test_a_remove_has_no_undo() -> None:
    twin = made()
    twin.apply("chat", DRAIN, "chat-0", "t1", 1)
    twin.apply("chat", REMOVE, "chat-0", "t2", 1)
    with pytest.raises(CannotDo, match="does not come back"):
        twin.undo("chat", REMOVE, "chat-0", "t2", "t3", 1)


def test_the_undo_of_an_order_that_comes_late_calls_it_off() -> None:
    twin = made()
    assert twin.undo("chat", ADD, "", "t1", "t2", 1).state is DONE
    assert twin.apply("chat", ADD, "", "t1", 1) == StepReport(FAILED, "", "called off before it came")
    assert len(phases(twin.fleet)) == 3
    assert twin.effects() == {"t1": 0, "t2": 0}


def test_the_undo_of_an_add_is_refused_when_nobody_else_is_in_service() -> None:
    twin = made()
    twin.apply("code", ADD, "", "t1", 1)
    after(twin, 20)
    twin.fleet.fail("code-0")
    with pytest.raises(CannotDo, match="code-1 is the last replica in service"):
        twin.undo("code", ADD, "", "t1", "t2", 1)
    assert phases(twin.fleet, "code")["code-1"] == "ready"


Command = Callable[[Fleet], object]


@pytest.mark.parametrize(
    ("command", "t1", "t2"),
    [
        (lambda f: f.restore("chat-0"), FAILED, RUNNING),
        (lambda f: f.fail("chat-0"), FAILED, RUNNING),
        (lambda f: f.restore("chat-3"), RUNNING, FAILED),
        (lambda f: f.fail("chat-3"), RUNNING, DONE),
        (lambda f: f.reset("chat-3"), RUNNING, DONE),
    ],
    ids=["drain restored", "drain failed", "retiring restored", "retiring failed", "retiring restarted"],
)
def test_what_others_do_to_a_replica_ends_the_orders_about_it(command: Command, t1: StepState, t2: StepState) -> None:
    twin = made()
    twin.apply("chat", ADD, "", "t0", 1)
    after(twin, 60)
    twin.fleet.freeze("chat-0")
    twin.fleet.freeze("chat-3")
    after(twin, 30)
    assert twin.apply("chat", DRAIN, "chat-0", "t1", 1).state is RUNNING
    assert twin.undo("chat", ADD, "", "t0", "t2", 1).state is RUNNING
    command(twin.fleet)
    after(twin, 0.1)
    assert (twin.inspect("t1").state, twin.inspect("t2").state) == (t1, t2)


def test_a_delayed_order_is_running_and_takes_effect_when_it_is_due() -> None:
    twin = made()
    twin.faults = Faults(delay_s=5)
    assert twin.apply("chat", ADD, "", "t1", 1) == StepReport(RUNNING, "", "taken")
    assert twin.apply("chat", DRAIN, "chat-0", "t2", 1).state is RUNNING
    assert (twin.effects(), len(phases(twin.fleet))) == ({"t1": 0, "t2": 0}, 3)
    after(twin, 5)
    assert twin.inspect("t1").subject == "chat-3"
    assert phases(twin.fleet) == {"chat-0": "draining", "chat-1": "ready", "chat-2": "ready", "chat-3": "starting"}
    assert twin.effects() == {"t1": 1, "t2": 1}


def test_a_delayed_order_that_no_longer_fits_fails() -> None:
    twin = made()
    twin.faults = Faults(delay_s=5)
    twin.apply("chat", DRAIN, "chat-0", "t1", 1)
    twin.fleet.drain("chat-0")
    assert after(twin, 5).inspect("t1") == StepReport(FAILED, "chat-0", "chat-0 is draining already")


def test_an_order_that_has_not_taken_effect_yet_is_called_off_by_its_undo() -> None:
    twin = made()
    twin.faults = Faults(delay_s=5)
    twin.apply("chat", ADD, "", "t1", 1)
    twin.faults = Faults()
    assert twin.undo("chat", ADD, "", "t1", "t2", 1).state is DONE
    assert after(twin, 10).inspect("t1") == StepReport(FAILED, "", "called off before it took effect")
    assert len(phases(twin.fleet)) == 3


def test_a_liar_says_done_and_does_nothing() -> None:
    twin = made()
    twin.faults = Faults(lie=True)
    assert twin.apply("chat", ADD, "", "t1", 1).state is DONE
    assert twin.apply("chat", DRAIN, "chat-0", "t2", 1).state is DONE
    assert twin.undo("chat", DRAIN, "chat-0", "t2", "t3", 1).state is DONE
    twin.faults = Faults()
    assert twin.undo("chat", ADD, "", "t1", "t4", 1).state is DONE
    assert phases(twin.fleet) == dict.fromkeys(("chat-0", "chat-1", "chat-2"), "ready")
    assert set(twin.effects().values()) == {0}


def test_adds_beyond_capacity_are_refused_counting_those_on_order() -> None:
    twin = made()
    twin.faults = Faults(capacity=5, delay_s=5)
    twin.apply("chat", ADD, "", "t1", 1)
    twin.apply("chat", ADD, "", "t2", 1)
    assert "no capacity" in twin.check("chat", ADD, "")
    with pytest.raises(CannotDo, match="no capacity"):
        twin.apply("chat", ADD, "", "t3", 1)
    assert twin.check("code", ADD, "") == ""
    after(twin, 5)
    assert len(phases(twin.fleet)) == 5
    assert "no capacity" in twin.check("chat", ADD, "")


def test_a_lost_replica_dies_while_starting_and_the_next_one_does_not() -> None:
    twin = made()
    twin.faults = Faults(lose=1)
    twin.apply("chat", ADD, "", "t1", 1)
    twin.apply("chat", ADD, "", "t2", 1)
    after(twin, 10)
    assert (twin.inspect("t1").state, twin.inspect("t2").state) == (FAILED, DONE)
    assert twin.fleet.replica("chat-3").phase is Phase.FAILED
    assert "chat-3" not in {r.replica_id for r in twin.fleet.discoverable()}


def test_an_observation_tells_who_does_what_and_how_much() -> None:
    twin = after(made(), 60)
    twin.apply("chat", ADD, "", "t1", 1)
    twin.fleet.drain("chat-0")
    twin.fleet.fail("chat-2")
    seen = twin.observe("chat")
    assert (seen.serving, seen.starting, seen.draining, seen.failed) == (
        ("chat-1",),
        ("chat-3",),
        ("chat-0",),
        ("chat-2",),
    )
    assert set(seen.in_flight) == {"chat-0", "chat-1"}
    assert seen.in_flight["chat-1"] == twin.fleet.replica("chat-1").engine.outstanding  # type: ignore[union-attr]
    assert (seen.at_ms, seen.manual_changes) == (START_MS + 60_000, 0)


def test_changes_by_hand_are_counted_by_workload_and_told_in_order() -> None:
    twin = made()
    for workload in ("chat", "code", "chat"):
        twin.by_hand(workload, f"{workload} was changed")
    assert (twin.observe("chat").manual_changes, twin.observe("code").manual_changes) == (2, 1)
    assert [(n.number, n.workload, n.change) for n in twin.notices(1)] == [(2, "code", 1), (3, "chat", 2)]
    assert twin.newest_notice == 3


def test_only_the_newest_tokens_and_notices_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("connectors.twin.actuation._TOKENS_KEPT", 3)
    monkeypatch.setattr("connectors.twin.actuation._NOTICES_KEPT", 2)
    book = Journal()
    twin = made(book)
    twin.apply("chat", ADD, "", "open", 1)
    twin.faults = Faults(lie=True)
    for number in range(5):
        twin.apply("chat", ADD, "", f"t{number}", 1)
        twin.by_hand("chat", "again")
    twin.progress()
    assert set(twin.effects()) == set(book.section("tokens")) == {"open", "t3", "t4"}
    assert [n.number for n in twin.notices(0)] == [4, 5]
    assert (set(book.section("notices")), twin.newest_notice) == ({"4", "5"}, 5)
