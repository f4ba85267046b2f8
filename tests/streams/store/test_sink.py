"""The sink between a real broker and a real store child: what is on the topics gets into the store, once."""

from __future__ import annotations

import asyncio
import base64
import signal
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from contracts.errors import Reason, Unavailable
from contracts.events import Alert, DeadLetter, Severity, WorkerState
from contracts.topics import DEADLETTER, SLIS
from streams.brokers.embedded import MockCluster
from streams.store.client import HttpStore
from streams.store.rows import rows_of
from streams.store.sink import run_sink
from tests.conftest import Broker
from tests.streams.store.children import StoreProcess, eventually, sli
from tests.streams.store.outage import Holding, Watched, minute_of
from tests.streams.store.sinking import CLOCK, QUICK, RECORDS_A_POLL, Wire, heartbeats, letters_of, sinking, windows_of


@pytest.fixture
async def wire(broker: Broker) -> AsyncIterator[Wire]:
    wire = Wire(broker)
    await wire.start()
    yield wire
    await wire.stop()


@pytest.fixture
def late(tmp_path: Path) -> Iterator[StoreProcess]:
    """A store child that a test starts and kills itself."""
    process = StoreProcess(tmp_path)
    yield process
    process.close()


@pytest.mark.broker
async def test_slis_alerts_and_dead_letters_reach_their_tables(
    broker: Broker, wire: Wire, store: HttpStore, workload: str
) -> None:
    await wire.send_all([sli(workload, window) for window in range(40)])
    await wire.publish(
        Alert(workload=workload, name="stalled", severity=Severity.WARNING, subject="i", at_ms=1, summary="s")
    )
    await wire.publish(DeadLetter(source=workload, topic="t", reason=Reason.SCHEMA, detail="d", at_ms=2))

    async def all_there() -> bool:
        alerts = await store.query("alerts_recent", workload=workload)
        letters = await store.query("deadletters_recent", source=workload)
        return (len(await windows_of(store, workload)), len(alerts), len(letters)) == (40, 1, 1)

    async with sinking(broker, wire, store, f"sink-{workload}"):
        await eventually(all_there, "40 windows, an alert and a dead letter")


@pytest.mark.broker
async def test_reading_everything_again_changes_nothing(
    broker: Broker, wire: Wire, store: HttpStore, workload: str
) -> None:
    await wire.send_all([sli(workload, window) for window in range(10)])

    async def caught_up(worker: str) -> bool:
        beats = await heartbeats(broker, worker)
        return any(beat.lag == 0 and beat.handled >= 10 for beat in beats)

    counts = []
    for life in ("first", "second"):
        name = f"sink-{workload}-{life}"  # a group of its own, which begins at the beginning
        async with sinking(broker, wire, store, name):
            await eventually(lambda name=name: caught_up(name), f"{life} reading")  # type: ignore[misc]  # mypy cannot infer a lambda with defaults
        counts.append([row for row in await store.query("counts") if row["table"] == "slis"])
    assert counts[0] == counts[1]
    assert len(await windows_of(store, workload)) == 10


@pytest.mark.broker
async def test_a_sink_goes_on_where_its_group_stood(
    broker: Broker, wire: Wire, store: HttpStore, workload: str
) -> None:
    name = f"sink-{workload}"
    for life in (1, 2):
        await wire.send_all([sli(workload, window) for window in range(5 * life - 5, 5 * life)])

        async def there(life: int = life) -> bool:
            return len(await windows_of(store, workload)) == 5 * life

        async with sinking(broker, wire, store, name):
            await eventually(there, f"windows of life {life}")
    beats = await heartbeats(broker, name)
    assert [beat.state for beat in beats if beat.state is not WorkerState.WORKING] == [
        WorkerState.STARTING,
        WorkerState.LEAVING,
    ] * 2
    last = beats[-1]
    if broker.embedded:  # other tests write to the same topics of a broker that lasts
        assert last.handled == 5


