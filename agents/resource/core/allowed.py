"""Says until when an approved action may be under way, where nobody tells that it has ended."""

from __future__ import annotations

from contracts.events import Action, ActionKind

PHASES = 6
"""How often an action may use up its `by_s`, as the arbiter allows it; new settings do so for each replica in turn."""


def until_ms(action: Action) -> int:
    """The end of the time that the arbiter allows it, event ms."""
    effect = action.spec.effect
    turns = max(1, len(action.spec.by_replica)) if action.spec.kind is ActionKind.TUNE else 1
    return action.start_by_ms + round(1000 * (effect.settle_s + PHASES * turns * effect.by_s))
