"""A disk that is told of each prompt first keeps what the simulator says that it keeps."""

from __future__ import annotations

from pathlib import Path

from kvtier.engine.tier import DiskTier
from kvtier.policies import make
from kvtier.simulator import play
from tests.kvtier.engine.helpers import key, settings
from tests.kvtier.worlds import BLOCK, conversations, popular

SLOTS = 60


def test_the_disk_keeps_the_blocks_that_the_simulator_keeps(tmp_path: Path) -> None:
    turns, documents = conversations(500, 1), popular(500, 60, 2, first=1_000_000)
    told = [prompt for pair in zip(turns, documents, strict=True) for prompt in pair]
    prompts = [([key(each) for each in keys if isinstance(each, int)], tokens) for keys, tokens in told]
    policy = make("optiinfra", SLOTS)
    play(prompts, policy, BLOCK)
    with DiskTier(tmp_path, settings(slots=SLOTS, policy="optiinfra", direct=False)) as tier:
        for keys, _ in prompts:
            tier.expect(keys)
            for at, each in enumerate(keys):
                tier.store(each, b"x", keys[at - 1] if at else None, at * BLOCK, BLOCK)
        assert set(tier.blocks()) == set(policy)
