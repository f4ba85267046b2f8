"""One request: as the load makes it, and as the engine holds it."""

from __future__ import annotations

from collections import abc
from dataclasses import dataclass, field
from math import inf

from connectors.twin.profiles import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for. Times are event ms, lengths are tokens.

    `output_tokens` is what the model will say; it ends with reason `length` where that is `max_tokens`, else `stop`.
    The first `prefix_tokens` of the prompt are those of prefix `prefix_id` (a system prompt, an earlier turn); where
    there are `hashes`, they tell the prompt block by block instead, each with all that comes before it.
    A client without a first token after `patience_ms` gives up (`abort`); `fails` ends in an engine error.
    """

    request_id: int
    arrival_ms: float
    prompt_tokens: int
    output_tokens: int
    max_tokens: int
    prefix_id: int = 0
    prefix_tokens: int = 0
    patience_ms: float = 60_000.0
    fails: bool = False
    hashes: abc.Sequence[abc.Hashable] = ()

    def block_hashes(self, tokens: int) -> abc.Sequence[abc.Hashable]:
        """The hashes of the whole blocks of `tokens` tokens at the head of the prompt."""
        if self.hashes:
            return self.hashes[: self.prompt_tokens // tokens]
        first = self.prefix_id << 32
        return range(first, first + self.prefix_tokens // tokens)


@dataclass(slots=True, eq=False)
class Sequence:
    """A request inside the engine. `target` tokens are prefilled: the prompt, plus what a preemption lost.

    `joined_step` is the engine's step at which it began to decode, -1 before. It holds `blocks` of its own and those
    known by the hashes in `named`; the first `told` of its `hashes` have been computed or found. `cached` counts its
    prompt tokens that were found, of them `from_host` and `from_disk`; `loading` those that are still on their way.
    """

    request: Request
    submitted_ms: float
    target: int
    computed: int = 0
    cached: int = 0
    blocks: int = 0
    generated: int = 0
    joined_step: int = -1
    scheduled_ms: float = -1.0
    first_token_ms: float = -1.0
    last_token_ms: float = -1.0
    preemptions: int = 0
    hashes: abc.Sequence[abc.Hashable] = ()
    named: list[abc.Hashable] = field(default_factory=list)
    told: int = 0
    loading: int = 0
    from_host: int = 0
    from_disk: int = 0

    @property
    def gives_up_ms(self) -> float:
        """When its client will have no patience left; never once there was a token."""
        return self.submitted_ms + self.request.patience_ms if self.first_token_ms < 0 else inf

    @property
    def end_step(self) -> int:
        """The step with which it has said all it has to say, once it decodes."""
        return self.joined_step + self.request.output_tokens - self.generated

    @property
    def phase(self) -> int:
        """Which of 16 consecutive steps opens a new block for it: the one that starts with a full last block."""
        return (self.joined_step - self.target) % BLOCK_TOKENS

    def held_tokens(self, step: int) -> int:
        """Tokens whose KV it holds before decode step `step`: its target, and one for each step since."""
        return self.target + step - self.joined_step
