"""Why a candidate is refused, only recommended, or put to a person: each check gives every reason that it finds.

A reason weighs one of three ways, and the heaviest decides the answer: it refuses; it lets the platform advise at most;
it asks for a person's yes. Reasons are told in that order, and among equals in the order of `ORDER`, so that the first
one is the one that decided.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum

from agents.core.arbiter_limits import Grant
from agents.core.arbiter_settings import ArbiterSettings
from agents.core.arbiter_state import FLIGHTS_LIMIT, ArbiterState, Flight
from contracts.events import (
    ActionKind,
    ActionSpec,
    Answer,
    Candidate,
    CandidateSet,
    Judgement,
    Mode,
    Refusal,
    Review,
    Risk,
    Verdict,
)
from contracts.laws.bounds import cooling

MIN_COVERAGE_RATIO = 0.5
"""Below it the evidence of a workload is too thin to take capacity on."""

PEOPLES_SETTINGS = frozenset({"max_model_len"})
"""Engine settings that the platform only recommends."""

ORDER: tuple[Refusal, ...] = (
    Refusal.KILL_SWITCH,
    Refusal.EXPIRED,
    Refusal.SUPERSEDED,
    Refusal.REJECTED,
    Refusal.REVIEW_FAILED,
    Refusal.NO_REVIEW,
    Refusal.VETOED,
    Refusal.STALE_EVIDENCE,
    Refusal.MISSING_EVIDENCE,
    Refusal.OUTRANKED,
    Refusal.IN_FLIGHT,
    Refusal.MANUAL_CHANGE,
    Refusal.COOLDOWN,
    Refusal.AT_MAXIMUM,
    Refusal.AT_MINIMUM,
    Refusal.NO_CONTROLLER,
    Refusal.ADVISORY_MODE,
    Refusal.NO_BOUNDS,
    Refusal.DEGRADED_REVIEW,
    Refusal.DEMOTED,
    Refusal.RISK_TOO_HIGH,
    Refusal.LOW_CONFIDENCE,
)


class Weight(IntEnum):
    """What a reason does to the answer, the heaviest first."""

    REFUSES = 0
    ADVISES = 1
    ASKS = 2


@dataclass(frozen=True)
class Reason:
    """One reason, with its numbers in words."""

    code: Refusal
    words: str
    weight: Weight = Weight.REFUSES


def ranked(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Each code once, the decisive one first."""
    by_code = {reason.code: reason for reason in reasons}
    return tuple(sorted(by_code.values(), key=lambda reason: (reason.weight, ORDER.index(reason.code))))


def answer_of(reasons: Iterable[Reason]) -> Answer:
    """What the heaviest reason leaves; approved when there is none."""
    answers = {
        Weight.REFUSES: Answer.REFUSED,
        Weight.ADVISES: Answer.RECOMMENDED,
        Weight.ASKS: Answer.NEEDS_APPROVAL,
    }
    heaviest = min((reason.weight for reason in reasons), default=None)
    return Answer.APPROVED if heaviest is None else answers[heaviest]


def of_switch(state: ArbiterState) -> Iterator[Reason]:
    """A person has stopped all action."""
    if state.killed is not None:
        yield Reason(Refusal.KILL_SWITCH, f"all action on {state.workload} was stopped {state.killed}")


def of_review(review: Review | None, judgement: Judgement | None) -> Iterator[Reason]:
    """What the reviewer says; `review` None where none came in time. A fallback that judged may veto, not approve."""
    if review is None:
        yield Reason(Refusal.NO_REVIEW, "no review came in time")
        return
    if review.failure:
        yield Reason(Refusal.REVIEW_FAILED, f"{review.reviewer} could not judge: {review.failure}")
        return
    if judgement is None:
        yield Reason(Refusal.NO_REVIEW, f"{review.reviewer} did not judge this candidate")
        return
    if judgement.verdict is Verdict.VETO:
        yield Reason(Refusal.VETOED, f"{review.reviewer} says no: {_first(judgement)}")
    if judgement.verdict is Verdict.DEMOTE:
        yield Reason(Refusal.DEMOTED, f"{review.reviewer} wants a person to look: {_first(judgement)}", Weight.ASKS)
    if review.degraded:
        yield Reason(Refusal.DEGRADED_REVIEW, f"{review.reviewer} is a fallback and approves nothing", Weight.ASKS)


