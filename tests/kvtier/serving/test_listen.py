"""What a server publishes of its blocks becomes a trace, message by message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kvtier.serving.listen import Listener


def _stored(blocks: list[bytes | int], parent: bytes | int | None, **more: object) -> dict[str, Any]:
    event = {"type": "BlockStored", "block_hashes": blocks, "parent_block_hash": parent, "block_size": 32}
    return event | {"token_ids": [7] * 32 * len(blocks), "medium": "GPU"} | more


def test_messages_become_a_trace_without_tokens(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "r.jsonl", 1 << 20, 32, pause_s=1.0)
    listener.take(5, [1.7e9, [_stored([b"a", b"b"], None), {"type": "BlockRemoved", "block_hashes": [b"z"]}], 0])
    listener.take(6, [1.7e9 + 10, [_stored([b"c", b"d"], b"a"), {"type": "AllBlocksCleared"}], 0])
    listener.take(7, [1.7e9 + 10.5, [_stored([b"e"], b"d")], 0])
    listener.close()
    first, second = (json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines())
    assert [first["timestamp"], second["timestamp"]] == [1.7e12, 1.7e12 + 10_000]
    assert [first["input_length"], second["input_length"], second["output_length"]] == [64, 96, 32]
    assert first["hash_ids"][0] == second["hash_ids"][0]
    assert set(first) == {"timestamp", "input_length", "output_length", "hash_ids", "block_tokens"}
    assert listener.missed == 0


def test_other_tiers_and_other_groups_of_layers_are_not_heard(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "r.jsonl", 1 << 20, 32, pause_s=1.0)
    others = [_stored([b"a"], None, medium="CPU"), _stored([b"a"], None, group_idx=1)]
    listener.take(0, [1.7e9, others, 0])
    listener.close()
    assert not (tmp_path / "r.jsonl").exists()


def test_a_gap_in_the_numbers_is_counted_and_hashes_may_be_numbers(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "r.jsonl", 1 << 20, 32, pause_s=1.0)
    listener.take(1, [1.7e9, [_stored([-3, 2**63], None)], None])
    listener.take(4, [1.7e9 + 0.5, [_stored([12, 13], 2**63)], None])
    listener.close()
    (line,) = (json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines())
    assert [line["input_length"], len(set(line["hash_ids"]))] == [128, 4]
    assert listener.missed == 2


def test_a_server_that_is_started_again_begins_anew(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "r.jsonl", 1 << 20, 32, pause_s=1.0)
    listener.take(500, [1.7e9, [_stored([b"a", b"b"], None), _stored([b"x"], b"nobody's")], 0])
    listener.take(0, [1.7e9 + 0.1, [_stored([b"c"], b"b"), _stored([b"a"], None)], 0])
    listener.take(2, [1.7e9 + 9, [], 0])
    listener.close()
    lines = [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()]
    assert [(each["input_length"], each["output_length"]) for each in lines] == [(64, 0), (32, 0)]
    assert (listener.missed, listener.requests.orphans) == (1, 2)


def test_it_has_ended_when_the_trace_has_its_cap(tmp_path: Path) -> None:
    listener = Listener(tmp_path / "r.jsonl", 300, 32, pause_s=1.0)
    before = listener.ended
    for number in range(50):
        listener.take(number, [1.7e9 + 10 * number, [_stored([b"%d" % number], None)], 0])
    listener.close()
    assert (before, listener.ended) == (False, True)
    assert 0 < (tmp_path / "r.jsonl").stat().st_size <= 300
