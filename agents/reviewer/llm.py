"""The reviewer that asks a language model, and lets it make the deterministic judgement stricter, never wider."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_random_exponential

from agents.core.review import bound_all, judge_all
from agents.reviewer.completion import Answered, NoAnswer, read_completion
from agents.reviewer.prompt import PROMPT_VERSION, SYSTEM, judgements_of, question, response_format, safe_text
from contracts.errors import ConfigError, Unavailable
from contracts.events import CandidateSet, Review

if TYPE_CHECKING:
    from openai import AsyncOpenAI

OPENAI_URL = "https://api.openai.com/v1"
MAX_ANSWER_BYTES = 1024 * 1024
MAX_QUESTION_CHARS = 64_000
"""About 20,000 tokens: far more than any set of candidates that makes sense."""

_REASONING = re.compile(r"(gpt-5(?!.*(chat|pro))|o[134])")
_FIXED_TEMPERATURE = re.compile(r"(gpt-5|o[134])")


@dataclass(frozen=True)
class LlmOptions:
    """Where the model is and how long it may take; wall seconds, US dollars.

    `api_key` None is for servers that ask for none; `base_url` None means OpenAI's own. A call that failed to connect,
    or got 429 or 5xx, is made once more after at most `max_wait_s`, all within `review_timeout_s`. One that timed out
    is not: a model that is slow would be slow again, and be paid twice.
    """

    model: str
    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None
    call_timeout_s: float = 10.0
    review_timeout_s: float = 30.0
    max_wait_s: float = 5.0
    max_output_tokens: int = 4000
    usd_per_million_in: float = 0.0
    usd_per_million_out: float = 0.0


class LlmReviewer:
    """Asks an OpenAI-compatible server. A failure of any kind is a review with `failure`: no approval.

    Raises Unavailable when the client is not installed, and ConfigError for a URL or key that cannot be used. It keeps
    connections open: use it as an async context manager.
    """

    def __init__(self, options: LlmOptions) -> None:
        self.name = f"llm:{safe_text(options.model, 100)}:{PROMPT_VERSION}"
        self._options = options
        self._client = _client(options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def review(self, candidates: CandidateSet) -> Review:
        """Never raises, save when it is cancelled."""
        try:
            async with asyncio.timeout(self._options.review_timeout_s):
                return await self._review(candidates)
        except NoAnswer as error:
            return self._failed(candidates, str(error), error.cost_usd)
        except TimeoutError:
            return self._failed(candidates, f"no review within {self._options.review_timeout_s:g} s")
        except Exception as error:  # noqa: BLE001 - a fault of ours or the client's is no approval either
            return self._failed(candidates, f"the reviewer broke: {type(error).__name__}")

    def _failed(self, candidates: CandidateSet, words: str, cost_usd: float = 0.0) -> Review:
        return Review(candidates=candidates, reviewer=self.name, failure=words, cost_usd=cost_usd)

    async def _review(self, candidates: CandidateSet) -> Review:
        text = question(candidates)
        if len(text) > MAX_QUESTION_CHARS:
            raise NoAnswer(f"the set is too large to ask about: {len(text):,} of {MAX_QUESTION_CHARS:,} characters")
        retrying = AsyncRetrying(
            stop=stop_after_attempt(2),
            wait=self._wait_s,
            retry=retry_if_exception(lambda error: isinstance(error, NoAnswer) and error.again),
            reraise=True,
        )
        answered: Answered = await retrying(self._ask, text)
        judgements = bound_all(judgements_of(answered.answer, candidates), judge_all(candidates))
        if not judgements:
            raise NoAnswer("the model judged none of the candidates", cost_usd=answered.cost_usd)
        return Review(candidates=candidates, reviewer=self.name, judgements=judgements, cost_usd=answered.cost_usd)

    def _wait_s(self, state: RetryCallState) -> float:
        """What the server asked for, else a random while: many workers must not come back at once."""
        error = state.outcome.exception() if state.outcome else None
        if isinstance(error, NoAnswer) and error.wait_s is not None:
            return error.wait_s
        return wait_random_exponential(multiplier=1, max=self._options.max_wait_s)(state)

    async def _ask(self, text: str) -> Answered:
        """One call. Raises NoAnswer with words of our own: an error's text can hold a key or a stranger's words."""
        import httpx2
        import openai

        options = self._options
        try:
            async with asyncio.timeout(options.call_timeout_s):
                raw = await self._post(text)
        except (TimeoutError, openai.APITimeoutError, httpx2.TimeoutException):
            raise NoAnswer(f"no answer within {options.call_timeout_s:g} s") from None
        except openai.APIStatusError as error:
            raise self._refused(error) from None
        except (openai.APIConnectionError, httpx2.TransportError):  # the latter while the answer is read
            raise NoAnswer("the server cannot be reached, or cut the connection", again=True) from None
        return read_completion(raw, options.usd_per_million_in, options.usd_per_million_out)

    async def _post(self, text: str) -> bytes:
        call = self._client.chat.completions.with_streaming_response.create(
            model=self._options.model,
            messages=[{"role": "system", "content": SYSTEM}, {"role": "user", "content": text}],
            max_completion_tokens=self._options.max_output_tokens,
            **_sampling(self._options.model),
        )
        raw = bytearray()
        async with call as response:
            async for chunk in response.iter_bytes():
                raw += chunk
                if len(raw) > MAX_ANSWER_BYTES:
                    raise NoAnswer(f"the answer is longer than {MAX_ANSWER_BYTES:,} bytes")
        return bytes(raw)

    def _refused(self, error: Any) -> NoAnswer:
        """A status that is no answer; 429 and 5xx are worth another try, unless they ask for a long wait."""
        status: int = error.status_code
        words = f"HTTP {status}"
        wait_s = _seconds(error.response.headers.get("retry-after"))
        if wait_s is not None and wait_s > self._options.max_wait_s:
            return NoAnswer(f"{words}, and not again before {wait_s:g} s")
        return NoAnswer(words, again=status == 429 or status >= 500, wait_s=wait_s)


def _client(options: LlmOptions) -> AsyncOpenAI:
    where = "review"
    try:
        import openai
    except ImportError:
        fix = "pip install 'optiinfra[llm]', or set review.reviewer to deterministic."
        raise Unavailable("the LLM reviewer needs the package openai", where=where, fix=fix) from None
    key = options.api_key
    if key is not None and not re.fullmatch(r"[!-~]{1,1000}", key):
        fix = "Give review.api_key as it was issued, without spaces or line ends."
        raise ConfigError("the API key cannot be sent in a header", where=where, fix=fix)
    base_url = options.base_url or OPENAI_URL
    try:
        url = urlsplit(base_url)
        usable = url.scheme in ("http", "https") and url.hostname and url.port != 0
        plain = "@" not in url.netloc and not url.query and not url.fragment
    except ValueError:
        usable = plain = False
    if not (usable and plain):
        fix = f"Give review.base_url as {OPENAI_URL}, and a key as review.api_key."
        raise ConfigError("review.base_url is no plain http or https URL", where=where, fix=fix)
    timeout_s = options.call_timeout_s
    client = openai.AsyncOpenAI(
        api_key=key or "none",
        base_url=base_url,
        timeout=timeout_s,
        max_retries=0,
        http_client=openai.DefaultAsyncHttpxClient(
            trust_env=False, follow_redirects=False, timeout=options.call_timeout_s
        ),
    )
    # The client fills these from the environment; where the key goes is for settings alone to say.
    client.organization = client.project = client.admin_api_key = client.webhook_secret = None
    return client


def _sampling(model: str) -> dict[str, Any]:
    """As little chance as the model allows: reasoning models refuse a temperature, and think shortly when asked to."""
    name = model.rpartition("/")[2]
    more: dict[str, Any] = {"response_format": response_format()}
    if _REASONING.match(name):
        more["reasoning_effort"] = "low"
    elif not _FIXED_TEMPERATURE.match(name):
        more["temperature"] = 0
    return more


def _seconds(header: str | None) -> float | None:
    """A Retry-After in seconds; None for an absent one, a date or nonsense."""
    return float(header) if header is not None and re.fullmatch(r"\d{1,6}(\.\d{1,6})?", header, re.ASCII) else None
