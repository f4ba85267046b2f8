"""The doctor on the acting half: rules and their engine, the reviewer, and a Redis that must forget nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import redis
from redis.exceptions import RedisError

from contracts.errors import OptiInfraError
from optiinfra.finding import Finding, Grade
from optiinfra.settings import Settings, masked

ANSWER_WITHIN_S = 3.0


def rules(settings: Settings) -> Iterator[Finding]:
    """Whether the packs are sound, and what decides on them."""
    from rules.proving import check

    found = check(settings.rules)
    if found.errors:
        more = f" (and {len(found.errors) - 1} more)" if len(found.errors) > 1 else ""
        fix = "`optiinfra rules check` tells every mistake with its line."
        yield Finding("rules", Grade.BROKEN, f"{found.errors[0]}{more}", fix)
    else:
        packs = ", ".join(f"{pack.pack} ({len(pack.rules)} rules)" for pack in found.packs)
        yield Finding("rules", Grade.OK, packs)
    yield _engine(settings.rule_engine)


def _engine(wanted: str) -> Finding:
    from rules.engines.durable import available

    if wanted == "python":
        return Finding("rule engine", Grade.OK, "the reference evaluator, as rule_engine says")
    if not (why_not := available()):
        return Finding("rule engine", Grade.OK, "durable_rules, checked against the reference evaluator")
    fix = "pip install 'optiinfra[durable]' (a C compiler is needed)"
    if wanted == "durable":
        return Finding("rule engine", Grade.BROKEN, why_not, f"{fix}, or set rule_engine to auto.")
    detail = "no durable_rules: the reference evaluator decides alone, and decides the same"
    return Finding("rule engine", Grade.MISSING, detail, f"{fix}.")


def reviewer(settings: Settings) -> Iterator[Finding]:
    """Who judges, made as its process makes it. Nobody is called: a call can cost money."""
    wanted = settings.review
    if not wanted.wants_llm:
        why = "as review.reviewer says" if wanted.reviewer == "deterministic" else "neither key nor base URL is set"
        yield Finding("reviewer", Grade.OK, f"deterministic: {why}")
        return
    if wanted.api_key is None and wanted.base_url is None:
        fix = "Set OPENAI_API_KEY, or OPENAI_BASE_URL for a server that asks for none."
        yield Finding("reviewer", Grade.BROKEN, "an LLM is to judge, and no key for it is set", fix)
        return
    try:
        asyncio.run(_made(settings))
    except OptiInfraError as error:
        yield Finding("reviewer", Grade.BROKEN, error.message, error.fix)
        return
    from agents.reviewer.llm import OPENAI_URL

    key = "with a key" if wanted.api_key else "without a key"
    yield Finding("reviewer", Grade.OK, f"{wanted.model} at {masked(wanted.base_url or OPENAI_URL)}, {key}; not called")


async def _made(settings: Settings) -> None:
    from optiinfra.wiring.acting import made_reviewer

    async with made_reviewer(settings.review):
        pass


class _Kept(NamedTuple):
    """A setting of Redis on which the ledger relies, and what happens without it."""

    name: str
    value: str
    grade: Grade
    otherwise: str


_RELIED_ON = (
    _Kept("appendonly", "yes", Grade.BROKEN, "a restart forgets what was done since the last snapshot"),
    _Kept("appendfsync", "always", Grade.MISSING, "a crash of its machine forgets the last moments"),
    _Kept("maxmemory-policy", "noeviction", Grade.BROKEN, "full memory makes it forget what was done"),
)


def external_redis(url: str) -> Iterator[Finding]:
    """Whether a Redis of one's own keeps what it is told: each setting on which the ledger relies."""
    try:
        told = _asked(url)
    except (RedisError, OSError, ValueError) as error:
        detail = f"it does not tell its settings ({type(error).__name__}): whether it forgets nothing, nobody knows"
        fix = "Make sure of " + ", ".join(f"{each.name} {each.value}" for each in _RELIED_ON)
        yield Finding("redis settings", Grade.MISSING, detail, f"{fix}; or let this user say CONFIG GET.")
        return
    for each in _RELIED_ON:
        name, value = f"redis {each.name}", told.get(each.name)
        if value == each.value:
            yield Finding(name, Grade.OK, value)
        elif value is None:
            yield Finding(name, Grade.MISSING, "not told", f"Make sure of {each.name} {each.value}.")
        else:
            fix = f"CONFIG SET {each.name} {each.value}, and the same in redis.conf."
            yield Finding(name, each.grade, f"{value}: {each.otherwise}", fix)


def _asked(url: str) -> Mapping[str, str]:
    client = redis.Redis.from_url(
        url, decode_responses=True, socket_connect_timeout=ANSWER_WITHIN_S, socket_timeout=ANSWER_WITHIN_S
    )
    with client:
        return {str(name): str(value) for name, value in client.config_get(*(each.name for each in _RELIED_ON)).items()}
