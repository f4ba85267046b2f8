"""While a breaker of ours refuses all requests, engines that tell of no demand are not believed: nothing is spare."""

from __future__ import annotations

import pytest

from contracts.events import Action, ActionKind, EndState, Finding
from tests.agents.performance.sizing_desk import LEARNT_S, Sizer, action
from tests.agents.watching_desk import ordered, outcome

BROKEN_S = 120


def broken() -> tuple[Sizer, Action]:
    """Eight requests a second came, and a breaker was opened."""
    sizer = Sizer()
    sizer.goes_on(LEARNT_S + 600)
    breaker = ordered(sizer.at_s, ActionKind.BREAKER, "breaker", settings={"breaker_s": float(BROKEN_S)})
    sizer.send(breaker)
    return sizer, breaker


def nobody_comes(sizer: Sizer, seconds: int) -> list[Finding]:
    return sizer.goes_on(seconds, 0.0, requests_running=0.0)


def sees(finding: Finding) -> bool:
    """Whether it is told what is spare, and what is expected."""
    return {"replicas_spare", "expected_rps"} <= finding.values.keys()


def test_while_a_breaker_is_open_nothing_is_spare_and_no_fewer_replicas_are_wanted() -> None:
    sizer, _ = broken()
    before = sizer.found[-1]
    assert sees(before)
    found = nobody_comes(sizer, BROKEN_S)
    assert len(found) == BROKEN_S // 15
    for each in found:
        assert not sees(each)
        assert (each.value("replicas_wanted") or 0) >= (before.value("replicas_wanted") or 0)
        assert each.words.startswith("every request is refused at the gateway, or was until just now")


def test_two_looks_after_it_closed_the_same_is_expected_as_before_it_opened() -> None:
    sizer, _ = broken()
    before = sizer.found[-1]
    nobody_comes(sizer, BROKEN_S)
    *blind, first = sizer.goes_on(30)
    assert not any(sees(each) for each in blind)
    assert sees(first)
    assert first.value("expected_rps") == pytest.approx(before.value("expected_rps"), rel=0.05)
    assert (first.value("replicas_wanted") or 0) <= (before.value("replicas_wanted") or 0)


@pytest.mark.parametrize(
    ("state", "sees_again"),
    [(EndState.UNDONE, True), (EndState.REFUSED, True), (EndState.FAILED, True), (EndState.VERIFIED, False)],
)
def test_a_breaker_that_was_taken_back_or_never_opened_is_believed_to_be_closed(
    state: EndState, sees_again: bool
) -> None:
    sizer, breaker = broken()
    sizer.send(outcome(breaker, sizer.at_s, state))
    *blind, last = sizer.goes_on(30)
    assert not any(sees(each) for each in blind)
    assert sees(last) is sees_again


def test_the_end_of_another_action_opens_no_eyes() -> None:
    sizer, _ = broken()
    sizer.send(outcome(action(1, sizer.at_s), sizer.at_s, EndState.REFUSED))
    assert not sees(sizer.goes_on(30)[-1])