def of_evidence(
    found: CandidateSet, candidate: Candidate, state: ArbiterState, settings: ArbiterSettings
) -> Iterator[Reason]:
    """Evidence that is too old for anything, or too thin: unknown replicas leave no limit to be checked, and capacity
    is never taken where something is missing."""
    age_s = (state.now_ms - found.at_ms) / 1000
    if age_s > settings.max_age_s:
        yield Reason(Refusal.STALE_EVIDENCE, f"the evidence is {age_s:g} s old, at most {settings.max_age_s:g} s")
    lacks = [] if found.replicas is not None else ["nobody knows how many replicas answer"]
    if candidate.spec.kind.takes_capacity:
        if found.coverage_ratio < MIN_COVERAGE_RATIO:
            lacks.append(f"coverage is {found.coverage_ratio:.2f}, at least {MIN_COVERAGE_RATIO:g} is needed")
        blind = [fact.condition for fact in candidate.facts if fact.holds and fact.value is None]
        if blind:
            lacks.append(f"{', '.join(blind[:5])} counts without a value")
    if lacks:
        yield Reason(Refusal.MISSING_EVIDENCE, "; ".join(lacks))


def preempted(candidate: Candidate, state: ArbiterState) -> Flight | None:
    """The action that a candidate pushes aside: one on the same part that does the opposite and has a lower priority.
    While one is being pushed aside already, nothing more is: that has to end first."""
    kind = candidate.spec.kind
    flights = [flight for flight in state.flights if flight.kind.part == kind.part]
    if len(flights) != 1:
        return None
    opposite = flights[0].kind is not kind
    return flights[0] if opposite and candidate.priority > flights[0].action.priority else None


def waits_for(spec: ActionSpec, other: ActionKind) -> bool:
    """Whether an action waits while another is under way: on its own part always. Settings are changed on a fleet that
    stands still, but where a bad one is taken back from a fleet that grows; none is made smaller, and no shares are
    set, while some of it restarts; nor is one made smaller while something is done at its gateway. More capacity waits
    for none of these, nor does the gateway."""
    kind = spec.kind
    if spec.frees_one and other is ActionKind.SCALE_UP:
        return False
    if kind.part == other.part or kind is ActionKind.TUNE:
        return True
    if kind is ActionKind.SCALE_DOWN and other.gateway_setting:
        return True
    return other is ActionKind.TUNE and kind is not ActionKind.SCALE_UP and not kind.gateway_setting


_RESTS_AFTER = {
    ActionKind.SCALE_UP: (ActionKind.SCALE_UP,),
    ActionKind.SCALE_DOWN: tuple(kind for kind in ActionKind if kind is not ActionKind.ROUTE),
    ActionKind.TUNE: (ActionKind.SCALE_DOWN, ActionKind.TUNE),
}
"""After which kinds an action of a kind waits for its cooldown; all others after their own. Settings do not wait for
capacity that came: a canary that hurts makes more come again and again, and was never taken back. After what was done
at a gateway the SLIs of the minutes before show less demand than there is."""


def stacked(candidate: Candidate, state: ArbiterState) -> bool:
    """Whether a candidate may begin beside what is under way: one that stacks, on scale-ups alone, each of which is
    still within its time. Nobody adds to what nobody knows."""
    flights = [flight for flight in state.flights if flight.kind.part == candidate.spec.kind.part]
    if not candidate.spec.stacks or not 0 < len(flights) < FLIGHTS_LIMIT:
        return False
    return all(flight.kind is ActionKind.SCALE_UP and not flight.repeated for flight in flights)


def of_count(state: ArbiterState, settings: ArbiterSettings) -> Iterator[Reason]:
    """Nobody has counted the replicas lately: what is granted on such a number may be wrong both ways."""
    age_s = None if state.replicas_ms is None else (state.now_ms - state.replicas_ms) / 1000
    if age_s is None or age_s > settings.count_age_s:
        when = "never" if age_s is None else f"{age_s:g} s ago, at most {settings.count_age_s:g} s"
        yield Reason(Refusal.STALE_EVIDENCE, f"the replicas were last counted {when}; wait for the next proposal")


def of_target(candidate: Candidate, state: ArbiterState, settings: ArbiterSettings) -> Iterator[Reason]:
    """The target is taken, or has to rest. Capacity may be added soon after some was taken, never the other way. What
    is put on top of scale-ups that are under way rests by its rule's own cooldown alone. A limit of a gateway may be
    tightened soon after one was loosened, never the other way."""
    limits, kind, aside = settings.limits_of(state.workload), candidate.spec.kind, preempted(candidate, state)
    on_top = stacked(candidate, state)
    ahead = [each for each in state.flights if each is not aside and waits_for(candidate.spec, each.kind)]
    if ahead and not on_top:
        flight = ahead[-1]
        action = flight.action
        words = f"{flight.kind} of {action.rule} is under way, priority {action.priority}: action {action.id}"
        yield Reason(Refusal.IN_FLIGHT, words)
    cooldown_s = limits.down_cooldown_s if kind.takes_capacity else limits.up_cooldown_s
    rests_after = _RESTS_AFTER.get(kind, (kind,))
    tightens = bool(kind.gateway_setting) and not candidate.spec.restores
    known = (state.last_ms,) if tightens else (state.last_ms, state.loosened_ms)
    lasts = [(times[each], each) for times in known for each in rests_after if each in times and not on_top]
    if lasts:
        last_ms, last = max(lasts)
        if cooling(last_ms, cooldown_s, state.now_ms):
            past_s = (state.now_ms - last_ms) / 1000
            yield Reason(Refusal.COOLDOWN, f"{past_s:g} s of {cooldown_s:g} s have passed since the last {last}")


