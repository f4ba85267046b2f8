"""Other settings for a replica: it finishes what it holds, restarts with them, and goes back the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from connectors.twin.actuation import Actuation
from connectors.twin.fleet import Phase
from connectors.twin.journal import Journal
from connectors.twin.orders import CannotDo, Faults, Told
from contracts.errors import ConfigError
from contracts.events import StepKind
from contracts.ports import StepReport, StepState
from tests.connectors.twin.test_actuation import START_MS, after, made

RETUNE, WEIGH = StepKind.RETUNE, StepKind.WEIGH
DONE, FAILED, RUNNING = StepState.DONE, StepState.FAILED, StepState.RUNNING
FEWER = Told(settings={"max_num_seqs": 8.0})


def retune(
    twin: Actuation, subject: str = "chat-0", token: str = "t1", told: Told = FEWER
) -> StepReport:  # no password
    return twin.apply("chat", RETUNE, subject, token, 1, told)


def undo(twin: Actuation, subject: str = "chat-0", of: str = "t1", told: Told = FEWER) -> StepReport:
    return twin.undo("chat", RETUNE, subject, of, f"undo-{of}", 1, told)


def seqs(twin: Actuation) -> dict[str, float]:
    return {name: flags["max_num_seqs"] for name, flags in twin.observe("chat").settings.items()}


def test_a_replica_finishes_what_it_holds_restarts_and_serves_with_its_new_settings() -> None:
    twin = after(made(), 60)
    held = twin.fleet.replica("chat-0").engine.outstanding  # type: ignore[union-attr]  # it serves
    assert held > 0
    assert retune(twin) == StepReport(RUNNING, "chat-0", "draining")
    lost = twin.fleet.router["chat"].lost
    phases = []
    while twin.inspect("t1").state is RUNNING:
        after(twin, 1)
        phases.append(twin.fleet.replica("chat-0").phase)
    assert list(dict.fromkeys(phases)) == [Phase.DRAINING, Phase.STARTING, Phase.READY]
    assert phases.count(Phase.STARTING) == pytest.approx(10, abs=1), "its start-up delay"
    assert twin.inspect("t1") == StepReport(DONE, "chat-0", "serves with its new settings")
    assert seqs(twin) == {"chat-0": 8.0, "chat-1": 64.0, "chat-2": 64.0}
    engine = twin.fleet.replica("chat-0").engine
    assert engine is not None
    assert engine.spec.max_num_seqs == 8
    assert twin.fleet.router["chat"].lost == lost, "no request was cut off"
    assert twin.effects() == {"t1": 1}


def test_the_settings_bind_the_batch() -> None:
    twin = made()
    retune(twin, told=Told(settings={"max_num_seqs": 1.0}))
    after(twin, 11)
    running = set()
    for _ in range(200):
        after(twin, 0.5)
        engine = twin.fleet.replica("chat-0").engine
        assert engine is not None
        running.add(engine.running)
    assert max(running) == 1


def test_its_undo_restarts_it_with_the_settings_before_also_those_of_an_earlier_change() -> None:
    twin = made()
    retune(twin)
    after(twin, 11)
    more = Told(settings={"max_num_seqs": 16.0, "max_num_batched_tokens": 1024.0})
    retune(twin, token="t2", told=more)
    after(twin, 60)
    assert seqs(twin)["chat-0"] == 16.0
    assert undo(twin, of="t2", told=more).state is RUNNING
    after(twin, 60)
    assert twin.inspect("undo-t2") == StepReport(DONE, "chat-0", "serves as before")
    assert twin.observe("chat").settings["chat-0"] == {"max_num_seqs": 8.0, "max_num_batched_tokens": 512.0}
    undo(twin)
    after(twin, 60)
    assert seqs(twin)["chat-0"] == 64.0


def test_one_that_still_finishes_what_it_holds_serves_on_when_it_is_taken_back() -> None:
    twin = after(made(), 60)
    retune(twin)
    assert undo(twin) == StepReport(DONE, "chat-0", "in rotation, as it was")
    assert twin.inspect("t1").state is FAILED
    assert after(twin, 60).fleet.replica("chat-0").phase is Phase.READY
    assert seqs(twin)["chat-0"] == 64.0


def test_one_that_restarts_is_restarted_at_once_with_its_old_settings() -> None:
    twin = made()
    retune(twin)
    after(twin, 5)
    assert undo(twin) == StepReport(RUNNING, "chat-0", "restarting")
    assert after(twin, 9).inspect("undo-t1").state is RUNNING
    assert after(twin, 1).inspect("undo-t1").state is DONE
    assert seqs(twin)["chat-0"] == 64.0


def test_one_that_dies_while_it_restarts_has_failed_and_its_undo_starts_it_again() -> None:
    twin = made()
    retune(twin)
    after(twin, 5)
    twin.fleet.fail("chat-0")
    assert after(twin, 0).inspect("t1") == StepReport(FAILED, "chat-0", "chat-0 is failed, and was restarting")
    undo(twin)
    assert after(twin, 10).inspect("undo-t1") == StepReport(DONE, "chat-0", "serves as before")


def test_one_put_back_by_hand_has_failed_and_there_is_nothing_to_take_back() -> None:
    twin = after(made(), 60)
    retune(twin)
    twin.fleet.restore("chat-0")
    assert after(twin, 0).inspect("t1").state is FAILED
    assert undo(twin) == StepReport(DONE, "chat-0", "in rotation, as it was")


def test_one_that_is_gone_has_nothing_to_set_back() -> None:
    twin = made()
    retune(twin)
    twin.fleet.lose("chat-0")
    assert after(twin, 0).inspect("t1").state is FAILED
    assert undo(twin).state is DONE


def test_the_last_replica_in_service_is_neither_set_anew_nor_set_back() -> None:
    twin = made()
    retune(twin)
    after(twin, 11)
    for name in ("chat-1", "chat-2"):
        twin.fleet.fail(name)
    with pytest.raises(CannotDo, match="last replica in service"):
        retune(twin, token="t9")
    with pytest.raises(CannotDo, match="last replica in service"):
        undo(twin)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "no settings are given"),
        ({"max_num_seq": 8.0}, "no engine setting 'max_num_seq'"),
        ({"max_num_seqs": 0.0}, "engine settings {'max_num_seqs': 0.0}"),
        ({"max_num_seqs": 8.5}, "engine settings {'max_num_seqs': 8.5}"),
        ({"max_num_seqs": 512.0}, "leaves no room for prompts"),
    ],
)
def test_settings_that_cannot_work_are_refused_before_anything_is_done(settings: dict[str, Any], said: str) -> None:
    twin = made()
    told = Told(settings=settings)
    assert said in twin.check("chat", RETUNE, "chat-0", told)
    with pytest.raises(CannotDo, match=said.replace("{", r"\{").replace("}", r"\}")):
        retune(twin, told=told)
    assert twin.effects() == {}


def test_only_one_that_serves_is_set_anew() -> None:
    twin = made()
    retune(twin)
    assert "chat-0 is starting" in twin.check("chat", RETUNE, "chat-0", FEWER)
    twin.fleet.freeze("chat-1")
    assert "chat-1 is frozen" in twin.check("chat", RETUNE, "chat-1", FEWER)
    assert "no replica 'chat-9'" in twin.check("chat", RETUNE, "chat-9", FEWER)


def test_a_token_for_other_settings_is_another_order() -> None:
    twin = made()
    retune(twin)
    with pytest.raises(ConfigError, match="was used for another order"):
        retune(twin, told=Told(settings={"max_num_seqs": 9.0}))
    assert retune(twin) == twin.inspect("t1")


def test_an_order_that_has_not_taken_effect_yet_is_called_off() -> None:
    twin = made()
    twin.faults = Faults(delay_s=30)
    retune(twin)
    twin.faults = Faults()
    assert undo(twin) == StepReport(DONE, "chat-0", "nothing was done")
    assert after(twin, 60).fleet.replica("chat-0").phase is Phase.READY
    assert seqs(twin)["chat-0"] == 64.0


@pytest.mark.parametrize("wait_s", [0, 5, 30], ids=["at once", "restarting", "serving"])
def test_a_twin_that_is_killed_goes_on_where_it_was(tmp_path: Path, wait_s: float) -> None:
    path = tmp_path / "journal.jsonl"
    twin = made(Journal(path))
    retune(twin)
    after(twin, wait_s)
    again = made(Journal(path), START_MS + int(wait_s * 1000))
    assert after(again, 15).inspect("t1") == StepReport(DONE, "chat-0", "serves with its new settings")
    assert seqs(again)["chat-0"] == 8.0
    engine = again.fleet.replica("chat-0").engine
    assert engine is not None
    assert engine.spec.max_num_seqs == 8
    undo(again)
    assert seqs(after(again, 30))["chat-0"] == 64.0


SHARES = Told(by_replica={"chat-0": 0.5, "chat-1": 0.3, "chat-2": 0.2})


def sent(twin: Actuation, seconds: float) -> dict[str, float]:
    """The share of the requests of the next `seconds` that each replica was sent."""

    def counts() -> dict[str, float]:
        return {
            r.replica_id: sum(r.engine.meters.finished.values()) + r.engine.outstanding for r in members if r.engine
        }

    members = twin.fleet.members("chat")
    before = counts()
    after(twin, seconds)
    grown = {name: count - before.get(name, 0) for name, count in counts().items()}
    return {name: count / sum(grown.values()) for name, count in grown.items()}


def test_each_replica_gets_its_share_and_the_undo_brings_back_what_was() -> None:
    twin = made()
    assert twin.observe("chat").shares == {}
    assert twin.apply("chat", WEIGH, "", "w1", 1, SHARES) == StepReport(DONE, "", "shares are set")
    assert twin.observe("chat").shares == SHARES.by_replica
    assert sent(twin, 600) == pytest.approx(SHARES.by_replica, abs=0.01)
    other = Told(by_replica={"chat-0": 1.0, "chat-1": 1.0, "chat-2": 0.0})
    twin.apply("chat", WEIGH, "", "w2", 1, other)
    assert sent(twin, 600) == pytest.approx({"chat-0": 0.5, "chat-1": 0.5, "chat-2": 0.0}, abs=0.01)
    assert twin.undo("chat", WEIGH, "", "w2", "u2", 1, other).detail == "shares are as before"
    assert twin.observe("chat").shares == SHARES.by_replica
    assert twin.undo("chat", WEIGH, "", "w1", "u1", 1, SHARES).state is DONE
    assert twin.observe("chat").shares == {}
    assert twin.effects() == dict.fromkeys(("w1", "w2", "u1", "u2"), 1)


def test_shares_that_somebody_else_has_set_meanwhile_stay() -> None:
    twin = made()
    twin.apply("chat", WEIGH, "", "w1", 1, SHARES)
    twin.fleet.shares["chat"].set({"chat-0": 1.0})
    assert twin.undo("chat", WEIGH, "", "w1", "u1", 1, SHARES).detail == "others were set meanwhile"
    assert twin.observe("chat").shares == {"chat-0": 1.0}


def test_a_replica_that_comes_later_gets_the_mean_share_and_one_that_is_away_none() -> None:
    twin = made()
    twin.apply("chat", WEIGH, "", "w1", 1, Told(by_replica={"chat-0": 0.6, "chat-1": 0.4, "chat-2": 0.2}))
    twin.fleet.fail("chat-1")
    twin.fleet.add_replica("chat")
    after(twin, 11)
    assert sent(twin, 600) == pytest.approx({"chat-0": 0.5, "chat-2": 1 / 6, "chat-3": 1 / 3}, abs=0.01)


def test_where_no_replica_that_is_there_has_a_share_the_idlest_is_sent_the_next() -> None:
    twin = made()
    twin.apply("chat", WEIGH, "", "w1", 1, Told(by_replica={"chat-0": 1.0, "chat-1": 0.0, "chat-2": 0.0}))
    twin.fleet.fail("chat-0")
    assert set(sent(twin, 60)) == {"chat-1", "chat-2"}
    assert twin.fleet.router["chat"].unserved == 0


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ({}, "are no shares"),
        ({"chat-0": 0.0}, "are no shares"),
        ({"chat-0": 2.0, "chat-1": -1.0}, "are no shares"),
        ({"chat-7": 1.0}, "no replica 'chat-7'"),
    ],
)
def test_shares_that_are_none_are_refused(shares: dict[str, float], said: str) -> None:
    assert said in made().check("chat", WEIGH, "", Told(by_replica=shares))


def test_shares_outlive_a_kill(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    made(Journal(path)).apply("chat", WEIGH, "", "w1", 1, SHARES)
    again = made(Journal(path))
    assert again.observe("chat").shares == SHARES.by_replica
    again.undo("chat", WEIGH, "", "w1", "u1", 1, SHARES)
    assert made(Journal(path)).observe("chat").shares == {}
