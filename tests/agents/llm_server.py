"""A loopback server that speaks OpenAI's protocol: it answers well, stalls, errs or talks junk, as a test says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Self

from aiohttp import web

Answer = Callable[[web.Request, dict[str, Any]], Awaitable[web.StreamResponse]]

OVER = web.AppKey("over", asyncio.Event)


class LlmServer:
    """Gives its answers in turn, the last one for ever. `seen` holds every request: its headers and its body."""

    def __init__(self, *answers: Answer) -> None:
        self._answers, self._over = list(answers), asyncio.Event()
        self.asked_once = asyncio.Event()
        self.seen: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.url = ""

    async def __aenter__(self) -> Self:
        app = web.Application()
        app[OVER] = self._over
        app.add_routes([web.post("/v1/chat/completions", self._complete)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over.set()
        await self._runner.cleanup()

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.seen.append((dict(request.headers), body))
        self.asked_once.set()
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        return await answer(request, body)

    @property
    def asked(self) -> dict[str, Any]:
        """The data of the newest request: what the model was told of the candidates."""
        told: dict[str, Any] = json.loads(self.seen[-1][1]["messages"][1]["content"])
        return told


def completion(content: str | None, finish: str = "stop", **message: Any) -> dict[str, Any]:
    """A chat completion as OpenAI's API gives it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": "loopback",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": content, "refusal": None, **message},
                "logprobs": None,
                "finish_reason": finish,
            }
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 200, "total_tokens": 1200},
    }


def a_judgement(**change: Any) -> dict[str, Any]:
    """The first candidate, approved; with this change."""
    return {"id": "r0", "verdict": "approve", "confidence": 0.9, "risk": "low", "reasons": ["burn is 8"], **change}


def says(content: str | None, finish: str = "stop", **message: Any) -> Answer:
    """A completion with this text."""

    async def answer(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return web.json_response(completion(content, finish, **message))

    return answer


def judges(*judgements: dict[str, Any]) -> Answer:
    """A completion whose text holds these judgements."""
    return says(json.dumps({"judgements": judgements}))


def approves_everything() -> Answer:
    """Whatever is asked is approved at full confidence and low risk."""

    async def answer(_: web.Request, body: dict[str, Any]) -> web.StreamResponse:
        asked: Sequence[dict[str, Any]] = json.loads(body["messages"][1]["content"])["candidates"]
        judged = [a_judgement(id=each["id"], confidence=1.0) for each in asked]
        return web.json_response(completion(json.dumps({"judgements": judged})))

    return answer


def sends(status: int, text: str = "", **headers: str) -> Answer:
    """This status and text, with headers whose underscores are dashes."""

    async def answer(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, text=text, content_type="application/json", headers=named)

    return answer


def stalls(sent: bytes = b"") -> Answer:
    """Sends the head of an answer and `sent` if there is any, and then nothing for ever."""

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse()
        if sent:
            await response.prepare(request)
            await response.write(sent)
        await request.app[OVER].wait()
        return response

    return answer


def cuts(sent: bytes = b"") -> Answer:
    """Cuts the connection, after `sent` of an answer that promised more."""

    async def answer(request: web.Request, _: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "4000"})
        if sent:
            await response.prepare(request)
            await response.write(sent)
        assert request.transport is not None
        request.transport.abort()
        return response

    return answer


def floods(size: int) -> Answer:
    """An answer of `size` bytes."""

    async def answer(_: web.Request, __: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=b" " * size, content_type="application/json")

    return answer
