"""The disk tier against the disk itself: the same bytes of the same files, with sums and without; and what it survives.

Reads and writes pass the page cache by (O_DIRECT), by as many threads on both sides, in turns. Every slot was written
once before, as in a tier that is full. The folder is OPTIINFRA_BENCH_DIR, by default the one for temporary files.
"""

from __future__ import annotations

import mmap
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import shake_128
from pathlib import Path
from random import Random

from bench.report import Row, report
from kvtier.engine.jobs import Block, Jobs
from kvtier.engine.shelf import Shelf
from kvtier.engine.table import Record, Table
from kvtier.engine.terms import Settings, Why
from kvtier.engine.tier import DiskTier
from kvtier.policies import make

ROUNDS = 9
KILLS = 1000
FLIPS = 400
SLOT = 4096


def main() -> None:
    """Print the table, or make `make` fail where a promise is broken."""
    with tempfile.TemporaryDirectory(dir=os.environ.get("OPTIINFRA_BENCH_DIR")) as folder:
        root = Path(folder)
        rows = [*_speed(root / "large", 160 << 20, 6), *_speed(root / "small", 2 << 20, 256)]
        rows += [*_index(root / "index"), _kills(root / "kills"), _flips(root / "flips")]
    report("kv_engine", rows)


def _row(name: str, value: float, unit: str, peer: str | None = None, peer_value: float | None = None) -> Row:
    ratio = None if not peer_value else value / peer_value
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}


