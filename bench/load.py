"""Realistic input for benchmarks: scrapes of a growing fleet with the histograms and edges of vLLM 0.32."""

from __future__ import annotations

import random
from collections.abc import Iterator

from contracts.events import EngineSample, MetricsSnapshot
from contracts.laws.histogram import Histogram

START_MS = 1_700_000_100_000
TTFT_LE = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0)
ITL_LE = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
E2E_LE = (0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0)
EDGES = {
    "ttft_s": TTFT_LE,
    "inter_token_latency_s": ITL_LE,
    "e2e_latency_s": E2E_LE,
    "queue_time_s": E2E_LE,
    "prefill_time_s": E2E_LE,
    "decode_time_s": E2E_LE,
}
COUNTERS = (
    "prompt_tokens",
    "generation_tokens",
    "requests_finished",
    "requests_failed",
    "preemptions",
    "prefix_cache_queries_tokens",
    "prefix_cache_hits_tokens",
)


def scrapes(count: int, *, workloads: int = 2, instances: int = 5, seed: int = 1) -> Iterator[MetricsSnapshot]:
    """`count` scrapes, every 2 s of event time for each of `workloads * instances` servers, in time order."""
    rng = random.Random(seed)
    servers = [(f"bench-{w}", f"bench-{w}-{i}") for w in range(workloads) for i in range(instances)]
    buckets = {(s, name): [0] * (len(le) + 1) for s in servers for name, le in EDGES.items()}
    for n in range(count):
        step, which = divmod(n, len(servers))
        server = servers[which]
        for name in EDGES:
            first = rng.randrange(len(buckets[server, name]))
            for i in range(first, len(buckets[server, name])):
                buckets[server, name][i] += 3
        at_ms = START_MS + 2000 * step + 2000 * which // len(servers)
        yield MetricsSnapshot(
            workload=server[0],
            instance_id=server[1],
            scraper_epoch=1,
            seq=step,
            scheduled_at_ms=at_ms,
            scraped_at_ms=at_ms,
            interval_s=2.0,
            up=True,
            incarnation_ms=1,
            engines={
                "0": EngineSample(
                    model_name="m",
                    gauges={"requests_running": 8.0, "requests_waiting": 1.0, "kv_cache_usage_ratio": 0.3},
                    counters={name: float(step * (k + 1)) for k, name in enumerate(COUNTERS)},
                    histograms={
                        name: Histogram(le=le, counts=tuple(buckets[server, name]), sum=float(step))
                        for name, le in EDGES.items()
                    },
                )
            },
        )
