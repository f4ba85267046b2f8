"""JSON in and out of the control port: bodies that are checked, and refusals that say what to do."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from connectors.twin.orders import CannotDo
from contracts.errors import ConfigError, Conflict, Unavailable

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Body(BaseModel):
    """A JSON body."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Empty(Body):
    """No parameters."""


B = TypeVar("B", bound=BaseModel)


async def read_body(request: web.Request, model: type[B]) -> B:
    """The request's JSON as `model`; an absent body is an empty object."""
    raw = await request.read()
    return model.model_validate_json(raw or b"{}")


@web.middleware
async def errors_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal says what was wrong and what to do."""
    try:
        return await handler(request)
    except ValidationError as error:
        details = json.loads(error.json(include_url=False, include_input=False, include_context=False))
        told = "; ".join(f"{'.'.join(map(str, d['loc'])) or 'body'}: {d['msg']}" for d in details)
        return _refusal(422, told, "Send a JSON object with the fields named.")
    except CannotDo as error:
        return _refusal(422, error.message, error.fix)
    except ConfigError as error:
        return _refusal(404, error.message, error.fix)
    except Conflict as error:
        return _refusal(409, error.message, error.fix)
    except Unavailable as error:
        return _refusal(503, error.message, error.fix)
    except web.HTTPException as error:
        return _refusal(error.status, error.reason, "GET /fleet shows what there is.")


def _refusal(status: int, message: str, fix: str) -> web.Response:
    return web.json_response({"error": {"message": message, "fix": fix}}, status=status)
