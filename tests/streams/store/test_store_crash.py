"""What the store child has acknowledged is there afterwards, whatever happens to it in between."""

from __future__ import annotations

import asyncio
import http.server
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from contracts.errors import ConfigError, Unavailable
from optiinfra.plan import free_port
from streams.store.client import HttpStore
from streams.store.engine import Engine
from streams.store.queries import resolve
from streams.store.rows import columns_of, rows_of
from streams.store.schema import SCHEMA_VERSION, VERSIONS_TABLE
from streams.store.server import run_store
from streams.store.target import Embedded, Server, parse_dsn
from tests.streams.store.children import StoreProcess, eventually, sli


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[StoreProcess]:
    process = StoreProcess(tmp_path)
    yield process
    process.close()


async def test_a_kill_in_the_middle_of_inserts_loses_nothing_acknowledged(fresh: StoreProcess) -> None:
    per_batch, sent = 25, 0
    acknowledged: set[int] = set()
    fresh.start()
    async with HttpStore(fresh.url) as store:
        for life in range(3):
            killer: asyncio.Task[int] | None = None
            goal = len(acknowledged) + 5
            try:
                while True:
                    rows = [rows_of(sli("chat", sent * per_batch + n))[1][1] for n in range(per_batch)]
                    await store.insert("slis", rows)
                    acknowledged.add(sent)
                    sent += 1
                    if len(acknowledged) == goal:  # the kill falls into one of the next inserts
                        killer = asyncio.create_task(asyncio.to_thread(fresh.end, signal.SIGKILL))
            except Unavailable:
                sent += 1  # may be there or not: nobody was told
            assert killer is not None
            assert await killer == -signal.SIGKILL
            fresh.start()
            found = await store.query("sli_series", workload="chat", sli="ttft_p95_s", limit=100_000)
            batches = [round(float(row["value"] or 0) - 0.25) // per_batch for row in found]
            whole = {number: batches.count(number) for number in batches}
            assert set(whole.values()) == {per_batch}, f"part of a batch, life {life}"
            assert acknowledged <= whole.keys() <= set(range(sent)), f"life {life}"


async def test_a_store_opens_again_and_again_with_its_schema_as_it_was(fresh: StoreProcess) -> None:
    for life in range(2):
        fresh.start()
        async with HttpStore(fresh.url) as store:
            await store.insert(*rows_of(sli("chat", life)))
            assert len(await store.query("sli_series", workload="chat", sli="ttft_p95_s")) == life + 1
        assert fresh.end(signal.SIGTERM) == 0


def test_a_store_of_a_later_version_is_not_touched(fresh: StoreProcess) -> None:
    fresh.start()
    fresh.end(signal.SIGTERM)
    later = SCHEMA_VERSION + 1
    script = (
        "import sys, clickhouse_connect\n"
        "client = clickhouse_connect.get_client(interface='chdb', path=sys.argv[1])\n"
        f"client.command('INSERT INTO {VERSIONS_TABLE} (version) VALUES ({later})')\n"
        "client.close()\n"
    )
    subprocess.run([sys.executable, "-c", script, str(fresh.path)], check=True)
    process = fresh.spawn()
    _, told = process.communicate(timeout=60)
    assert process.returncode == ConfigError.exit_code
    assert f"the store has schema {later}, this version of OptiInfra knows {SCHEMA_VERSION}" in told


async def test_a_full_disk_is_unavailable_and_acknowledges_nothing(fresh: StoreProcess) -> None:
    """No file may grow, as on a full disk: inserts fail with a reason, and go on when there is room again."""
    fresh.start()
    assert fresh.process is not None
    process = psutil.Process(fresh.process.pid)
    async with HttpStore(fresh.url) as store:
        await store.insert(*rows_of(sli("chat", 0)))
        _, hard = process.rlimit(resource.RLIMIT_FSIZE)
        process.rlimit(resource.RLIMIT_FSIZE, (0, hard))
        with pytest.raises(Unavailable, match="Is the disk full"):
            await store.insert(*rows_of(sli("chat", 1)))
        assert len(await store.query("sli_series", workload="chat", sli="ttft_p95_s")) == 1
        process.rlimit(resource.RLIMIT_FSIZE, (hard, hard))
        await store.insert(*rows_of(sli("chat", 1)))
        assert len(await store.query("sli_series", workload="chat", sli="ttft_p95_s")) == 2


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "chdb", None)  # what an import finds where the package is not installed
    with pytest.raises(Unavailable, match=r"pip install 'optiinfra\[store\]'"):
        Engine(Embedded(tmp_path)).open()


class _Junk(http.server.BaseHTTPRequestHandler):
    """Something that listens on the port and is no ClickHouse."""

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>It works!</html>")

    do_GET = do_POST = _answer

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def junk() -> Iterator[Server]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Junk) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield parse_dsn(f"http://me:secret@127.0.0.1:{server.server_port}")
        server.shutdown()


def test_what_is_no_clickhouse_is_told_with_its_address_and_without_the_password(junk: Server) -> None:
    engine = Engine(junk)
    with pytest.raises(Unavailable) as caught:
        engine.query(*resolve("counts", {}))
    assert str(caught.value).startswith(f"http://127.0.0.1:{junk.port}: the store did not answer")
    with pytest.raises(Unavailable, match="are host, port, user and password right") as caught:
        engine.insert("slis", columns_of(*rows_of(sli("chat"))))
    assert "secret" not in str(caught.value)


async def test_a_server_that_is_away_is_answered_for_and_not_waited_for(tmp_path: Path) -> None:
    """The child serves, says what is wrong, and looks again at every question."""
    target = parse_dsn(f"http://127.0.0.1:{free_port()}")
    port, stop, ready = free_port(), asyncio.Event(), tmp_path / "ready.json"
    running = asyncio.create_task(run_store(target=target, port=port, ready_file=ready, stop=stop))

    async def is_ready() -> bool:
        assert not running.done()
        return ready.exists()

    await eventually(is_ready, "the child to serve")
    async with HttpStore(f"http://127.0.0.1:{port}") as store:
        for ask in (store.health(), store.query("counts"), store.insert(*rows_of(sli("chat")))):
            with pytest.raises(Unavailable, match=f"127.0.0.1:{target.port}: |the store did not answer"):
                await ask
    stop.set()
    await running
