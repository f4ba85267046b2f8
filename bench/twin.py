"""Does the twin run an hour of real traffic in seconds, in linear time, the same twice, and as theory says?"""

from __future__ import annotations

import csv
import gzip
import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from bench.calibration import traces
from bench.report import Row, report
from connectors.twin.capacity import capacity_of
from connectors.twin.coefficients import Coefficients
from connectors.twin.engine import Engine
from connectors.twin.kv import KvCache
from connectors.twin.offline import Served, simulate
from connectors.twin.profiles import BLOCK_TOKENS, LLAMA_70B_4XH100, PROFILES, Profile
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace, TraceSource

AZURE_REPLICAS = 3
"""Enough for the conversation hour on llama2-70b with four H100."""

LIMIT_S = 30.0
M_LARGE_REQUESTS = 10_000
M_LARGE_RPS = 4.0
"""Capacity of a replica for ServeGen m-large as it was found by others, on the same table and the same objectives."""

MOONCAKE_TOKENS = 512
MOONCAKE_HIT_SHARE = 0.366


def row(name: str, value: float, unit: str, peer: str | None = None, peer_value: float | None = None) -> Row:
    """A row; the ratio is value to peer."""
    ratio = value / peer_value if peer_value else None
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}


def azure(path: Path) -> Trace:
    """One of the Azure traces of 2023: seconds from its first request, tokens in, tokens out."""
    with gzip.open(path, "rt", encoding="utf-8", newline="") as lines:
        rows = [
            # The times have seven decimals, of which Python reads six.
            (datetime.fromisoformat(each["TIMESTAMP"][:26]), int(each["ContextTokens"]), int(each["GeneratedTokens"]))
            for each in csv.DictReader(lines)
        ]
    rows.sort(key=lambda each: each[0])
    return Trace(
        [(at - rows[0][0]).total_seconds() for at, _, _ in rows],
        [max(1, tokens) for _, tokens, _ in rows],
        [max(1, tokens) for _, _, tokens in rows],
    )


