"""What controllers answer, with patience: one that is late, or raises what it should not, counts as away."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from agents.core.moves import Draft
from agents.core.steps import open_tokens
from agents.waiting import Waiting
from contracts.errors import ConfigError, Conflict, OptiInfraError, Unavailable
from contracts.ledger import ActionRecord
from contracts.ports import Controller, Observation, StepReport

log = structlog.get_logger(__name__)

T = TypeVar("T")

CONTROLLER_S = 30.0
"""Wall seconds that a controller may take for one answer; after that it counts as away, and deadlines run on."""

Troubled = Callable[[ActionRecord, Exception], None]
"""Hears of an action that meets a fault; it is tried again all the same."""


class Asking:
    """Asks controllers on behalf of one action at a time. `controller_s`: wall seconds for one answer; `waiting`: how
    it is waited for."""

    def __init__(self, troubled: Troubled, controller_s: float = CONTROLLER_S, *, waiting: Waiting) -> None:
        self._troubled, self._controller_s, self._waiting = troubled, controller_s, waiting

    async def answer(self, record: ActionRecord, answer: Awaitable[T]) -> T:
        """The answer of a controller. One that takes too long, or raises what it should not, is away: Unavailable."""
        try:
            async with self._waiting.within(self._controller_s):
                return await answer
        except OptiInfraError:
            raise
        except TimeoutError as error:
            words = f"the controller has not answered for {self._controller_s:g} s"
            raise Unavailable(words, where=record.action.target, fix="It is asked again.") from error
        except Exception as error:  # a fault in it must not keep deadlines from being met
            self._troubled(record, error)
            words = f"the controller failed: {type(error).__name__}: {error}"
            raise Unavailable(words, where=record.action.target, fix="It is asked again.") from error

    async def draft(self, controller: Controller, record: ActionRecord) -> Draft | None:
        """A plan whose first steps were tried dry; final ones cannot be tried before the others are done."""
        action = record.action
        try:
            seen = await self.answer(record, controller.observe(action.workload))
            plan = await self.answer(record, controller.plan(action, seen))
            for step in plan.steps:
                if step.final:
                    continue
                if problem := await self.answer(record, controller.dry_run(action.workload, step)):
                    return Draft(doubt=problem)
        except ConfigError as error:
            return Draft(doubt=str(error))
        except (Unavailable, Conflict) as error:
            log.warning("controller_away", action=action.id, error=str(error))
            return None
        return Draft(plan, seen)

    async def look(
        self, controller: Controller, record: ActionRecord
    ) -> tuple[Observation | None, dict[str, StepReport]]:
        """The fleet, and every token whose outcome is open; what cannot be had is left out."""

        async def had(answer: Awaitable[T], **what: str) -> T | None:
            try:
                return await self.answer(record, answer)
            except (Unavailable, ConfigError, Conflict) as error:
                log.warning("controller_away", action=record.action.id, error=str(error), **what)
                return None

        tokens = open_tokens(record)
        seen = await had(controller.observe(record.action.workload))
        answers = await self._waiting.together(had(controller.inspect(token), token=token) for token in tokens)
        return seen, {token: each for token, each in zip(tokens, answers, strict=True) if each is not None}
