"""How many replicas may be granted of those a rule asks for, and what is then expected of the action.

An action that names its replicas is granted as it is, or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from agents.core.arbiter_settings import Limits
from contracts.events import ActionKind, ActionSpec

STACKED_LEAST = 2
"""So many may start at once on the smallest fleet, as a single order may bring without a person (`review.py`)."""
_ROUNDING = 1e-9  # 0.29 * 100 is 28.999…: a share that comes out whole must count as whole


@dataclass(frozen=True)
class Grant:
    """`replicas` of those wanted, 0 when a limit leaves nothing; `words` say what was cut and by what."""

    replicas: int
    words: str = ""


def grant(kind: ActionKind, wanted: int, replicas: int, limits: Limits, starting: int = 0, standing: int = 0) -> Grant:
    """What the limits leave of `wanted` where `replicas` answer now, and `starting` more were ordered, by orders of
    which one found `standing`, more than answer now where some were lost meanwhile.

    >>> grant(ActionKind.SCALE_UP, 3, 4, Limits(max_replicas=6))
    Grant(replicas=2, words='2 of 3 granted: 4 replicas answer, maximum 6')
    >>> grant(ActionKind.SCALE_UP, 3, 4, Limits(max_replicas=20, max_step_up_ratio=1.0), starting=3)
    Grant(replicas=1, words='1 of 3 granted: 4 replicas answer, 3 start, at most 8 by orders under way, maximum 20')
    >>> grant(ActionKind.SCALE_DOWN, 3, 4, Limits(min_replicas=2))
    Grant(replicas=1, words='1 of 3 granted: 4 replicas answer, minimum 2, at most 1 a step')
    >>> grant(ActionKind.TUNE, 2, 2, Limits(min_replicas=2))
    Grant(replicas=0, words='one restarts at a time: 2 replicas answer, minimum 2')
    """
    if kind is ActionKind.ROUTE or kind.gateway_setting:
        return Grant(wanted)
    if kind is ActionKind.TUNE:
        if replicas > limits.least_replicas:
            return Grant(wanted)
        words = f"one restarts at a time: {replicas} replicas answer, minimum {limits.least_replicas}"
        return Grant(0, words)
    if kind is ActionKind.SCALE_UP:
        most = limits.max_replicas
        left = wanted if most is None else min(wanted, most - replicas - starting)
        bounds = f"maximum {most}"
        if starting:
            standing = max(standing, replicas)
            stacked = standing + max(floor(standing * limits.max_step_up_ratio + _ROUNDING), STACKED_LEAST)
            left = min(left, stacked - replicas - starting)
            bounds = f"{starting} start, at most {stacked} by orders under way, {bounds}"
    else:
        least = limits.least_replicas
        step = max(1, floor(replicas * limits.max_step_down_ratio + _ROUNDING))
        left = min(wanted, replicas - least, step)
        bounds = f"minimum {least}, at most {step} a step"
    left = max(left, 0)
    return Grant(left, "" if left == wanted else f"{left} of {wanted} granted: {replicas} replicas answer, {bounds}")


def granted_spec(spec: ActionSpec, granted: int, moved: int = 0) -> ActionSpec:
    """The action with `granted` replicas, on a fleet that has grown by `moved` replicas since it was proposed.

    A rule works out what it expects of `replicas_up` from the fleet it saw and the number it asked for. With other
    numbers the old expectation would be met by nothing done, or never; so it is shifted by the difference.
    """
    sign = {ActionKind.SCALE_UP: 1, ActionKind.SCALE_DOWN: -1}.get(spec.kind, 0)
    shift = sign * (granted - spec.replicas) + moved
    expect = spec.effect.expect
    if expect.sli == "replicas_up" and shift:
        expect = expect.model_copy(update={"value": expect.value + shift})
    effect = spec.effect.model_copy(update={"expect": expect})
    return spec.model_copy(update={"replicas": granted, "effect": effect})
