"""What is told of an action that has ended, and whom it wakes."""

from __future__ import annotations

import pytest

from agents.core.outcomes import alert_of, outcome_of
from contracts.events import EndState, Severity
from contracts.ledger import Mark, Phase
from tests.agents.saga_help import NOW, UP, record


@pytest.mark.parametrize(
    ("state", "name", "severity"),
    [
        (EndState.HELD_UNVERIFIED, "action_held", Severity.CRITICAL),
        (EndState.UNDONE, "action_undone", Severity.WARNING),
        (EndState.FAILED, "action_failed", Severity.WARNING),
    ],
)
def test_people_are_told_of_what_went_wrong_with_what_to_do(state: EndState, name: str, severity: Severity) -> None:
    end = record(UP, Phase.ENDED, Mark.UNDONE, end_state=state, ended_ms=NOW, reasons=("lied",), detail="4 of 5")
    outcome = outcome_of(end)
    alert = alert_of(outcome)
    assert alert is not None
    assert (alert.name, alert.severity, alert.subject) == (name, severity, end.action.id)
    assert alert.summary == f"scale_up of chat by 1 ended {state} (lied): 4 of 5"
    assert alert.fix
    assert alert_of(outcome_of(end)) == alert
    assert (outcome.steps_applied, outcome.steps_undone) == (1, 1)


@pytest.mark.parametrize("state", [EndState.VERIFIED, EndState.REFUSED])
def test_an_action_that_went_as_it_should_wakes_nobody(state: EndState) -> None:
    assert alert_of(outcome_of(record(UP, Phase.ENDED, end_state=state, ended_ms=NOW))) is None


def test_what_has_not_ended_has_no_outcome() -> None:
    with pytest.raises(ValueError, match="has not ended"):
        outcome_of(record())
