"""What the scraper tells people: dead letters for pages nobody can read, alerts for files and for what was lost."""

from __future__ import annotations

import base64
import re

import structlog

from connectors.vllm.outbox import Dropped, Outbox
from connectors.vllm.targets import Target
from contracts.clock import Clock
from contracts.errors import BadMessage
from contracts.events import Alert, DeadLetter, Message, Severity
from contracts.ports import Publisher

log = structlog.get_logger(__name__)

SOURCE = "connectors.vllm"
_LIMIT = 50
"""Reports kept while the broker is away: each may hold 256 KiB of a page."""
_MINUTE_MS = 60_000
_DIGITS = re.compile(r"\d+")


class Reports:
    """Sends dead letters and alerts through an outbox of their own, so that they cannot push snapshots out."""

    def __init__(self, publisher: Publisher, clock: Clock) -> None:
        self._clock = clock
        self._outbox = Outbox(publisher, _LIMIT, on_refused=self._refused, on_recovered=self._recovered)
        self._minute = 0
        self._told: set[tuple[str, str]] = set()
        self.dead_letters = 0

    async def flush(self, timeout_s: float) -> int:
        """Publish what is left; the number that could not be."""
        return await self._outbox.flush(timeout_s)

    def malformed_page(self, target: Target, raw: bytes, error: BadMessage) -> None:
        """Keep the bytes of a page: once for each target, fault (numbers aside) and minute of event time."""
        now_ms = self._clock.now_ms()
        fault = (target.instance_id, _DIGITS.sub("#", error.detail))
        if now_ms // _MINUTE_MS != self._minute:
            self._minute = now_ms // _MINUTE_MS
            self._told.clear()
        if fault in self._told:
            return
        self._told.add(fault)
        self._dead_letter(target.shown, target.workload, raw, error)

    def refused(self, message: Message, error: BadMessage) -> None:
        """Keep a snapshot that the codec refuses."""
        raw = message.model_dump_json(exclude_defaults=True).encode()
        self._dead_letter(message.TYPE, message.key, raw, error)

    def overflow(self, dropped: Dropped, limit: int) -> None:
        """Tell what was lost while the broker was away; sent with the first message that it takes again."""
        span_s = (dropped.last_ms - dropped.first_ms) / 1000
        self._alert(
            "scraper_overflow",
            Severity.CRITICAL,
            "scraper",
            f"{dropped.messages} snapshots of {len(dropped.lanes)} instances were lost, over {span_s:g} s from"
            f" {dropped.first_ms} ms on: the broker was away for longer than the queue of {limit} lasts",
            "Look at the broker. Windows of that time have less coverage; the counters catch up with the next scrape.",
        )

    def target_file(self, file: str, fault: str) -> None:
        """Tell of a target file that cannot be used as it stands."""
        self._alert("targets_unreadable", Severity.WARNING, file[-200:], fault[:2000], "Correct the places named.")

    def _dead_letter(self, topic: str, key: str, raw: bytes, error: BadMessage) -> None:
        self.dead_letters += 1
        letter = DeadLetter(
            source=SOURCE,
            topic=topic,
            reason=error.reason,
            detail=error.detail[:4000],
            at_ms=self._clock.now_ms(),
            message_key=key,
            raw_base64=base64.b64encode(raw[: DeadLetter.RAW_LIMIT]).decode(),
            raw_bytes=len(raw),
        )
        log.warning("dead letter", topic=topic, reason=str(error.reason), detail=error.detail[:500])
        self._outbox.put("deadletter", letter)

    def _alert(self, name: str, severity: Severity, subject: str, summary: str, fix: str) -> None:
        alert = Alert(
            name=name, severity=severity, subject=subject, at_ms=self._clock.now_ms(), summary=summary, fix=fix
        )
        log.warning("alert", name=name, subject=subject, summary=summary)
        self._outbox.put("alerts", alert)

    def _refused(self, message: Message, error: BadMessage) -> None:
        log.error("a report cannot be published", type=message.TYPE, error=str(error))

    def _recovered(self, dropped: Dropped) -> None:
        self._alert(
            "scraper_overflow",
            Severity.WARNING,
            "scraper reports",
            f"{dropped.messages} dead letters or alerts were lost while the broker was away",
            "The log of the scraper has their reasons.",
        )
