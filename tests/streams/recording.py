"""Recorded `metrics` for tests: instances that serve, restart, fall silent, and scrapers whose clocks misbehave."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from contracts.events import EngineSample, MetricsSnapshot, Tick
from contracts.laws.histogram import Histogram, empty, observe

TTFT_LE = (0.1, 0.25, 0.5, 1.0, 2.5)
START_MS = 1_700_000_000_000 // 300_000 * 300_000


@dataclass
class Server:
    """A server whose counters grow; `restart` begins them anew."""

    rng: random.Random
    incarnation_ms: int = START_MS - 60_000
    finished: int = 0
    tokens: int = 0
    ttft: Histogram = field(default_factory=lambda: empty(TTFT_LE))

    def serve(self, requests: int) -> None:
        self.finished += requests
        self.tokens += 50 * requests
        self.ttft = observe(self.ttft, [self.rng.expovariate(4.0) for _ in range(requests)])

    def restart(self, at_ms: int) -> None:
        self.incarnation_ms, self.finished, self.tokens, self.ttft = at_ms, 0, 0, empty(TTFT_LE)

    def sample(self, waiting: float = 0.0, running: float = 1.0) -> EngineSample:
        return EngineSample(
            model_name="m",
            gauges={"requests_waiting": waiting, "requests_running": running, "kv_cache_usage_ratio": 0.5},
            counters={
                "requests_finished": float(self.finished),
                "requests_failed": 0.0,
                "generation_tokens": float(self.tokens),
            },
            histograms={"ttft_s": self.ttft},
        )


def snapshot(
    server: Server | None,
    at_ms: int,
    seq: int,
    *,
    workload: str = "chat",
    instance: str = "chat-0",
    epoch: int = 1,
    interval_s: float = 2.0,
    waiting: float = 0.0,
    running: float = 1.0,
) -> MetricsSnapshot:
    """One scrape; `server` None is a target that did not answer."""
    return MetricsSnapshot(
        workload=workload,
        instance_id=instance,
        scraper_epoch=epoch,
        seq=seq,
        scheduled_at_ms=max(0, at_ms),
        scraped_at_ms=max(0, at_ms),
        interval_s=interval_s,
        up=server is not None,
        error=None if server else "connection refused",
        incarnation_ms=server.incarnation_ms if server else None,
        engines={"0": server.sample(waiting, running)} if server else {},
    )


def departure(
    at_ms: int, seq: int, *, workload: str = "chat", instance: str = "chat-0", epoch: int = 1
) -> MetricsSnapshot:
    """The last word of an instance that was taken out of discovery."""
    last = snapshot(None, at_ms, seq, workload=workload, instance=instance, epoch=epoch)
    return last.model_copy(update={"left": True, "error": "left discovery"})


def mangled(scrape: MetricsSnapshot, server: Server, rng: random.Random) -> MetricsSnapshot:
    """The same page with what real pages have: a second engine, now and then a sample or an engine missing, or a
    counter that dips."""
    sample = scrape.engines["0"]
    counters = dict(sample.counters)
    if rng.random() < 0.03:
        counters.pop(rng.choice(list(counters)))
    if rng.random() < 0.02 and counters.get("requests_finished", 0) > 2:
        counters["requests_finished"] -= 2
    engines = {"0": sample.model_copy(update={"counters": counters}), "1": server.sample()}
    if rng.random() < 0.03:
        del engines["1"]
    return scrape.model_copy(update={"engines": engines})


def record(
    seed: int,
    *,
    workloads: Sequence[str] = ("chat", "code"),
    instances: int = 3,
    scrapes: int = 120,
    faults: bool = True,
) -> list[MetricsSnapshot]:
    """A seeded recording of several workloads: with `faults`, restarts, failed scrapes, samples and engines missing
    from a page, counters that dip, an instance with a skewed clock, a scraper that comes back with a later epoch and
    another clock, instances that leave and mostly come back, duplicates, reordering and late messages are strewn in."""
    rng, coming_and_going = random.Random(seed), random.Random(f"who leaves {seed}")
    log: list[MetricsSnapshot] = []
    servers = {(w, f"{w}-{i}"): Server(rng) for w in workloads for i in range(instances)}
    phase = {name: rng.randrange(0, 2000) for name in servers}
    if faults:
        phase[rng.choice(list(phase))] += rng.choice((0, 7_000, 75_000))  # one instance is dated ahead
    epoch, shift_ms, seq = 1, 0, 0
    back_at: dict[tuple[str, str], int] = {}
    for step in range(scrapes):
        if faults and rng.random() < 0.02:
            epoch, shift_ms, seq = epoch + 1, rng.choice((-25_000, -3_000, 0, 40_000)), 0
        seq += 1
        for (workload, instance), server in servers.items():
            at_ms = START_MS + step * 2000 + phase[workload, instance] + shift_ms
            server.serve(rng.randrange(0, 12))
            if faults and rng.random() < 0.01:
                server.restart(at_ms - 500)
            up = not (faults and rng.random() < 0.03)
            if faults and step > max(9, back_at.get((workload, instance), -1)) and coming_and_going.random() < 0.015:
                back_at[workload, instance] = step + coming_and_going.choice((1, 3, 20, scrapes))
                log.append(departure(at_ms, seq, workload=workload, instance=instance, epoch=epoch))
            if step <= back_at.get((workload, instance), -1):
                continue
            scrape = snapshot(server if up else None, at_ms, seq, workload=workload, instance=instance, epoch=epoch)
            log.append(mangled(scrape, server, rng) if faults and up else scrape)
    if faults:
        for _ in range(len(log) // 15):
            i = rng.randrange(len(log))
            log.insert(min(len(log), i + rng.randrange(1, 20)), log[i])  # a duplicate, some time later
        for _ in range(len(log) // 20):
            i = rng.randrange(len(log) - 8)
            log.insert(i + rng.randrange(1, 8), log.pop(i))  # late, so also out of order
    return log


def with_ticks(log: Sequence[MetricsSnapshot], every_ms: int = 1000) -> list[MetricsSnapshot | Tick]:
    """The recording with ticks where the newest event time passes a whole step, and enough of them at the end to
    close every window."""
    out: list[MetricsSnapshot | Tick] = []
    now_ms = 0
    for message in log:
        out.append(message)
        if message.at // every_ms > now_ms // every_ms:
            now_ms = message.at
            out.append(Tick(at_ms=now_ms // every_ms * every_ms, partition=0))
    out += [Tick(at_ms=(now_ms // every_ms + i * 30) * every_ms, partition=0) for i in range(1, 15)]
    return out
