"""How many decisions a second one core takes, from SLIs to actions, and how long a candidate waits for our own code."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence

from pydantic import BaseModel

from agents.core.arbiter_settings import ArbiterSettings, Limits
from agents.core.review import judge_all
from agents.stages import stages as deciding
from bench.report import Row, report
from contracts.clock import ClockAnchor
from contracts.codec import Record, decode, encode
from contracts.events import (
    Action,
    CandidateSet,
    Decision,
    EndState,
    Message,
    Mode,
    Outcome,
    Review,
    Sli,
    Tick,
)
from contracts.events.slis import SliValue
from contracts.stage import Stage
from rules.book import EngineSeat, RuleBook
from rules.core.fold import RuleSettings
from rules.core.reference import PythonEngine
from rules.stages import stages as proposing

START_MS = 1_700_000_000_000 // 60_000 * 60_000
WORKLOADS = 10
MINUTES = 120
TIDE_S = 600
"""Half of it every workload burns its budget, half of it there is little to do: rules of both kinds fire."""

ACTION_S = 50
ROUNDS = 3

BUSY = {"ttft_burn_rate": 6.0, "requests_waiting": 30.0, "load_per_replica": 20.0, "stalled": 0.0}
QUIET = {"ttft_burn_rate": 0.1, "requests_waiting": 0.0, "load_per_replica": 1.0, "stalled": 0.0}


def slis(workload: str, at_s: int, replicas: int) -> Iterator[Sli]:
    """The workload's SLIs that end at this second: the latest every 2 s, windows of 10 s and 60 s."""
    told = (BUSY if at_s % TIDE_S < TIDE_S / 2 else QUIET) | {"replicas_up": float(replicas)}
    for size_s, every_s in ((0, 2), (10, 10), (60, 60)):
        if at_s % every_s == 0:
            yield Sli(
                workload=workload,
                size_s=size_s,
                start_ms=START_MS + (at_s - size_s) * 1000,
                coverage_ratio=1.0,
                freshness_s=0.5,
                cause_ms=START_MS + at_s * 1000,
                instances=replicas,
                instances_up=replicas,
                values={name: SliValue(value=value, samples=10) for name, value in told.items()},
            )


