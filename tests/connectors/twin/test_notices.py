"""Changes by hand become events: each at least once, in order, whatever was away meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from connectors.twin.notices import follow_notices
from contracts.clock import Clock
from contracts.errors import Unavailable
from contracts.events import Alert, FleetEvent, Message
from tests.connectors.twin.running import Running, clock, serving, until


class Paper:
    """A publisher that keeps what it is given, and can be away."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.away = False
        self.away_after = 1_000
        self.refused = 0

    async def publish(self, message: Message, *, trace_id: str | None = None) -> None:
        if self.away or len(self.messages) >= self.away_after:
            self.refused += 1
            raise Unavailable("no broker", fix="Start one.")
        self.messages.append(message)

    @property
    def told(self) -> list[tuple[str, int, str]]:
        return [(e.workload, e.number, e.summary) for e in self.messages if isinstance(e, FleetEvent)]

    @property
    def alerts(self) -> list[Alert]:
        return [m for m in self.messages if isinstance(m, Alert)]


class HandClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_ms = 1_700_000_000_000

    def now_ms(self) -> int:
        return self.at_ms

    def wall_s(self, event_s: float) -> float:
        return event_s


@asynccontextmanager
async def following(url: str, paper: Paper, time: Clock | None = None) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(follow_notices(url, paper, time or clock(), stop, poll_wall_s=0.02))
    try:
        yield
    finally:
        stop.set()
        await task


async def come(condition: Callable[[], bool]) -> None:
    async def holds() -> bool:
        return condition()

    await until(holds)


async def by_hand(twin: Running, *commands: str) -> None:
    for command in commands:
        assert (await twin.control("POST", f"/fleet/{command}"))[0] < 300


async def test_every_change_by_hand_is_published_in_order_those_from_before_too(tmp_path: Path) -> None:
    paper = Paper()
    async with serving(tmp_path) as twin:
        await by_hand(twin, "chat/replicas")
        async with following(twin.info.control_url, paper):
            await come(lambda: len(paper.told) == 1)
            await by_hand(twin, "chat-0/drain", "code/replicas", "chat-0/freeze", "chat-0/restore", "code-1/remove")
            await come(lambda: len(paper.told) == 5)
        assert paper.told == [
            ("chat", 1, "chat-2 was added by hand"),
            ("chat", 2, "chat-0 was drained by hand"),
            ("code", 1, "code-1 was added by hand"),
            ("chat", 3, "chat-0 was restored by hand"),
            ("code", 2, "code-1 was removed by hand"),
        ]
        assert {e.name for e in paper.messages if isinstance(e, FleetEvent)} == {"manual_change"}
        times = [m.at for m in paper.messages]
        assert times == sorted(times)

        again = Paper()
        async with following(twin.info.control_url, again):
            await come(lambda: len(again.told) == 5)
        assert [m.id for m in again.messages] == [m.id for m in paper.messages], "a repeat is known as one"


async def test_what_a_broker_refused_is_published_when_it_is_back_and_nothing_twice(tmp_path: Path) -> None:
    paper = Paper()
    async with serving(tmp_path) as twin, following(twin.info.control_url, paper):
        await by_hand(twin, "chat/replicas")
        await come(lambda: len(paper.told) == 1)
        paper.away = True
        await by_hand(twin, "chat-0/drain", "chat-0/restore")
        await come(lambda: paper.refused > 2)
        paper.away = False
        await come(lambda: len(paper.told) == 3)
    assert [number for _, number, _ in paper.told] == [1, 2, 3]


async def test_a_broker_that_goes_away_between_two_notices_gets_the_second_when_it_is_back(tmp_path: Path) -> None:
    paper = Paper()
    paper.away_after = 1
    async with serving(tmp_path) as twin:
        await by_hand(twin, "chat/replicas", "chat-0/drain", "chat-0/restore")
        async with following(twin.info.control_url, paper):
            await come(lambda: paper.refused > 1)
            paper.away_after = 1_000
            await come(lambda: len(paper.told) == 3)
    assert [number for _, number, _ in paper.told] == [1, 2, 3]


async def test_a_twin_that_comes_back_is_heard_again_with_its_journal_or_without(tmp_path: Path) -> None:
    paper, journal = Paper(), tmp_path / "journal.jsonl"
    async with serving(tmp_path, journal=journal) as twin:
        url = twin.info.control_url
        port = int(url.rsplit(":", 1)[1])
        async with following(url, paper):
            await by_hand(twin, "chat/replicas", "chat-2/remove")
            await come(lambda: len(paper.told) == 2)
    async with following(url, paper):
        async with serving(tmp_path, journal=journal, control_port=port) as twin:
            await by_hand(twin, "chat/replicas")
            await come(lambda: len(paper.told) == 5)
        assert paper.told[2:] == [*paper.told[:2], ("chat", 3, "chat-3 was added by hand")]
        async with serving(tmp_path, control_port=port) as twin:
            await by_hand(twin, "code/replicas")
            await come(lambda: len(paper.told) == 6)
    assert paper.told[5] == ("code", 1, "code-1 was added by hand")


async def test_a_long_silence_of_the_twin_is_an_alert_once_until_it_is_heard_again(tmp_path: Path) -> None:
    paper, time = Paper(), HandClock()
    async with serving(tmp_path) as twin:
        url = twin.info.control_url
    port = int(url.rsplit(":", 1)[1])
    async with following(url, paper, time):
        await asyncio.sleep(0.2)
        assert paper.messages == []
        paper.away, time.at_ms = True, time.at_ms + 61_000
        await come(lambda: paper.refused > 1)
        paper.away = False
        await come(lambda: len(paper.alerts) == 1)
        time.at_ms += 61_000
        await asyncio.sleep(0.2)
        async with serving(tmp_path, control_port=port) as twin:
            await by_hand(twin, "chat/replicas")
            await come(lambda: len(paper.told) == 1)
        time.at_ms += 61_000
        await come(lambda: len(paper.alerts) == 2)
    assert "61 s" in paper.alerts[0].summary
    assert paper.alerts[0].name == "notices_unheard"
