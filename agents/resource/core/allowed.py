"""Says until when an approved action may be under way, where nobody tells that it has ended."""

from __future__ import annotations

from agents.core.allowed import allowed_s
from contracts.events import Action


def until_ms(action: Action) -> int:
    """The end of the time that it is allowed, event ms."""
    return action.start_by_ms + round(1000 * allowed_s(action.spec))
