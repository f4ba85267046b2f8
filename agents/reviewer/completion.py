"""Reads what an OpenAI-compatible server answered: bytes in, an answer of the exact shape or NoAnswer out."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from agents.reviewer.prompt import ModelAnswer, safe_text

MAX_TOKENS_TOLD = 100_000_000
"""No call counts so many tokens: a larger number is nonsense, and would be a nonsense of dollars."""


class NoAnswer(Exception):
    """A call brought no judgement. `again`: another try can help, after `wait_s` where the server said so."""

    def __init__(self, words: str, *, again: bool = False, wait_s: float | None = None, cost_usd: float = 0.0) -> None:
        self.again, self.wait_s, self.cost_usd = again, wait_s, cost_usd
        super().__init__(words)


@dataclass(frozen=True)
class Answered:
    """What the model said, and what it cost in US dollars."""

    answer: ModelAnswer
    cost_usd: float


class _Part(BaseModel):
    """Servers add fields of their own, so what is not known is passed over; what is known has its type."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _MessagePart(_Part):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Part):
    message: _MessagePart
    finish_reason: str | None = None


class _Usage(_Part):
    prompt_tokens: int = Field(default=0, ge=0, le=MAX_TOKENS_TOLD)
    completion_tokens: int = Field(default=0, ge=0, le=MAX_TOKENS_TOLD)


class _Completion(_Part):
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None


_ENVELOPE = ("choices", "message", "content", "refusal", "finish_reason", "usage", "prompt_tokens", "completion_tokens")
_ANSWER = ("judgements", "id", "verdict", "confidence", "risk", "reasons")


def read_completion(raw: bytes, usd_per_million_in: float, usd_per_million_out: float) -> Answered:
    """The model's answer. Raises NoAnswer, with the cost where it is known: a useless answer is paid for as well."""
    try:
        completion = _Completion.model_validate_json(raw)
    except ValidationError as error:
        raise NoAnswer(f"the server's answer is no chat completion: {_first(error)}") from None
    usage = completion.usage or _Usage()
    cost = (usage.prompt_tokens * usd_per_million_in + usage.completion_tokens * usd_per_million_out) / 1e6
    choice = completion.choices[0]
    if choice.message.refusal is not None:
        raise NoAnswer("the model refused to answer", cost_usd=cost)
    if choice.finish_reason == "length":
        raise NoAnswer("the answer was cut off at the limit of output tokens", cost_usd=cost)
    if choice.finish_reason == "content_filter":
        raise NoAnswer("the server's content filter withheld the answer", cost_usd=cost)
    if choice.message.content is None:
        raise NoAnswer("the answer is empty", cost_usd=cost)
    try:
        answer = ModelAnswer.model_validate_json(choice.message.content)
    except ValidationError as error:
        raise NoAnswer(f"the model's answer has the wrong shape: {_first(error)}", cost_usd=cost) from None
    return Answered(answer, cost)


def _first(error: ValidationError) -> str:
    """The first fault: the kind and place of it, without a word of what was sent."""
    fault = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = [str(part) for part in fault["loc"] if isinstance(part, int) or part in (*_ENVELOPE, *_ANSWER)]
    return safe_text(f"{fault['type']} at {'.'.join(place) or 'the top'}", 200)
