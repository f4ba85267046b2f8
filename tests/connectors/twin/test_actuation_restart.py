"""What a twin knows when it is started again with its journal: replicas, orders, fences and changes by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.twin.actuation import Actuation
from connectors.twin.fleet import WorkloadSpec
from connectors.twin.journal import Journal
from connectors.twin.load import LoadSpec
from connectors.twin.members import restored_fleet
from connectors.twin.orders import Faults
from contracts.errors import Conflict
from contracts.ports import StepReport
from tests.connectors.twin.test_actuation import ADD, DONE, DRAIN, FAILED, SPECS, START_MS, after, made, phases


def test_a_restart_forgets_no_replica_order_fence_or_change_and_uses_no_name_again(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    twin = after(made(Journal(path)), 60)
    twin.apply("chat", DRAIN, "chat-0", "t1", 3)
    twin.apply("chat", ADD, "", "t2", 3)
    after(twin, 60)
    twin.undo("chat", ADD, "", "t2", "t3", 3)
    twin.apply("chat", ADD, "", "t4", 3)
    twin.fleet.fail("chat-1")
    twin.by_hand("chat", "somebody was here")
    twin.progress()
    was, effects = phases(twin.fleet), twin.effects()
    assert was == {
        "chat-0": "draining",
        "chat-1": "failed",
        "chat-2": "ready",
        "chat-3": "draining",
        "chat-4": "starting",
    }

    again = made(Journal(path), START_MS + 125_000)
    assert phases(again.fleet) == {name: phase for name, phase in was.items() if name != "chat-3"}, "it was drained"
    assert again.effects() == effects
    assert again.inspect("t1").state is DONE
    assert again.inspect("t3") == StepReport(DONE, "chat-3", "gone")
    assert again.notices(0) == twin.notices(0)
    assert again.observe("chat").manual_changes == 1
    with pytest.raises(Conflict, match="older than 3"):
        again.apply("chat", ADD, "", "t5", 2)
    assert after(again, 5).inspect("t4") == StepReport(DONE, "chat-4", "ready"), "it went on by its time"
    assert again.apply("chat", ADD, "", "t5", 3).subject == "chat-5"
    assert {r.replica_id for r in again.fleet.discoverable()} >= {"chat-0", "chat-1", "chat-2", "chat-4"}


def test_a_delayed_order_takes_effect_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    twin = made(Journal(path))
    twin.faults = Faults(delay_s=5)
    twin.apply("chat", ADD, "", "t1", 1)
    again = made(Journal(path), START_MS + 6_000)
    assert again.inspect("t1").subject == "chat-3"
    assert again.effects() == {"t1": 1}


def test_a_replica_that_was_to_be_lost_is_lost_after_a_restart_too(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    twin = made(Journal(path))
    twin.faults = Faults(lose=1)
    twin.apply("chat", ADD, "", "t1", 1)
    again = made(Journal(path), START_MS + 5_000)
    assert after(again, 5).inspect("t1").state is FAILED


def test_a_workload_that_is_gone_from_the_settings_is_forgotten_and_a_new_one_begins_as_specified(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal.jsonl"
    made(Journal(path)).apply("chat", ADD, "", "t1", 1)
    book = Journal(path)
    other = (SPECS[1], WorkloadSpec("mail", "a/mail-model", 2, LoadSpec(1.0)))
    twin = Actuation(restored_fleet(other, book, seed=1, start_ms=START_MS), book)
    assert set(twin.fleet.replicas) == {"code-0", "mail-0", "mail-1"}
    assert twin.inspect("t1").state is FAILED
    back = made(Journal(path))
    assert len(phases(back.fleet)) == 3