class Fold:
    """One stage with a state for each workload; keeps the records that went in."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.records = stage, list[tuple[str, Record]]()
        self.states: dict[str, BaseModel | None] = {}

    def send(self, key: str, message: Message) -> list[Message]:
        """What a message brings about; `key` is the workload, for ticks too."""
        self.records.append((key, encode(message, source="bench")))
        self.states[key], outputs = self.stage.step(self.states.get(key), [message])
        return outputs


def make_stages() -> tuple[Stage, Stage]:
    """Stage `rules` with the built-in pack and the reference engine, and stage `arbiter`."""
    book = RuleBook()
    (rules,) = proposing(book, EngineSeat(PythonEngine), RuleSettings())
    settings = ArbiterSettings(
        anchor=ClockAnchor(wall_anchor_ms=START_MS, event_anchor_ms=START_MS),
        default_mode=Mode.AUTONOMOUS,
        has_controller=True,
        default_limits=Limits(min_replicas=2, max_replicas=64),
    )
    (arbiter,) = deciding(settings)
    return rules, arbiter


def review_of(candidates: CandidateSet) -> Review:
    """As the deterministic reviewer judges."""
    return Review(candidates=candidates, reviewer="deterministic", judgements=judge_all(candidates))


def record() -> tuple[Fold, Fold]:
    """Two hours of ten workloads whose load comes and goes, with actions that are verified after 50 s."""
    rules, arbiter = (Fold(stage) for stage in make_stages())
    replicas = {f"bench-{n}": 4 for n in range(WORKLOADS)}
    under_way: dict[str, tuple[int, Action]] = {}
    for at_s in range(MINUTES * 60):
        for workload in replicas:
            if workload in under_way and under_way[workload][0] <= at_s:
                action = under_way.pop(workload)[1]
                replicas[workload] += -action.spec.replicas if action.spec.kind.takes_capacity else action.spec.replicas
                at_ms = START_MS + at_s * 1000
                arbiter.send(workload, Outcome(action=action, end_state=EndState.VERIFIED, at_ms=at_ms))
            tick = Tick(at_ms=START_MS + at_s * 1000, partition=0)
            heard: list[Message] = [*slis(workload, at_s, replicas[workload]), tick]
            made = [out for message in heard for out in rules.send(workload, message)]
            for candidates in (each for each in made if isinstance(each, CandidateSet)):
                outputs = arbiter.send(workload, candidates)
                outputs += arbiter.send(workload, review_of(candidates))
                for action in (each for each in outputs if isinstance(each, Action)):
                    under_way[workload] = (at_s + ACTION_S, action)
            arbiter.send(workload, tick)
    return rules, arbiter


def timed(stage: Stage, records: Sequence[tuple[str, Record]]) -> tuple[float, list[Message]]:
    """CPU seconds to decode, fold and encode, and what came out."""
    states: dict[str, BaseModel | None] = {}
    told: list[Message] = []
    began = time.process_time()
    for key, each in records:
        states[key], outputs = stage.step(states.get(key), [decode(each)])
        for output in outputs:
            encode(output, source="bench")
        told += outputs
    return time.process_time() - began, told


def codec_s(records: Sequence[tuple[str, Record]], outputs: Sequence[Message]) -> float:
    """CPU seconds to decode the same records and encode the same outputs, without any thought in between."""
    began = time.process_time()
    for _, each in records:
        decode(each)
    for output in outputs:
        encode(output, source="bench")
    return time.process_time() - began


def best(measure: Callable[[], float]) -> float:
    """The shortest of some rounds: a busy machine only ever adds."""
    return min(measure() for _ in range(ROUNDS))


def row(what: str, count: int, unit: str, stage: Stage, records: Sequence[tuple[str, Record]]) -> Row:
    """`count` things were done by folding `records`; the peer reads and writes the same bytes and does nothing."""
    _, outputs = timed(stage, records)
    value = count / best(lambda: timed(stage, records)[0])
    peer = count / best(lambda: codec_s(records, outputs))
    name = "decode and encode of the same messages"
    return {"name": what, "value": value, "unit": unit, "peer": name, "peer_value": peer, "ratio": value / peer}


def waits_ms(records: Sequence[tuple[str, Record]]) -> list[float]:
    """For each set that led to an action: wall ms from its bytes to the action's bytes, in order. Reviewer and arbiter
    are in it, the broker between them is not."""
    (_, arbiter), states, waits = make_stages(), dict[str, BaseModel | None](), list[float]()
    for key, each in records:
        if each.topic == Review.TYPE:
            continue  # it is made here, from its set
        began = time.perf_counter()
        message = decode(each)
        states[key], outputs = arbiter.step(states.get(key), [message])
        if isinstance(message, CandidateSet):
            reviewed = encode(review_of(message), source="bench")
            states[key], outputs = arbiter.step(states[key], [decode(reviewed)])
            for output in outputs:
                encode(output, source="bench")
            if any(isinstance(output, Action) for output in outputs):
                waits.append((time.perf_counter() - began) * 1000)
    return sorted(waits)


def main() -> None:
    """Record two hours, then fold what each stage heard."""
    rules, arbiter = record()
    busy = [each for each in arbiter.records if each[1].topic != Tick.TYPE]
    _, told = timed(arbiter.stage, busy)
    decisions = sum(isinstance(each, Decision) for each in told)
    actions = sum(isinstance(each, Action) for each in told)
    print(f"  {len(rules.records):,} messages to rules, {decisions:,} decisions, {actions:,} actions")
    waits = waits_ms(arbiter.records)
    rows = [
        row("arbiter: decisions, ticks aside", decisions, "decisions/s/core", arbiter.stage, busy),
        row("arbiter: messages, with a tick a second", len(arbiter.records), "messages/s/core", *_parts(arbiter)),
        row("rules, reference engine: messages", len(rules.records), "messages/s/core", *_parts(rules)),
        *(
            {
                "name": f"candidate to action, our own time, p{share}",
                "value": waits[min(len(waits) - 1, len(waits) * share // 100)],
                "unit": "ms",
                "peer": None,
                "peer_value": None,
                "ratio": None,
            }
            for share in (50, 99)
        ),
    ]
    report("decisions", rows)


def _parts(fold: Fold) -> tuple[Stage, list[tuple[str, Record]]]:
    return fold.stage, fold.records
