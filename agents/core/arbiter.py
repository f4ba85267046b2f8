"""Stage `arbiter`: each candidate gets one answer with every reason, and what is approved becomes an action.

A set of candidates waits for its review, or for the deadline, and is then decided as a whole: by priority, with the
switches, limits and actions under way as they stand at that point of the log. What a set has once been answered stands;
whatever comes for it later changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from agents.core import arbiter_reasons as why
from agents.core.arbiter_actions import acted, on_outcome, overdue
from agents.core.arbiter_cases import expired, on_approval, opened, superseded
from agents.core.arbiter_limits import Grant, grant, granted_spec
from agents.core.arbiter_settings import ArbiterSettings
from agents.core.arbiter_state import PENDING_LIMIT, ArbiterState, begun, ticked
from agents.core.arbiter_switches import on_control, on_event
from contracts.events import (
    ActionKind,
    Answer,
    Approval,
    Candidate,
    CandidateSet,
    Control,
    Decision,
    FleetEvent,
    Judgement,
    Message,
    Outcome,
    Refusal,
    Review,
    Tick,
)

Told = tuple[ArbiterState, list[Message]]


class Arbiter:
    """The fold, a class so that its parts share the settings; it holds no state of its own."""

    def __init__(self, settings: ArbiterSettings) -> None:
        self.settings = settings

    def advance(self, state: ArbiterState | None, message: Message) -> tuple[ArbiterState | None, list[Message]]:
        """Fold one message in; returns decisions, actions and alerts."""
        if isinstance(message, Tick):
            return self._tick(state, message) if state else (None, [])
        moved = begun(state, message, self.settings.ahead_s)
        after, outputs = self._heard(moved, message)
        # What changed nothing is a repeat, and a repeat does not move time either.
        return (state, []) if after is moved and not outputs else (after, outputs)

    def _heard(self, state: ArbiterState, message: Message) -> Told:
        match message:
            case CandidateSet():
                return self._candidates(state, message)
            case Review():
                return self._review(state, message)
            case Approval():
                return on_approval(state, message, self.settings)
            case Control():
                return on_control(state, message)
            case FleetEvent():
                return on_event(state, message), []
            case _:
                assert isinstance(message, Outcome)  # noqa: S101 — the topic table admits nothing else
                return on_outcome(state, message), []

    def _tick(self, state: ArbiterState, tick: Tick) -> Told:
        """Time passes: what waited too long is answered, and what should have ended is said again, then told of."""
        if state.tick_ms is not None and tick.at_ms <= state.tick_ms:
            return state, []
        state, outputs = ticked(state, tick, self.settings.ahead_s), []
        for found in [each for each in state.pending if self._too_late(state, each)]:
            state, answers = self._decide(state, found, None)
            outputs += answers
        state, closed = expired(state, self.settings)
        state, late = overdue(state, self.settings)
        return state, [*outputs, *closed, *late]

    def _candidates(self, state: ArbiterState, found: CandidateSet) -> Told:
        """A set waits for its review, without the evidence that only a reviewer needs. Of too many the oldest is
        answered without one."""
        if _waits(state, found) or not _unanswered(state, found):
            return state, []
        pending = (*state.pending, found.model_copy(update={"evidence": {}}))
        state = _with_replicas(state, found).model_copy(update={"pending": pending})
        return self._decide(state, pending[0], None) if len(pending) > PENDING_LIMIT else (state, [])

    def _review(self, state: ArbiterState, review: Review) -> Told:
        """A set is judged; the review carries it, so it may come before the set itself. One that is late is none."""
        found = review.candidates
        if not _unanswered(state, found):
            return state, []
        return self._decide(_with_replicas(state, found), found, None if self._too_late(state, found) else review)

    def _too_late(self, state: ArbiterState, found: CandidateSet) -> bool:
        return state.now_ms >= found.at_ms + self.settings.review_within_s * 1000

    def _decide(self, state: ArbiterState, found: CandidateSet, review: Review | None) -> Told:
        """Answer all of a set, the highest priority first."""
        candidates = _unanswered(state, found)
        decided = state.decided.add([found.candidate_id(each) for each in candidates], found.at_ms, state.now_ms)
        pending = tuple(each for each in state.pending if each.id != found.id)
        state = state.model_copy(update={"decided": decided, "pending": pending})
        outputs: list[Message] = []
        higher: list[Decision] = []
        before = state  # a candidate that loses to another of its set is outranked by it, not kept out by its action
        for candidate in candidates:
            decision, given = self._weigh(before, found, candidate, review, higher)
            higher.append(decision)
            if decision.answer is Answer.APPROVED and found.replicas is not None and state.replicas is not None:
                spec = granted_spec(candidate.spec, given.replicas, state.replicas - found.replicas)
                state, action = acted(state, decision, spec, f"mode:{decision.mode}", self.settings)
                outputs += [decision.model_copy(update={"action_id": action.id}), action]
            else:
                outputs.append(decision)
            if decision.answer is not Answer.REFUSED:
                state, closed = superseded(state, decision)
                outputs += closed
            if decision.expires_wall_ms is not None:
                state, closed = opened(state, decision, found)
                outputs += closed
        return state, outputs

    def _weigh(
        self,
        state: ArbiterState,
        found: CandidateSet,
        candidate: Candidate,
        review: Review | None,
        higher: list[Decision],
    ) -> tuple[Decision, Grant]:
        """One candidate against everything that speaks against it; `higher` are the decisions on those before it."""
        settings, kind = self.settings, candidate.spec.kind
        mode = state.mode or settings.default_mode
        judgement = _judgement(review, candidate)
        given = Grant(0)
        reasons = [
            *why.of_switch(state),
            *why.of_review(review, judgement),
            *why.of_evidence(found, candidate, state, settings),
            *_outranked(state, found, candidate, higher),
            *why.of_target(candidate, state, settings),
            *why.of_gateway(candidate, state, settings),
            *why.of_hand(candidate, state, settings),
            *why.of_setting(candidate),
            *why.of_mode(kind, state, mode, judgement, settings),
        ]
        if found.replicas is not None and state.replicas is not None:
            limits = settings.limits_of(state.workload)
            given = grant(kind, candidate.spec.replicas, state.replicas, limits, state.starting, state.standing)
            reasons += why.of_grant(kind, given)
        ranked = why.ranked(reasons)
        answer = why.answer_of(ranked)
        asks = answer in (Answer.NEEDS_APPROVAL, Answer.RECOMMENDED)
        return (
            Decision(
                workload=state.workload,
                decision_id=found.candidate_id(candidate),
                set_id=found.id,
                candidate=candidate,
                answer=answer,
                reasons=tuple(reason.code for reason in ranked),
                detail=(*(reason.words for reason in ranked), *_numbers(review, judgement, given)),
                replicas=0 if answer is Answer.REFUSED else given.replicas,
                mode=mode,
                judgement=judgement,
                reviewer=review.reviewer if review else "",
                at_ms=state.now_ms,
                cause_ms=found.cause_ms,
                expires_wall_ms=settings.expires_wall_ms(state.now_ms, kind) if asks else None,
            ),
            given,
        )


def _with_replicas(state: ArbiterState, found: CandidateSet) -> ArbiterState:
    return state if found.replicas is None else state.with_replicas(found.replicas, found.at_ms)


def _unanswered(state: ArbiterState, found: CandidateSet) -> list[Candidate]:
    """The candidates of a set that have no answer yet, each rule once, the highest priority first.

    After a crash rules can tell one moment twice, with other rules beside those of the first time: what they share has
    its answer already.
    """
    first: dict[str, Candidate] = {}
    for candidate in sorted(found.candidates, key=lambda each: (-each.priority, each.rule)):
        first.setdefault(found.candidate_id(candidate), candidate)
    seen = state.decided
    if _waits(state, found):  # what was forgotten meanwhile says nothing of it
        return [each for ident, each in first.items() if ident not in seen.ids]
    return [each for ident, each in first.items() if not seen.knows(ident, found.at_ms)]


def _waits(state: ArbiterState, found: CandidateSet) -> bool:
    return any(each.id == found.id for each in state.pending)


def _judgement(review: Review | None, candidate: Candidate) -> Judgement | None:
    return next((each for each in review.judgements if each.rule == candidate.rule), None) if review else None


def _outranked(
    state: ArbiterState, found: CandidateSet, candidate: Candidate, higher: list[Decision]
) -> Iterable[why.Reason]:
    """A higher priority in the set does the same, and is not refused: the need is served. Or it wants the opposite:
    then the evidence is divided, whatever became of it. Or it is one to wait for. Settings are not tried where more
    capacity is asked for, whatever its priority; a bad one is taken back. Or people are asked about a newer proposal of
    this rule."""
    kind: ActionKind = candidate.spec.kind
    waits = kind is ActionKind.TUNE and not candidate.spec.frees_one
    if waits and (more := [c for c in found.candidates if c.spec.kind is ActionKind.SCALE_UP]):
        yield why.Reason(Refusal.OUTRANKED, f"{more[0].rule} asks for more capacity at the same moment")
        return
    for decision in higher:
        other = decision.candidate
        opposite = other.spec.kind.part == kind.part and other.spec.kind is not kind
        serves = why.waits_for(candidate.spec, other.spec.kind) and decision.answer is not Answer.REFUSED
        if opposite or serves:
            words = f"{other.rule} goes first, {other.spec.kind}, priority {other.priority} over {candidate.priority}"
            yield why.Reason(Refusal.OUTRANKED, words)
            return
    for case in state.cases:
        if not case.closed and case.decision.candidate.rule == candidate.rule and case.proposed_ms > found.at_ms:
            yield why.Reason(Refusal.OUTRANKED, f"people are asked about a newer one: {case.decision.decision_id}")
            return


def _numbers(review: Review | None, judgement: Judgement | None, given: Grant) -> Iterable[str]:
    """What was weighed and was no reason against: it is told as well."""
    if review and judgement:
        yield (
            f"{review.reviewer}: {judgement.verdict}, confidence {judgement.confidence:g}, risk {judgement.risk}"
            f"{', degraded' if review.degraded else ''}"
        )
    if given.replicas and given.words:
        yield given.words
