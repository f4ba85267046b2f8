"""Actions that suit a scene as it stands: one more replica, or one less."""

from __future__ import annotations

from contracts.events import Action, ActionSpec
from contracts.laws.bounds import Comparator
from tests.agents.executor_scene import Scene
from tests.agents.saga_help import DOWN, UP, action, replicas_up


def scale_up(scene: Scene, number: int, *, by_s: float = 600, wants: int | None = None, replicas: int = 1) -> Action:
    """`wants` is how many must be seen for it to be verified; as many as there will be, where nothing is said."""
    expect = replicas_up(Comparator.GE, scene.replicas() + replicas if wants is None else wants)
    effect = UP.effect.model_copy(update={"expect": expect, "by_s": by_s, "goal": None})
    return decided(scene, UP.model_copy(update={"effect": effect, "replicas": replicas}), number)


def beside(told: Action, *others: Action) -> Action:
    """The same, decided while others were under way."""
    spec = told.spec.model_copy(update={"stacks": True})
    return told.model_copy(update={"spec": spec, "beside": tuple(each.id for each in others)})


def scale_down(scene: Scene, number: int, *, settle_s: float = 4) -> Action:
    expect = replicas_up(Comparator.LE, scene.replicas() - 1)
    effect = DOWN.effect.model_copy(update={"expect": expect, "by_s": 600, "settle_s": settle_s})
    return decided(scene, DOWN.model_copy(update={"effect": effect}), number)


def decided(scene: Scene, spec: ActionSpec, number: int) -> Action:
    """Decided now, to be begun within ten minutes."""
    times = {"at_ms": scene.at_ms, "cause_ms": scene.at_ms, "start_by_ms": scene.at_ms + 600_000}
    return action(spec, candidate_id=f"{spec.kind}-{number}", **times)
