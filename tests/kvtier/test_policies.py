"""What every eviction policy of a KV tier must do, and what ours does besides."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvtier.policies import NAMES, Policy, Renting, make
from tests.kvtier.worlds import BLOCK, conversations

PATHS = st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=5), min_size=1, max_size=120)


def path(choices: list[int]) -> list[tuple[int, ...]]:
    """Keys of a prompt: each names all that comes before it."""
    return [tuple(choices[: end + 1]) for end in range(len(choices))]


def ask(policy: Policy, keys: list[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    """Tell a policy of one prompt as an engine does; the keys that it gave up."""
    policy.expect(keys)
    parent = None
    for place, key in enumerate(keys):
        if key in policy:
            policy.touch(key)
        elif policy.admit(key, parent, place * BLOCK, BLOCK):
            while len(policy) >= policy.slots:
                before = set(policy)
                victim = policy.evict()
                if victim is None:
                    return
                assert victim in before
                assert victim not in policy
                yield victim  # type: ignore[misc]
            policy.insert(key, parent, place * BLOCK, BLOCK)
        parent = key


@pytest.mark.parametrize("name", NAMES)
@given(prompts=PATHS, slots=st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_it_never_holds_more_than_its_slots_and_gives_up_only_what_it_held(
    name: str, prompts: list[list[int]], slots: int
) -> None:
    policy = make(name, slots)
    for choices in prompts:
        list(ask(policy, path(choices)))
        assert len(policy) == len(set(policy)) <= slots


@pytest.mark.parametrize("name", NAMES)
@given(prompts=PATHS, slots=st.integers(2, 12))
@settings(max_examples=25, deadline=None)
def test_what_is_pinned_stays_until_it_is_unpinned(name: str, prompts: list[list[int]], slots: int) -> None:
    policy = make(name, slots)
    list(ask(policy, path(prompts[0])))
    pinned = next(iter(policy))
    policy.pin(pinned)
    for choices in prompts:
        assert pinned not in list(ask(policy, path(choices)))
        assert pinned in policy
    policy.unpin(pinned)
    gone = [policy.evict() for _ in range(len(policy))]
    assert pinned in gone
    assert policy.evict() is None


@pytest.mark.parametrize("name", NAMES)
def test_with_every_block_pinned_there_is_nothing_to_give(name: str) -> None:
    policy = make(name, 3)
    list(ask(policy, path([1, 1, 1])))
    for key in policy:
        policy.pin(key)
    assert policy.evict() is None
    assert len(policy) == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_removed_block_is_gone_and_can_come_back(name: str) -> None:
    policy = make(name, 4)
    keys = path([1, 2, 3])
    list(ask(policy, keys))
    policy.remove(keys[-1])
    policy.remove(("never", "seen"))
    assert keys[-1] not in policy
    list(ask(policy, keys))
    assert all(key in policy for key in keys)


@pytest.mark.parametrize("name", NAMES)
def test_blocks_found_after_a_restart_are_taken_in(name: str) -> None:
    policy = make(name, 4)
    parent = None
    for place, key in enumerate(path([1, 2, 3])):
        policy.insert(key, parent, place * BLOCK, BLOCK)
        parent = key
    assert set(policy) == set(path([1, 2, 3]))
    assert policy.evict() in path([1, 2, 3])


@given(prompts=PATHS, slots=st.integers(1, 12), seed=st.integers(0, 9))
@settings(max_examples=60, deadline=None)
def test_ours_never_gives_up_a_block_before_those_that_stand_on_it(
    prompts: list[list[int]], slots: int, seed: int
) -> None:
    policy, rng = Renting(slots), random.Random(seed)
    for choices in prompts:
        for _ in ask(policy, path(choices)):
            pass
        if rng.random() < 0.1 and len(policy):
            policy.evict()
        assert all(isinstance(key, tuple) and (len(key) == 1 or key[:-1] in policy) for key in policy)


def test_ours_refuses_a_block_whose_prefix_it_lacks() -> None:
    policy = Renting(8)
    assert not policy.admit("child", "parent", BLOCK, BLOCK)
    assert policy.admit("parent", None, 0, BLOCK)
    assert policy.admit("child", "parent", BLOCK, BLOCK)


def test_ours_survives_a_write_that_never_came() -> None:
    policy = Renting(2)
    assert policy.admit("a", None, 0, BLOCK)
    assert "a" not in policy
    assert policy.admit("a", None, 0, BLOCK)
    policy.insert("a", None, 0, BLOCK)
    assert policy.evict() == "a"


def test_orphans_of_a_bad_block_do_not_hold_its_successor() -> None:
    policy = Renting(4)
    for key, parent in (("a", None), ("b", "a")):
        policy.insert(key, parent, 0, BLOCK)
    policy.remove("a")
    policy.insert("a", None, 0, BLOCK)
    policy.insert("c", "a", BLOCK, BLOCK)
    gone = [policy.evict() for _ in range(3)]
    assert gone.index("c") < gone.index("a")


def test_ours_remembers_a_bounded_number_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvtier.policies.renting.GHOSTS", 100)
    policy = Renting(10, write_price=1e9)
    for keys, _ in conversations(1000, 1):
        list(ask(policy, [(key,) for key in keys]))
    assert len(policy._gone) <= 100


def test_a_price_on_writes_spares_the_disk() -> None:
    def written(price: float) -> int:
        policy, count = Renting(200, write_price=price), 0
        for keys, _ in conversations(1500, 2):
            parent = None
            policy.expect(keys)
            for place, key in enumerate(keys):
                if key in policy:
                    policy.touch(key)
                elif policy.admit(key, parent, place * BLOCK, BLOCK):
                    while len(policy) >= policy.slots:
                        policy.evict()
                    policy.insert(key, parent, place * BLOCK, BLOCK)
                    count += 1
                parent = key
        return count

    assert written(1.5) < 0.8 * written(0.03)


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"no policy 'mru'; there are fifo, lru"):
        make("mru", 4)
    with pytest.raises(ValueError, match="a slot or more"):
        make("lru", 0)


def test_policies_load_where_nothing_else_of_ours_is(tmp_path: Path) -> None:
    source = Path(__file__).parents[2] / "kvtier"
    target = tmp_path / "kvtier"
    (target / "policies").mkdir(parents=True)
    (target / "__init__.py").write_text((source / "__init__.py").read_text())
    for each in (source / "policies").glob("*.py"):
        (target / "policies" / each.name).write_text(each.read_text())
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from kvtier.policies import NAMES, make\n"
        "assert all(make(name, 4).slots == 4 for name in NAMES)\n"
        "ours = {name.split('.')[0] for name in sys.modules} & {'contracts', 'pydantic', 'optiinfra', 'connectors'}\n"
        "assert not ours, ours"
    )
    subprocess.run([sys.executable, "-P", "-c", code, str(tmp_path)], check=True, cwd=tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_slots_may_go_and_come_while_it_runs(name: str) -> None:
    policy = make(name, 40)
    for slots in (40, 3, 1, 40):
        policy.resize(slots)
        for number in range(200):
            key = (slots, number)
            if policy.admit(key, None, 0, 16):
                while len(policy) >= slots:
                    assert policy.evict() is not None
                policy.insert(key, None, 0, 16)
            if number % 3 == 0 and key in policy:
                policy.touch(key)
        assert 1 <= len(policy) <= slots
