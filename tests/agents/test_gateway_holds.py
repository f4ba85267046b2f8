"""While our limit stands at a gateway no capacity is given back; a limit is tightened soon after it was loosened, never
the other way."""

from __future__ import annotations

import pytest

from contracts.events import Action, ActionKind, Answer, Candidate, Decision, EndState, Refusal
from tests.agents.arbiter_desk import Desk, answer, down, ended, found, judged, revision, up
from tests.agents.test_gateway_kinds import BREAKER, CONTEXT, QUEUE, at_gateway, candidate, desk


def restoring(kind: ActionKind, value: float = 0.0) -> Candidate:
    tight = candidate(kind, value)
    return tight.model_copy(update={"rule": f"lifts-{kind}", "spec": tight.spec.model_copy(update={"restores": True})})


def asked(of: Desk, what: Candidate, at_s: float) -> Decision:
    return of.decide(judged(found(what, at_s=at_s)))


def queued(state: EndState = EndState.VERIFIED) -> tuple[Desk, Action]:
    """A gateway at which a queue was set, and ended so after a minute and a half."""
    held = desk()
    begun = held.begin(candidate(QUEUE))
    held.send(at_gateway(5, 96), ended(begun, state, at_s=90))
    return held, begun


@pytest.mark.parametrize("kind", [QUEUE, CONTEXT, BREAKER])
def test_no_capacity_is_given_back_while_something_is_done_at_the_gateway(kind: ActionKind) -> None:
    busy = desk()
    busy.begin(candidate(kind))
    assert asked(busy, down(), 5).reasons == (Refusal.IN_FLIGHT,)
    assert asked(busy, up(), 10).answer is Answer.APPROVED


def test_no_capacity_is_given_back_while_our_queue_stands_for_who_waits_there_is_not_measured() -> None:
    held, _ = queued()
    refused = asked(held, down(), 1000)
    assert refused.reasons == (Refusal.MISSING_EVIDENCE,)
    assert "that our limit at the gateway holds back: max_in_flight 96" in refused.detail[0]
    assert asked(held, up(), 1005).answer is Answer.APPROVED


def test_some_is_given_back_again_once_the_queue_was_lifted_and_five_minutes_have_passed() -> None:
    held, _ = queued()
    held.send(ended(held.begin(restoring(QUEUE), at_s=400), at_s=500))
    rests = asked(held, down(), 510)
    assert rests.reasons == (Refusal.COOLDOWN,)
    assert "10 s of 300 s have passed since the last queue" in rests.detail
    assert asked(held, down(), 801).answer is Answer.APPROVED


@pytest.mark.parametrize(("stands", "said"), [(96, Answer.REFUSED), (0, Answer.APPROVED)])
def test_after_a_release_that_nobody_saw_through_the_gateway_tells_whether_the_queue_stands(
    stands: int, said: Answer
) -> None:
    held, _ = queued()
    release = held.begin(restoring(QUEUE), at_s=400)
    held.send(ended(release, EndState.HELD_UNVERIFIED, at_s=500), at_gateway(500, stands))
    assert asked(held, down(), 900).answer is said


@pytest.mark.parametrize("state", [EndState.VERIFIED, EndState.HELD_UNVERIFIED])
def test_a_queue_that_was_raised_still_holds_requests_back(state: EndState) -> None:
    held, _ = queued()
    raised = held.begin(restoring(QUEUE, 144.0), at_s=400)
    held.send(at_gateway(410, 144), ended(raised, state, at_s=500))
    refused = asked(held, down(), 900)
    assert refused.reasons == (Refusal.MISSING_EVIDENCE,)
    assert "max_in_flight 144" in refused.detail[0]
    held.send(ended(held.begin(restoring(QUEUE), at_s=905), at_s=1000), at_gateway(1001, 0))
    assert asked(held, down(), 1400).answer is Answer.APPROVED


def test_what_people_had_set_before_our_queue_is_theirs_again_when_it_is_set_back() -> None:
    held = desk()
    held.send(at_gateway(0, 200))
    queue = held.begin(candidate(QUEUE), at_s=700)
    held.send(at_gateway(710, 96), ended(queue, at_s=790))
    assert asked(held, down(), 1200).reasons == (Refusal.MISSING_EVIDENCE,)
    back = held.begin(restoring(QUEUE, 200.0), at_s=1205)
    held.send(at_gateway(1210, 200), ended(back, at_s=1300))
    assert asked(held, down(), 1700).answer is Answer.APPROVED


def test_a_queue_that_was_set_back_or_that_people_lifted_holds_nothing_back() -> None:
    undone, _ = queued(EndState.UNDONE)
    undone.send(at_gateway(91, 0))
    lifted, _ = queued()
    lifted.send(at_gateway(100, 0))
    for held in (undone, lifted):
        assert asked(held, down(), 1000).answer is Answer.APPROVED


def test_a_breaker_holds_back_until_its_time_though_its_outcome_is_known_long_before() -> None:
    broken = desk()
    begun = broken.begin(candidate(BREAKER, 600.0))
    broken.send(at_gateway(5, 0, round(begun.gateway_limits["breaker_until_ms"])), ended(begun, at_s=60))
    assert asked(broken, down(), 590).reasons == (Refusal.MISSING_EVIDENCE,)
    assert asked(broken, down(), 601).answer is Answer.APPROVED


def test_a_yes_to_less_capacity_is_refused_while_our_queue_stands() -> None:
    held = desk()
    waiting = held.ask(down())
    begun = held.begin(candidate(QUEUE), at_s=5)
    held.send(at_gateway(10, 96), ended(begun, at_s=90))
    said = revision(held.send(answer(waiting, at_s=500)))
    assert (said.answer, said.reasons) == (Answer.REFUSED, (Refusal.MISSING_EVIDENCE,))


def test_a_gateway_that_is_no_longer_named_holds_nobody_back_for_nobody_reads_it() -> None:
    held, _ = queued()
    without = Desk()
    without.state = held.state
    assert asked(without, down(), 1000).answer is Answer.APPROVED


@pytest.mark.parametrize("kind", [QUEUE, CONTEXT])
@pytest.mark.parametrize("state", [EndState.VERIFIED, EndState.UNDONE])
def test_a_limit_is_tightened_at_once_after_it_was_loosened(kind: ActionKind, state: EndState) -> None:
    eased = desk()
    eased.send(ended(eased.begin(restoring(kind)), state, at_s=20))
    eased.begin(candidate(kind), at_s=25)


@pytest.mark.parametrize("first", [candidate(QUEUE), restoring(QUEUE)], ids=["tightened", "loosened"])
def test_a_limit_is_loosened_only_a_while_after_it_was_last_changed(first: Candidate) -> None:
    rested = desk()
    rested.send(ended(rested.begin(first), at_s=20))
    assert asked(rested, restoring(QUEUE), 30).reasons == (Refusal.COOLDOWN,)
    assert asked(rested, restoring(QUEUE), 81).answer is Answer.APPROVED