@pytest.mark.broker
async def test_a_store_that_is_away_at_the_start_and_in_the_middle_costs_no_row(
    broker: Broker, wire: Wire, late: StoreProcess, workload: str
) -> None:
    """Down before the first row, then killed between inserts with more rows on their way: afterwards all are there."""
    name = f"sink-{workload}"
    async with HttpStore(late.url) as store, sinking(broker, wire, store, name):
        for outage in range(3):
            windows = range(outage * 60, outage * 60 + 60)
            sent = asyncio.create_task(wire.send_all([sli(workload, window) for window in windows]))
            if outage:
                await asyncio.sleep(0)  # let some of them go out before the kill
                late.end(signal.SIGKILL)
            await sent

            async def noticed() -> bool:
                """Killed before it could say that it took the rows, the store has not been back for the sink."""
                beats, told = await heartbeats(broker, name), wire.told
                return bool(beats and (beats[-1].lag or 0) > 0 and told.count("store_away") > told.count("store_back"))

            await eventually(noticed, f"outage {outage} to be noticed, with lag")
            late.start()

            async def all_there(most: int = windows.stop) -> bool:
                return len(await windows_of(store, workload)) == most

            await eventually(all_there, f"all rows after outage {outage}")

        async def in_the_store() -> bool:
            names = [row["name"] for row in await store.query("alerts_recent")]
            return {"store_away", "store_back"} <= set(names)

        await eventually(in_the_store, "alerts about the store")


