"""A machine that is taken back: at once or after a notice, live, in the journal and by the control port."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.twin.fleet import Fleet, Phase, WorkloadSpec
from connectors.twin.journal import Journal
from connectors.twin.load import LoadSpec
from connectors.twin.members import membership, restored_fleet
from contracts.errors import ConfigError
from tests.connectors.twin.running import serving, until

START_MS = 1_700_000_000_000
CHAT = WorkloadSpec("chat", "a/model", 2, LoadSpec(3.0, day_s=300, phase=0.3), startup_s=10.0)


def fleet() -> Fleet:
    made = Fleet((CHAT,), seed=1, start_ms=START_MS)
    made.advance(START_MS + 60_000)
    return made


def test_a_loss_at_once_takes_what_was_held_and_leaves_nothing_to_discover() -> None:
    f = fleet()
    replica = f.replica("chat-1")
    assert replica.engine is not None
    held = replica.engine.outstanding
    f.lose("chat-1")
    assert replica.phase is Phase.GONE
    assert f.router["chat"].lost == held > 0
    assert replica not in f.discoverable()
    with pytest.raises(ConfigError, match="no replica 'chat-1'"):
        f.recover("chat-1")


def test_a_notice_drains_and_then_the_machine_goes_whatever_it_holds() -> None:
    f = fleet()
    replica = f.replica("chat-1")
    f.lose("chat-1", notice_s=0.5)
    warned = replica.phase
    f.advance(f.now_ms + 499)
    assert replica.engine is not None
    held = replica.engine.outstanding
    f.advance(f.now_ms + 1)
    assert (warned, replica.phase) == (Phase.DRAINING, Phase.GONE)
    assert f.router["chat"].lost == held > 0


def test_a_notice_long_enough_loses_nobody_and_the_machine_still_goes() -> None:
    f = fleet()
    f.lose("chat-1", notice_s=120.0)
    f.advance(f.now_ms + 119_999)
    assert f.replica("chat-1").drained
    f.advance(f.now_ms + 1)
    assert "chat-1" not in {r.replica_id for r in f.members("chat")}
    assert f.router["chat"].lost == 0


def test_when_the_fleet_looks_does_not_change_what_is_lost() -> None:
    def lost(cuts_s: list[float]) -> tuple[int, int]:
        f = fleet()
        f.lose("chat-1", notice_s=2.0)
        for cut_s in cuts_s:
            f.advance(START_MS + 60_000 + cut_s * 1000)
        f.advance(START_MS + 80_000)
        return f.router["chat"].lost, sum(f.replica("chat-0").engine.meters.finished.values())  # type: ignore[union-attr]

    assert lost([]) == lost([0.3, 1.9999, 2.0, 5.0])


def test_a_replica_that_has_not_started_is_simply_gone() -> None:
    f = fleet()
    starting = f.add_replica("chat")
    f.lose(starting.replica_id, notice_s=120.0)
    f.advance(f.now_ms + 60_000)
    assert starting.phase is Phase.GONE
    assert not starting.was_ready


def test_a_notice_outlives_the_twins_process(tmp_path: Path) -> None:
    f = fleet()
    f.lose("chat-1", notice_s=30.0)
    Journal(tmp_path / "journal").append(membership(f))
    again = restored_fleet((CHAT,), Journal(tmp_path / "journal"), seed=1, start_ms=int(f.now_ms) + 1000)
    assert again.replica("chat-1").phase is Phase.DRAINING
    again.advance(f.now_ms + 30_000)
    assert [r.replica_id for r in again.members("chat")] == ["chat-0"]


async def test_the_control_port_takes_a_machine_away_and_its_port_with_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as twin:
        status, told = await twin.control("POST", "/fleet/chat-1/lose", {"notice_s": 2.0})
        assert (status, told["phase"]) == (200, "draining")

        async def gone() -> bool:
            return "chat-1" not in await twin.phases() and "chat-1" not in twin.discovered()

        await until(gone)
        assert (await twin.control("POST", "/fleet/chat-1/lose"))[0] == 404
