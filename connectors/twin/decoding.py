"""The requests of a batch that decode: each gains a token a step, so what all share is counted once."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from connectors.twin.profiles import BLOCK_TOKENS
from connectors.twin.request import Sequence


class Decoding:
    """`count` requests, which hold `tokens` tokens between them, at `step` of the engine's life. Who ends next
    is on a heap; how many open a block is counted for each of sixteen steps, after which it is the same again."""

    def __init__(self) -> None:
        self.count = self.tokens = self.step = 0
        self._phases = [0] * BLOCK_TOKENS
        self._ends: list[tuple[int, int, Sequence]] = []

    def join(self, sequence: Sequence) -> None:
        """It decodes from the next step on."""
        self.count += 1
        self.tokens += sequence.target
        self._phases[sequence.phase] += 1
        heappush(self._ends, (sequence.end_step, sequence.request.request_id, sequence))

    def leave(self, sequence: Sequence, step: int) -> int:
        """It decodes no more from `step` on: the tokens that it holds."""
        held_tokens = sequence.held_tokens(step)
        self.count -= 1
        self.tokens -= held_tokens
        self._phases[sequence.phase] -= 1
        sequence.joined_step = -1
        return held_tokens

    def passed(self, steps: int) -> None:
        """So many steps have ended, and nobody ended before the last of them."""
        self.tokens += self.count * steps
        self.step += steps

    @property
    def opening(self) -> int:
        """Blocks that the next step opens."""
        return self._phases[self.step % BLOCK_TOKENS]

    def opened(self, after: int, steps: int) -> int:
        """Blocks that `steps` steps open, beginning `after` steps from now."""
        cycles, rest = divmod(steps, BLOCK_TOKENS)
        first, phases = self.step + after, self._phases
        return cycles * self.count + sum(phases[(first + i) % BLOCK_TOKENS] for i in range(rest))

    def until_an_end(self) -> int:
        """Steps until somebody ends; there is somebody."""
        while not _is_end(*self._ends[0]):
            heappop(self._ends)
        return self._ends[0][0] - self.step

    def ending(self) -> Iterator[tuple[int, Sequence]]:
        """Those who have ended by now, each with its step, who then have to leave."""
        while self._ends and self._ends[0][0] <= self.step:
            step, number, sequence = heappop(self._ends)
            if _is_end(step, number, sequence):
                yield step, sequence


def _is_end(step: int, _: int, sequence: Sequence) -> bool:
    """One that was pushed out leaves its old end behind on the heap."""
    return sequence.joined_step >= 0 and sequence.end_step == step
