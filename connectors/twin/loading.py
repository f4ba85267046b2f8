"""Requests whose KV blocks are on their way from a tier to the GPUs: they hold room for them, and wait."""

from __future__ import annotations

from collections import abc, deque
from heapq import heappop, heappush
from math import inf

from connectors.twin.meters import Meters
from connectors.twin.request import Sequence
from connectors.twin.tiers import Tiers


class Loading:
    """Those of one engine, with its tiers (None: it has none, and nobody is ever here). `arrived` are those whose
    blocks are there, and who are not in the batch yet, first come first."""

    def __init__(self, tiers: Tiers | None, hash_tokens: int) -> None:
        self.tiers, self._hash_tokens = tiers, hash_tokens
        self._coming: list[tuple[float, int, Sequence]] = []
        self.arrived: deque[Sequence] = deque()

    def __len__(self) -> int:
        return len(self._coming) + len(self.arrived)

    @property
    def next_ms(self) -> float:
        """When the next one's blocks will be there; never where nobody loads."""
        return self._coming[0][0] if self._coming else inf

    def held(self) -> list[Sequence]:
        """All of them, in the order in which their blocks are there."""
        return [*self.arrived, *(each[2] for each in sorted(self._coming, key=lambda each: each[:2]))]

    def begin(
        self, sequence: Sequence, hashes: abc.Sequence[abc.Hashable], found: int, at_ms: float, meters: Meters
    ) -> bool:
        """Load what follows the `found` hashes, which lie on the GPUs; False where nothing of it lies in a tier."""
        if self.tiers is None:
            return False
        self.tiers.touch(hashes[:found])
        host, disk = self.tiers.find(hashes[found:])
        sequence.loading = (host + disk) * self._hash_tokens
        if sequence.scheduled_ms < 0:
            sequence.from_host, sequence.from_disk = host * self._hash_tokens, disk * self._hash_tokens
            sequence.cached += sequence.loading
            meters.external_queries_tokens += sequence.request.prompt_tokens - sequence.computed
            meters.external_hits_tokens += sequence.loading
        if sequence.loading:
            ready_ms = self.tiers.load(host, disk, at_ms)
            heappush(self._coming, (ready_ms, sequence.request.request_id, sequence))
        return sequence.loading > 0

    def arrive(self, at_ms: float) -> list[Sequence]:
        """Those whose blocks came by `at_ms`; they are among the `arrived` from now on."""
        came = []
        while self.next_ms <= at_ms:
            sequence = heappop(self._coming)[2]
            sequence.computed += sequence.loading
            sequence.loading = 0
            came.append(sequence)
        self.arrived.extend(came)
        return came