def mooncake(path: Path) -> Trace:
    """The Mooncake conversation trace, with its hashes of 512 tokens."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        rows = sorted((json.loads(line) for line in lines), key=lambda each: float(each["timestamp"]))
    return Trace(
        [each["timestamp"] / 1000.0 for each in rows],
        [max(1, each["input_length"]) for each in rows],
        [max(1, each["output_length"]) for each in rows],
        [each["hash_ids"] for each in rows],
    )


def repeated(trace: Trace, share: float) -> Trace:
    """The trace for `share` of its length, one after another where that is more than 1."""
    span_s, rounds = trace.arrival_s[-1] + 1.0, math.ceil(share)
    kept = int(len(trace) * share)
    return Trace(
        [at_s + turn * span_s for turn in range(rounds) for at_s in trace.arrival_s][:kept],
        [*trace.prompt_tokens] * rounds if share >= 1 else trace.prompt_tokens[:kept],
        [*trace.output_tokens] * rounds if share >= 1 else trace.output_tokens[:kept],
    )


def timed(trace: Trace) -> tuple[float, Served]:
    """CPU seconds of the hour on `AZURE_REPLICAS` replicas, the shorter of two, and what became of it."""
    took = []
    for _ in range(2):
        began = time.process_time()
        served = simulate(trace, EngineSpec(), replicas=AZURE_REPLICAS)
        took.append(time.process_time() - began)
    return min(took), served


class StepByStep(Engine):
    """The same engine, planning one iteration at a time."""

    def _steps_alike(self) -> int:
        return 1


def speed(trace: Trace) -> Iterator[Row]:
    """The Azure hour: time against the limit, the same twice, and how time grows with requests."""
    took_s, served = timed(trace)
    name = f"Azure conversation hour, {len(trace):,} requests, {AZURE_REPLICAS} replicas"
    yield row(name, took_s, "CPU s", "the limit that was set", LIMIT_S)
    yield row("  TTFT p95", float(np.percentile(served.ttft_s, 95)), "s")
    yield row("  mean inter-token", served.mean_interval_s(trace.output_tokens) * 1000, "ms")
    again = simulate(trace, EngineSpec(), replicas=AZURE_REPLICAS)
    same = all(getattr(served, key).tobytes() == getattr(again, key).tobytes() for key in ("ttft_s", "itl_s", "e2e_s"))
    yield row("  run again: the same bytes (1 is yes)", float(same), "")
    shares = (0.25, 0.5, 1.0, 2.0, 4.0)
    sizes = np.array([len(repeated(trace, share)) for share in shares], dtype=np.float64)
    times = np.array([timed(repeated(trace, share))[0] for share in shares])
    slope, base = np.polyfit(sizes, times, 1)
    left = times - (base + slope * sizes)
    told = ", ".join(f"{size:,.0f}: {spent:.2f} s" for size, spent in zip(sizes, times, strict=True))
    print(f"  {told}")
    print(f"  fit: {base:.3f} s + {slope * 1e6:.1f} µs a request")
    yield row("  growth: R² of a straight line", float(1 - left.var() / times.var()), "")
    yield row("  growth: exponent of time in requests", float(np.polyfit(np.log(sizes), np.log(times), 1)[0]), "")


def skipping(trace: Trace) -> Iterator[Row]:
    """A tenth of the hour on one replica: steps of an unchanging batch at once, against one by one."""
    took = {}
    for kind in (Engine, StepByStep):
        engine, began = kind(EngineSpec()), time.process_time()
        for request in TraceSource(trace).arrivals(trace.arrival_s[-1] * 1000.0):
            engine.advance(request.arrival_ms)
            engine.submit(request)
        engine.advance(1e12)
        took[kind] = time.process_time() - began, engine.meters.e2e_s.total
    (fast_s, total), (slow_s, other) = took[Engine], took[StepByStep]
    if not math.isclose(total, other, rel_tol=1e-9):
        raise SystemExit("skipping steps changes the result: no figures")
    yield row(f"{len(trace):,} requests on one replica", fast_s, "CPU s", "one iteration at a time", slow_s)


def theory() -> Iterator[Row]:
    """Mean waits of M/D/1, M/M/1 and a mixed service at 70 % load, one request at a time."""
    made = Coefficients(0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
    profile = replace(LLAMA_70B_4XH100, coefficients=made)
    spec = EngineSpec(profile, 1, 1_000_000, 1_000_000, kv_blocks=62_500)
    random, count, rps = np.random.default_rng(11), 200_000, 0.7
    services: dict[str, Any] = {
        "M/D/1": np.full(count, 1000.0),
        "M/M/1": random.exponential(1000.0, count),
        "M/G/1, 80 % short, 20 % long": np.where(random.random(count) < 0.8, 200.0, 4200.0),
    }
    arrivals = np.cumsum(random.exponential(1 / rps, count))
    for name, drawn in services.items():
        tokens = np.maximum(1, np.rint(drawn)).astype(np.int64)
        served = simulate(Trace(arrivals.tolist(), tokens.tolist(), [1] * count), spec, replicas=1)
        seconds = tokens / 1000.0
        expected_s = rps * float(np.mean(seconds**2)) / (2 * (1 - rps * float(np.mean(seconds))))
        means = served.queue_s.reshape(50, -1).mean(axis=1)
        half_s = 2.0 * float(means.std(ddof=1)) / math.sqrt(50)
        label = f"{name}: mean wait of {count:,}, ± {half_s:.2f} (95 %)"
        yield row(label, float(served.queue_s.mean()), "s", "Pollaczek–Khinchine", expected_s)


def prefixes(trace: Trace) -> Iterator[Row]:
    """Block hits of the Mooncake hour: without end of cache, and on real replicas."""
    cache, hits, asked = KvCache(10**12), 0, 0
    seen: set[int] = set()
    brute = 0
    for hashes in trace.hashes:
        found = cache.known(hashes)
        if not cache.take_with(hashes[:found], len(hashes) - found):
            raise SystemExit("an endless cache is full")
        named = [each for each in hashes[found:] if cache.name(each)]
        cache.give_back(len(hashes) - found - len(named), [*hashes[:found], *named])
        hits, asked = hits + found, asked + len(hashes)
        brute += next((i for i, each in enumerate(hashes) if each not in seen), len(hashes))
        seen.update(int(str(each)) for each in hashes)
    if hits != brute:
        raise SystemExit(f"the cache found {hits} blocks, a count by hand {brute}: no figures")
    name = f"Mooncake conversation, {len(seen):,} distinct blocks, endless cache: hits of blocks"
    yield row(name, 100 * hits / asked, "%", "as published for the trace", 100 * MOONCAKE_HIT_SHARE)
    longest = max(a + b for a, b in zip(trace.prompt_tokens, trace.output_tokens, strict=True))
    spec = EngineSpec(max_num_batched_tokens=2048, max_model_len=longest, hash_tokens=MOONCAKE_TOKENS)
    for replicas in (16, 32):
        began = time.process_time()
        served = simulate(trace, spec, replicas=replicas)
        took_s = time.process_time() - began
        share = float(served.prefix_hit_tokens.sum()) / sum(trace.prompt_tokens)
        label = f"  on {replicas} replicas of llama2-70b, 4 x H100, least outstanding: hits of tokens"
        yield row(label, 100 * share, "%")
        yield row("    TTFT p95", float(np.nanpercentile(served.ttft_s, 95)), "s")
        yield row("    preemptions", float(served.preemptions.sum()), "")
        yield row("    time", took_s, "CPU s")


def m_large(folder: Path, count: int, seed: int) -> tuple[list[int], list[int]]:
    """Token lengths of ServeGen language/m-large, drawn from what it tells of each client and window.

    A client and window is drawn by its requests; a length from a curve that is straight in the logarithm through the
    window's p50, p90 and p99 and goes on as steep beyond them, scaled so that its mean is the window's.
    """
    rates: dict[tuple[str, int], float] = {}
    window_s = 21_600
    with gzip.open(folder / "client_arrivals_10min.csv.gz", "rt", newline="") as lines:
        for each in csv.DictReader(lines):
            key = each["client"], int(float(each["t_s"])) // window_s
            rates[key] = rates.get(key, 0.0) + float(each["rate_rps"])
    told: dict[tuple[str, int], dict[str, list[float]]] = {}
    with gzip.open(folder / "client_token_stats.csv.gz", "rt", newline="") as lines:
        for each in csv.DictReader(lines):
            key = each["client"], int(float(each["t_s"])) // window_s
            told.setdefault(key, {})[each["field"]] = [float(each[name]) for name in ("mean", "p50", "p90", "p99")]
    known = [key for key, found in told.items() if len(found) == 2 and rates.get(key, 0.0) > 0]
    weights = np.array([rates[key] for key in known])
    random = np.random.default_rng(seed)
    chosen = random.choice(len(known), size=count, p=weights / weights.sum())
    drawn = {
        field: [length(told[known[i]][field], random.random()) for i in chosen]
        for field in ("input_tokens", "output_tokens")
    }
    return drawn["input_tokens"], drawn["output_tokens"]


RANKS = np.array([0.0, 0.5, 0.9, 0.99, 0.999])
GRID = np.linspace(0.0005, 0.9995, 1000)


def length(stats: list[float], rank: float) -> int:
    """The length at a rank of the curve through `mean, p50, p90, p99`."""
    mean, p50, p90, p99 = stats
    log50, log90, log99 = (math.log(max(1.0, value)) for value in (p50, p90, p99))
    curve = np.array([max(0.0, 2 * log50 - log90), log50, log90, log99, 2 * log99 - log90])
    scale = mean / float(np.mean(np.exp(np.interp(GRID, RANKS, curve))))
    return max(1, round(scale * math.exp(float(np.interp(rank, RANKS, curve)))))


def apart(profile: Profile) -> Profile:
    """The same replica when prompts and answers never share an iteration: each prefill first, then a whole step."""
    made = profile.coefficients
    step_ms = made.decode_base_ms
    slower = replace(
        made,
        prefill_floor_ms=made.prefill_floor_ms + step_ms,
        prefill_base_ms=made.prefill_base_ms + step_ms,
    )
    return replace(profile, coefficients=slower)


def capacities(folder: Path) -> Iterator[Row]:
    """Requests a second that one replica serves for m-large's lengths: TTFT p95 < 2 s, mean interval < 100 ms."""
    drawn = zip(*m_large(folder, M_LARGE_REQUESTS, 5), strict=True)
    kept = [(prompt, output) for prompt, output in drawn if prompt + output <= 16_384]
    prompt, output = [p for p, _ in kept], [o for _, o in kept]
    print(f"  m-large: {len(kept):,} lengths, mean {np.mean(prompt):,.0f} in, {np.mean(output):,.0f} out")
    name = "m-large, llama2-70b, 4 x H100"
    tries = [(f"{name}, prefill first", EngineSpec(apart(LLAMA_70B_4XH100), max_num_batched_tokens=8192))]
    for budget in (512, 2048, 8192):
        label = f"{name}, chunks share iterations, budget {budget:,}"
        tries.append((label, EngineSpec(max_num_batched_tokens=budget)))
    for label, engine in tries:
        found = capacity_of(engine, prompt, output)
        yield row(f"{label}: capacity", found.rps, "req/s", "found by others, prefill first", M_LARGE_RPS)
        yield row("  at it: TTFT p95", found.ttft_p95_s, "s")
        yield row("  at it: mean interval", found.mean_itl_s * 1000, "ms")
    for each in PROFILES.values():
        if each.kv_blocks() * BLOCK_TOKENS >= 16_384 and each is not LLAMA_70B_4XH100:
            found = capacity_of(EngineSpec.of(each.name, max_num_batched_tokens=2048), prompt, output)
            yield row(f"m-large, {each.name}, budget 2,048: capacity", found.rps, "req/s")


def main() -> None:
    """Theory needs no trace; the rest says which one it misses."""
    rows = list(theory())
    folder = traces()
    parts = (
        (folder / "azure2023" / "AzureLLMInferenceTrace_conv.csv.gz", lambda p: [*speed(azure(p)), *tenth(azure(p))]),
        (folder / "mooncake" / "conversation_trace.jsonl.gz", lambda p: prefixes(mooncake(p))),
        (folder / "servegen" / "client_token_stats.csv.gz", lambda p: capacities(p.parent)),
    )
    for path, make in parts:
        if path.exists():
            rows += make(path)
        else:
            print(f"  no {path}: set OPTIINFRA_TRACES to the folder of traces. Its figures are left out.")
    report("twin", rows)


def tenth(trace: Trace) -> Iterator[Row]:
    """Skipping on every tenth request, which is what one of ten replicas would see."""
    return skipping(Trace(trace.arrival_s[::10], trace.prompt_tokens[::10], trace.output_tokens[::10]))


if __name__ == "__main__":
    main()
