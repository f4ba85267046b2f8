"""What every trace becomes: single requests where the file has them, and requests in each second for scaling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Seconds = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Requests:
    """Single requests in order of arrival.

    `arrival_s`: seconds since the origin of the trace, never falling. `prompt_tokens`, `output_tokens`: of the same
    length, None where the format does not tell. `blocks`: ids of the prompt's KV blocks of each request, None where
    the format does not tell; each stands for `block_tokens` tokens, the last maybe for fewer. `midnight_s`: which
    second of a day `arrival_s` 0 is. `origin`: the format and the file. `generated`: what of this was drawn and not
    recorded; empty where nothing was.
    """

    arrival_s: Seconds
    prompt_tokens: Counts | None
    output_tokens: Counts | None
    origin: str
    generated: str = ""
    blocks: tuple[tuple[int, ...], ...] | None = None
    midnight_s: float = 0.0
    block_tokens: int = 512

    def __len__(self) -> int:
        return len(self.arrival_s)

    def load(self, workload: str) -> Load:
        """Requests in each second from 0 on. The second of the last request is left out: the trace may end in it."""
        second = np.floor(self.arrival_s).astype(np.int64)
        whole = max(int(second[-1]), 1) if len(second) else 0
        counts = np.bincount(second[second < whole], minlength=whole).astype(np.int64)
        return Load(workload, counts, self.origin, self.generated, begin_s=int(self.midnight_s))


@dataclass(frozen=True, eq=False)
class Load:
    """Requests that arrive in each second at one workload.

    `per_second`: [seconds], from `begin_s` seconds after a midnight on. `origin` and `generated` as in Requests.
    `measured`: [seconds], False where nobody measured and 0 means nothing; None where all of it was measured.
    """

    workload: str
    per_second: Counts
    origin: str
    generated: str = ""
    begin_s: int = 0
    measured: NDArray[np.bool_] | None = None

    @property
    def mean_rps(self) -> float:
        """Requests a second over the whole trace."""
        return float(self.per_second.mean()) if len(self.per_second) else 0.0
