"""Small worlds of prompts, generated: conversations, agents, a scan, popular documents, and days that change."""

from __future__ import annotations

import random

BLOCK = 16

Numbered = tuple[list[int], int]
"""A prompt whose keys are numbers."""


def conversations(count: int, seed: int, *, goes_on: float = 0.5, apart: int = 60, fresh: int = 6) -> list[Numbered]:
    """Sessions behind one shared system prompt: each turn adds two blocks, the next comes `apart` requests later."""
    rng = random.Random(seed)
    due: dict[int, list[list[int]]] = {}
    prompts: list[Numbered] = []
    ids = 1
    for at in range(count):
        waiting = due.pop(at, [])
        if waiting:
            keys = waiting[0]
            due.setdefault(at + 1, []).extend(waiting[1:])
            added = 2
        else:
            keys, added = [0], fresh
        keys = [*keys, *range(ids, ids + added)]
        ids += added
        prompts.append((keys, len(keys) * BLOCK))
        if rng.random() < goes_on:
            due.setdefault(at + 1 + rng.randrange(apart, 2 * apart), []).append(keys)
    return prompts


def scan(rounds: int, documents: int, length: int = 5) -> list[Numbered]:
    """The same documents over and over, in order."""
    one = [[number * length + place for place in range(length)] for number in range(documents)]
    return [(keys, length * BLOCK) for _ in range(rounds) for keys in one]


def popular(count: int, documents: int, seed: int, *, length: int = 5, first: int = 0) -> list[Numbered]:
    """Documents drawn by Zipf's law."""
    rng = random.Random(seed)
    weights = [1 / (1 + rank) for rank in range(documents)]
    drawn = rng.choices(range(documents), weights, k=count)
    return [([first + each * length + place for place in range(length)], length * BLOCK) for each in drawn]


def shifting(count: int, seed: int) -> list[Numbered]:
    """Popular documents that are others in each of four days."""
    quarter = count // 4
    return [each for day in range(4) for each in popular(quarter, 60, seed + day, first=day * 10_000)]


def recent(count: int, seed: int, *, length: int = 4) -> list[Numbered]:
    """Documents that come back soon or never: LRU's own world."""
    rng = random.Random(seed)
    seen: list[int] = []
    prompts: list[Numbered] = []
    for _ in range(count):
        if seen and rng.random() < 0.6:
            document = seen[-1 - min(len(seen) - 1, int(rng.expovariate(1 / 8)))]
        else:
            document = len(prompts) + 1
        seen.append(document)
        prompts.append(([document * length + place for place in range(length)], length * BLOCK))
    return prompts


def agents(count: int, seed: int, *, tools: int = 12, apart: int = 40) -> list[Numbered]:
    """Agents behind long prompts of tools drawn by Zipf's law: some turns, each soon after the one before."""
    rng = random.Random(seed)
    due: dict[int, list[list[int]]] = {}
    prompts: list[Numbered] = []
    ids = 10**6
    for at in range(count):
        waiting = due.pop(at, [])
        if waiting:
            keys = waiting[0]
            due.setdefault(at + 1, []).extend(waiting[1:])
        else:
            tool = rng.choices(range(tools), [1 / (1 + rank) for rank in range(tools)])[0]
            keys = [tool * 1000 + place for place in range(20)]
        added = rng.randrange(1, 6)
        keys = [*keys, *range(ids, ids + added)]
        ids += added
        prompts.append((keys, len(keys) * BLOCK - rng.randrange(BLOCK)))
        if len(keys) < 40 and rng.random() < 0.85:
            due.setdefault(at + 1 + int(rng.expovariate(1 / apart)), []).append(keys)
    return prompts


def in_turn(*worlds: list[Numbered]) -> list[Numbered]:
    """One world after another, with no block in common."""
    return [
        ([number * 10**9 + key for key in keys], tokens)
        for number, world in enumerate(worlds)
        for keys, tokens in world
    ]


def drawn(rng: random.Random, count: int) -> list[Numbered]:
    """One to four worlds of any sort, one after another: abrupt changes that nothing announces."""
    parts = rng.choice([1, 2, 2, 3, 4])
    return in_turn(*(_any(rng, count // parts) for _ in range(parts)))


def _any(rng: random.Random, count: int) -> list[Numbered]:
    seed = rng.randrange(10**6)
    match rng.randrange(6):
        case 0:
            return conversations(count, seed, goes_on=rng.uniform(0.1, 0.9), apart=rng.choice([5, 20, 60, 200]))
        case 1:
            documents = rng.choice([10, 50, 150])
            return scan(max(1, count // documents), documents)
        case 2:
            return popular(count, rng.choice([30, 100, 300, 1000]), seed)
        case 3:
            return shifting(count, seed)
        case 4:
            return recent(count, seed, length=rng.choice([2, 4, 8]))
    return agents(count, seed, tools=rng.choice([3, 12, 40]), apart=rng.choice([5, 40, 150]))
