"""What holds of the arbiter under any log: the laws of a stage, and what it may never do."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from agents.core.arbiter_reasons import ORDER
from agents.core.arbiter_settings import ArbiterSettings
from agents.core.arbiter_state import CLOSED_LIMIT, FLIGHTS_LIMIT, IDS_LIMIT, OPEN_LIMIT, PENDING_LIMIT
from agents.stages import stages
from contracts.codec import decode, encode
from contracts.events import (
    Action,
    ActionKind,
    Alert,
    Answer,
    Approval,
    Candidate,
    CandidateSet,
    Control,
    ControlKind,
    Decision,
    Message,
    Mode,
    Outcome,
    Review,
    Risk,
    Tick,
    Verdict,
)
from tests.agents.arbiter_desk import Desk
from tests.agents.arbiter_log import SETTINGS, played, recorded
from tests.streams.test_stage_laws import fold_in_cuts

SEEDS = st.integers(min_value=0, max_value=2**32)
many = effort(max_examples=60, deadline=None)


@given(seed=SEEDS)
@effort(max_examples=25, deadline=None)
def test_cutting_the_log_into_batches_changes_nothing(seed: int) -> None:
    with_settings, log = recorded(seed)
    (stage,) = stages(with_settings)
    rng = random.Random(seed)
    cuts = sorted(rng.sample(range(1, len(log)), k=min(12, len(log) - 1)))
    whole_state, whole = stage.step(None, log)
    state, outputs = fold_in_cuts(stage, log, cuts)
    assert [m.model_dump() for m in outputs] == [m.model_dump() for m in whole]
    assert (state and state.model_dump()) == (whole_state and whole_state.model_dump())
    assert whole, "the recording must exercise the stage"


@given(seed=SEEDS)
@many
def test_reading_a_stretch_twice_says_nothing_and_changes_nothing(seed: int) -> None:
    with_settings, log = recorded(seed)
    (stage,) = stages(with_settings)
    at = random.Random(seed).randrange(1, len(log))
    state, _ = stage.step(None, log[:at])
    again, outputs = stage.step(state, log[max(0, at - 20) : at])
    assert outputs == []
    assert (again and again.model_dump()) == (state and state.model_dump())


@given(seed=SEEDS)
@many
def test_ids_are_unique_and_every_output_fits_its_topic(seed: int) -> None:
    with_settings, log = recorded(seed)
    (stage,) = stages(with_settings)
    _, outputs = stage.step(None, log)
    ids = [m.id for m in outputs if not isinstance(m, Action)]
    assert len(ids) == len(set(ids))
    actions = {m.id: m for m in outputs if isinstance(m, Action)}
    assert not actions.keys() & set(ids)
    assert all(actions[m.id] == m for m in outputs if isinstance(m, Action)), "one is said again as it was"
    for output in outputs:
        assert decode(encode(output, source="test")) == output


class Auditor:
    """Follows a log beside the arbiter, by rules of its own, and says what no action may do."""

    def __init__(self, with_settings: ArbiterSettings) -> None:
        self.settings = with_settings
        self.limits = with_settings.default_limits
        self.mode, self.mode_at = with_settings.default_mode, 0
        self.killed, self.killed_at = False, 0
        self.flying: dict[str, Action] = {}
        self.reviews: dict[str, Review] = {}
        self.seen: set[str] = set()
        self.repeated: set[str] = set()
        self.asked: dict[str, Candidate] = {}

    def hears(self, message: Message) -> None:
        """What a message tells, before the arbiter answers it."""
        if not isinstance(message, Tick) and message.id in self.seen:
            return
        self.seen.add(message.id)
        match message:
            case Review():
                self.reviews.setdefault(message.candidates.id, message)
            case Control(kind=ControlKind.MODE, mode=Mode() as mode):
                if message.at_wall_ms >= self.mode_at:
                    self.mode, self.mode_at = mode, message.at_wall_ms
            case Control():
                kill = message.kind is ControlKind.KILL
                if message.at_wall_ms > self.killed_at or (kill and message.at_wall_ms == self.killed_at):
                    self.killed, self.killed_at = kill, message.at_wall_ms
            case Outcome():
                self.flying.pop(message.action.id, None)
            case _:
                pass

    def allows(self, action: Action, decision: Decision, cause: Message) -> None:
        """An action came out when `cause` went in."""
        assert not self.killed
        assert self.settings.has_controller
        assert decision.answer is Answer.APPROVED
        assert decision.action_id == action.id
        assert decision.replicas == action.spec.replicas <= decision.candidate.spec.replicas
        if action.approved_by.startswith("mode:"):
            self.alone(action, decision, cause)
        else:
            assert isinstance(cause, Approval)
            assert cause.approve
            assert cause.actor == action.approved_by
            asked = self.asked[cause.decision_id]
            assert (asked.rule, asked.spec.kind) == (action.rule, action.spec.kind)
            if cause.decision_id != action.decision_id:  # it stands in the place of what was asked, and asks the same
                assert asked.spec.replicas == decision.candidate.spec.replicas
        others = list(self.flying.values())
        ups = all(other.spec.kind is ActionKind.SCALE_UP for other in others)
        assert action.beside == (() if action.preempts else tuple(self.flying))
        if action.spec.stacks and ups:
            assert action.preempts == ""
            assert not self.repeated & self.flying.keys()
        elif others:
            (other,) = others
            assert action.preempts == other.id
            assert action.spec.kind is not other.spec.kind
            assert action.priority > other.priority
        else:
            assert action.preempts == ""
        self.flying[action.id] = action

    def alone(self, action: Action, decision: Decision, cause: Message) -> None:
        """The platform acts without a person."""
        assert isinstance(cause, Review)
        assert self.mode is not Mode.ADVISORY
        assert cause == self.reviews[decision.set_id], "the first review decides"
        assert not cause.failure
        assert not cause.degraded
        (judgement,) = (each for each in cause.judgements if each.rule == action.rule)
        assert judgement.verdict is Verdict.APPROVE
        assert judgement.confidence >= (0.9 if self.mode is Mode.SEMI_AUTONOMOUS else 0.5)
        assert self.mode is Mode.AUTONOMOUS or judgement.risk is Risk.LOW
        assert None not in (self.limits.min_replicas, self.limits.max_replicas)
        asked = cause.candidates
        if action.spec.kind is ActionKind.SCALE_DOWN:
            assert asked.coverage_ratio >= 0.5
            assert all(fact.value is not None for fact in decision.candidate.facts)

    def again(self, action: Action, cause: Message) -> None:
        """An action whose outcome has not come is said once more, when time passes and all of its time is over."""
        assert isinstance(cause, Tick)
        assert action == self.flying[action.id]
        assert action.id not in self.repeated
        self.repeated.add(action.id)
        effect = action.spec.effect
        over_s = effect.settle_s + 6 * effect.by_s + self.settings.overdue_s
        assert cause.at_ms > action.start_by_ms + over_s * 1000 - ArbiterSettings.ahead_s * 1000

    def within(self, action: Action, known: int) -> None:
        """Limits and expectation, where `known` replicas answer by what was told last."""
        spec = action.spec
        assert (action.least_replicas, action.most_replicas) == (
            self.limits.min_replicas or 1,
            self.limits.max_replicas,
        )
        expected = spec.effect.expect.value
        if spec.kind is ActionKind.SCALE_UP:
            assert expected == known + spec.replicas <= (self.limits.max_replicas or 1000)
        else:
            assert expected == known - spec.replicas >= (self.limits.min_replicas or 1)
            assert spec.replicas <= max(1, known * self.limits.max_step_down_ratio)


@given(seed=SEEDS)
@many
def test_no_action_without_leave_and_none_beyond_the_limits(seed: int) -> None:
    with_settings, log = recorded(seed)
    desk, auditor = Desk(with_settings), Auditor(with_settings)
    for message in log:
        auditor.hears(message)
        outputs = desk.send(message)
        decisions = {each.decision_id: each for each in outputs if isinstance(each, Decision)}
        auditor.asked |= {ident: each.candidate for ident, each in decisions.items()}
        for action in (each for each in outputs if isinstance(each, Action)):
            if action.id in auditor.flying:
                auditor.again(action, message)
                continue
            auditor.allows(action, decisions[action.decision_id], message)
            auditor.within(action, desk.state.replicas)


@given(seed=SEEDS)
@many
def test_every_candidate_is_answered_once_and_every_revision_follows_the_one_before(seed: int) -> None:
    desk, _, log = played(seed)
    asked = {
        each.candidate_id(candidate)
        for message in log
        if (each := message.candidates if isinstance(message, Review) else message) and isinstance(each, CandidateSet)
        for candidate in each.candidates
    }
    revisions: dict[str, list[int]] = {}
    for decision in desk.decisions:
        revisions.setdefault(decision.decision_id, []).append(decision.revision)
    assert set(revisions) == asked
    assert all(told == list(range(len(told))) for told in revisions.values())


@given(seed=SEEDS)
@many
def test_every_decision_says_why_and_what_follows(seed: int) -> None:
    desk, *_ = played(seed)
    for decision in desk.decisions:
        assert decision.detail, "the numbers are told"
        assert (decision.answer is Answer.APPROVED) == (not decision.reasons) == bool(decision.action_id)
        assert (decision.answer is Answer.REFUSED) <= (decision.replicas == 0)
        assert len(decision.reasons) == len(set(decision.reasons))
        if decision.expires_wall_ms is not None:
            assert decision.answer in (Answer.NEEDS_APPROVAL, Answer.RECOMMENDED)
    told = Counter(each.id for each in desk.actions)
    assert set(told.values()) <= {1, 2}


@given(seed=SEEDS)
@many
def test_every_answer_of_a_person_is_answered_once(seed: int) -> None:
    desk, _, log = played(seed)
    said = {each.id for each in log if isinstance(each, Approval)}
    answers = Counter(decision.answers for decision in desk.decisions if decision.answers)
    answers += Counter(alert.subject for alert in desk.alerts if alert.name == "approval_unknown")
    assert answers == Counter(dict.fromkeys(said, 1))


@given(seed=SEEDS)
@effort(max_examples=10, deadline=None)
def test_what_is_remembered_is_bounded(seed: int) -> None:
    with_settings, log = recorded(seed, steps=600)
    (stage,) = stages(with_settings)
    state, _ = stage.step(None, log)
    kept = state.model_dump() if state else {}
    assert len(kept["pending"]) <= PENDING_LIMIT
    assert len([case for case in kept["cases"] if not case["closed"]]) <= OPEN_LIMIT
    assert len([case for case in kept["cases"] if case["closed"]]) <= CLOSED_LIMIT
    assert max(len(kept[name]["ids"]) for name in ("decided", "heard", "events", "ended")) <= IDS_LIMIT
    assert len(kept["flights"]) <= FLIGHTS_LIMIT
    assert state is not None
    assert len(state.model_dump_json()) < 120_000


def test_the_recordings_meet_every_reason_and_every_end() -> None:
    """Without this the laws above might hold of logs in which nothing happens."""
    reasons: Counter[str] = Counter()
    answers: Counter[str] = Counter()
    alerts: Counter[str] = Counter()
    preempting = by_people = again = beside = 0
    for seed in range(len(SETTINGS) * 10):
        desk, *_ = played(seed)
        reasons.update(reason for decision in desk.decisions for reason in decision.reasons)
        answers.update(decision.answer for decision in desk.decisions)
        alerts.update(alert.name for alert in desk.alerts if isinstance(alert, Alert))
        preempting += sum(bool(action.preempts) for action in desk.actions)
        beside += sum(len(action.beside) > 1 for action in desk.actions)
        again += len(desk.actions) - len({action.id for action in desk.actions})
        by_people += sum(not action.approved_by.startswith("mode:") for action in desk.actions)
    assert set(reasons) == set(ORDER), "the other codes are the executor's"
    assert set(answers) == set(Answer)
    assert set(alerts) == {"approval_unknown", "control_ignored", "action_overdue"}
    assert again >= 5
    assert preempting >= 5
    assert beside >= 5
    assert by_people >= 20
