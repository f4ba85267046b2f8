"""The eviction policies of a KV tier, by name; all behind one interface (`base.Policy`)."""

from __future__ import annotations

from kvtier.policies.base import Key, Policy, Worth
from kvtier.policies.counting import Gdsf, Lfu
from kvtier.policies.ghosts import Arc, S3Fifo
from kvtier.policies.queues import Fifo, Lru, Sieve
from kvtier.policies.renting import Renting

__all__ = ["NAMES", "Key", "Policy", "Renting", "Worth", "make"]

NAMES = (Fifo.name, Lru.name, Lfu.name, Arc.name, S3Fifo.name, Sieve.name, Gdsf.name, Renting.name)


def make(name: str, slots: int, worth: Worth | None = None) -> Policy:
    """A policy by name for a tier of so many slots. `worth` is heeded by `gdsf` and `optiinfra`.

    Raises ValueError, which names the policies there are.

    >>> make("lru", 4).name
    'lru'
    """
    if name == Renting.name:
        return Renting(slots, worth)
    if name == Gdsf.name:
        return Gdsf(slots, worth)
    for each in (Fifo, Lru, Lfu, Arc, S3Fifo, Sieve):
        if each.name == name:
            return each(slots)
    raise ValueError(f"no policy {name!r}; there are {', '.join(NAMES)}")
