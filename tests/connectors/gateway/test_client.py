"""Which answers of a gateway are read, which are a refusal, and after which nobody knows whether a write was taken."""

from __future__ import annotations

import pytest

from connectors.gateway.client import MOST_BYTES, HttpGateway
from contracts.errors import ConfigError, OptiInfraError, Unavailable
from tests.connectors.gateway.proxy import proxying


async def test_an_answer_in_two_pieces_is_read_to_its_end_and_one_without_end_is_not() -> None:
    async with proxying() as proxy, HttpGateway(proxy.url) as gateway:
        proxy.in_pieces = True
        assert (await gateway.read("chat")).limits["max_in_flight"] == 0
        proxy.filled = MOST_BYTES
        with pytest.raises(Unavailable, match=f"more than {MOST_BYTES} bytes"):
            await gateway.read("chat")


@pytest.mark.parametrize(
    ("status", "error"),
    [(status, Unavailable) for status in (201, 204, 302, 408, 429, 500, 503)]
    + [(status, ConfigError) for status in (400, 401, 403, 404, 405, 413, 422)],
)
async def test_only_a_refusal_says_that_a_write_was_not_taken(status: int, error: type[OptiInfraError]) -> None:
    async with proxying() as proxy, HttpGateway(proxy.url) as gateway:
        proxy.mumbles = status
        with pytest.raises(error, match=f"HTTP {status} to PUT"):
            await gateway.write("chat", {"max_in_flight": 40}, if_version=0, note="")


async def test_a_write_that_is_answered_without_our_limits_may_have_been_taken() -> None:
    async with proxying() as proxy, HttpGateway(proxy.url) as gateway:
        proxy.state["limits"].pop("breaker_until_ms")
        with pytest.raises(Unavailable, match="has no breaker_until_ms"):
            await gateway.write("chat", {"max_in_flight": 40}, if_version=0, note="")


@pytest.mark.parametrize("status", [408, 429])
async def test_a_read_that_comes_too_soon_is_asked_again(status: int) -> None:
    async with proxying() as proxy, HttpGateway(proxy.url) as gateway:
        proxy.broken = status
        with pytest.raises(Unavailable, match=f"HTTP {status} to GET"):
            await gateway.read("chat")


async def test_an_absurd_number_is_named() -> None:
    async with proxying() as proxy, HttpGateway(proxy.url) as gateway:
        proxy.state["limits"]["max_in_flight"] = 10**400
        with pytest.raises(Unavailable, match=r"limits\.max_in_flight"):
            await gateway.read("chat")
