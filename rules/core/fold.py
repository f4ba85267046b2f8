"""Stage `rules`: a workload's SLIs, what agents found of it, and ticks become sets of candidates.

A step has three parts, so that the engine is asked once a batch: a fold of the messages into moments, each with the
conditions as they stood; the engine's answers, each moment for itself; a fold of the answers into candidates, which
knows when each rule last fired. The first and the last take one item at a time and hand on nothing but state, and the
middle part keeps nothing, so where a log is cut cannot matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from contracts.clock import AHEAD_S
from contracts.events import Message, Sli, Tick
from contracts.laws.bounds import fresh, held_long_enough
from rules.core.conditions import Seen, Standing, Told, newer, seen, stands, told_ms
from rules.core.proposing import Fired, Moment, propose
from rules.core.ruleset import RuleSet, Window
from rules.core.shapes import Engine


@dataclass(frozen=True)
class RuleSettings:
    """Event-time limits, seconds.

    `max_age_s`: how old the latest values may be; a window may be as much older as it is long, since the next one ends
    so much later. `ahead_s`: how far past the newest tick a message can push time (a scraper's clock may be ahead).
    `park_s`: further ahead than that, its clock is wrong, and it is no evidence. `forget_s`: a workload of which
    nothing is told for so long is dropped. Findings are held to the same limits as SLIs.
    """

    max_age_s: float = 30.0
    ahead_s: float = AHEAD_S
    park_s: float = 60.0
    forget_s: float = 3600.0


class WatchState(BaseModel):
    """What is known of a workload: event time, the newest tick (None: none yet), evidence by window size, and how each
    condition stands, by its memory name."""

    model_config = ConfigDict(frozen=True)

    at_ms: int
    tick_ms: int | None = None
    evidence: dict[int, Seen] = {}
    conditions: dict[str, Standing] = {}


class RulesState(BaseModel):
    """Per workload, a few kB: what is known, and what was proposed."""

    model_config = ConfigDict(frozen=True)

    workload: str
    watch: WatchState
    fired: Fired = Fired()


def step(
    ruleset: RuleSet, engine: Engine, settings: RuleSettings, state: RulesState | None, batch: Sequence[Message]
) -> tuple[RulesState | None, list[Message]]:
    """Fold a batch of one workload. A message that tells nothing new gives back the very same state."""
    workload = state.workload if state else next((m.key for m in batch if isinstance(m, Told)), "")
    watch = state.watch if state else None
    moments: list[Moment | None] = []
    for message in batch:
        watch, moment = look(ruleset, settings, watch, message)
        if moment is not None or watch is None:
            moments.append(moment)
    answers = iter(engine.fire([each.facts for each in moments if each is not None]) if any(moments) else [])
    fired = state.fired if state else Fired()
    outputs: list[Message] = []
    for each in moments:
        if each is None:
            fired = Fired()  # forgotten with all the rest
        else:
            fired, proposed = propose(ruleset, settings.max_age_s, workload, fired, each, next(answers))
            outputs += proposed
    if watch is None:
        return None, outputs
    if state is not None and watch is state.watch and fired is state.fired:
        return state, outputs
    return RulesState(workload=workload, watch=watch, fired=fired), outputs


def look(
    ruleset: RuleSet, settings: RuleSettings, watch: WatchState | None, message: Message
) -> tuple[WatchState | None, Moment | None]:
    """Fold one message. A Moment comes out where some rule could fire; a None state forgets the workload."""
    if isinstance(message, Tick):
        return _tick(ruleset, settings, watch, message) if watch else (None, None)
    assert isinstance(message, Told)  # noqa: S101 — the topic table admits nothing else
    wanted = ruleset.wanted.get(message.size_s)
    if wanted is None or (isinstance(message, Sli) and (message.instance_id is not None or message.revision)):
        return watch, None
    at_ms = told_ms(message)
    if watch is not None:
        before = watch.evidence.get(message.size_s)
        parked = watch.tick_ms is not None and message.end_ms > watch.tick_ms + settings.park_s * 1000
        if parked or not newer(before, message):
            return watch, None
        if watch.tick_ms is not None:
            at_ms = min(at_ms, watch.tick_ms + int(settings.ahead_s * 1000))
        at_ms = max(at_ms, watch.at_ms)
        told = watch
    else:
        before, told = None, WatchState(at_ms=at_ms)
    kept = seen(before, message, wanted, at_ms, named=message.size_s in ruleset.named)
    evidence = told.evidence | {message.size_s: kept}
    same_time = watch is not None and at_ms == watch.at_ms
    windows = ruleset.by_size.get(message.size_s, ()) if same_time else ruleset.by_window
    return _evaluate(ruleset, settings, told, at_ms, evidence, told.tick_ms, windows)


def _tick(
    ruleset: RuleSet, settings: RuleSettings, watch: WatchState, tick: Tick
) -> tuple[WatchState | None, Moment | None]:
    if watch.tick_ms is not None and tick.at_ms <= watch.tick_ms:
        return watch, None
    newest_ms = max((each.end_ms for each in watch.evidence.values()), default=watch.at_ms)
    if tick.at_ms - newest_ms > settings.forget_s * 1000:
        return None, None
    if watch.tick_ms is None and watch.at_ms > tick.at_ms + settings.ahead_s * 1000:
        # The clock of the scraper that spoke first is wrong: time is what ticks say, and nothing it told counts.
        watch = WatchState(at_ms=tick.at_ms)
    elif tick.at_ms <= watch.at_ms:
        return watch.model_copy(update={"tick_ms": tick.at_ms}), None  # all was looked at when time came to this
    return _evaluate(ruleset, settings, watch, tick.at_ms, watch.evidence, tick.at_ms, ruleset.by_window)


def _evaluate(
    ruleset: RuleSet,
    settings: RuleSettings,
    watch: WatchState,
    at_ms: int,
    evidence: dict[int, Seen],
    tick_ms: int | None,
    windows: tuple[Window, ...],
) -> tuple[WatchState, Moment | None]:
    """The conditions of these windows at `at_ms`, on what is known now, where `watch` is what was known when they were
    last looked at; all others stand as they stood, since at one moment only what is told anew changes. A gap in which
    nobody looked ends all holds: nobody knows what was in between."""
    gap = at_ms - watch.at_ms > settings.max_age_s * 1000
    remembered: Mapping[str, Standing] = {} if gap else watch.conditions
    standings = {} if windows is ruleset.by_window else dict(remembered)
    # Most conditions stay as they are: of those nothing more is worked out than whether they begin or are kept.
    for window in windows:
        reading, on_silence = evidence.get(window.size_s), window.on_silence
        if reading is not None and not fresh(reading, window.size_s, at_ms, settings.max_age_s):
            reading = None
        values = None if reading is None else reading.values
        if values is None and not on_silence and window.memories.isdisjoint(remembered):
            continue
        for condition, memory, sli, begins in window.conditions:
            value = None if values is None else values.get(sli)
            before = remembered.get(memory)
            if before is None:
                if not (memory in on_silence if value is None else begins(value)):
                    continue
            elif value is not None and condition.keeps(value):
                standings[memory] = before
                continue
            standing = stands(condition, before or _NEW, value, at_ms=at_ms, before_ms=watch.at_ms)
            if standing.since_ms is not None:
                standings[memory] = standing
            else:
                standings.pop(memory, None)
    watch = WatchState(at_ms=at_ms, tick_ms=tick_ms, evidence=evidence, conditions=standings)
    holding = {
        found.key
        for memory, standing in standings.items()
        if (found := ruleset.by_memory.get(memory)) is not None
        and held_long_enough(standing.since_ms, found.for_s, at_ms)
    }
    if not ruleset.may_fire(holding):
        return watch, None
    facts = ruleset.all_off | dict.fromkeys(holding, True)
    return watch, Moment(at_ms=at_ms, evidence=evidence, standings=standings, facts=facts)


_NEW = Standing()
