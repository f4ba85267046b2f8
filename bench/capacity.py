"""Is the capacity of a replica learnt from what it does, within minutes, and is its error what it says?"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from agents.performance.core.capacity import CapacityModel, ReplicaSeen
from bench.report import Row, report
from connectors.twin.capacity import Objectives, capacity_of
from connectors.twin.coefficients import Coefficients
from connectors.twin.engine import Engine
from connectors.twin.load import CODE_IN, CODE_OUT, CONVERSATION_IN, CONVERSATION_OUT, Lengths
from connectors.twin.request import Request
from connectors.twin.request import Sequence as Held
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace, TraceSource

PROFILES = (
    "llama2-70b/h100-80gb/tp4",
    "llama2-70b/h100-80gb/tp8",
    "llama2-70b/a100-80gb/tp4",
    "llama2-70b/a100-80gb/tp8",
    "bloom-176b/h100-80gb/tp8",
)
SHORT = Lengths(320, 180, 800, 4000), Lengths(180, 110, 420, 1500)
"""Short chats: assumed, not published."""
MIXES = {"conv": (CONVERSATION_IN, CONVERSATION_OUT), "code": (CODE_IN, CODE_OUT), "short": SHORT}
LOADS = (0.3, 0.5, 0.7, 0.9, 1.1)
VARIED = (0.5, 0.9, 0.7, 1.1, 0.3, 0.8)
TTFT_S, TARGET, SPAN_S = 2.0, 0.95, 15
SLOWER = 1.3
LONGEST = 16_384

Lengthy = tuple[Any, Any]


@dataclass(frozen=True)
class Answer:
    """One moment: where, when, the true capacity, what was said with which error, and what each peer says."""

    profile: str
    mix: str
    when: str
    true_rps: float
    said_rps: float
    error: float
    peers: dict[str, float]


class FirstTokens:
    """A watch over those in the batch who have no token yet."""

    def __init__(self) -> None:
        self._due: list[Held] = []

    def began(self, sequence: Held, at_ms: float) -> None:
        """One more is due."""
        self._due.append(sequence)

    def ended(self, sequence: Held, reason: str, at_ms: float) -> None:
        """Whether it had a token, it says itself."""

    def turned_away(self, request: Request, reason: str) -> None:
        """It never was in the batch."""

    def ttfts_s(self) -> list[float]:
        """The times to first token of those who have had theirs since this was asked last."""
        had = [each for each in self._due if each.first_token_ms >= 0]
        self._due = [each for each in self._due if each.first_token_ms < 0]
        return [(each.first_token_ms - each.submitted_ms) / 1000.0 for each in had]


def slowed(spec: EngineSpec, factor: float) -> EngineSpec:
    """The same replica, each of whose iterations takes `factor` times as long."""
    made = spec.profile.coefficients
    times = {each.name: getattr(made, each.name) * factor for each in fields(Coefficients)}
    return replace(spec, profile=replace(spec.profile, coefficients=Coefficients(**times)))


def lengths(mix: str, count: int, random: np.random.Generator) -> Lengthy:
    """Prompts and answers, independent lognormals cut at the longest that was seen."""
    drawn = [
        np.clip(np.exp(random.normal(each.mu, each.sigma, count)), 1, each.longest).astype(np.int64)
        for each in MIXES[mix]
    ]
    return np.minimum(drawn[0], LONGEST - drawn[1]), drawn[1]


def windows(spec: EngineSpec, trace: Trace, end_s: int, slow_s: int | None = None) -> list[ReplicaSeen]:
    """What is seen of one replica, looked at each second and told every 15 s."""
    watch, source, seen = FirstTokens(), TraceSource(trace), []
    engine = Engine(spec, watch)
    last, batch, queue, kv = counted(engine), 0.0, 0.0, 0.0
    for at_s in range(1, end_s + 1):
        if at_s == slow_s:
            engine.spec = slowed(spec, SLOWER)
        for request in source.arrivals(at_s * 1000.0):
            engine.advance(request.arrival_ms)
            engine.submit(request)
        engine.advance(at_s * 1000.0)
        batch, queue = batch + engine.running / SPAN_S, queue + engine.waiting / SPAN_S
        kv += (1.0 - engine.kv.free / spec.kv_blocks) / SPAN_S
        if at_s % SPAN_S == 0:
            now = counted(engine)
            finished, prompt, generated, gaps, gaps_s = now - last
            ttfts, last = np.array(watch.ttfts_s()), now
            seen.append(
                ReplicaSeen(
                    span_s=float(SPAN_S),
                    finished=float(finished),
                    running=batch,
                    waiting=queue,
                    prompt_tokens=float(prompt),
                    generation_tokens=float(generated),
                    done=float(len(ttfts)),
                    in_time=float((ttfts <= TTFT_S).sum()),
                    itl_s=float(gaps_s / gaps) if gaps else None,
                    kv_usage_ratio=kv,
                )
            )
            batch = queue = kv = 0.0
    return seen


def counted(engine: Engine) -> Any:
    """Requests ended, prompt tokens, tokens generated, intervals between tokens and their seconds; so far."""
    made = engine.meters
    gaps = made.inter_token_s
    return np.array(
        [made.finished["stop"], made.prompt_tokens, made.generation_tokens, sum(gaps.counts), gaps.total], dtype=float
    )


def poisson(rates: Sequence[tuple[float, int]], random: np.random.Generator) -> Any:
    """Arrivals, seconds: one rate after another, each for so many seconds."""
    begin_s, parts = 0.0, []
    for rps, span_s in rates:
        parts.append(np.sort(random.uniform(begin_s, begin_s + span_s, random.poisson(rps * span_s))))
        begin_s += span_s
    return np.concatenate(parts)


def traced(arrivals: Any, drawn: Lengthy) -> Trace:
    """Requests of these lengths at these seconds."""
    return Trace(arrivals.tolist(), drawn[0].tolist(), drawn[1].tolist())


def true_rps(spec: EngineSpec, mix: str) -> float:
    """The rate at which 95 % of 4,000 requests have their first token within two seconds."""
    prompt, output = lengths(mix, 4000, np.random.default_rng(7))
    return capacity_of(spec, prompt, output, objectives=Objectives(TTFT_S, float("inf")), within=0.02).rps


Moments = dict[int, tuple[str, float]]


def courses(spec: EngineSpec, true: dict[tuple[str, float], float]) -> Iterator[tuple[str, Moments, list[ReplicaSeen]]]:
    """Mix, moments at which somebody asks and what would be right then, and what is seen up to the last of them."""
    random, names = np.random.default_rng(3), list(MIXES)
    for mix, other in zip(names, [*names[1:], names[0]], strict=True):
        rps, other_rps, slow_rps = true[mix, 1.0], true[other, 1.0], true[mix, SLOWER]
        for load in LOADS:
            arrivals = poisson([(rps * load, 3600)], random)
            trace = traced(arrivals, lengths(mix, len(arrivals), random))
            yield mix, {t: (f"{load:.0%} load, {n}", rps) for t, n in _STEADY.items()}, windows(spec, trace, 3600)
        cycle = [(rps * load, 600) for load in VARIED]
        before = poisson(cycle, random)
        after = 3600.0 + poisson([(other_rps * load, 600) for load in (0.7, 0.9, 0.5)], random)
        first, second = lengths(mix, len(before), random), lengths(other, len(after), random)
        both = [np.concatenate(pair) for pair in zip(first, second, strict=True)]
        trace = traced(np.concatenate([before, after]), (both[0], both[1]))
        marks = {3600: ("load that varied for 1 h", rps)}
        marks |= {3600 + t: (f"{t // 60} min after another mix", other_rps) for t in _LATER}
        yield mix, marks, windows(spec, trace, 5400)
        for load in (0.4, 0.7, 0.9) if slow_rps > 0 else ():
            arrivals = poisson([*cycle, (slow_rps * load, 1800)], random)
            trace = traced(arrivals, lengths(mix, len(arrivals), random))
            marks = {3600 + t: (f"{t // 60} min after a slow-down", slow_rps) for t in _LATER}
            yield mix, marks, windows(spec, trace, 5400, slow_s=3601)


_STEADY = {600: "10 min", 3600: "1 h"}
_LATER = (60, 300, 900, 1800)


def answers(name: str) -> Iterator[Answer]:
    """Everything that is asked of one profile."""
    spec = EngineSpec.of(name, max_model_len=LONGEST)
    true = {(mix, factor): true_rps(slowed(spec, factor), mix) for mix in MIXES for factor in (1.0, SLOWER)}
    names = list(MIXES)
    for mix, marks, seen in courses(spec, true):
        yield from asked(name, mix, marks, seen, true[names[names.index(mix) - 1], 1.0])


def asked(name: str, mix: str, marks: Moments, seen: Sequence[ReplicaSeen], elsewhere_rps: float) -> Iterator[Answer]:
    """What is answered at these moments, by the model and by peers; `elsewhere_rps`: true for another mix."""
    model, most = CapacityModel(), 0.0
    for place, each in enumerate(seen):
        model = model.seen(each, TARGET)
        last, lately = seen[max(0, place - 3) : place + 1], seen[max(0, place - 39) : place + 1]
        most = max(most, sum(one.finished for one in last) / (SPAN_S * len(last)))
        end_s = (place + 1) * SPAN_S
        if end_s in marks:
            when, right = marks[end_s]
            use = sum(one.kv_usage_ratio or 0.0 for one in lately)
            by_use = sum(one.finished for one in lately) / SPAN_S / max(1e-9, use)
            said = model.estimate()
            if said.rps is not None and right > 0:
                peers = {_MOST: most, _PROFILE: elsewhere_rps, _KV: by_use}
                yield Answer(name, mix, when, right, said.rps, said.error_ratio, peers)


_MOST, _PROFILE, _KV = "most throughput seen in a minute", "profile made for another mix", "throughput by KV use"


def rows(told: Sequence[Answer], label: str) -> Iterator[Row]:
    """Median relative error beside each peer's, how far off it said it might be, and how often its interval held."""
    logs = np.array([np.log(each.said_rps / each.true_rps) for each in told])
    said = np.array([each.error for each in told])
    usual = float(np.median(np.expm1(np.abs(logs))))
    for peer in (_MOST, _PROFILE, _KV):
        theirs = [np.expm1(abs(np.log(max(each.peers[peer], 1e-9) / each.true_rps))) for each in told]
        yield _row(f"{label}: error", usual, "ratio", peer, float(np.median(theirs)))
    yield _row(f"{label}: error, one in ten", float(np.quantile(np.expm1(np.abs(logs)), 0.9)), "ratio")
    yield _row(f"{label}: error it told", float(np.median(said)), "ratio")
    yield _row(f"{label}: 80 % interval held", float(np.mean(np.abs(logs) <= 1.2816 * said)), "of answers")


def _row(name: str, value: float, unit: str, peer: str | None = None, theirs: float | None = None) -> Row:
    ratio = theirs / value if theirs is not None and value > 0 else None
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": theirs, "ratio": ratio}


def main() -> None:
    """Five kinds of replica, three mixes; some four minutes. OPTIINFRA_PROFILES names fewer, with commas."""
    chosen = os.environ.get("OPTIINFRA_PROFILES")
    told: list[Answer] = []
    for name in chosen.split(",") if chosen else PROFILES:
        told += answers(name)
        print(f"  {name}: {len(told)} answers so far", flush=True)
    whens = dict.fromkeys(each.when for each in told)
    out = [row for when in whens for row in rows([each for each in told if each.when == when], when)]
    for mix in MIXES:
        out += rows([each for each in told if each.mix == mix], f"mix {mix}")
    report("capacity", [*out, *rows(told, "all")])


if __name__ == "__main__":
    main()
