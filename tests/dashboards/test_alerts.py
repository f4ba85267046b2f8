"""Alerts reach people: one line each, a signed webhook, patience within bounds, and no secret in any word."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from contracts.errors import BadMessage, ConfigError, Reason
from contracts.events import Alert, Severity, Tick
from contracts.ports import Handler
from dashboards.alerts import AlertOptions, delivering
from dashboards.webhook import Patience
from tests.dashboards.receiver import SECRET, Reaction, Receiver, answers, closes, hangs

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


async def test_an_alert_is_shown_and_posted_with_the_same_words() -> None:
    async with Receiver(answers(204)) as receiver:
        shown = await delivered(options_for(receiver.url), an_alert())
    assert shown == receiver.taken
    assert shown == [
        {
            "type": "optiinfra.alerts.v1",
            "id": an_alert().id,
            "at": AT_MS,
            "workload": "chat",
            "name": "stalled",
            "severity": "critical",
            "subject": "chat-0",
            "summary": "no token came for 10 s",
            "fix": "Restart it.",
        }
    ]


async def test_the_webhook_is_signed_by_the_alerts_id_and_wall_time() -> None:
    async with Receiver(answers(200)) as receiver:
        await delivered(options_for(receiver.url), an_alert(summary="größer als 5 µs 🔥"))
    [(headers, raw)] = receiver.seen
    assert headers["webhook-id"] == an_alert().id
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 100
    assert headers["Content-Type"] == "application/json"
    assert Webhook(SECRET).verify(raw, headers)["summary"] == "größer als 5 µs 🔥"


async def test_a_tampered_webhook_is_refused() -> None:
    async with Receiver(answers(200)) as receiver:
        await delivered(options_for(receiver.url), an_alert())
    [(headers, raw)] = receiver.seen
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(raw.replace(b"critical", b"info"), headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(raw, {**headers, "webhook-id": "another"})
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "A" * 40).verify(raw, headers)


async def test_a_webhook_that_was_recorded_and_sent_again_later_is_refused() -> None:
    async with Receiver(answers(500)) as receiver:
        with pytest.raises(BadMessage):
            await delivered(options_for(receiver.url, attempts=1), an_alert(), wall_s=lambda: time.time() - 3600)
    [(headers, raw)] = receiver.seen
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(SECRET).verify(raw, headers)


@pytest.mark.parametrize("secret", [SECRET.removeprefix("whsec_"), SECRET.rstrip("="), f" {SECRET}\n"])
async def test_the_secret_may_stand_without_its_prefix_or_padding(secret: str) -> None:
    async with Receiver(answers(200)) as receiver:
        await delivered(options_for(receiver.url, secret=secret), an_alert())
    assert len(receiver.taken) == 1


PASSING: dict[str, Reaction] = {
    "500": answers(500),
    "503": answers(503),
    "408": answers(408),
    "425": answers(425),
    "429": answers(429),
    "closed": closes(),
    "hung": hangs(),
}


@pytest.mark.parametrize("what", PASSING)
async def test_a_receiver_that_fails_for_a_while_gets_it_in_the_end(what: str) -> None:
    async with Receiver(PASSING[what], PASSING[what], answers(200)) as receiver:
        await delivered(options_for(receiver.url, timeout_s=0.3), an_alert())
    assert len(receiver.taken) == 1
    assert {headers["webhook-id"] for headers, _ in receiver.seen} == {an_alert().id}
    assert len(receiver.seen) >= 3


async def test_each_attempt_is_signed_at_its_own_time() -> None:
    now_s = iter([time.time() - 100, time.time() - 50, time.time()])
    async with Receiver(answers(500), answers(500), answers(200)) as receiver:
        await delivered(options_for(receiver.url), an_alert(), wall_s=lambda: next(now_s))
    assert len({headers["webhook-timestamp"] for headers, _ in receiver.seen}) == 3
    assert len(receiver.taken) == 1


def hearing(receiver: Receiver, show: Callable[[str], object]) -> AbstractAsyncContextManager[Handler]:
    """The handler that posts to this receiver."""
    return delivering(options_for(receiver.url), show)


async def undelivered(receiver: Receiver, options: AlertOptions) -> str:
    """The detail of the dead letter; the line was shown all the same."""
    lines: list[str] = []
    async with delivering(options, lines.append) as handle:
        with pytest.raises(BadMessage) as caught:
            await handle(an_alert())
    assert caught.value.reason is Reason.UNDELIVERED
    assert len(lines) == 1
    assert receiver.taken == []
    return caught.value.detail


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 413, 422])
async def test_what_the_receiver_refuses_for_good_is_not_tried_again(status: int) -> None:
    async with Receiver(answers(status)) as receiver:
        detail = await undelivered(receiver, options_for(receiver.url))
    assert detail == f"127.0.0.1:{receiver.port}: HTTP {status} (1 attempt)"
    assert len(receiver.seen) == 1


async def test_a_receiver_that_stays_away_is_given_up_after_six_attempts() -> None:
    async with Receiver(answers(500)) as receiver:
        detail = await undelivered(receiver, options_for(receiver.url))
    assert detail == f"127.0.0.1:{receiver.port}: HTTP 500 (6 attempts)"
    assert len(receiver.seen) == 6


async def test_a_port_where_nobody_listens_is_given_up() -> None:
    async with Receiver(answers(200)) as receiver:
        pass
    detail = await undelivered(receiver, options_for(receiver.url))
    assert detail == f"127.0.0.1:{receiver.port}: no connection (ClientConnectorError) (6 attempts)"


async def test_all_attempts_together_have_a_bound() -> None:
    async with Receiver(hangs()) as receiver:
        detail = await undelivered(receiver, options_for(receiver.url, timeout_s=0.1, total_s=0.35, attempts=100))
    assert detail == f"127.0.0.1:{receiver.port}: not taken within 0.35 s, last: no answer within 0.1 s"
    assert 2 <= len(receiver.seen) < 100


async def test_redirects_are_not_followed() -> None:
    async with Receiver(answers(200)) as other, Receiver(answers(307, Location=other.url)) as receiver:
        detail = await undelivered(receiver, options_for(receiver.url))
    assert "HTTP 307, and redirects are not followed (1 attempt)" in detail
    assert (len(receiver.seen), other.seen) == (1, [])


async def test_proxies_of_the_environment_are_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    async with Receiver(answers(200)) as receiver:
        await delivered(options_for(receiver.url), an_alert())
    assert len(receiver.taken) == 1


async def test_delivery_that_is_cancelled_ends_and_tells_the_alert_next_time() -> None:
    lines: list[str] = []
    async with Receiver(hangs(), answers(200)) as receiver, hearing(receiver, lines.append) as handle:
        task = asyncio.ensure_future(handle(an_alert()))
        await asyncio.wait_for(receiver.arrived.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await handle(an_alert())
    assert len(receiver.taken) == 1


@pytest.mark.parametrize("reaction", [answers(400), answers(500), closes()])
async def test_no_word_holds_the_url_or_the_secret(reaction: Reaction, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with Receiver(reaction) as receiver:
        url = f"http://ann:sesame@127.0.0.1:{receiver.port}/hook/t0ken?key=hidden"
        options = options_for(url)
        detail = await undelivered(receiver, options)
    assert receiver.seen[0][0]["Authorization"].startswith("Basic ")
    words = f"{detail} {options!r} {caplog.text}"
    assert not [secret for secret in ("ann", "sesame", "t0ken", "hidden", SECRET[6:]) if secret in words]


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "sesame!",
        "whsec_sesame%sesame",
        "c2hvcnQ=",
        "whsec_" + "A" * 200,
        "пароль",
        "whsec_-_-_" + "A" * 36,
    ],
)
async def test_a_bad_secret_is_refused_at_once_with_the_way_to_a_good_one(secret: str) -> None:
    with pytest.raises(ConfigError, match=r"alerts\.secret: .*openssl rand -base64 32") as caught:
        await delivered(options_for("http://127.0.0.1:1/", secret=secret))
    assert not secret.removeprefix("whsec_") or secret.removeprefix("whsec_") not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["", "alerts.example.org", "ftp://sesame/", "http://", "http://[::1", "http://h:99999/"]
)
async def test_a_bad_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(ConfigError, match=r"alerts\.webhook") as caught:
        await delivered(options_for(url))
    assert "sesame" not in str(caught.value)


async def test_a_webhook_without_a_secret_is_refused_at_once() -> None:
    with pytest.raises(ConfigError, match=r"alerts\.secret: .*openssl rand -base64 32"):
        await delivered(options_for("http://127.0.0.1:1/", secret=None))


async def test_without_a_webhook_the_line_is_all() -> None:
    assert len(await delivered(AlertOptions(), an_alert())) == 1


@pytest.mark.parametrize(
    ("least", "told"),
    [
        (Severity.INFO, ["info", "warning", "critical"]),
        (Severity.WARNING, ["warning", "critical"]),
        (Severity.CRITICAL, ["critical"]),
    ],
)
async def test_only_what_is_severe_enough_is_told(least: Severity, told: list[str]) -> None:
    alerts = [an_alert(severity=each, name=each.value) for each in (Severity.INFO, Severity.WARNING, Severity.CRITICAL)]
    shown = await delivered(AlertOptions(min_severity=least), *alerts)
    assert [line["severity"] for line in shown] == told


async def test_other_messages_are_none_of_its_business() -> None:
    lines: list[str] = []
    async with delivering(AlertOptions(), lines.append) as handle:
        assert await handle(Tick(at_ms=1, partition=0)) == []
    assert lines == []


@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file")])
async def test_a_closed_terminal_does_not_keep_the_webhook_from_going_out(error: Exception) -> None:
    def show(_: str) -> None:
        raise error

    async with Receiver(answers(200)) as receiver, hearing(receiver, show) as handle:
        await handle(an_alert())
    assert len(receiver.taken) == 1


async def test_words_that_would_paint_the_screen_are_shown_as_text() -> None:
    lines: list[str] = []
    async with delivering(AlertOptions(), lines.append) as handle:
        await handle(an_alert(subject="\x1b[2Jx\r\n\u202e", summary="\x07"))
    assert lines[0].isascii()
    assert lines[0].isprintable()


def later(*seconds: float) -> list[Alert]:
    return [an_alert(at_ms=AT_MS + int(each * 1000)) for each in seconds]


async def test_a_storm_is_told_once_and_counted_in_the_next() -> None:
    shown = await delivered(AlertOptions(), *later(0, 10, 20, 59.9, 60, 70, 200))
    assert [(line["at"] - AT_MS) / 1000 for line in shown] == [0, 60, 200]
    assert [line["summary"].removeprefix("no token came for 10 s") for line in shown] == [
        "",
        " (and 3 more like it before)",
        " (and 1 more like it before)",
    ]


async def test_alerts_of_different_things_are_no_storm() -> None:
    others = [an_alert(workload="code"), an_alert(name="no_data"), an_alert(subject="chat-1")]
    assert len(await delivered(AlertOptions(), an_alert(), *others)) == 4


async def test_a_message_that_comes_twice_is_told_once_and_not_counted() -> None:
    shown = await delivered(AlertOptions(), *later(0, 0, 0, 60, 60))
    assert [line["summary"] for line in shown] == ["no token came for 10 s"] * 2


async def test_a_storm_at_a_receiver_that_is_away_costs_one_delivery_and_is_counted_later() -> None:
    lines: list[str] = []
    async with Receiver(answers(400), answers(200)) as receiver, hearing(receiver, lines.append) as handle:
        first, *more, last = later(0, 1, 2, 3, 100)
        with pytest.raises(BadMessage):
            await handle(first)
        for alert in (*more, last):
            await handle(alert)
    assert (len(receiver.seen), len(lines)) == (2, 2)
    assert "(and 3 more like it before)" in receiver.taken[0]["summary"]


async def test_the_memory_of_a_storm_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dashboards.core.MAX_GROUPS", 2)
    alerts = [an_alert(subject=name) for name in ("a", "b", "a", "c", "b", "a")]
    shown = await delivered(AlertOptions(), *alerts)
    assert [line["subject"] for line in shown] == ["a", "b", "c", "a"]
