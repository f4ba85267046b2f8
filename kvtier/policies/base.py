"""What every eviction policy of a KV tier can be asked, by the simulator and by a disk alike.

A policy decides; it holds no bytes and does no I/O. Its owner keeps the blocks and tells it what happened:

    a request comes         expect(keys): all blocks of its prompt in order, where they are known; else never
    needed and here         touch(key)
    needed and not here     admit(key, parent, position, tokens): is it worth a write, now that it was computed?
      yes                     while len(policy) >= slots: victim = policy.evict(), free the victim's slot
                              insert(key, parent, position, tokens)
    a write takes its time  coming(key) after admit, called_off(key) before insert, or where it failed
    in use by a read/write  pin(key) … unpin(key): it is not evicted meanwhile
    lost, or found bad      remove(key)
    slots come or go        resize(slots)

Blocks of a request are told in the order of the prompt, each once: `touch` those that are here, `admit` the others, so
that each call is one sighting. A policy never reads a clock: its time is the number of sightings.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence

Key = Hashable
"""The identity of a block: it stands for the block's tokens and all that come before them. Bytes or an int."""

Worth = Callable[[int], float]
"""Seconds (or any unit) that a hit on the block whose first token has this position saves; 0 or more, 0 for none."""


class Policy(ABC):
    """Chooses which of `slots` equal slots' blocks to give up, and which blocks to take in.

    `position` is the number of tokens before the block, `tokens` the number in it (less than usual in a partial tail).
    `parent` is the block before it, None for the first. All calls are O(1) or O(log n), amortised. Not thread-safe.
    """

    name = ""

    def __init__(self, slots: int) -> None:
        if slots < 1:
            raise ValueError(f"a policy needs a slot or more, not {slots}")
        self.slots = slots
        self._pins: dict[Key, int] = {}
        self._coming: set[Key] = set()

    def resize(self, slots: int) -> None:
        """There are so many slots that can be used now."""
        self.slots = max(1, slots)

    def coming(self, key: Key) -> None:
        """An admitted block will be here once it is written: it takes a slot, and others may stand on it."""
        self._coming.add(key)

    def called_off(self, key: Key) -> None:
        """The block comes no longer: its write failed, or ended and `insert` follows."""
        self._coming.discard(key)

    def expect(self, keys: Sequence[Key]) -> None:
        """A hint before a request's blocks are told: all of them, in order. A policy may do without."""
        return None

    @abstractmethod
    def __len__(self) -> int:
        """Blocks that are here."""

    @abstractmethod
    def __contains__(self, key: object) -> bool:
        """Whether the block is here."""

    @abstractmethod
    def __iter__(self) -> Iterator[Key]:
        """The blocks that are here, in no order that means anything."""

    def admit(self, key: Key, parent: Key | None, position: int, tokens: int) -> bool:
        """A sighting of a block that is not here: whether it is worth a write. Inserts nothing."""
        return True

    @abstractmethod
    def insert(self, key: Key, parent: Key | None, position: int, tokens: int) -> None:
        """The block is here now. After a restart: insert what was found, each parent before its children."""

    @abstractmethod
    def touch(self, key: Key) -> None:
        """A sighting of a block that is here: a hit, whether it is then loaded or computed again."""

    @abstractmethod
    def evict(self) -> Key | None:
        """Give up one block, and say which. Never a pinned one; None when there is none to give."""

    @abstractmethod
    def remove(self, key: Key) -> None:
        """The block is here no longer, for a reason outside the policy. Nothing happens when it was not."""

    def pin(self, key: Key) -> None:
        """Keep the block until it is unpinned as often as it was pinned."""
        self._pins[key] = self._pins.get(key, 0) + 1

    def unpin(self, key: Key) -> None:
        """Take back one pin. Raises KeyError when there is none."""
        left = self._pins[key] - 1
        if left:
            self._pins[key] = left
        else:
            del self._pins[key]
