"""What was decided and done, as a fold; as lines of the view; and as a story."""

from __future__ import annotations

import itertools
from typing import TypeVar

import pytest

from contracts.events import (
    Action,
    ActionSpec,
    Answer,
    AuditEntry,
    CandidateSet,
    Decision,
    EndState,
    Finding,
    Message,
    Outcome,
    Refusal,
    Review,
)
from contracts.laws.quantile import quantile
from optiinfra.deeds import Deeds
from optiinfra.live import LATENCY_EDGES_S, LiveState
from optiinfra.report import WorkloadReport, attainment_of
from optiinfra.story import case_of, tell
from optiinfra.view_deeds import deeds_lines, short
from tests.agents.saga_help import ROUTE, TUNE
from tests.contracts.messages import FULL

M = TypeVar("M", bound=Message)
NOW_MS = 1_700_000_080_000


def one(kind: type[M]) -> M:
    return next(message for message in FULL if isinstance(message, kind))


ACTION, OUTCOME, SET = one(Action), one(Outcome), one(CandidateSet)
APPROVED = one(Decision).model_copy(
    update={"revision": 0, "answer": Answer.APPROVED, "reasons": (), "answers": "", "actor": "", "detail": ()}
)
WAITING = APPROVED.model_copy(update={"answer": Answer.NEEDS_APPROVAL, "reasons": (Refusal.DEMOTED,), "action_id": ""})
TRIAL = one(AuditEntry).model_copy(update={"what": "verifying", "number": 2, "hash": "f0"})


def live(*messages: Message) -> LiveState:
    state = LiveState(speed=2.0)
    for message in messages:
        state.apply(message, NOW_MS)
    return state


def words(*messages: Message) -> str:
    return "\n".join(line.plain for line in deeds_lines(live(*messages).deeds, NOW_MS))


def test_counts_are_by_code_and_by_end_state_each_id_once() -> None:
    deeds = live(SET, SET, APPROVED, APPROVED, one(Decision), ACTION, OUTCOME, OUTCOME).deeds
    assert deeds.candidates == 1
    assert deeds.decisions == {"approved": 1, "cooldown": 1}
    assert deeds.ended == {"verified": 1}
    assert deeds.unsettled == 0


def test_an_action_is_under_way_from_its_order_to_its_outcome() -> None:
    assert live(ACTION).deeds.under_way[ACTION.id].phase == "sent"
    assert live(ACTION, TRIAL).deeds.under_way[ACTION.id].phase == "verifying"
    assert live(ACTION, TRIAL, OUTCOME).deeds.under_way == {}


@pytest.mark.parametrize("order", list(itertools.permutations([ACTION, TRIAL, OUTCOME])))
def test_topics_that_overtake_one_another_leave_nothing_under_way(order: tuple[Message, ...]) -> None:
    assert live(*order).deeds.unsettled == 0


def test_latency_runs_from_the_scrape_to_the_first_step_on_the_wall() -> None:
    found = live(OUTCOME).latency_s()
    # 1,100 event ms at twice the speed of the wall, inside the bucket from 0.5 to 0.6 s
    assert found["scrape_to_action_p50"] == pytest.approx(0.55, abs=0.06)
    assert live(SET).latency_s()["scrape_to_action_p99"] is None


def test_an_action_that_never_began_has_no_latency() -> None:
    refused = OUTCOME.model_copy(update={"end_state": EndState.REFUSED, "began_ms": None})
    deeds = live(refused).deeds
    assert quantile(deeds.begun, 0.5) is None
    assert deeds.begun.le == LATENCY_EDGES_S
    assert deeds.ended == {"refused": 1}


def test_a_case_waits_until_somebody_answers() -> None:
    assert "optiinfra approve d1" in words(WAITING)
    answered = APPROVED.model_copy(update={"revision": 1, "actor": "ann"})
    assert "optiinfra approve" not in words(WAITING, answered)
    assert "approved by ann" in words(WAITING, answered)


def test_the_view_says_what_is_done_and_how_it_ended() -> None:
    assert f"{short(ACTION.id)} chat scale_up +1: verifying for 58 s · scale-up-on-burn" in words(ACTION, TRIAL)
    assert "chat scale_up +1: verified (expect_met)" in words(ACTION, OUTCOME)


