"""The KV cache lends no block twice, keeps what may be asked for again, and finds what a brute-force count finds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.engine import Engine
from connectors.twin.kv import KvCache
from connectors.twin.profiles import BLOCK_TOKENS
from connectors.twin.request import Request
from connectors.twin.spec import EngineSpec
from contracts.errors import ConfigError

SPEC = EngineSpec(max_num_seqs=8, max_num_batched_tokens=64, max_model_len=1024, kv_blocks=1024)


class Plain:
    """The same cache without shortcuts: a list of blocks that are known, oldest first, and who holds what."""

    def __init__(self, capacity: int, per_hash: int) -> None:
        self.capacity, self.per_hash = capacity, per_hash
        self.private = 0
        self.held: Counter[int] = Counter()
        self.idle: list[int] = []

    @property
    def used(self) -> int:
        return self.private + len(+self.held) * self.per_hash

    def lend(self, hashes: list[int], blocks: int) -> bool:
        woken = [h for h in hashes if not self.held[h]]
        if self.used + blocks + len(woken) * self.per_hash > self.capacity:
            return False
        self.idle = [h for h in self.idle if h not in woken]
        self.held.update(hashes)
        self.private += blocks
        while self.used + len(self.idle) * self.per_hash > self.capacity:
            self.idle.pop(0)
        return True

    def give_back(self, blocks: int, hashes: list[int]) -> None:
        self.private -= blocks
        for each in reversed(hashes):
            self.held[each] -= 1
            if not self.held[each]:
                self.idle.append(each)


chains = st.integers(0, 3).flatmap(lambda tree: st.integers(0, 5).map(lambda n: [tree * 10 + i for i in range(n)]))


@given(
    acts=st.lists(st.tuples(st.sampled_from(["ask", "take", "end"]), chains, st.integers(0, 6)), max_size=60),
    capacity=st.integers(4, 40),
    per_hash=st.integers(1, 3),
)
@settings(max_examples=150, deadline=None)
def test_it_lends_keeps_and_finds_what_a_cache_without_shortcuts_does(
    acts: list[tuple[str, list[int], int]], capacity: int, per_hash: int
) -> None:
    kv, plain = KvCache(capacity, per_hash), Plain(capacity, per_hash)
    asked: list[tuple[int, list[int]]] = []
    for act, chain, number in acts:
        if act == "ask":
            found = kv.known(chain)
            assert all(plain.held[h] or h in plain.idle for h in chain[:found])
            assert found == len(chain) or not (plain.held[chain[found]] or chain[found] in plain.idle)
            own = (len(chain) - found) * per_hash + number
            fits = kv.take_with(chain[:found], own)
            assert fits is plain.lend(chain[:found], own)
            if fits:
                named = list(chain[:found])
                for each in chain[found:]:
                    fresh = kv.name(each)
                    assert fresh is not (plain.held[each] > 0 or each in plain.idle)
                    if fresh:
                        named.append(each)
                        own -= per_hash
                        plain.private -= per_hash
                        plain.held[each] += 1
                asked.append((own, named))
        elif act == "take":
            fits = kv.take(number)
            assert fits is plain.lend([], number)
            if fits:
                asked.append((number, []))
        elif asked:
            own, named = asked.pop(number % len(asked))
            kv.give_back(own, named)
            plain.give_back(own, named)
        assert kv.used == plain.used <= capacity
        assert kv.idle == len(plain.idle) * per_hash
        assert kv.used + kv.idle <= capacity


trees = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 12), st.integers(0, 5)), min_size=1, max_size=30)


def prompts(drawn: list[tuple[int, int, int]]) -> list[tuple[str, ...]]:
    """Hashes of prompts that share their beginnings: blocks of a tree, then some of their own."""
    return [
        tuple(f"{tree}/{i}" for i in range(shared)) + tuple(f"own/{n}/{i}" for i in range(own))
        for n, (tree, shared, own) in enumerate(drawn)
    ]


@given(drawn=trees, block=st.sampled_from([BLOCK_TOKENS, 4 * BLOCK_TOKENS]), tail=st.integers(0, BLOCK_TOKENS - 1))
@settings(max_examples=60, deadline=None)
def test_prefix_hits_of_requests_one_after_another_are_those_of_a_brute_force_count(
    drawn: list[tuple[int, int, int]], block: int, tail: int
) -> None:
    asked = [hashes for hashes in prompts(drawn) if len(hashes) * block + tail]
    engine = Engine(replace(SPEC, hash_tokens=block, max_model_len=2048))
    seen, hits, queries = set[Hashable](), 0, 0
    for number, hashes in enumerate(asked):
        prompt = len(hashes) * block + tail
        reusable = hashes[: (prompt - 1) // block]
        hits += next((i for i, each in enumerate(reusable) if each not in seen), len(reusable)) * block
        queries += prompt
        seen.update(hashes)
        at_ms = number * 1e6
        engine.advance(at_ms)
        assert engine.outstanding == 0
        assert engine.submit(Request(number, at_ms, prompt, 3, 10, hashes=hashes))
    engine.advance(1e9)
    assert (engine.meters.prefix_hits_tokens, engine.meters.prefix_queries_tokens) == (hits, queries)
    assert engine.kv.used == 0
    assert engine.kv.idle == len(seen) * block // BLOCK_TOKENS


@given(
    drawn=trees,
    gaps_ms=st.lists(st.floats(0, 300), min_size=30, max_size=30),
    outputs=st.lists(st.integers(1, 80), min_size=30, max_size=30),
)
@settings(max_examples=60, deadline=None)
def test_in_a_tight_cache_everybody_ends_and_nothing_is_lent_beyond_it(
    drawn: list[tuple[int, int, int]], gaps_ms: list[float], outputs: list[int]
) -> None:
    spec = replace(SPEC, max_model_len=512, kv_blocks=40)
    engine, at_ms = Engine(spec), 0.0
    for number, hashes in enumerate(prompts(drawn)):
        at_ms += gaps_ms[number]
        engine.advance(at_ms)
        assert engine.submit(
            Request(number, at_ms, len(hashes) * 16 + 5, outputs[number], 99, 0, 0, 1e12, False, hashes)
        )
        assert engine.kv.used + engine.kv.idle <= spec.kv_blocks
    while engine.outstanding:
        at_ms += 500.0
        engine.advance(at_ms)
        assert engine.kv.used + engine.kv.idle <= spec.kv_blocks
    assert engine.kv.used == 0
    assert engine.meters.finished["stop"] == len(drawn)
    assert engine.meters.generation_tokens == sum(outputs[: len(drawn)])


def test_two_who_share_a_prefix_hold_its_blocks_once() -> None:
    hashes = tuple(range(8))
    engine = Engine(SPEC)
    engine.submit(Request(1, 0.0, 129, 500, 999, hashes=hashes))
    engine.advance(1000.0)
    alone = engine.kv.used
    engine.submit(Request(2, 1000.0, 129, 500, 999, hashes=hashes))
    engine.advance(1200.0)
    assert engine.running == 2
    assert engine.kv.used < alone + 4


def test_what_was_least_recently_used_goes_first_and_of_it_the_last_block() -> None:
    kv = KvCache(4)
    for name in ("old", "new"):
        assert kv.take(2)
        assert kv.name(f"{name}/0")
        assert kv.name(f"{name}/1")
        kv.give_back(0, [f"{name}/0", f"{name}/1"])
    assert kv.take(1)
    assert (kv.known(["old/0", "old/1"]), kv.known(["new/0", "new/1"])) == (1, 2)
    assert kv.take(1)
    assert (kv.known(["old/0", "old/1"]), kv.known(["new/0", "new/1"])) == (0, 2)


def test_a_hash_stands_for_whole_blocks() -> None:
    with pytest.raises(ConfigError, match="cannot stand for 24 tokens"):
        replace(SPEC, hash_tokens=24)
