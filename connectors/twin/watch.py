"""Who is told what became of every request: offline a book of results, live nobody."""

from __future__ import annotations

from typing import Protocol

from connectors.twin.request import Request, Sequence


class Watch(Protocol):
    """Somebody who is told of every request; times in event ms."""

    def began(self, sequence: Sequence, at_ms: float) -> None:
        """It left the queue for the first time."""

    def ended(self, sequence: Sequence, reason: str, at_ms: float) -> None:
        """It ended, with one of vLLM's reasons, or `lost` with its replica."""

    def turned_away(self, request: Request, reason: str) -> None:
        """The router had nobody for it (`unserved`), or it is too long for the model (`refused`); or its gateway
        refused it (`broken`, `too_long`), or kept it waiting for too long (`gave_up`)."""
