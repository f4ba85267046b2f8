"""What a kept block earns, and when a write is worth its price."""

from __future__ import annotations

import numpy as np
import pytest

from kvtier.policies import Renting
from kvtier.policies.kinds import KINDS
from kvtier.policies.rent import Ledger, reckon
from kvtier.policies.shadow import LEAST_CHANCE, Shadow
from kvtier.policies.survival import Survival
from kvtier.simulator import play
from tests.kvtier.worlds import BLOCK, popular

ALWAYS, NEVER = 1, 2
"""Two kinds: one whose blocks come back a slice later, each time, and one whose blocks never do."""


def two_kinds(slices: int = 300, count: int = 32) -> Survival:
    seen = Survival(count)
    for slice_ in range(slices):
        for _ in range(count // 2):
            seen.first(NEVER)
            if slice_:
                seen.again(ALWAYS, (slice_ - 1) * count, ALWAYS)
            else:
                seen.first(ALWAYS)
        seen.tick()
    return seen


@pytest.mark.parametrize("price", [0.03, 0.3, 2.0])
def test_a_kept_block_earns_its_next_hit_and_a_spared_write_and_no_more(price: float) -> None:
    ledger = reckon(two_kinds(), 64, 0.0, price)
    assert (ledger.hits <= 1.0 + price).all()
    assert ledger.hits[ALWAYS] > 0.9
    assert ledger.hits[NEVER] < 0.1


def test_a_second_write_is_spared_only_where_the_block_is_worth_one() -> None:
    cheap, dear = (reckon(two_kinds(), 64, 0.0, price).hits[ALWAYS] for price in (0.03, 0.3))
    assert 1.0 < cheap < 1.03 + 1e-9
    assert dear > cheap + 0.2


def test_a_write_must_bring_more_than_what_its_slot_costs_and_its_price() -> None:
    def admits(hits: float, held: float, rent: float) -> bool:
        policy = Renting(1, write_price=0.1, wear=0.0)
        assert policy.admit("old", None, 0, BLOCK)
        policy.insert("old", None, 0, BLOCK)
        kinds = np.ones(KINDS)
        index = np.outer(kinds, np.full(policy._survival.bins, rent))
        policy._leaves.by_age(False)
        policy._leaves.sort(index.ravel().tolist())
        policy._ledger, policy._shadow.follow = Ledger(rent, 2 * index, hits * kinds, held * kinds), False
        return policy.admit("new", None, 0, BLOCK)

    assert admits(0.5, 100.0, 0.003)
    assert not admits(0.5, 100.0, 0.0041)
    assert not admits(0.5, 150.0, 0.003)
    assert not admits(0.09, 0.0, 0.001)


def test_the_more_is_written_the_more_a_write_must_bring() -> None:
    prompts = popular(3000, 1000, 1)
    free, spared = (play(prompts, Renting(300, wear=wear), BLOCK) for wear in (0.0, 1.0))
    assert spared.written_blocks < 0.85 * free.written_blocks


def test_a_bank_that_shrinks_covers_less_than_one_that_grows() -> None:
    def follows(paces: list[float]) -> bool:
        shadow = Shadow(100, set())
        for number in range(101):
            shadow.sighted(number, False)
        shadow.apart = 0
        for pace in paces:
            shadow.bank += pace
            shadow.tick(10, learnt=True)
        assert shadow.bank == pytest.approx(20.0)
        shadow.apart, shadow._theirs, shadow._sighted = 100, 60.0, 100.0
        shadow.tick(10, learnt=True)
        return shadow.follow

    assert not follows([2.0] * 10)
    assert follows([80.0, *[-6.0] * 10])


def test_who_owes_hits_to_lru_does_as_lru_however_it_goes_of_late() -> None:
    shadow = Shadow(1, set())
    for key in "ab":
        shadow.sighted(key, False)
    shadow.bank, shadow._pace = -1.0, 1e6
    shadow.tick(1, learnt=True)
    assert shadow.follow


def test_blocks_apart_are_never_taken_for_worthless() -> None:
    shadow = Shadow(100, {"here"})
    for number in range(10_000):
        shadow.sighted("here" if number % 2 else number, bool(number % 2))
    usual = shadow._theirs / (shadow._sighted + 1.0)
    assert shadow._lost == 0
    assert shadow.chance() == pytest.approx(LEAST_CHANCE * usual)
