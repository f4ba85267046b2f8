"""KV tiers below a replica's GPUs: what was computed lies in host memory and on disk too, and is read back from there.

As vLLM's tiered offloading does it: every whole block of a prompt is stored in host memory as soon as it is computed,
and from there on disk; what a request finds on the GPU is used first, then what follows it in host memory, then on
disk; it is always loaded, whether or not computing would be faster. The disk outlives the process, host memory does
not. Least recently used goes first. Room is counted in hashes, each of which stands for some KV blocks.

Assumed, not measured: the speeds, and that storing makes each iteration longer by `store_ratio`. Published overheads
where nothing is reused are 3 to 15 %. Writing takes nothing from the speed of reading.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import islice

from contracts.errors import ConfigError

GIB, GB = 1 << 30, 1_000_000_000


@dataclass(frozen=True)
class TierSpec:
    """What the machine of a replica offers below its GPUs.

    Bytes a second that all loads of a tier share, and the ms that each takes before its first byte; the host memory
    that a process can get, GiB (more, and it dies in its start-up); how much longer an iteration takes while blocks are
    stored, as a ratio.
    """

    host_bytes_per_s: float = 25e9
    host_latency_ms: float = 0.2
    disk_bytes_per_s: float = 7e9
    disk_latency_ms: float = 1.0
    host_room_gib: int = 1024
    store_ratio: float = 0.04

    def __post_init__(self) -> None:
        speeds = self.host_bytes_per_s, self.disk_bytes_per_s
        if min(speeds) <= 0 or min(self.host_latency_ms, self.disk_latency_ms, self.store_ratio) < 0:
            raise ConfigError(
                "a tier without speed, or that costs less than nothing", where="tiers", fix="Give speeds above 0."
            )


class Store:
    """The hashes that a tier holds, at most `room` of them, least recently used first.

    >>> store = Store(2)
    >>> [store.put(each) for each in "abac"], list(store.held)
    ([True, True, False, True], ['a', 'c'])
    """

    def __init__(self, room: int) -> None:
        self.room = room
        self.held: OrderedDict[Hashable, None] = OrderedDict()

    def put(self, hashed: Hashable) -> bool:
        """Hold it, as the one used last; False where it was there, or there is no room at all."""
        if hashed in self.held:
            self.held.move_to_end(hashed)
            return False
        if self.room < 1:
            return False
        self.held[hashed] = None
        if len(self.held) > self.room:
            self.held.popitem(last=False)
        return True

    def touch(self, hashed: Hashable) -> bool:
        """Whether it is here; then it is the one used last."""
        if hashed not in self.held:
            return False
        self.held.move_to_end(hashed)
        return True

    def fit(self, room: int) -> None:
        """Have another room from now on."""
        self.room = room
        for hashed in list(islice(self.held, max(0, len(self.held) - room))):
            del self.held[hashed]


@dataclass
class TierCounts:
    """Of one tier, since the process began: hashes asked for and found, bytes read and written, seconds of reading."""

    queries: int = 0
    hits: int = 0
    read_bytes: int = 0
    written_bytes: int = 0
    read_s: float = 0.0


class Tiers:
    """Both tiers of one process. A hash is of `hash_bytes` bytes; `host_room` and `disk_room` are in hashes. `disk` is
    what an earlier process left there."""

    def __init__(
        self, spec: TierSpec, hash_bytes: int, host_room: int, disk_room: int, disk: Store | None = None
    ) -> None:
        self.spec, self.hash_bytes = spec, hash_bytes
        self.host, self.disk = Store(host_room), disk or Store(disk_room)
        self.disk.fit(disk_room)
        self.counts = {"host": TierCounts(), "disk": TierCounts()}
        self._free_ms = {"host": 0.0, "disk": 0.0}

    def store(self, hashed: Hashable) -> None:
        """A block was computed, or was loaded: it lies in both tiers."""
        for name, tier in (("host", self.host), ("disk", self.disk)):
            if tier.put(hashed):
                self.counts[name].written_bytes += self.hash_bytes

    def touch(self, hashes: Sequence[Hashable]) -> None:
        """These were found on the GPU."""
        for hashed in reversed(hashes):
            self.host.touch(hashed)
            self.disk.touch(hashed)

    def find(self, hashes: Sequence[Hashable]) -> tuple[int, int]:
        """How many of them lie here, up to the first that does not: read from host memory, and read from disk."""
        host, disk = self.counts["host"], self.counts["disk"]
        found = {"host": 0, "disk": 0}
        for hashed in hashes:
            host.queries += 1
            if self.host.touch(hashed):
                self.disk.touch(hashed)
                found["host"] += 1
                continue
            disk.queries += 1
            if not self.disk.touch(hashed):
                break
            found["disk"] += 1
        host.hits += found["host"]
        disk.hits += found["disk"]
        return found["host"], found["disk"]

    def load(self, host: int, disk: int, at_ms: float) -> float:
        """When so many hashes, asked for at `at_ms`, are on the GPU: after all that was asked for before them."""
        spec, ready_ms = self.spec, at_ms
        of_host = ("host", host, spec.host_bytes_per_s, spec.host_latency_ms)
        of_disk = ("disk", disk, spec.disk_bytes_per_s, spec.disk_latency_ms)
        for name, count, bytes_per_s, latency_ms in (of_host, of_disk):
            if count:
                size = count * self.hash_bytes
                took_ms = size / bytes_per_s * 1000.0
                self._free_ms[name] = max(at_ms, self._free_ms[name]) + took_ms
                self.counts[name].read_bytes += size
                self.counts[name].read_s += (took_ms + latency_ms) / 1000.0
                ready_ms = max(ready_ms, self._free_ms[name] + latency_ms)
        return ready_ms
