"""An alert, and what hears it: the terminal, and a webhook that is quick to try again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from contracts.events import Alert, Severity
from contracts.ports import Handler
from dashboards.alerts import AlertOptions, delivering
from dashboards.webhook import Patience
from tests.dashboards.receiver import SECRET, Receiver

AT_MS = 1_700_000_000_000


def an_alert(**change: Any) -> Alert:
    fields: dict[str, Any] = {
        "workload": "chat",
        "name": "stalled",
        "severity": Severity.CRITICAL,
        "subject": "chat-0",
        "at_ms": AT_MS,
        "summary": "no token came for 10 s",
        "fix": "Restart it.",
    }
    return Alert(**{**fields, **change})


def options_for(url: str, secret: str | None = SECRET, **patience: Any) -> AlertOptions:
    """Quick retries, so that a test of patience is over soon."""
    fast = Patience(first_wait_s=0.01, max_wait_s=0.02)
    return AlertOptions(webhook=url, secret=secret, patience=replace(fast, **patience))


async def delivered(options: AlertOptions, *alerts: Alert, wall_s: Any = time.time) -> list[dict[str, Any]]:
    """What was shown, line by line, when these came one after the other."""
    lines: list[str] = []
    async with delivering(options, lines.append, wall_s=wall_s) as handle:
        for alert in alerts:
            assert await handle(alert) == []
    assert all("\n" not in line for line in lines)
    return [json.loads(line) for line in lines]


def hearing(receiver: Receiver, show: Callable[[str], object]) -> AbstractAsyncContextManager[Handler]:
    """The handler that posts to this receiver."""
    return delivering(options_for(receiver.url), show)