def test_a_worst_family_stands_for_the_attainment_of_a_workload() -> None:
    def told(**ratios: float | None) -> WorkloadReport:
        return WorkloadReport(replicas=1, replicas_up=1, attainment_ratio=ratios, observations={}, slis={})

    assert attainment_of({"a": told(ttft=0.9, itl=0.99), "b": told(ttft=None)}) == {"a": 0.9, "b": None}


def test_a_story_tells_every_part_with_its_numbers() -> None:
    told = "\n".join(tell(case_of([OUTCOME, ACTION, TRIAL, SET, one(Review), APPROVED])))
    for part in (
        "Rule scale-up-on-burn (version 2, priority 900, pack performance) proposed to add 1 replica to the 3",
        "burning holds: ttft_burn_rate over 10 s was 3.5, the bound is ≤ 1, for 10 s",
        "reviewer failed, and a failed review approves nothing: the model did not answer",
        "The arbiter, in mode autonomous, approved it",
        "verifying",
        "It ended: verified (expect_met). 4 replicas answer",
        "expected: replicas_up ≥ 4: met",
        "replicas_up: 3 before, 4 after",
    ):
        assert part in told


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (TUNE, "proposed to set max_num_seqs 64 on 2 replicas (chat-0, chat-1) of chat, because"),
        (ROUTE, "set the shares of requests (chat-0 50%, chat-1 25%, chat-2 25%) for 3 replicas of chat, because"),
    ],
    ids=["tune", "route"],
)
def test_a_story_of_settings_or_shares_names_them(spec: ActionSpec, said: str) -> None:
    candidate = APPROVED.candidate.model_copy(update={"spec": spec})
    told = "\n".join(tell(case_of([APPROVED.model_copy(update={"candidate": candidate})])))
    assert said in told


def test_a_refusal_is_told_with_all_its_reasons() -> None:
    refused = one(Decision)
    told = "\n".join(tell(case_of([refused])))
    assert "refused it, scale_up +1 (cooldown, in_flight)" in told
    assert "12 s of 60 s have passed" in told


def test_what_the_log_says_again_and_again_of_an_action_is_told_once() -> None:
    def saved(number: int, what: str, detail: str = "step 1 done") -> AuditEntry:
        return TRIAL.model_copy(update={"number": number, "what": what, "detail": detail, "hash": f"f{number}"})

    log = [saved(2, "trial"), saved(3, "trial"), saved(4, "trial"), saved(5, "applying"), saved(6, "trial")]
    told = "\n".join(tell(case_of([APPROVED, ACTION, *log])))
    assert [line.split()[1] for line in told.splitlines() if "step 1 done" in line] == ["trial:", "applying:", "trial:"]


def test_an_unknown_case_says_so() -> None:
    assert tell(case_of([])) == ["No decision is known by this id."]


def test_deeds_forget_phases_of_what_they_never_heard_of() -> None:
    deeds = Deeds(speed=1.0, latency=live().latency)
    for number in range(1500):
        deeds.apply(TRIAL.model_copy(update={"subject": f"a{number}"}))
    assert deeds.unsettled == 0
    assert len(deeds._phases) <= 1000


def test_the_newest_finding_on_memory_is_kept_by_workload_and_no_other_kind() -> None:
    def told(at_ms: int, kind: str = "pressure", workload: str = "chat") -> Finding:
        return Finding(workload=workload, kind=kind, at_ms=at_ms, cause_ms=at_ms)

    state = live(told(2), told(1), told(3, "sizing"), told(1, workload="code"))
    assert {name: each.at_ms for name, each in state.deeds.pressure.items()} == {"chat": 2, "code": 1}


def test_a_score_of_memory_grows_old_and_what_was_counted_does_not() -> None:
    numbers = {"pressure_score": 61.5, "oom_prevented": 2.0}
    state = live(Finding(workload="chat", kind="pressure", at_ms=1000, cause_ms=1000, values=numbers))
    assert state.deeds.memory(1000) == {"chat": numbers}
    assert state.deeds.memory(1001) == {"chat": {"oom_prevented": 2.0}}
