"""From vLLM's KV events to the requests behind them, as far as events tell: which prompts led to which new blocks.

An engine tells of blocks that it computed: `BlockStored` with the new blocks and the one before them. The chain from
the first block to that one is what the prompt had in common with others; with the new blocks it is the prompt. Events
do not tell of a prompt whose whole blocks were all cached, and it is not here. Nor do they tell where a prompt ends and
its answer begins, and whether a chain that goes on is the same request or the next turn. That is guessed: what goes on
within `pause_s` is the same request, by several blocks at once a further part of its prompt, by one its answer.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass
class Request:
    """`prompt`: its blocks in order. `answered_blocks`: further ones. `last`: the newest of all, stored at `last_s`."""

    arrived_s: float
    prompt: list[bytes]
    answered_blocks: int
    last: bytes
    last_s: float


class Requests:
    """Told of blocks as they are stored, in order; gives the requests back once they have paused. Remembers the blocks
    that it was told of or that others stood on last, `most_blocks` of them, some 200 bytes each."""

    def __init__(self, pause_s: float = 2.0, most_blocks: int = 2_000_000) -> None:
        self.orphans = 0
        self._pause_s, self._most = pause_s, most_blocks
        self._before: OrderedDict[bytes, bytes | None] = OrderedDict()
        self._open: dict[bytes, Request] = {}
        self._over: list[Request] = []

    def stored(self, at_s: float, blocks: Sequence[bytes], parent: bytes | None) -> None:
        """Blocks that follow one another were computed, after `parent`, None at the beginning of a prompt. Those after
        a block that was never told of, or is forgotten, are orphans: counted, and of no request."""
        if not blocks:
            return
        going = self._going_on(at_s, parent)
        above = self._chain(parent) if going is None else []
        if above is None:
            self.orphans += len(blocks)
            return
        for before, block in zip((parent, *blocks), blocks, strict=False):
            self._before[block] = before
            self._before.move_to_end(block)
        while len(self._before) > self._most:
            self._before.popitem(last=False)
        if going is None:
            going = Request(at_s, [*above, *blocks], 0, blocks[-1], at_s)
        elif len(blocks) > 1 and not going.answered_blocks:
            going.prompt += blocks
        else:
            going.answered_blocks += len(blocks)
        going.last, going.last_s = blocks[-1], at_s
        if (same := self._open.get(going.last)) is not None:
            self._over.append(same)
        self._open[going.last] = going

    def paused(self, now_s: float) -> list[Request]:
        """The requests that stored nothing for `pause_s`, each once, in the order in which they came."""
        for going in [each for each in self._open.values() if now_s - each.last_s > self._pause_s]:
            del self._open[going.last]
            self._over.append(going)
        over, self._over = self._over, []
        return sorted(over, key=lambda each: each.arrived_s)

    def _going_on(self, at_s: float, parent: bytes | None) -> Request | None:
        """The request that these blocks go on with."""
        going = None if parent is None else self._open.pop(parent, None)
        if going is not None and at_s - going.last_s > self._pause_s:
            self._over.append(going)
            return None
        return going

    def _chain(self, block: bytes | None) -> list[bytes] | None:
        """The blocks of a prompt up to this one, which are asked for again; None where one of them is not known."""
        chain: list[bytes] = []
        while block is not None:
            if block not in self._before:
                return None
            chain.append(block)
            self._before.move_to_end(block)
            block = self._before[block]
        return chain[::-1]
