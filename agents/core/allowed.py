"""Says how long an approved action may take, where nobody tells that it has ended."""

from __future__ import annotations

from contracts.events import ActionKind, ActionSpec

PHASES = 6
"""How often an action may use up its `by_s`: applying, trial, finishing and verifying, and twice in an undo."""


def allowed_s(spec: ActionSpec) -> float:
    """Event seconds from its latest start on; new settings are given to one replica after the other."""
    turns = spec.replicas if spec.kind is ActionKind.TUNE else 1
    return spec.effect.settle_s + PHASES * turns * spec.effect.by_s