def _settings(slots: int, slot_bytes: int = SLOT) -> Settings:
    return Settings(slots * (-(-slot_bytes // SLOT) * SLOT + 128), slot_bytes, "bench", policy="lru")


def _speed(root: Path, size: int, count: int) -> list[Row]:
    """Reads and writes of `count` blocks of `size` bytes: GB/s, and the ratio to the same without sums and index."""
    rows: list[Row] = []
    with DiskTier(root, _settings(count, size)) as tier:
        rooms = [memoryview(mmap.mmap(-1, size)) for _ in range(min(count, 8))]
        for room in rooms:  # all alike, so that what is written without the tier spoils no block
            room[:] = shake_128(b"block").digest(1 << 20) * (size >> 20)
        fresh = iter(range(10**9))
        newest: list[int] = []
        stride, a_slab = tier.slots_at

        def store() -> None:
            newest[:] = [next(fresh) for _ in range(count)]
            for number in newest:
                assert jobs.store(number, [Block(b"%d" % number, rooms[number % len(rooms)])])
            _all_done(jobs)

        def load() -> None:
            for number in newest:
                jobs.load(number, [Block(b"%d" % number, rooms[number % len(rooms)])])
            _all_done(jobs)

        def raw(call: Callable[[int, memoryview, int], None]) -> None:
            def one(slot: int) -> None:
                path = root / f"slab-{slot // a_slab:05d}.kv"
                call(files[path], rooms[slot % len(rooms)], slot % a_slab * stride)

            list(pool.map(one, range(count)))

        jobs = Jobs(tier, readers=4, writers=4, most_queued_bytes=1 << 40)
        store()
        jobs.close()
        files = {path: os.open(path, os.O_RDWR | os.O_DIRECT) for path in root.glob("slab-*.kv")}
        for threads in (1, 4):
            jobs = Jobs(tier, readers=threads, writers=threads, most_queued_bytes=1 << 40)
            with ThreadPoolExecutor(threads) as pool:
                for what, ours, bare in (("write", store, _pwrite), ("read", load, _pread)):
                    took_s = _pairs(ours, partial(raw, bare))
                    name = f"{what} {size >> 20} MiB blocks, {threads} at once"
                    rows.append(_paired(name, took_s, size * count / 1e9, f"p{what}, O_DIRECT"))
            jobs.close()
        for fd in files.values():
            os.close(fd)
    return rows


def _pairs(ours: Callable[[], None], bare: Callable[[], None]) -> list[tuple[float, float]]:
    """Seconds of both, one right after the other, which is first in turns: other work on the machine meets both."""
    took_s: list[tuple[float, float]] = []
    for turn in range(ROUNDS):
        if turn % 2:
            second = _timed(bare)
            took_s.append((_timed(ours), second))
        else:
            took_s.append((_timed(ours), _timed(bare)))
    return took_s


def _timed(work: Callable[[], None]) -> float:
    began_s = time.perf_counter()
    work()
    return time.perf_counter() - began_s


def _paired(name: str, took_s: list[tuple[float, float]], gigabytes: float, peer: str) -> Row:
    """Medians: of the speed of each, and of the ratio within each pair."""
    ours, bare = (gigabytes / statistics.median(each) for each in zip(*took_s, strict=True))
    row = _row(name, ours, "GB/s", peer, bare)
    return {**row, "ratio": statistics.median(theirs / mine for mine, theirs in took_s)}


def _all_done(jobs: Jobs) -> None:
    jobs.drain()
    answers = {why for ended in jobs.ended() for why in ended.answers}
    if answers - {Why.DONE}:
        raise SystemExit(f"blocks were not moved: {answers}")


def _pread(fd: int, room: memoryview, at: int) -> None:
    os.preadv(fd, [room], at)


def _pwrite(fd: int, room: memoryview, at: int) -> None:
    os.pwrite(fd, room, at)


def _index(root: Path) -> list[Row]:
    """Lookups a second, memory of a million blocks, and how long an index of 100,000 takes to be read."""
    root.mkdir()
    table = Table(root / "index.kv", 100_000)
    for slot in range(100_000):
        parent = b"%036d" % (slot - 1) if slot % 50 else None
        table.put(slot, Record(b"%036d" % slot, parent, slot % 50 * 512, 512, SLOT, slot, slot))
    shelves: list[Shelf] = []
    recovered_s = min(
        _timed(lambda: shelves.append(Shelf(table, make("optiinfra", 100_000), 100_000))) for _ in range(3)
    )
    if {len(shelf.held) for shelf in shelves} != {100_000}:
        raise SystemExit("not all of 100000 blocks were found again")
    table.close()
    with DiskTier(root / "tier", _settings(1000)) as tier:
        for number in range(1000):
            tier.store(b"%036d" % number, bytes(SLOT), None, 0, 16)
        keys = [b"%036d" % (number * 2) for number in range(1000)]
        began_s = time.perf_counter()
        for _ in range(100):
            for key in keys:
                tier.holds(key)
        lookups = 100_000 / (time.perf_counter() - began_s)
    script = "from bench.kv_engine import resident; print(resident(1_000_000))"
    resident_bytes = float(subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout)
    return [
        _row("lookups", lookups, "1/s"),
        _row("index of 100,000 blocks read again", recovered_s, "s"),
        _row("memory of a million blocks", resident_bytes / 1e6, "MB"),
    ]


def resident(blocks: int) -> int:
    """Bytes of memory that an index of so many blocks takes in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        table = Table(Path(folder) / "index.kv", blocks)
        for slot in range(blocks):
            parent = b"%036d" % (slot - 1) if slot % 50 else None
            table.put(slot, Record(b"%036d" % slot, parent, slot % 50 * 512, 512, SLOT, slot, slot))
        before = _rss()
        shelf = Shelf(table, make("optiinfra", blocks), blocks)
        assert len(shelf.held) == blocks
        return _rss() - before


def _rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def _content(number: int) -> bytes:
    return shake_128(b"%d" % number).digest(1 + number % SLOT)


def _kills(root: Path) -> Row:
    """Kill a process that stores, at random moments; count what is served wrong afterwards."""
    chance, wrong = Random(1), 0
    for _ in range(KILLS):
        hear, tell = os.pipe()
        pid = os.fork()
        if not pid:
            with DiskTier(root, _settings(64)) as tier:
                os.write(tell, b".")
                for number in range(os.getpid() * 1000, 10**12):
                    tier.store(b"%036d" % number, _content(number), None, 0, 16)
        os.read(hear, 1)
        time.sleep(chance.random() * 0.02)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(hear)
        os.close(tell)
        with DiskTier(root, _settings(64)) as tier:
            wrong += sum(_served(tier, key) not in (None, _content(int(key))) for key in tier.blocks())
            if tier.counters().corrupt_blocks or len(tier.blocks()) < min(63, tier.counters().recovered_blocks):
                raise SystemExit("a block that was stored before is not there any more")
    return _row(f"wrong bytes served after {KILLS:,} kill -9", wrong, "blocks")


def _served(tier: DiskTier, key: bytes) -> bytes | None:
    room = bytearray(len(_content(int(key))))
    return bytes(room) if tier.load(key, memoryview(room)) is Why.DONE else None


def _flips(root: Path) -> Row:
    """Flip a random bit of a block on disk, as often as there are blocks; count those that are noticed."""
    chance = Random(2)
    with DiskTier(root, _settings(FLIPS)) as tier:
        for number in range(FLIPS):
            tier.store(b"%036d" % number, _content(number + SLOT - 1), None, 0, 16)
        lengths = [len(_content(number + SLOT - 1)) for number in range(FLIPS)]
    slab = root / "slab-00000.kv"
    raw = bytearray(slab.read_bytes())
    for slot, length in enumerate(lengths):
        bit = chance.randrange(length * 8)
        raw[slot * SLOT + bit // 8] ^= 1 << bit % 8
    slab.write_bytes(raw)
    with DiskTier(root, _settings(FLIPS)) as tier:
        for number, length in enumerate(lengths):
            if tier.load(b"%036d" % number, memoryview(bytearray(length))) is not Why.CORRUPT:
                raise SystemExit(f"a bit that flipped in block {number} was not noticed")
        return _row("flipped bits noticed", tier.counters().corrupt_blocks / FLIPS * 100, "%")


if __name__ == "__main__":
    main()
