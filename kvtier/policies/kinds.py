"""Which kind a sighted block is of: blocks of one kind come back at the same pace, and are counted together.

A kind says only what one sees of any prompt: how often the block was seen, how soon it came back, how much of its
request was new, and whether it goes on from what was seen few times (a conversation) or what all share (a template).
"""

from __future__ import annotations

from kvtier.policies.base import Key

SHARED_CHILDREN = 5
"""A block that so many different blocks follow is shared by many prompts, not the end of one conversation."""
MANY_NEW = 6
"""A request with more new blocks than this brings a new text along; with fewer, it goes on talking."""

PARTIAL = 0
_FRESH = 1
_GOING_ON = _FRESH + 7 * 4
_SEEN = _GOING_ON + 4 * 3 * 2
KINDS = _SEEN + 6 * 3
"""Kinds are numbers from 0 to below this."""

FAMILIES = (
    (PARTIAL, _FRESH),
    (_FRESH, _GOING_ON),
    (_GOING_ON, _SEEN),
    *((_SEEN + 3 * n, _SEEN + 3 * n + 3) for n in range(6)),
)
"""Ranges of kinds that are alike, for what one of them has seen too little of."""

_LEVEL_OF_COUNT = (0, 0, 0, 1, 2, 3, 3, 4, 4, 4, 4, 5)


class Seen:
    """What is remembered of a block, here or gone: its sightings, the last of them `at`, its place among candidates."""

    __slots__ = ("at", "cell", "children", "count", "depth", "here", "key", "kids", "kind", "level", "parent", "stem")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.count = self.children = self.kids = self.depth = self.stem = self.kind = self.at = self.level = 0
        self.here = False
        self.parent: Seen | None = None
        self.cell: int | None = None


def kind_of_new(block: Seen, parent: Seen | None, partial: bool, unseen: int) -> int:
    """The kind of a block at its first sighting; notes where it branched off. `unseen`: new blocks of the request."""
    if parent is None:
        block.depth = block.stem = 0
    elif parent.count == 1:
        block.stem, block.depth = parent.stem, parent.depth + 1
    else:
        block.depth = 0
        block.stem = 0 if parent.children >= SHARED_CHILDREN else 1 + min(3, _level(parent.count))
    if partial:
        return PARTIAL
    depth = block.depth
    if block.stem == 0:
        size = min(6, max(0, unseen.bit_length() - 2))
        return _FRESH + 4 * size + (0 if depth < 4 else 1 if depth < 16 else 2 if depth < 64 else 3)
    return _GOING_ON + 2 * (3 * (block.stem - 1) + (0 if depth < 2 else 1 if depth < 4 else 2)) + (unseen > MANY_NEW)


def kind_of_seen(block: Seen, late: bool, unseen: int) -> int:
    """The kind of a block at a later sighting. `late`: it came back only after several times the tier's slots."""
    return _SEEN + 3 * _level(block.count) + (2 if late else int(unseen > MANY_NEW))


def _level(count: int) -> int:
    return _LEVEL_OF_COUNT[min(count, len(_LEVEL_OF_COUNT) - 1)]
