"""How the scraper works, and what it has done so far."""

from __future__ import annotations

from dataclasses import dataclass

from contracts.errors import ConfigError


@dataclass(frozen=True, slots=True)
class ScrapeOptions:
    """How to scrape. `interval_s` and `backoff_cap_s` are event seconds, `timeout_s` wall seconds.

    `shard` is (index, count): this scraper asks the instances whose hash falls on its index, one scraper a shard.
    `queue_limit` bounds the snapshots kept in memory while the broker is away.
    """

    interval_s: float = 2.0
    timeout_s: float = 5.0
    backoff_cap_s: float = 30.0
    max_page_bytes: int = 4 * 1024 * 1024
    concurrency: int = 64
    queue_limit: int = 10_000
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        index, count = self.shard
        if not 0 <= index < count:
            raise ConfigError(f"shard {index} of {count}", fix="Shards count from 0 to one less than their number.")
        for name in ("interval_s", "timeout_s", "backoff_cap_s", "max_page_bytes", "concurrency", "queue_limit"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}", where="scraper", fix="Give a positive number.")

    @property
    def interval_ms(self) -> int:
        """Event ms between two slots of a target."""
        return max(1, round(self.interval_s * 1000))

    @property
    def backoff_cap_slots(self) -> int:
        """The longest pause after failures, in slots."""
        return max(1, int(self.backoff_cap_s / self.interval_s))


@dataclass(slots=True)
class ScrapeStats:
    """Counts since the scraper started, for heartbeats and status; the scraper writes, others read."""

    targets: int = 0
    scrapes_ok: int = 0
    scrapes_failed: int = 0
    backed_off: int = 0
    missed: int = 0
    problems: int = 0
    dead_letters: int = 0
    published: int = 0
    dropped: int = 0
    pending: int = 0

    @property
    def handled(self) -> int:
        """Slots that were answered with a message."""
        return self.scrapes_ok + self.scrapes_failed + self.backed_off + self.missed
