"""Alerts reach people: one line each, a signed webhook, patience within bounds, and no secret in any word."""

from __future__ import annotations

import asyncio
import logging
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from contracts.errors import BadMessage, Reason
from dashboards.alerts import AlertOptions, delivering
from tests.dashboards.alert_desk import AT_MS, an_alert, delivered, hearing, options_for
from tests.dashboards.receiver import SECRET, Reaction, Receiver, answers, closes, hangs


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