@pytest.mark.broker
async def test_a_minute_without_the_store_waits_on_kafka_and_not_in_memory(
    broker: Broker, wire: Wire, workload: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """60 s of a fleet's SLIs come while the store is away: the sink stays paused, and afterwards every row is there."""
    holding, name, most_rows = Holding(), f"sink-{workload}", 50
    monkeypatch.setattr("streams.reader.AIOKafkaConsumer", Watched)
    Watched.made.clear()
    first, *rest = minute_of(workload)
    produced = [message for second in (first, *rest) for message in second]
    assert produced[-1].cause_ms - produced[0].cause_ms >= 59_000
    async with sinking(broker, wire, holding, name, replace(QUICK, batch_rows=most_rows)):
        await wire.send_all(first)

        async def tried_on(before: int = 0) -> bool:
            return holding.tries > before + 1

        await eventually(tried_on, "an insert in vain")
        (consumer,) = Watched.made
        for second in rest:
            await wire.send_all(second)
            await eventually(consumer.idle, "a pause")
        await eventually(partial(tried_on, holding.tries), "more tries after the minute")
        await eventually(consumer.idle, "a pause after the minute")
        # One poll may be on its way when the pause begins: what it brings is kept for the next batch.
        assert most_rows + 2 * RECORDS_A_POLL < len(produced)
        assert consumer.handed <= most_rows + (1 + consumer.joins) * RECORDS_A_POLL
        holding.back.set()

        wanted = {(row["id"], row["name"]) for message in produced for row in rows_of(message)[1]}

        async def all_there() -> bool:
            found = [row for batch in holding.batches for row in batch if row["workload"] == workload]
            return {(row["id"], row["name"]) for row in found} == wanted

        await eventually(all_there, "every row of the minute")
    rows_a_message = len(rows_of(first[0])[1])
    most_ahead = (1 + consumer.joins) * RECORDS_A_POLL * rows_a_message
    assert max(map(len, holding.batches)) <= most_rows + most_ahead


@pytest.mark.broker
async def test_a_sink_that_ends_while_the_store_is_away_leaves_its_rows_on_kafka(
    broker: Broker, wire: Wire, workload: str
) -> None:
    holding, name = Holding(), f"sink-{workload}"
    await wire.send_all([sli(workload, window) for window in range(20)])

    async def tried() -> bool:
        return holding.tries > 2

    async with sinking(broker, wire, holding, name):
        await eventually(tried, "an insert in vain")
    holding.back.set()

    async def all_there() -> bool:
        rows = [row for batch in holding.batches for row in batch if row["workload"] == workload]
        return len({row["start_ms"] for row in rows}) == 20

    async with sinking(broker, wire, holding, name):
        await eventually(all_there, "all windows")


@pytest.mark.broker
async def test_records_that_cannot_be_read_are_dead_letters_once(
    broker: Broker, wire: Wire, store: HttpStore, workload: str
) -> None:
    await wire.publish(sli(workload, 0))
    await wire.junk(SLIS.name, workload, b"{not json", SLIS.message.TYPE)
    await wire.junk(SLIS.name, workload, f'{{"workload": "{workload}"}}'.encode(), SLIS.message.TYPE)
    await wire.junk(SLIS.name, workload, b"{}", "optiinfra.slis.v2")
    await wire.junk(DEADLETTER.name, workload, b"a letter that is none", DEADLETTER.message.TYPE)
    await wire.publish(sli(workload, 1))
    name = f"sink-{workload}"

    async def all_there() -> bool:
        beats = await heartbeats(broker, name)
        done = any(beat.lag == 0 and beat.dead_letters >= 4 for beat in beats)
        letters = await letters_of(store, name, workload)
        return done and len(letters) == 3 and len(await windows_of(store, workload)) == 2

    async with sinking(broker, wire, store, name):
        await eventually(all_there, "both windows, and three letters: none about the letter")
    found = await letters_of(store, name, workload)
    assert {row["reason"] for row in found} == {"not_json", "schema", "unknown_version"}
    (not_json,) = (row for row in found if row["reason"] == "not_json")
    assert base64.b64decode(str(not_json["raw_base64"])) == b"{not json"
    assert not_json["topic"] == SLIS.name


@pytest.mark.broker
async def test_rows_that_the_store_refuses_are_found_and_the_rest_goes_in(
    broker: Broker, wire: Wire, store: HttpStore, workload: str
) -> None:
    """Event times before 1970 are no times to the store: good rows around them must not wait for them."""
    bad = {7, 23}
    messages = [sli(workload, n, **({"start_ms": -10_000 * n} if n in bad else {})) for n in range(40)]
    await wire.send_all(messages)
    name = f"sink-{workload}"

    async def all_there() -> bool:
        letters = await letters_of(store, name, workload)
        return len(letters) == 2 and len(await windows_of(store, workload)) == 38

    async with sinking(broker, wire, store, name):
        await eventually(all_there, "38 windows and two dead letters")
    letters = await letters_of(store, name, workload)
    assert {row["reason"] for row in letters} == {Reason.STORE_REFUSED.value}
    assert all("start_ms is -" in str(row["detail"]) for row in letters)


async def test_what_a_full_broker_dropped_unread_is_told(
    store: HttpStore, workload: str, mock_cluster: MockCluster
) -> None:
    """The embedded broker keeps 5 MiB of a partition: what a sink missed while it was down is counted and alerted."""
    broker = Broker(mock_cluster.bootstrap, True, mock_cluster.make_topics)
    wire, name = Wire(broker), f"sink-{workload}"
    await wire.start()

    def letter(number: int) -> DeadLetter:
        raw = "QUJD" * (DeadLetter.RAW_LIMIT // 3)
        return DeadLetter(
            source=workload,
            topic="t",
            partition=0,
            offset=number,
            reason=Reason.SCHEMA,
            detail="d",
            at_ms=1,
            raw_base64=raw,
        )

    async def numbers() -> set[object]:
        return {row["offset"] for row in await store.query("deadletters_recent", source=workload)}

    async def has(number: int) -> bool:
        return number in await numbers()

    async def alerts() -> list[str]:
        rows = await store.query("alerts_recent")
        return [str(row["summary"]) for row in rows if str(row["subject"]).startswith(name)]

    async def told() -> bool:
        return bool(await alerts())

    async with sinking(broker, wire, store, name):
        await wire.publish(letter(0))
        await eventually(lambda: has(0), "the first letter")
    for number in range(1, 31):
        await wire.publish(letter(number))
    async with sinking(broker, wire, store, name):
        await eventually(lambda: has(30), "the last letter")
        await eventually(told, "an alert about what is lost")
    (summary,) = await alerts()
    lost = set(range(31)) - {int(str(number)) for number in await numbers()}
    assert lost
    assert f"{name} lost {len(lost)} messages of {DEADLETTER.name} partition 0" in summary
    await wire.stop()


async def test_a_broker_that_is_not_there_is_unavailable_with_a_fix(
    broker: Broker, wire: Wire, store: HttpStore
) -> None:
    with pytest.raises(Unavailable, match="optiinfra doctor"):
        await run_sink(bootstrap="127.0.0.1:1", embedded=True, store=store, publisher=wire, clock=CLOCK, options=QUICK)