def of_gateway(candidate: Candidate, state: ArbiterState, settings: ArbiterSettings) -> Iterator[Reason]:
    """A limit of ours stands at the gateway: who waits or is refused there is in no SLI, so what looks spare is not."""
    there = not settings.lacks(ActionKind.QUEUE, state.workload)
    if candidate.spec.kind is ActionKind.SCALE_DOWN and there and (limits := state.holding_back):
        told = ", ".join(f"{name} {value}" for name, value in limits.items())
        yield Reason(
            Refusal.MISSING_EVIDENCE, f"nobody sees the demand that our limit at the gateway holds back: {told}"
        )


def of_hand(candidate: Candidate, state: ArbiterState, settings: ArbiterSettings) -> Iterator[Reason]:
    """The platform yields to a change by hand. It may still ask to add capacity, since users may be suffering; to take
    some away while a person is at work is refused. What a person sets at a gateway holds back no capacity."""
    kind = candidate.spec.kind
    changes = [(state.manual_ms, state.manual)]
    if kind is not ActionKind.SCALE_UP:
        changes.append((state.gateway_hand_ms, state.gateway_hand))
    recent = [
        (ms, words) for ms, words in changes if ms is not None and cooling(ms, settings.manual_hold_s, state.now_ms)
    ]
    if recent:
        last_ms, what = max(recent)
        past_s = (state.now_ms - last_ms) / 1000
        words = f"changed by hand {past_s:g} s ago, {settings.manual_hold_s:g} s are left to people: {what}"
        weight = Weight.REFUSES if kind.takes_capacity else Weight.ASKS
        yield Reason(Refusal.MANUAL_CHANGE, words, weight)


def of_grant(kind: ActionKind, granted: Grant) -> Iterator[Reason]:
    """The limits leave nothing."""
    if granted.replicas == 0:
        yield Reason(Refusal.AT_MINIMUM if kind.takes_capacity else Refusal.AT_MAXIMUM, granted.words)


def of_setting(candidate: Candidate) -> Iterator[Reason]:
    """A setting that decides which requests are taken at all is for people to choose, whatever the mode."""
    for name in sorted(PEOPLES_SETTINGS & candidate.spec.settings.keys()):
        words = f"{name} decides which requests are refused: people set it"
        yield Reason(Refusal.ADVISORY_MODE, words, Weight.ADVISES)


def of_mode(
    kind: ActionKind, state: ArbiterState, mode: Mode, judgement: Judgement | None, settings: ArbiterSettings
) -> Iterator[Reason]:
    """What the mode does not let the platform do alone."""
    if lacks := settings.lacks(kind, state.workload):
        yield Reason(Refusal.NO_CONTROLLER, f"{lacks}: nothing can be done", Weight.ADVISES)
    if mode is Mode.ADVISORY:
        yield Reason(Refusal.ADVISORY_MODE, "the mode is advisory: people act", Weight.ADVISES)
        return
    limits = settings.limits_of(state.workload)
    if limits.min_replicas is None or limits.max_replicas is None:
        unset = [name for name in ("min_replicas", "max_replicas") if getattr(limits, name) is None]
        yield Reason(Refusal.NO_BOUNDS, f"{' and '.join(unset)} not set for {state.workload}", Weight.ASKS)
    if judgement is None:
        return
    semi = mode is Mode.SEMI_AUTONOMOUS
    if semi and judgement.risk is not Risk.LOW:
        yield Reason(Refusal.RISK_TOO_HIGH, f"the risk is {judgement.risk}, {mode} acts at low risk only", Weight.ASKS)
    least = settings.min_confidence_semi if semi else settings.min_confidence_autonomous
    if judgement.confidence < least:
        words = f"confidence is {judgement.confidence:g}, {mode} needs {least:g}"
        yield Reason(Refusal.LOW_CONFIDENCE, words, Weight.ASKS)


def _first(judgement: Judgement) -> str:
    return judgement.reasons[0] if judgement.reasons else "no reason given"
