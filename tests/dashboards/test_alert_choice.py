"""Which alerts are told, and how: what is severe enough, storms, closed terminals, options that are refused."""

from __future__ import annotations

import pytest

from contracts.errors import BadMessage, ConfigError
from contracts.events import Alert, Severity, Tick
from dashboards.alerts import AlertOptions, delivering
from tests.dashboards.alert_desk import AT_MS, an_alert, delivered, hearing, options_for
from tests.dashboards.receiver import Receiver, answers


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
