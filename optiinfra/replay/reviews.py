"""A reviewer's answers kept in a file: what was asked once is played back, so that a replay has one outcome."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.errors import ConfigError, Unavailable
from contracts.events import CandidateSet, Judgement, Review
from contracts.ports import Reviewer


class _Kept(BaseModel):
    """One line of the file. `asked` is the hash of the candidates with all their numbers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asked: str
    reviewer: str
    judgements: tuple[Judgement, ...] = ()
    failure: str = ""
    degraded: bool = False
    cost_usd: float = 0.0


class RecordedReviewer:
    """Plays back the answers in `path`, one JSON object a line. What is not there is asked of `live` and added; without
    one such a set gets no judgement, which is no approval.

    Raises ConfigError for a file that holds something else.
    """

    def __init__(self, path: Path, live: Reviewer | None = None) -> None:
        self._path, self._live = path, live
        self.name = f"recorded:{live.name if live else path.name}"
        self._kept: dict[str, _Kept] = {}
        for number, line in enumerate(_lines(path), 1):
            try:
                kept = _Kept.model_validate_json(line)
            except ValidationError as error:
                what = f"no recorded review: {error.errors(include_url=False)[0]['msg']}"
                raise ConfigError(what, where=f"{path}:{number}", fix="Record it anew with --review-log.") from error
            self._kept[kept.asked] = kept

    async def review(self, candidates: CandidateSet) -> Review:
        asked = hashlib.sha256(candidates.model_dump_json().encode()).hexdigest()
        kept = self._kept.get(asked)
        if kept is None:
            if self._live is None:
                return Review(candidates=candidates, reviewer=self.name, failure="no answer was recorded for this set")
            kept = self._keep(asked, await self._live.review(candidates))
        return Review(
            candidates=candidates,
            reviewer=kept.reviewer,
            judgements=kept.judgements,
            failure=kept.failure,
            degraded=kept.degraded,
            cost_usd=kept.cost_usd,
        )

    def _keep(self, asked: str, review: Review) -> _Kept:
        kept = _Kept(
            asked=asked,
            reviewer=review.reviewer,
            judgements=review.judgements,
            failure=review.failure,
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


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read: {error}", where=str(path), fix="Name another file.") from error
