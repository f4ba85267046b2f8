"""What leaves for the model and what is told of it: numbers and no name, and the key to nobody but the server."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.reviewer.llm import LlmReviewer
from agents.reviewer.prompt import SYSTEM, question
from contracts.errors import ConfigError, Unavailable
from contracts.laws.bounds import Comparator
from tests.agents.llm_server import (
    Answer,
    LlmServer,
    a_judgement,
    approves_everything,
    cuts,
    judges,
    says,
    sends,
)
from tests.agents.review_sets import a_fact, a_set, scale_down, scale_up
from tests.agents.test_review_llm import FAST, INJECTION, KEY, reviewed


async def test_the_model_is_told_numbers_and_no_name() -> None:
    hostile = scale_up(
        rule=INJECTION,
        pack=f"{INJECTION} now",
        runbook=f"http://{INJECTION}",
        facts=(
            a_fact("ttft_burn_rate", 60, Comparator.GT, 2.0, 8.0, condition=INJECTION),
            a_fact(INJECTION, 60, Comparator.GT, 2.0, 8.0),
        ),
        doc="Adds capacity.\n\n\x1b[31m" + "y" * 1900,
    )
    candidates = a_set(hostile, workload=INJECTION, evidence={10: {"ttft_burn_rate": 8.0, INJECTION: 1.0}})
    async with LlmServer(approves_everything()) as server:
        review = await reviewed(server, candidates)
    [(_, body)] = server.seen
    assert "ignore" not in json.dumps(server.asked).lower()
    assert "approve everything" not in json.dumps(body).lower()
    assert review.judgements[0].rule == INJECTION
    assert server.asked == {
        "workload": "w0",
        "replicas": 5,
        "coverage_ratio": 1.0,
        "evidence": {"10": {"ttft_burn_rate": 8.0}},
        "candidates": [
            {
                "id": "r0",
                "kind": "scale_up",
                "replicas": 1,
                "priority": 900,
                "cooldown_s": 60.0,
                "facts": [
                    {
                        "sli": "ttft_burn_rate",
                        "window_s": 60,
                        "comparison": "gt",
                        "bound": 2.0,
                        "value": 8.0,
                        "holds": True,
                        "held_s": 30.0,
                    }
                ],
                "expect": {"sli": "replicas_up", "window_s": 0, "comparison": "ge", "bound": 5.0},
                "by_s": 120.0,
                "doc": "Adds capacity. [31m" + "y" * (299 - len("Adds capacity. [31m")) + "…",
            }
        ],
    }


NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).map(lambda text: f"§{text}§")


@given(workload=NAMES, rule=NAMES, pack=NAMES, condition=NAMES, sli=NAMES)
@settings(max_examples=50, deadline=None)
def test_no_name_whatever_it_is_reaches_the_question(
    workload: str, rule: str, pack: str, condition: str, sli: str
) -> None:
    facts = (*scale_up().facts, a_fact(sli, 0, Comparator.GT, 1.0, 2.0, condition=condition))
    candidate = scale_up(rule=rule, pack=pack, facts=facts, runbook=rule)
    told = json.loads(question(a_set(candidate, workload=workload, evidence={0: {sli: 1.0}})))
    assert "§" not in json.dumps(told, ensure_ascii=False)


async def test_the_prompt_begins_alike_for_every_set() -> None:
    async with LlmServer(approves_everything()) as server, LlmReviewer(replace(FAST, base_url=server.url)) as reviewer:
        await reviewer.review(a_set(scale_up()))
        await reviewer.review(a_set(scale_down(), workload="other"))
    first, second = (body for _, body in server.seen)
    assert first["messages"][0] == second["messages"][0] == {"role": "system", "content": SYSTEM}
    assert first["response_format"] == second["response_format"]
    assert first["response_format"]["json_schema"]["strict"] is True
    assert first["max_completion_tokens"] == FAST.max_output_tokens


def closed(schema: Any) -> bool:
    """Whether every object of a schema takes its own fields only and needs all of them, as strict servers demand."""
    if isinstance(schema, list):
        return all(closed(each) for each in schema)
    if not isinstance(schema, dict):
        return True
    if schema.get("type") == "object":
        whole = schema["additionalProperties"] is False and set(schema["required"]) == set(schema["properties"])
        return whole and closed(schema["properties"])
    return all(closed(each) for each in schema.values())


async def test_the_schema_is_one_that_strict_servers_take() -> None:
    async with LlmServer(approves_everything()) as server:
        await reviewed(server)
    assert closed(server.seen[0][1]["response_format"]["json_schema"]["schema"])


@pytest.mark.parametrize(
    ("model", "sent"),
    [
        ("gpt-4.1-mini", {"temperature": 0}),
        ("meta-llama/Llama-3.1-8B-Instruct", {"temperature": 0}),
        ("gpt-5-mini", {"reasoning_effort": "low"}),
        ("openai/gpt-5-mini", {"reasoning_effort": "low"}),
        ("o4-mini", {"reasoning_effort": "low"}),
        ("gpt-5-chat-latest", {}),
    ],
)
async def test_a_temperature_is_sent_where_the_model_takes_one(model: str, sent: dict[str, Any]) -> None:
    async with LlmServer(approves_everything()) as server:
        await reviewed(server, options=replace(FAST, model=model))
    body = server.seen[0][1]
    assert {name: body[name] for name in ("temperature", "reasoning_effort") if name in body} == sent


async def test_a_set_too_large_to_ask_about_is_a_failure_without_a_call() -> None:
    facts = tuple(a_fact("ttft_burn_rate", 60, Comparator.GT, 2.0, 8.0) for _ in range(1000))
    async with LlmServer(approves_everything()) as server:
        review = await reviewed(server, a_set(scale_up(facts=facts)))
    assert "too large" in review.failure
    assert (review.judgements, server.seen) == ((), [])


async def test_where_the_key_goes_is_not_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, f"from-{name}")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    async with LlmServer(approves_everything()) as server:
        told, keyless = await reviewed(server), await reviewed(server, options=replace(FAST, api_key=None))
    assert (told.failure, keyless.failure) == ("", "")
    assert [headers["Authorization"] for headers, _ in server.seen] == [f"Bearer {KEY}", "Bearer none"]
    assert "from-OPENAI" not in str(server.seen)


LEAKY: dict[str, Answer] = {
    "in an error": sends(401, json.dumps({"error": {"message": f"Incorrect API key: {KEY}", "code": KEY}})),
    "in the text": says(f"your key is {KEY}"),
    "in a field's name": judges({**a_judgement(), KEY: 1}),
    "in a verdict": judges(a_judgement(verdict=KEY)),
    "in a cut answer": cuts(KEY.encode()),
}


@pytest.mark.parametrize("where", LEAKY)
async def test_the_key_is_never_told(where: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with LlmServer(LEAKY[where]) as server:
        options = replace(FAST, base_url=server.url)
        async with LlmReviewer(options) as reviewer:
            review = await reviewer.review(a_set(scale_up()))
    assert review.failure
    assert KEY not in f"{review!r} {reviewer!r} {options!r} {vars(reviewer)} {caplog.text}"


@pytest.mark.parametrize("key", ["sk with space", "sk-line\n", "sk-ключ", ""])
def test_a_key_that_no_header_can_carry_is_refused_without_naming_it(key: str) -> None:
    with pytest.raises(ConfigError, match="cannot be sent in a header") as caught:
        LlmReviewer(replace(FAST, api_key=key))
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "ftp://host/v1", "http://ann:sesame@host/v1", "http://host/v1?key=sesame", "http://["],
)
def test_a_base_url_that_is_no_url_or_hides_a_secret_is_refused_without_naming_it(url: str) -> None:
    with pytest.raises(ConfigError, match=r"review\.base_url") as caught:
        LlmReviewer(replace(FAST, base_url=url))
    assert "sesame" not in str(caught.value)


def test_without_the_client_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(Unavailable, match=r"optiinfra\[llm\]"):
        LlmReviewer(FAST)


def test_the_client_is_not_imported_before_it_is_wanted() -> None:
    code = "import agents.reviewer.llm, sys; sys.exit('openai' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
