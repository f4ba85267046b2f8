"""What a replica is seen to do teaches its capacity: roughly while little happens, well once its limit shows."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from agents.performance.core.capacity import Capacity, CapacityModel, ReplicaSeen

BASE_S, PROMPT_S, TOKEN_S, BATCH = 0.03, 0.0001, 0.0004, 48.0


def replica(
    rps: float,
    *,
    prompt: float = 1000.0,
    generated: float = 200.0,
    slower: float = 1.0,
    batch: float = BATCH,
    queue: float = 0.0,
) -> ReplicaSeen:
    """A window of 15 s of a replica whose iterations take a base and some for each token, with room for a batch."""
    busy = slower * (PROMPT_S * prompt + TOKEN_S * generated)
    limit_rps = 1.0 / (slower * BASE_S * generated / batch + busy)
    served_rps = min(rps, limit_rps)
    itl_s = slower * BASE_S / (1.0 - served_rps * busy)
    late = min(0.98, math.exp(-max(0.0, 1.0 - rps / limit_rps) * 4.0 * limit_rps)) if queue < 2.0 * limit_rps else 1.0
    requests = 15.0 * served_rps
    return ReplicaSeen(
        span_s=15.0,
        finished=requests,
        running=served_rps * generated * itl_s,
        waiting=queue,
        prompt_tokens=requests * prompt,
        generation_tokens=requests * generated,
        done=requests,
        in_time=requests * (1.0 - late),
        itl_s=itl_s if requests else None,
    )


def capacity(prompt: float = 1000.0, generated: float = 200.0, slower: float = 1.0, target: float = 0.95) -> float:
    """The rate at which `target` are in time, by the law that `replica` follows."""
    limit_rps = 1.0 / (slower * (BASE_S * generated / BATCH + PROMPT_S * prompt + TOKEN_S * generated))
    return limit_rps * (1.0 + math.log(1.0 - target) / (4.0 * limit_rps))


def after(model: CapacityModel, *windows: ReplicaSeen, target: float = 0.95) -> CapacityModel:
    for window in windows:
        model = model.seen(window, target)
    return model


def rps(told: Capacity) -> float:
    assert told.rps is not None
    return told.rps


def varied(minutes: int) -> list[ReplicaSeen]:
    """Load that goes up and down between a fifth and somewhat more than all of the limit, and the queue it leaves."""
    queue, windows = 0.0, []
    for window in range(4 * minutes):
        offered = 15.0 * (2.1 + 1.4 * math.sin(window / 40)) + queue
        windows.append(replica(offered / 15.0, queue=queue))
        queue = max(0.0, offered - windows[-1].done)
    return windows


def test_nothing_is_known_before_anything_was_served() -> None:
    told = CapacityModel().estimate()
    assert told.rps is None
    idle = after(CapacityModel(), *[replica(0.0)] * 10)
    assert idle.estimate() == told


def test_load_that_varies_up_to_the_limit_teaches_the_capacity() -> None:
    told = after(CapacityModel(), *varied(60)).estimate()
    assert rps(told) == pytest.approx(capacity(), rel=0.1)
    assert told.error_ratio < 0.15
    assert told.saturated


def test_a_quiet_replica_is_judged_with_a_wider_error_that_holds_the_truth() -> None:
    quiet = after(CapacityModel(), *[replica(1.0)] * 240).estimate()
    taught = after(CapacityModel(), *varied(60)).estimate()
    assert quiet.error_ratio > 2 * taught.error_ratio
    assert quiet.lower_rps is not None
    assert quiet.upper_rps is not None
    assert quiet.lower_rps < capacity() < quiet.upper_rps
    assert not quiet.saturated


def test_longer_prompts_move_the_capacity_within_a_minute() -> None:
    model = after(CapacityModel(), *varied(60))
    longer = after(model, *[replica(1.0, prompt=4000.0)] * 6).estimate()
    assert rps(longer) == pytest.approx(capacity(prompt=4000.0), rel=0.2)


def test_a_replica_that_slows_down_is_found_out_below_its_limit() -> None:
    model = after(CapacityModel(), *varied(60))
    slowed = after(model, *[replica(2.0, slower=1.4)] * 20).estimate()
    assert rps(slowed) == pytest.approx(capacity(slower=1.4), rel=0.12)


def test_a_fleet_that_tells_neither_tokens_nor_latencies_is_measured_when_it_is_full() -> None:
    full = ReplicaSeen(15.0, 60.0, 48.0, 12.0, 0.0, 0.0, 60.0, 10.0)
    part = ReplicaSeen(15.0, 45.0, 36.0, 0.0, 0.0, 0.0, 45.0, 45.0)
    assert after(CapacityModel(), *[part] * 40).estimate().error_ratio > 0.3
    told = after(CapacityModel(), *[part] * 40, *[full] * 8, *[part] * 40).estimate()
    assert rps(told) == pytest.approx(4.0, rel=0.15)
    slower = replace(full, finished=45.0, done=45.0)
    assert after(CapacityModel(), *[full] * 40, *[slower] * 16).estimate().limit_rps == pytest.approx(3.0, rel=0.05)


def test_it_is_the_same_after_json_and_stays_small() -> None:
    model = after(CapacityModel(), *varied(60))
    text = model.model_dump_json()
    assert CapacityModel.model_validate_json(text) == model
    assert len(text) < 10_000


def test_seeing_leaves_the_model_as_it_was() -> None:
    model = after(CapacityModel(), *varied(5))
    text = model.model_dump_json()
    assert model.seen(replica(3.0), 0.95) != model
    assert model.model_dump_json() == text


def test_a_stricter_objective_leaves_less_capacity() -> None:
    model = after(CapacityModel(), *varied(60))
    told = [rps(model.model_copy(update={"target": target}).estimate()) for target in (0.9, 0.95, 0.99)]
    assert told == sorted(told, reverse=True)
    assert told[0] > told[2]


WINDOWS = st.builds(
    ReplicaSeen,
    span_s=st.just(0.0) | st.floats(0.1, 600),
    finished=st.floats(0, 1e4),
    running=st.floats(0, 500),
    waiting=st.floats(0, 1e4),
    prompt_tokens=st.floats(0, 1e7),
    generation_tokens=st.floats(0, 1e6),
    done=st.floats(0, 1e4),
    in_time=st.floats(0, 1e4),
    itl_s=st.none() | st.floats(1e-4, 5),
    kv_usage_ratio=st.none() | st.floats(0, 1),
)


@settings(phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(WINDOWS, max_size=12))
def test_whatever_is_seen_the_answer_is_a_number_between_its_bounds_and_in_order(windows: list[ReplicaSeen]) -> None:
    told = after(CapacityModel(), *windows).estimate()
    if told.rps is None:
        return
    assert told.lower_rps is not None
    assert told.upper_rps is not None
    assert 0 < told.lower_rps <= told.rps <= told.upper_rps < math.inf
    assert 0 < told.error_ratio < math.inf
