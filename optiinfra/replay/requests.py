"""The race at request level: the same scalers before the twin's engines, with real prompts, answers and shared blocks.

The unit of cost stays the fluid oracle: its replica-seconds at the capacity that one replica of the twin was measured
to have on this trace's own lengths, so that cost at both levels is told in the same coin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
from numpy.typing import NDArray

from connectors.traces.cut import Cut
from connectors.traces.shape import Load, Requests
from connectors.twin.capacity import Capacity, Objectives, capacity_of, seen_at
from connectors.twin.fluid import DRAIN_S, Outcome, Span
from connectors.twin.offline import Served, simulate
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace
from contracts.errors import ConfigError
from contracts.scaling import FleetFacts, LoadSeen, Scaler
from optiinfra.replay import oracle
from optiinfra.replay.course import Fleet, Race, held_in
from optiinfra.replay.policy import Course, Knobs, Policy, grid
from optiinfra.traced import trace_of

LEAST_LENGTHS, MOST_LENGTHS = 100, 4_000
"""Lengths from which the capacity of a replica is measured; of more, every so many-th is taken."""

_GOAL = 0.99
_ALONE_RPS = 1e-4


@dataclass(frozen=True)
class Twin:
    """The kind of replica, and what is promised. `engine`: a profile of the twin. `ttft_s`: a request is in time when
    its first token comes no later; `itl_s`: goodput also asks for a mean interval between tokens no longer.
    `batched_tokens`: of an iteration. `capacity_rps`: of one replica; None: measured.
    """

    engine: str = EngineSpec().profile.name
    ttft_s: float = 2.0
    itl_s: float = 0.1
    batched_tokens: int = 512
    capacity_rps: float | None = None


@dataclass(frozen=True)
class RequestRace(Race):
    """A race whose requests are single ones. `measured`: what a replica was seen to bear; `clipped`: requests that
    asked for no token and were given one."""

    trace: Trace = field(kw_only=True)
    engine: EngineSpec = field(kw_only=True)
    twin: Twin = field(kw_only=True)
    measured: Capacity = field(kw_only=True)
    clipped: int = field(kw_only=True)

    @cached_property
    def needs(self) -> oracle.Counts:
        """Replicas that the fluid oracle needs in each of its slots."""
        return oracle.needs(self.load.per_second, self.capacity_rps, max(1, ceil(self.twin.ttft_s)))

    def tried(self, policy: Policy, startup_s: float) -> Policy:
        """The policy with all values of its main knob. The others are those with which the fluid fleet keeps 99 % most
        cheaply, or comes nearest to it: there a run takes a hundredth of the time."""
        if not policy.main or all(set(knobs) == {policy.main} for knobs in policy.grid):
            return policy
        fluid = Race(self.load, self.fleet, self.blind)

        def rank(knobs: Knobs) -> tuple[float, float]:
            outcome = fluid.run(policy, knobs, startup_s)
            return max(0.0, _GOAL - outcome.attainment_ratio), outcome.billed_s

        best = min(policy.grid, key=rank)
        values = tuple(dict.fromkeys(knobs[policy.main] for knobs in policy.grid))
        rest = {name: (value,) for name, value in best.items()}
        return replace(policy, grid=grid(**{**rest, policy.main: values}))

    def run(self, policy: Policy, knobs: Knobs, startup_s: float) -> Outcome:
        """One policy with these knobs, from the first request on."""
        facts = FleetFacts(self.capacity_rps, self.fleet.service_s, startup_s, policy.decide_s)
        scaler = policy.build(Course(facts, self.load.per_second, self.load.begin_s), knobs)
        return self._played(scaler, facts, self.first_replicas(0), self.blind)

    def oracle_measures(self, startup_s: float) -> dict[str, float | None]:
        """What comes of the fluid oracle's replicas here: `attainment_played`, and what is known of any run."""
        plan = self.plan(startup_s)
        facts = FleetFacts(self.capacity_rps, self.fleet.service_s, startup_s, oracle.SLOT_S)
        follow = oracle.Follow(plan.ready, startup_s, begin_s=self.load.begin_s)
        outcome = self._played(follow, facts, int(plan.ready[0]), ())
        return {"attainment_played": round(outcome.attainment_ratio, 8), **outcome.measures}

    def _played(self, scaler: Scaler, facts: FleetFacts, initial: int, blind: tuple[Span, ...]) -> Outcome:
        shown = _Shown(scaler, facts, self.load.begin_s, blind)
        served = simulate(
            self.trace,
            self.engine,
            replicas=initial,
            startup_s=facts.startup_s,
            scaler=shown,
            decide_s=facts.decide_s,
            late_after_s=self.twin.ttft_s,
            drain_s=DRAIN_S,
        )
        return self.outcome(served, shown.orders)

    def outcome(self, served: Served, orders: Sequence[tuple[int, int]]) -> Outcome:
        """What became of the requests of the scored span, and what it cost."""
        scored, at_s = self.scored, np.asarray(self.trace.arrival_s)
        mine = slice(*np.searchsorted(at_s, (scored.begin_s, scored.end_s)))
        punctual = served.ttft_s <= self.twin.ttft_s
        in_time = punctual[mine]
        billed_s = sum(
            max(0.0, min(until_s, scored.end_s) - max(from_s, scored.begin_s)) for from_s, until_s in served.held_s
        )
        turns = [by > 0 for at, by in orders if scored.begin_s <= at < scored.end_s]
        return Outcome(
            round(billed_s),
            float(in_time.mean()),
            sum(a != b for a, b in pairwise(turns)),
            tuple(orders),
            -sum(by for at, by in orders if by < 0 and held_in(self.blind, at)),
            _queue(at_s, served, len(self.load.per_second)),
            self._measures(served, mine, in_time),
            np.bincount(at_s[~punctual].astype(np.int64), minlength=len(self.load.per_second)).astype(np.float64),
        )

    def _measures(self, served: Served, mine: slice, in_time: NDArray[np.bool_]) -> dict[str, float | None]:
        prompt = np.asarray(self.trace.prompt_tokens)[mine]
        answered = ~np.isnan(served.ttft_s[mine])
        steady = ~(served.itl_s[mine] > self.twin.itl_s)  # a single token has no interval, and none too long
        span_s = self.scored.end_s - self.scored.begin_s
        asked = float(prompt[answered].sum())
        hit = float(served.prefix_hit_tokens[mine][answered].sum())
        return {
            **{f"ttft_p{rank}_s": _percentile(served.ttft_s[mine], rank) for rank in (50, 95, 99)},
            **{f"itl_p{rank}_s": _percentile(served.itl_s[mine], rank) for rank in (50, 95, 99)},
            "preemptions": float(served.preemptions[mine].sum()),
            "prefix_hit_ratio": round(hit / asked, 6) if asked else None,
            "goodput_rps": round(float((in_time & steady).sum()) / span_s, 6),
            "unanswered": float((~answered).sum()),
        }

    @property
    def level(self) -> str:
        """Single requests."""
        return "requests"

    def about(self) -> dict[str, Any]:
        """What the report says of this level beside what it says of every race."""
        seen = self.measured
        at = f"TTFT p95 {seen.ttft_p95_s:.2f} s, {seen.mean_itl_s * 1000:.0f} ms a token"
        return {
            "level": self.level,
            "engine": self.engine.profile.name,
            "capacity_from": "given"
            if self.twin.capacity_rps is not None
            else f"measured before the scored span: {at}",
            "service_s": round(self.fleet.service_s, 6),
            "in_time": f"first token within {self.twin.ttft_s:g} s; lost and refused requests are late",
            "goodput": f"requests in time whose mean interval between tokens is at most {self.twin.itl_s:g} s",
            "oracle": f"the fluid oracle at this capacity, in {oracle.SLOT_S}-s slots: its replica-seconds",
            "tuning": "the main knob at request level, the others in the fluid fleet",
            "routing": "the ready replica with the fewest outstanding requests",
            "prefix_blocks": bool(self.trace.hashes),
            "given_one_token": self.clipped,
        }


