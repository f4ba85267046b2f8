"""A replica as a plan sees it: room, speed and decoding by GPU and model, and what cannot be."""

from __future__ import annotations

import pytest

from contracts.errors import ConfigError
from kvtier.planner_gpus import GPUS, gpu
from kvtier.planner_replica import Traffic, replica_of
from kvtier.simulator import Prompt
from tests.kvtier.test_simulator import DEEPSEEK_V3, LLAMA_8B, LLAMA_70B


def test_a_replica_has_the_room_and_the_speed_of_its_gpus() -> None:
    one, two = (replica_of(LLAMA_70B, gpu("h100"), 512, gpus=8, tensor_parallel=ranks) for ranks in (8, 4))
    assert one.block_bytes == 160 * 2**20
    assert one.gpu_kv_tokens == pytest.approx(one.gpu_kv_bytes / (320 * 1024), rel=1e-4)
    assert two.gpu_kv_tokens == pytest.approx(one.gpu_kv_tokens, rel=0.05)
    assert one.prefill.block_s(0, 512) == pytest.approx(0.0181, rel=0.02)
    assert one.usd_per_h == pytest.approx(55.04)
    assert one.step_s == pytest.approx(141e9 / (8 * 3.35e12), rel=0.01)
    assert replica_of(DEEPSEEK_V3, gpu("H200"), 64, gpus=8).memory.bytes_per_s == GPUS["H200"].link_bytes_per_s


def test_weights_of_8_bit_floats_compute_faster_where_the_gpu_can_and_attention_does_not() -> None:
    packed = {**LLAMA_70B, "quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic"}}
    old, new = (replica_of(packed, gpu(name), 512, gpus=8).prefill for name in ("A100-80", "H100"))
    assert old.token_flops == 2 * new.token_flops
    assert old.full_pair_flops == new.full_pair_flops


def test_decoding_takes_longer_the_more_is_answered() -> None:
    replica = replica_of(LLAMA_8B, gpu("L40S"), 512)
    prompts: list[Prompt] = [([1, 2], 1024)] * 10
    few, many = (replica.decode_s(Traffic(prompts, 1.0, [each] * 10)) for each in (10, 100))
    assert 0 < few < many < 100 * 10 * replica.step_s / 0.5


@pytest.mark.parametrize(
    ("name", "gpus", "ranks", "said"),
    [
        pytest.param("H1000", 1, 0, "no GPU 'H1000'", id="gpu"),
        pytest.param("H100", 8, 3, "8 GPUs are no multiple of 3", id="ranks"),
        pytest.param("L4", 2, 0, "do not fit on 2 GPUs", id="too small"),
    ],
)
def test_what_cannot_be_is_refused(name: str, gpus: int, ranks: int, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replica_of(LLAMA_70B, gpu(name), 512, gpus=gpus, tensor_parallel=ranks)
