"""A reviewer's answers kept in a file: what was asked once is played back, so that a replay has one outcome."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from agents.reviewer.deterministic import DeterministicReviewer
from contracts.errors import ConfigError, Unavailable
from contracts.events import CandidateSet, Judgement, Review
from contracts.ports import Reviewer
from optiinfra.settings import ReviewSettings
from optiinfra.wiring.acting import made_reviewer

FAILED, MISSING = "failed", "deterministic: not in the log"
"""What `counts` counts sets of candidates by, beside the names of those whose answers were recorded."""

MOST_FAILURES = 3
"""After so many failures one after the other a reviewer is not asked again: it would take hours to fail every time."""


class _Kept(BaseModel):
    """One line of the file. `asked` is the hash of the candidates with all their numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: str
    reviewer: str
    judgements: tuple[Judgement, ...] = ()
    degraded: bool = False
    cost_usd: float = 0.0


class RecordedReviewer:
    """Plays back the answers in `path`, one JSON object a line. What is not there is asked of `live` and added; without
    one the deterministic reviewer judges it. An answer that failed is no approval, and is not kept: the next replay
    asks again. `counts`: sets by the reviewer whose answer was recorded (now or before), FAILED and MISSING.

    Raises ConfigError for a file that holds something else, Unavailable for one that cannot be written.
    """

    def __init__(self, path: Path, live: Reviewer | None = None) -> None:
        self._path, self._live = path, live
        self._spare = DeterministicReviewer()
        self._failures = 0
        self.name = f"recorded:{path.name}"
        self.counts: Counter[str] = Counter()
        self._kept: dict[str, _Kept] = {}
        for number, line in enumerate(_lines(path), 1):
            try:
                kept = _Kept.model_validate_json(line)
            except ValidationError as error:
                what = f"no recorded review: {error.errors(include_url=False)[0]['msg']}"
                raise ConfigError(what, where=f"{path}:{number}", fix="Delete the line, or record anew.") from error
            self._kept[kept.asked] = kept

    async def review(self, candidates: CandidateSet) -> Review:
        asked = hashlib.sha256(candidates.model_dump_json().encode()).hexdigest()
        kept = self._kept.get(asked)
        if kept is None:
            if self._live is None:
                self.counts[MISSING] += 1
                return await self._spare.review(candidates)
            review = await self._asked(self._live, candidates)
            if review.failure:
                self.counts[FAILED] += 1
                return review
            kept = self._keep(asked, review)
        self.counts[kept.reviewer] += 1
        return Review(
            candidates=candidates,
            reviewer=kept.reviewer,
            judgements=kept.judgements,
            degraded=kept.degraded,
            cost_usd=kept.cost_usd,
        )

    async def _asked(self, live: Reviewer, candidates: CandidateSet) -> Review:
        if self._failures >= MOST_FAILURES:
            words = f"not asked: it failed {self._failures} times one after the other"
            return Review(candidates=candidates, reviewer=live.name, failure=words)
        review = await live.review(candidates)
        self._failures = self._failures + 1 if review.failure else 0
        return review

    def _keep(self, asked: str, review: Review) -> _Kept:
        kept = _Kept(
            asked=asked,
            reviewer=review.reviewer,
            judgements=review.judgements,
            degraded=review.degraded,
            cost_usd=review.cost_usd,
        )
        self._kept[asked] = kept
        try:
            with self._path.open("a", encoding="utf-8") as log:
                log.write(kept.model_dump_json() + "\n")
        except OSError as error:
            what = f"the answer cannot be written: {error.strerror or error}"
            raise Unavailable(what, where=str(self._path), fix="Name a file that can be written.") from error
        return kept


class LifeReviewer:
    """The reviewer that `up` would take by these settings, opened for one set and closed after it: replays of one run
    have event loops of their own, and connections do not outlive a loop. `name` is its name."""

    def __init__(self, wanted: ReviewSettings, name: str) -> None:
        self._wanted, self.name = wanted, name

    @classmethod
    async def of(cls, wanted: ReviewSettings) -> LifeReviewer:
        """Raises ConfigError where the settings name no model, or one that cannot be reached as they say, Unavailable
        without the extra."""
        if not wanted.wants_llm:
            fix = "Set OPTIINFRA_REVIEW__BASE_URL or OPENAI_API_KEY, or leave --review-record out."
            raise ConfigError("the settings name no model to be asked", where="--review-record", fix=fix)
        async with made_reviewer(wanted) as made:
            return cls(wanted, made.name)

    async def review(self, candidates: CandidateSet) -> Review:
        async with made_reviewer(self._wanted) as made:
            return await made.review(candidates)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="Name another file.") from error
