"""What can go wrong around an action, with the real Redis and the real simulated fleet: lost ledgers, lying
controllers, outages, people, and who goes before whom."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from contracts.events import Alert, AuditEntry, EndState, Outcome, Severity
from tests.agents.executor_scene import Scene, a_scene
from tests.agents.saga_help import WORKLOAD
from tests.agents.stories import scale_down, scale_up


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as made:
        yield made


def faults(scene: Scene, **told: object) -> None:
    scene.ask("PUT", "/actuation/faults", told)


@pytest.mark.parametrize("point", ["planned_saved", "applied_saved", "verifying_saved"])
def test_when_redis_is_emptied_nothing_more_is_done_and_nothing_is_forgotten(scene: Scene, point: str) -> None:
    done = scale_up(scene, 1, wants=99)
    scene.empty_at(point)
    scene.act(done)
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons) == (EndState.HELD_UNVERIFIED, ("ledger_lost",))
    scene.until_alerted("ledger_lost")
    ordered = int(point != "planned_saved")
    later = scale_up(scene, 2)
    scene.act(later)
    refused = scene.until_ended(later)
    assert (refused.end_state, refused.reasons) == (EndState.REFUSED, ("ledger_lost",))
    assert sum(scene.effects().values()) == ordered
    assert scene.alerts().count("ledger_lost") == 1


def test_an_executor_that_dies_while_a_lost_ledger_is_told_of_forgets_nothing(scene: Scene) -> None:
    done = scale_up(scene, 1, wants=99)
    scene.act(done)
    scene.until_passed("verifying_saved")
    scene.redis.empty()
    scene.expected = True
    scene.kill_at("held_unverified_saved", "executor")
    scene.executor.kill()
    scene.executor.join()
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons) == (EndState.HELD_UNVERIFIED, ("ledger_lost",))
    assert "ledger_lost" in scene.alerts()


def test_while_redis_is_away_nothing_is_done_and_then_it_goes_on(scene: Scene) -> None:
    done = scale_up(scene, 1)
    scene.act(done)
    scene.until_passed("applied_saved")
    scene.redis.kill()
    for _ in range(5):
        scene.wait(0.05)
    assert scene.of(Outcome) == []
    end = scene.until_ended(done)
    assert end.end_state is EndState.VERIFIED
    assert max(scene.effects().values()) == 1


def test_a_controller_that_lies_is_found_out_by_what_is_measured(scene: Scene) -> None:
    faults(scene, lie=True)
    done = scale_up(scene, 1, by_s=60)
    scene.load = 9.0
    scene.act(done)
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons, end.expect_met) == (EndState.HELD_UNVERIFIED, ("lied",), False)
    assert "the controller says done; replicas_up ≥ 4: 3" in end.detail
    assert [each.severity for each in scene.of(Alert)] == [Severity.CRITICAL]


@pytest.mark.parametrize("story", ["up", "down"])
def test_an_order_whose_answer_is_lost_is_inspected_and_not_given_again(scene: Scene, story: str) -> None:
    faults(scene, drop_answer=1)
    done = scale_up(scene, 1) if story == "up" else scale_down(scene, 1)
    scene.act(done)
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons) == (EndState.VERIFIED, ("expect_met",))
    assert set(scene.effects().values()) == {1}
    assert scene.replicas() == (4 if story == "up" else 2)


def test_an_order_that_was_answered_with_an_error_is_given_again(scene: Scene) -> None:
    faults(scene, fail=3)
    done = scale_up(scene, 1)
    scene.act(done)
    assert scene.until_ended(done).end_state is EndState.VERIFIED
    assert list(scene.effects().values()) == [1]


def test_where_there_is_no_capacity_nothing_is_begun(scene: Scene) -> None:
    faults(scene, capacity=3)
    done = scale_up(scene, 1)
    scene.act(done)
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons) == (EndState.REFUSED, ("dry_run_failed",))
    assert "no capacity for one more replica" in end.detail
    assert scene.effects() == {}


def test_capacity_lost_after_the_first_of_two_steps_leaves_what_serves_while_it_is_needed(scene: Scene) -> None:
    faults(scene, capacity=4)
    done = scale_up(scene, 1, replicas=2)
    scene.load = 9.0
    scene.act(done)
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons) == (EndState.HELD_UNVERIFIED, ("step_failed", "guard_broken"))
    assert "no capacity" in end.detail
    fleet = scene.fleet()
    assert len(fleet["serving"] + fleet["starting"]) == 4


def test_capacity_lost_after_the_first_of_two_steps_is_given_back_when_it_is_quiet(scene: Scene) -> None:
    faults(scene, capacity=4)
    done = scale_up(scene, 1, replicas=2)
    scene.act(done)
    end = scene.until_ended(done)
    assert (end.end_state, end.steps_applied, end.steps_undone) == (EndState.FAILED, 1, 1)
    assert scene.replicas() == 3


def test_in_a_metrics_outage_during_a_scale_up_capacity_never_falls(scene: Scene) -> None:
    done = scale_up(scene, 1, by_s=60, wants=99)
    scene.act(done)
    scene.until_passed("applied_saved")
    scene.measured = False
    counts = []
    for _ in range(20):
        scene.step_ms = 20_000
        scene.turn()
        counts.append(len(scene.fleet()["serving"]))
    assert counts == sorted(counts)
    assert counts[-1] == 4
    end = scene.until_ended(done)
    assert end.end_state is EndState.HELD_UNVERIFIED
    assert (end.expect_met, end.after) == (None, {})
    assert [each.name for each in scene.of(Alert)] == ["action_held"]


def test_a_scale_down_is_not_begun_while_nothing_is_measured(scene: Scene) -> None:
    done = scale_down(scene, 1)
    scene.measured = False
    scene.step_ms = 30_000
    scene.act(done)
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons) == (EndState.REFUSED, ("stale_evidence",))
    assert scene.effects() == {}


def test_a_manual_change_in_the_middle_of_a_scale_down_is_yielded_to(scene: Scene) -> None:
    done = scale_down(scene, 1)
    scene.act(done)
    scene.until_passed("trial_saved")
    scene.ask("POST", f"/fleet/{WORKLOAD}/replicas")
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons) == (EndState.UNDONE, ("manual_change",))
    assert scene.fleet()["draining"] == []


def test_a_manual_change_in_the_middle_of_a_scale_up_leaves_what_was_added(scene: Scene) -> None:
    done = scale_up(scene, 1, wants=99)
    scene.act(done)
    scene.until_passed("verifying_saved")
    scene.ask("POST", f"/fleet/{WORKLOAD}/replicas")
    end = scene.until_ended(done)
    assert (end.end_state, end.reasons) == (EndState.HELD_UNVERIFIED, ("manual_change",))
    assert "1 changes by hand" in end.detail


def test_a_scale_up_pre_empts_a_scale_down_which_is_compensated_first(scene: Scene) -> None:
    down = scale_down(scene, 1, settle_s=300)
    scene.act(down)
    scene.until_passed("trial_saved")
    assert len(scene.fleet()["serving"]) == 2
    up = scale_up(scene, 2, wants=4).model_copy(update={"preempts": down.id})
    scene.act(up)
    second = scene.until_ended(up)
    first = next(each for each in scene.of(Outcome) if each.action.id == down.id)
    assert (first.end_state, first.reasons) == (EndState.UNDONE, ("preempted",))
    assert second.end_state is EndState.VERIFIED
    assert second.began_ms is not None
    assert first.at_ms <= second.began_ms
    assert len(scene.fleet()["serving"]) == 4


def test_a_second_action_on_the_target_waits_for_the_first(scene: Scene) -> None:
    first = scale_up(scene, 1, by_s=30, wants=99)
    scene.load = 9.0
    scene.act(first)
    scene.until_passed("verifying_saved")
    second = scale_up(scene, 2, wants=5)
    scene.act(second)
    after = scene.until_ended(second)
    before = next(each for each in scene.of(Outcome) if each.action.id == first.id)
    assert before.end_state is EndState.HELD_UNVERIFIED
    assert after.end_state is EndState.VERIFIED
    assert after.began_ms is not None
    assert before.at_ms <= after.began_ms


def test_a_new_action_begins_without_a_tick(scene: Scene) -> None:
    scene.turn()
    done = scale_up(scene, 1)
    scene.act(done)
    for _ in range(200):
        if "applied_saved" in scene.passed:
            break
        scene.wait(0.02)
    assert "applied_saved" in scene.passed


def test_the_audit_log_tells_every_phase_in_an_unbroken_chain(scene: Scene) -> None:
    done = scale_down(scene, 1)
    scene.act(done)
    scene.until_ended(done)
    lines = sorted({each.number: each for each in scene.of(AuditEntry)}.values(), key=lambda line: line.number)
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
    assert all(old.hash == new.previous for old, new in pairwise(lines))
    phases = list(dict.fromkeys(line.what for line in lines if line.subject == done.id))
    assert phases == ["recorded", "planned", "applying", "trial", "finishing", "verifying", "verified"]
