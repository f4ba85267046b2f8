"""Jobs run in the background, are told of once, and are shed where the disk falls behind."""

from __future__ import annotations

from pathlib import Path

from kvtier.engine.jobs import Block, Jobs
from kvtier.engine.terms import Why
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import SLOT, content, key, settings


def _stored(*numbers: int) -> list[Block]:
    above = [None, *map(key, numbers)]
    return [
        Block(key(number), memoryview(content(number)), parent, at * 16, 16)
        for at, (number, parent) in enumerate(zip(numbers, above, strict=False))
    ]


def _rooms(*numbers: int) -> list[Block]:
    return [Block(key(number), memoryview(bytearray(SLOT))) for number in numbers]


def test_what_a_job_stored_another_one_loads(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        jobs = Jobs(tier)
        assert jobs.store(1, _stored(1, 2, 3))
        assert jobs.drain()
        rooms = _rooms(1, 2, 3)
        jobs.load(2, rooms)
        assert jobs.drain()
        stored, loaded = jobs.ended()
        assert (stored.job_id, stored.success, stored.moved_bytes) == (1, True, 3 * SLOT)
        assert (loaded.job_id, loaded.success, loaded.answers) == (2, True, (Why.DONE,) * 3)
        assert [bytes(each.data) for each in rooms] == [content(1), content(2), content(3)]
        assert jobs.ended() == []
        assert not jobs.pending
        jobs.close()


def test_a_load_stops_at_the_first_block_that_is_missing_and_has_failed(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        jobs = Jobs(tier)
        jobs.store(1, _stored(1, 3))
        jobs.drain()
        jobs.load(2, _rooms(1, 2, 3))
        jobs.drain()
        ended = jobs.ended()[1]
        assert not ended.success
        assert ended.answers == (Why.DONE, Why.NOT_HERE, Why.NOT_HERE)
        assert ended.moved_bytes == SLOT
        jobs.close()


def test_stores_are_shed_while_too_much_waits_and_loads_never_are(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=64)) as tier:
        jobs = Jobs(tier, writers=1, most_queued_bytes=2 * SLOT)
        taken = [jobs.store(number, _stored(number)) for number in range(50)]
        assert taken[:2] == [True, True]
        assert not all(taken)
        jobs.load(100, _rooms(0))
        jobs.drain()
        ended = jobs.ended()
        assert sum(each.store for each in ended) == sum(taken)
        assert any(each.job_id == 100 for each in ended)
        assert jobs.store(200, _stored(200))  # the queue is empty again
        jobs.close()


def test_a_job_larger_than_the_whole_queue_is_taken_when_nothing_waits(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings()) as tier:
        jobs = Jobs(tier, most_queued_bytes=1)
        assert jobs.store(1, _stored(1, 2))
        jobs.drain()
        assert [each.success for each in jobs.ended()] == [True]
        jobs.close()
