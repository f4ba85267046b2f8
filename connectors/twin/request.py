"""One request: as the load makes it, and as the engine holds it."""

from __future__ import annotations

from dataclasses import dataclass

from connectors.twin.coefficients import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks for. Times are event ms, lengths are tokens.

    `output_tokens` is what the model will say; it ends with reason `length` where that is `max_tokens`, else `stop`.
    The first `prefix_tokens` of the prompt are those of prefix `prefix_id` (a system prompt, an earlier turn).
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


@dataclass(slots=True, eq=False)
class Sequence:
    """A request inside the engine. `target` tokens are prefilled: the prompt, plus what a preemption lost.

    `joined_step` is the engine's step at which it began to decode, -1 before; `blocks` are those of the target.
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