def race(load: Load, requests: Requests, twin: Twin, blind: tuple[Span, ...] = ()) -> RequestRace:
    """A race of single requests; what a replica can bear is measured on those that come before the scored span.

    Raises ConfigError: no such profile, a trace without lengths, too few requests, a replica too slow for any.
    """
    seconds = len(load.per_second)
    trace, clipped = trace_of(Cut().requests(requests, seconds))  # the load ends with a whole second
    at_s, prompt, output = (np.asarray(each) for each in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens))
    engine = EngineSpec.holding(
        twin.engine,
        int((prompt + output).max(initial=1)),
        max_num_batched_tokens=twin.batched_tokens,
        hash_tokens=requests.block_tokens if requests.blocks else None,
    )
    before_s = Race(load, Fleet()).scored.begin_s
    kept = np.flatnonzero((at_s < before_s) & (prompt + output <= engine.max_model_len))
    kept = kept[:: max(1, -(-len(kept) // MOST_LENGTHS))]
    measured = _measured(engine, prompt[kept].tolist(), output[kept].tolist(), twin, load.origin)
    fleet = Fleet(load.mean_rps / measured.rps, measured.service_s)
    return RequestRace(load, fleet, blind, trace=trace, engine=engine, twin=twin, measured=measured, clipped=clipped)


def _measured(engine: EngineSpec, prompt: list[int], output: list[int], twin: Twin, origin: str) -> Capacity:
    if len(prompt) < LEAST_LENGTHS:
        what = f"{len(prompt)} requests before the scored span, too few to measure a replica by"
        raise ConfigError(what, where=origin, fix=f"Name a span with {LEAST_LENGTHS} or more in its first half.")
    if twin.capacity_rps is not None:
        return seen_at(twin.capacity_rps, engine, prompt, output)
    found = capacity_of(engine, prompt, output, objectives=Objectives(twin.ttft_s, twin.itl_s))
    if found.rps == 0:
        alone = seen_at(_ALONE_RPS, engine, prompt, output)
        raise ConfigError(
            f"{engine.profile.name} is too slow for these requests even one at a time: first token within "
            f"{alone.ttft_p95_s:.1f} s (p95), then {alone.mean_itl_s * 1000:.0f} ms between tokens",
            where=origin,
            fix="Name a faster --engine, allow a longer --ttft, or give --capacity.",
        )
    return found


class _Shown:
    """Shows a scaler what it may see, keeps what it orders, and holds it to the bounds of the fleet."""

    def __init__(self, scaler: Scaler, facts: FleetFacts, begin_s: int, blind: tuple[Span, ...]) -> None:
        self.orders: list[tuple[int, int]] = []
        self._scaler, self._facts, self._begin_s, self._blind = scaler, facts, begin_s, blind

    def decide(self, seen: LoadSeen) -> int:
        shown = replace(seen, now_s=seen.now_s + self._begin_s)
        if held_in(self._blind, seen.now_s):
            shown = LoadSeen(shown.now_s, None, None, None, seen.ready, seen.starting)
        wanted = min(max(self._scaler.decide(shown), self._facts.least), self._facts.most)
        change = wanted - seen.ready - seen.starting
        if change:
            self.orders.append((seen.now_s, change))
        return wanted


def _queue(arrival_s: NDArray[np.float64], served: Served, seconds: int) -> NDArray[np.float64]:
    """Requests that wait at the end of each second, of those that were answered."""
    known = ~np.isnan(served.queue_s)
    came, began = arrival_s[known], arrival_s[known] + served.queue_s[known]
    ends = np.arange(1, seconds + 1, dtype=np.float64)
    waiting = np.searchsorted(came, ends) - np.searchsorted(np.sort(began), ends)
    return waiting.astype(np.float64)


def _percentile(values: NDArray[np.float64], rank: int) -> float | None:
    known = values[~np.isnan(values)]
    return round(float(np.percentile(known, rank)), 6) if len(known) else None
