"""The page on alerts tells receivers the truth: its snippet runs, and verifies what is really sent."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.dashboards.alert_desk import an_alert, delivered, options_for
from tests.dashboards.receiver import SECRET, Receiver, answers

PAGE = (Path(__file__).parents[2] / "docs/alerts.md").read_text()


@pytest.fixture
def verify() -> Any:
    """The function that the page gives to receivers."""
    [snippet] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    scope: dict[str, Any] = {}
    exec(snippet, scope)
    return scope["verify"]


async def test_the_snippet_takes_what_is_sent_and_refuses_what_was_changed(verify: Any) -> None:
    async with Receiver(answers(200)) as receiver:
        await delivered(options_for(receiver.url), an_alert())
    [(headers, raw)] = receiver.seen
    assert verify(raw, headers, SECRET)["id"] == an_alert().id
    assert verify(raw + b" ", headers, SECRET) is None


async def test_the_example_has_the_fields_that_are_sent() -> None:
    async with Receiver(answers(200)) as receiver:
        await delivered(options_for(receiver.url), an_alert())
    [example] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
    assert json.loads(example).keys() == receiver.taken[0].keys()
