"""Whatever is killed at whatever point of an action: it ends as it should, once, and nothing is done twice.

Redis, the simulated fleet and the executor are real processes; the points are those of `agents.checkpoints`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from agents.checkpoints import CHECKPOINTS
from contracts.events import Action, EndState, Outcome
from tests.agents.executor_scene import Scene, a_scene
from tests.agents.stories import beside, scale_down, scale_up

VICTIMS = ("executor", "redis", "twin")
EVERY_ACTION = {"recorded", "claimed", "planned_saved", "outcome_published", "outcome_told", "audit_published"}
APPLIED = {"intent_saved", "applied", "applied_saved", "done_saved"}
FINAL = {"final_intent_saved", "final_applied", "final_applied_saved", "final_done_saved"}
UNDO = {"undoing_saved", "undo_intent_saved", "undo_applied", "undo_applied_saved", "step_undone_saved"}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    with a_scene(tmp_path) as made:
        yield made


def settled(scene: Scene, done: Action, end: Outcome, replicas: int) -> None:
    """Told once, done once, and the fleet is what the end says."""
    told = [each for each in scene.of(Outcome) if each.action.id == done.id]
    assert {each.id for each in told} == {end.id}
    assert {each.end_state for each in told} == {end.end_state}
    assert max(scene.effects().values(), default=0) <= 1
    fleet = scene.fleet()
    assert (len(fleet["serving"]), fleet["draining"], fleet["failed"]) == (replicas, [], [])
    scene.published.clear()


def run_kills(scene: Scene, names: set[str], story: str, victim: str, wants: EndState) -> None:
    """Tell the story once for each point, and kill the victim there."""
    undisturbed = set(tell(scene, story, 0, wants))
    assert undisturbed == names, "the story passes other points than this test says"
    for number, name in enumerate(sorted(names), 1):
        scene.killed.clear()
        deaths = scene.deaths
        tell(scene, story, number, wants, kill=(name, victim))
        scene.turn()
        assert scene.killed, f"{victim} was not killed at {name}"
        assert scene.deaths == deaths + 1, f"{victim} at {name}"


def tell(scene: Scene, story: str, number: int, wants: EndState, kill: tuple[str, str] | None = None) -> list[str]:
    """One action from its beginning to its end; the points that it passed."""
    scene.load = 2.0
    scene.turn()  # else what was measured for the story before would decide this one
    scene.passed.clear()
    before = scene.replicas()
    after = before
    if kill is not None:
        scene.kill_at(*kill)
    if story == "scale_up":
        done, after = scale_up(scene, number), before + 1
        scene.act(done)
    elif story == "undone_up":
        done = scale_up(scene, number, by_s=30, wants=99)
        scene.act(done)
    else:
        done = scale_down(scene, number, settle_s=60 if story == "undone_down" else 4)
        scene.act(done)
        if story == "undone_down":
            scene.until_passed("hold_saved")
            scene.load = 9.0
        else:
            after = before - 1
    end = scene.until_ended(done)
    assert end.end_state is wants, f"{kill}: {end.end_state} {end.reasons} {end.detail}"
    passed = list(scene.passed)
    settled(scene, done, end, after)
    if story in ("scale_up", "scale_down"):
        restore(scene, story, number)
    return passed


def restore(scene: Scene, story: str, number: int) -> None:
    """The way back, so that each telling begins with the same fleet."""
    back = scale_down(scene, 1000 + number) if story == "scale_up" else scale_up(scene, 1000 + number)
    replicas = scene.replicas() + (-1 if story == "scale_up" else 1)
    scene.act(back)
    scene.passed.clear()
    end = scene.until_ended(back)
    assert end.end_state is EndState.VERIFIED
    settled(scene, back, end, replicas)


STORIES = {
    "scale_up": (EVERY_ACTION | APPLIED | {"verifying_saved", "verified_saved"}, EndState.VERIFIED),
    "scale_down": (
        EVERY_ACTION | APPLIED | FINAL | {"trial_saved", "hold_saved", "verifying_saved", "verified_saved"},
        EndState.VERIFIED,
    ),
    "undone_down": (EVERY_ACTION | APPLIED | UNDO | {"trial_saved", "hold_saved", "undone_saved"}, EndState.UNDONE),
    "undone_up": (EVERY_ACTION | APPLIED | UNDO | {"verifying_saved", "undone_saved"}, EndState.UNDONE),
}


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("story", STORIES)
def test_a_kill_at_any_point_changes_nothing_but_the_time_it_takes(scene: Scene, story: str, victim: str) -> None:
    names, wants = STORIES[story]
    run_kills(scene, names, story, victim, wants)


def stack(scene: Scene, number: int, kill: tuple[str, str] | None = None) -> list[str]:
    """A scale-up whose orders were taken, another one beside it, and the first is taken back: the points from there."""
    scene.load = 2.0
    scene.turn()
    before = scene.replicas()
    scene.passed.clear()
    first = scale_up(scene, 2 * number, by_s=40, wants=99)
    scene.act(first)
    scene.until_passed("applied_saved")
    scene.passed.clear()
    if kill is not None:
        scene.kill_at(*kill)
    second = beside(scale_up(scene, 2 * number + 1), first)
    scene.act(second)
    ends = [scene.until_ended(each) for each in (second, first)]
    assert [each.end_state for each in ends] == [EndState.VERIFIED, EndState.UNDONE], f"{kill}: {ends}"
    passed = list(scene.passed)
    for done, end in zip((second, first), ends, strict=True):
        assert {each.id for each in scene.of(Outcome) if each.action.id == done.id} == {end.id}
    settled(scene, second, ends[0], before + 1)
    restore(scene, "scale_up", number)
    return passed


@pytest.mark.slow
@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_while_one_action_stands_on_another_changes_nothing_either(scene: Scene, victim: str) -> None:
    names = EVERY_ACTION | APPLIED | UNDO | {"verifying_saved", "verified_saved", "undone_saved"}
    assert set(stack(scene, 0)) == names
    for number, name in enumerate(sorted(names), 1):
        deaths = scene.deaths
        stack(scene, number, kill=(name, victim))
        scene.turn()
        assert scene.deaths == deaths + 1, f"{victim} at {name}"


def test_the_stories_pass_every_point_but_the_ends_that_others_tell() -> None:
    passed = set().union(*(names for names, _ in STORIES.values()))
    assert set(CHECKPOINTS) - passed == {"refused_saved", "failed_saved", "held_unverified_saved"}
    assert passed <= set(CHECKPOINTS)


@pytest.mark.parametrize("victim", VICTIMS)
def test_a_kill_right_after_an_end_was_written_loses_no_outcome(scene: Scene, victim: str) -> None:
    before = scene.replicas()
    scene.ask("PUT", "/actuation/faults", {"capacity": before})
    scene.kill_at("refused_saved", victim)
    refused = scale_up(scene, 1)
    scene.act(refused)
    end = scene.until_ended(refused)
    assert (end.end_state, end.reasons) == (EndState.REFUSED, ("dry_run_failed",))
    settled(scene, refused, end, before)

    scene.ask("PUT", "/actuation/faults", {"lose": 1})
    scene.passed.clear()
    scene.kill_at("failed_saved", victim)
    failed = scale_up(scene, 2)
    scene.act(failed)
    end = scene.until_ended(failed)
    assert (end.end_state, end.reasons) == (EndState.FAILED, ("step_failed",))
    settled(scene, failed, end, before)

    scene.ask("PUT", "/actuation/faults", {})
    scene.passed.clear()
    scene.kill_at("held_unverified_saved", victim)
    held = scale_up(scene, 3, by_s=60, wants=99)
    scene.act(held)
    scene.until_passed("verifying_saved")
    scene.measured = False
    scene.step_ms = 10_000
    end = scene.until_ended(held)
    assert (end.end_state, end.reasons) == (EndState.HELD_UNVERIFIED, ("no_evidence",))
    settled(scene, held, end, before + 1)
    scene.turn()
    assert scene.deaths == 3
