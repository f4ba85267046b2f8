"""What new replicas are started with: the settings that all others came to have."""

from __future__ import annotations

from pathlib import Path

from connectors.twin.journal import Journal
from connectors.twin.orders import Told
from contracts.events import StepKind
from contracts.ports import StepReport
from tests.connectors.twin.test_actuation import START_MS, after, made
from tests.connectors.twin.test_retuning import DONE, RETUNE, retune, seqs, undo


def test_new_replicas_start_with_the_settings_that_were_given_to_those_to_come(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    twin = made(Journal(path))
    assert retune(twin, "") == StepReport(DONE, "", "new replicas start with them")
    assert twin.observe("chat").launched_with == {"max_num_seqs": 8.0, "max_num_batched_tokens": 512.0}
    assert seqs(twin) == {"chat-0": 64.0, "chat-1": 64.0, "chat-2": 64.0}, "no other is touched"
    twin.fleet.lose("chat-2")
    twin.apply("chat", StepKind.ADD, "", "t2", 1)
    assert seqs(after(twin, 10))["chat-3"] == 8.0
    again = made(Journal(path), START_MS + 10_000)
    assert again.fleet.add_replica("chat").engine_spec.max_num_seqs == 8, "also after a restart"
    assert undo(again, "") == StepReport(DONE, "", "new replicas start as before")
    assert again.fleet.add_replica("chat").engine_spec.max_num_seqs == 64
    assert "leaves no room for prompts" in again.check("chat", RETUNE, "", Told(settings={"max_num_seqs": 512.0}))


def test_what_others_have_set_for_new_replicas_meanwhile_is_not_taken_back() -> None:
    twin = made()
    retune(twin, "")
    retune(twin, "", token="t2", told=Told(settings={"max_num_seqs": 16.0}))
    assert undo(twin, "") == StepReport(DONE, "", "others were set meanwhile")
    assert twin.fleet.add_replica("chat").engine_spec.max_num_seqs == 16
