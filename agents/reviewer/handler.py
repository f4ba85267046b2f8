"""A reviewer as off-stream work: each set of candidates gets its review, whatever happens to the reviewer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import structlog

from contracts.events import CandidateSet, Message, Review
from contracts.ports import Handler, Reviewer

_log = structlog.get_logger("reviewer")


def reviewing(reviewer: Reviewer, *, clock_s: Callable[[], float]) -> Handler:
    """The handler of topic `candidates`. `clock_s` is a monotonic wall clock, seconds: it gives `took_s`.

    An exception of the reviewer becomes a review that failed, never a dead letter: the arbiter waits for an answer.
    """

    async def handle(message: Message) -> Sequence[Message]:
        if not isinstance(message, CandidateSet):
            return []
        began_s = clock_s()
        try:
            review = await reviewer.review(message)
        except Exception as error:  # noqa: BLE001 - whatever it was, no approval comes of it
            what = type(error).__name__  # its text may hold anything, a key among it
            review = Review(candidates=message, reviewer=reviewer.name, failure=f"the reviewer broke: {what}")
        review = review.model_copy(update={"took_s": max(0.0, clock_s() - began_s)})
        _log.info(
            "reviewed",
            workload=message.workload,
            set_id=message.id,
            reviewer=review.reviewer,
            verdicts={each.rule: each.verdict.value for each in review.judgements},
            failure=review.failure,
            took_s=round(review.took_s, 4),
            cost_usd=review.cost_usd,
        )
        return [review]

    return handle
