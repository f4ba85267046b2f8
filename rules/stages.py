"""The stage of this package, ready for either driver."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel

from contracts.events import Message
from contracts.stage import Scope, Stage
from contracts.topics import ALERTS, CANDIDATES, FINDINGS, SLIS, TICKS
from rules.book import EngineSeat, RuleBook
from rules.core import fold
from rules.core.fold import RuleSettings, RulesState


def stages(book: RuleBook, seat: EngineSeat, settings: RuleSettings) -> tuple[Stage, ...]:
    """`rules`, by the rules that are in force when a batch comes. Whoever made the seat closes it."""

    def step(state: BaseModel | None, batch: Sequence[Message]) -> tuple[BaseModel | None, list[Message]]:
        assert state is None or isinstance(state, RulesState)  # noqa: S101 — narrows the driver's untyped state
        rules = book.rules  # read once: it may be replaced while this batch is under way
        return fold.step(rules, seat.engine_for(rules), settings, state, batch)

    return (
        Stage(
            name="rules",
            inputs=(SLIS, FINDINGS, TICKS),
            outputs=(CANDIDATES, ALERTS),
            scope=Scope.WORKLOAD,
            state=RulesState,
            step=step,
            doc="SLIs of a workload, and what agents found of it, to the rules that fire on them",
        ),
    )
