"""Each measured kind of replica has times that behave, room that adds up, and a capacity that follows from them."""

from __future__ import annotations

from random import Random

import pytest

from connectors.twin.capacity import Objectives, capacity_of
from connectors.twin.profiles import PROFILES, profile
from connectors.twin.spec import EngineSpec
from contracts.errors import ConfigError


@pytest.mark.parametrize("name", PROFILES)
def test_more_work_takes_longer(name: str) -> None:
    made = PROFILES[name].coefficients
    prefill = [made.prefill_ms(tokens, tokens * tokens / 2) for tokens in range(1, 33_000, 97)]
    decode = [made.decode_ms(batch, batch * 1000) for batch in range(1, 129)]
    assert prefill == sorted(prefill)
    assert prefill[0] > 0
    assert decode == sorted(decode)
    assert made.decode_ms(8, 80_000) > made.decode_ms(8, 800)


@pytest.mark.parametrize("model", ["llama2-70b/h100-80gb", "llama2-70b/a100-80gb"])
def test_more_gpus_prefill_faster_and_hold_more(model: str) -> None:
    two, four, eight = (PROFILES[f"{model}/tp{gpus}"] for gpus in (2, 4, 8))
    times = [each.coefficients.prefill_ms(2048, 2048**2 / 2) for each in (two, four, eight)]
    assert times == sorted(times, reverse=True)
    assert 0 < two.kv_blocks() < four.kv_blocks() < eight.kv_blocks()


def test_a_slower_disk_starts_later() -> None:
    assert profile("llama2-70b/h100-80gb/tp4").startup_s(1e9) == 17.0 + 140.0


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigError, match="no profile 'llama'") as unknown:
        profile("llama")
    assert "bloom-176b/a100-80gb/tp8" in str(unknown.value)


def test_a_profile_brings_its_own_room_and_says_what_does_not_fit() -> None:
    assert EngineSpec.of("llama2-70b/h100-80gb/tp8").kv_blocks == PROFILES["llama2-70b/h100-80gb/tp8"].kv_blocks()
    with pytest.raises(ConfigError, match="762 KV blocks cannot hold one request of 16384 tokens"):
        EngineSpec.of("llama2-70b/h100-80gb/tp2")
    assert EngineSpec.of("llama2-70b/h100-80gb/tp2", max_model_len=4096).max_model_len == 4096


def crowd(count: int = 600) -> tuple[list[int], list[int]]:
    random = Random(5)
    return [random.randrange(100, 1500) for _ in range(count)], [random.randrange(20, 400) for _ in range(count)]


def test_capacity_is_the_rate_at_which_an_objective_begins_to_be_missed() -> None:
    prompt, output = crowd()
    wanted = Objectives(ttft_p95_s=1.0)
    found = capacity_of(EngineSpec(), prompt, output, objectives=wanted)
    assert found.ttft_p95_s < 1.0
    assert found.mean_itl_s < 0.1
    beyond = capacity_of(EngineSpec(), prompt, output, objectives=Objectives(ttft_p95_s=1.5))
    assert beyond.rps > found.rps > 1.0
    assert capacity_of(EngineSpec(), prompt, output, objectives=wanted) == found


def test_a_faster_kind_of_replica_has_more_capacity() -> None:
    prompt, output = crowd()
    slow, fast = (EngineSpec.of(f"llama2-70b/{kind}/tp4", max_model_len=4096) for kind in ("a100-80gb", "h100-80gb"))
    assert capacity_of(slow, prompt, output).rps < capacity_of(fast, prompt, output).rps


def test_an_objective_that_a_lone_request_misses_leaves_no_capacity() -> None:
    assert capacity_of(EngineSpec(), *crowd(), objectives=Objectives(mean_itl_s=0.01)).rps == 0.0


def test_a_handful_of_requests_is_no_crowd() -> None:
    with pytest.raises(ConfigError, match="tell no percentile"):
        capacity_of(EngineSpec(), [100] * 20, [10] * 20)


def test_a_replica_takes_requests_as_long_as_its_cache_can_hold_one() -> None:
    name = "bloom-176b/a100-80gb/tp8"
    most = EngineSpec.holding(name, 10**6)
    assert most.max_model_len == most.kv_blocks * 16
    assert EngineSpec.holding(name, 20_000).max_model_len == 20_000
    assert EngineSpec.holding(name, 100).max_model_len == EngineSpec().max_model_len
