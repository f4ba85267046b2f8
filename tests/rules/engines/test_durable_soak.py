"""Two hundred thousand moments through one child: it does not grow, and it does not go wrong."""

from __future__ import annotations

import random

import psutil
import pytest

from rules.core.shapes import RuleShape
from tests.rules.engines.helpers import CONDITIONS, right, running

MOMENTS = 200_000
GROWTH_BYTES = 10 * 1024 * 1024


@pytest.mark.slow
def test_the_child_does_not_grow() -> None:
    rng = random.Random(5)
    rules = [
        RuleShape(
            f"rule-{n}",
            n,
            all=tuple(rng.sample(CONDITIONS[:15], 2)),
            any=tuple(rng.sample(CONDITIONS[15:], rng.choice((0, 2)))),
            none=tuple(rng.sample(CONDITIONS[15:], 1)),
        )
        for n in range(10)
    ]
    moments = [{name: rng.random() < 0.4 for name in CONDITIONS} for _ in range(5000)]
    wanted = right(rules, moments)
    with running(rules, check_every=0) as (engine, troubles, _):
        assert engine.fire(moments) == wanted
        assert engine.child_pid is not None
        child = psutil.Process(engine.child_pid)
        before_bytes = child.memory_info().rss
        for _ in range(MOMENTS // len(moments)):
            assert engine.fire(moments) == wanted
        assert child.memory_info().rss - before_bytes < GROWTH_BYTES
        assert (engine.child_pid, troubles) == (child.pid, [])
