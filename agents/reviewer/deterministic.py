"""The reviewer that needs nobody: it judges by the arithmetic of `agents.core.review`, and says how."""

from __future__ import annotations

from agents.core.review import judge_all
from contracts.events import CandidateSet, Review


class DeterministicReviewer:
    """The default reviewer. It costs nothing, cannot be away, and the same set always gets the same answer."""

    name = "deterministic"

    async def review(self, candidates: CandidateSet) -> Review:
        return Review(candidates=candidates, reviewer=self.name, judgements=judge_all(candidates))
