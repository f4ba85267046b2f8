"""A trace goes through the same fleet as live requests do, every request is accounted for, and twice is the same."""

from __future__ import annotations

from dataclasses import fields
from random import Random

import numpy as np
import pytest

from connectors.twin.fleet import Fleet, WorkloadSpec
from connectors.twin.load import LoadSpec
from connectors.twin.offline import Loss, Served, simulate
from connectors.twin.spec import EngineSpec
from connectors.twin.trace import Trace, TraceSource
from contracts.errors import ConfigError
from contracts.scaling import LoadSeen

SPEC = EngineSpec(max_model_len=4096)


def trace(count: int = 400, rps: float = 4.0, *, seed: int = 3, shared: bool = False) -> Trace:
    random, now_s, rows = Random(seed), 0.0, []
    for number in range(count):
        now_s += random.expovariate(rps)
        blocks = random.randrange(1, 60)
        head = random.randrange(blocks + 1) if shared else 0
        hashes = [*(("head", i) for i in range(head)), *((number, i) for i in range(head, blocks))]
        rows.append((now_s, blocks * 16 + random.randrange(16), random.randrange(1, 300), hashes))
    arrival_s, prompt, output, known = zip(*rows, strict=True)
    return Trace(arrival_s, prompt, output, known if shared else ())


class Steps:
    """Wants so many replicas from so many seconds on; keeps what it was shown."""

    def __init__(self, **wanted: int) -> None:
        self.wanted = sorted((int(name.removeprefix("at_")), number) for name, number in wanted.items())
        self.seen: list[LoadSeen] = []

    def decide(self, seen: LoadSeen) -> int:
        self.seen.append(seen)
        return [number for at_s, number in self.wanted if at_s <= seen.now_s][-1]


def test_every_request_is_served_with_times_that_agree() -> None:
    asked = trace()
    served = simulate(asked, SPEC, replicas=2)
    assert served.counts == {"stop": 400}
    gaps = np.asarray(asked.output_tokens) - 1
    said_s = np.where(gaps > 0, np.nan_to_num(served.itl_s) * gaps, 0.0)
    assert served.e2e_s == pytest.approx(served.ttft_s + said_s)
    assert np.all(served.queue_s >= 0)
    assert np.all(served.ttft_s > served.queue_s)
    assert served.mean_interval_s(asked.output_tokens) == pytest.approx(said_s.sum() / gaps.sum())
    assert served.replica_s == pytest.approx(2 * served.end_s)
    assert served.end_s == pytest.approx(float(np.max(np.asarray(asked.arrival_s) + served.e2e_s)))


def test_it_is_what_the_live_fleet_counts_on_the_same_requests() -> None:
    asked = trace(shared=True)
    served = simulate(asked, SPEC, replicas=2)
    workload = WorkloadSpec("chat", "a/model", 2, LoadSpec(1.0), SPEC)
    live = Fleet((workload,), seed=1, start_ms=0, sources={"chat": TraceSource(asked)})
    for at_s in range(0, 1000, 7):
        live.advance(at_s * 1000.0)
    meters = [each.engine.meters for each in live.replicas.values() if each.engine]
    assert sum(m.finished["stop"] for m in meters) == 400
    assert sum(m.ttft_s.total for m in meters) == pytest.approx(float(served.ttft_s.sum()))
    assert sum(m.e2e_s.total for m in meters) == pytest.approx(float(served.e2e_s.sum()))
    assert sum(m.prefix_hits_tokens for m in meters) == served.prefix_hit_tokens.sum() > 0


def bytes_of(served: Served) -> list[object]:
    told = [getattr(served, each.name) for each in fields(served)]
    return [value.tobytes() if isinstance(value, np.ndarray) else value for value in told]


def test_twice_is_the_same_byte_for_byte() -> None:
    def once() -> list[object]:
        scaler = Steps(at_0=2, at_30=4, at_60=1)
        return bytes_of(simulate(trace(shared=True), SPEC, replicas=2, scaler=scaler, losses=[Loss(20.0, 1, 5.0)]))

    assert once() == once()


def test_a_scaler_sees_only_whole_seconds_that_have_passed_and_every_arrival_once() -> None:
    asked, scaler = trace(), Steps(at_0=2)
    simulate(asked, SPEC, replicas=2, scaler=scaler, decide_s=10)
    assert [seen.now_s for seen in scaler.seen] == list(range(0, 10 * len(scaler.seen), 10))
    counted = [number for seen in scaler.seen for number in seen.arrived or ()]
    for seen in scaler.seen:
        assert sum(counted[: seen.now_s]) == sum(at_s < seen.now_s for at_s in asked.arrival_s)
    assert sum(counted) == 400
    assert sum(seen.done for seen in scaler.seen) <= 400
    assert all(seen.late <= seen.done for seen in scaler.seen)


def test_what_is_ordered_serves_after_its_start_up_and_what_is_given_up_ends_what_it_has() -> None:
    asked, scaler = trace(rps=2.0), Steps(at_0=1, at_30=3, at_120=1)
    served = simulate(asked, SPEC, replicas=1, startup_s=40.0, scaler=scaler, decide_s=10)
    ready = {moment.at_s: (moment.ready, moment.starting, moment.draining) for moment in served.moments}
    assert ready[30.0] == (1, 0, 0)
    assert ready[40.0] == ready[60.0] == (1, 2, 0)
    assert ready[80.0] == ready[120.0] == (3, 0, 0)
    assert ready[130.0][0] == 1
    assert served.counts == {"stop": 400}
    assert served.end_s + 2 * 90.0 < served.replica_s < served.end_s + 2 * 110.0


def test_a_start_up_that_is_called_off_is_billed_until_then_and_never_serves() -> None:
    asked, scaler = trace(rps=2.0), Steps(at_0=1, at_30=3, at_50=1)
    served = simulate(asked, SPEC, replicas=1, startup_s=60.0, scaler=scaler, decide_s=10)
    assert served.replica_s == pytest.approx(served.end_s + 2 * 20.0)
    assert max(moment.ready for moment in served.moments) == 1


def test_start_up_takes_by_default_as_long_as_the_profile_loads() -> None:
    scaler = Steps(at_0=2)
    served = simulate(trace(rps=2.0), SPEC, replicas=1, scaler=scaler, decide_s=5)
    assert next(moment.at_s for moment in served.moments if moment.ready == 2) == SPEC.profile.startup_s() == 45.0


def test_a_loss_without_notice_takes_what_was_held_one_with_notice_drains_first() -> None:
    asked = trace()
    plain = simulate(asked, SPEC, replicas=2)
    cut = simulate(asked, SPEC, replicas=2, losses=[Loss(50.0)])
    warned = simulate(asked, SPEC, replicas=2, losses=[Loss(50.0, notice_s=120.0)])
    assert cut.counts["lost"] > 0
    assert cut.counts["lost"] + cut.counts["stop"] == 400
    assert warned.counts == {"stop": 400}
    assert cut.replica_s == pytest.approx(cut.end_s + 50.0)
    assert warned.end_s + 50.0 < warned.replica_s < warned.end_s + 80.0, "given back as soon as it had ended its own"
    assert cut.ttft_s[np.asarray(cut.endings) == "stop"].mean() > plain.ttft_s.mean()


def test_a_notice_too_short_for_what_is_held_loses_the_rest_of_it() -> None:
    served = simulate(trace(), SPEC, replicas=2, losses=[Loss(50.0, notice_s=1.0)])
    at_once = simulate(trace(), SPEC, replicas=2, losses=[Loss(50.0)])
    assert 0 < served.counts["lost"] < at_once.counts["lost"]
    assert served.replica_s == pytest.approx(served.end_s + 51.0)


def test_with_nobody_left_requests_are_unserved_and_those_too_long_refused() -> None:
    served = simulate(trace(), SPEC, replicas=1, losses=[Loss(50.0)])
    assert served.counts["unserved"] > 100
    assert np.isnan(served.ttft_s).sum() == 400 - served.counts["stop"]
    short = simulate(trace(), EngineSpec(max_model_len=512), replicas=1)
    assert short.counts["refused"] == sum(
        prompt + output > 512 for prompt, output in zip(trace().prompt_tokens, trace().output_tokens, strict=True)
    )


def test_an_empty_trace_costs_nothing() -> None:
    served = simulate(Trace((), (), ()), SPEC, replicas=3)
    assert (served.counts, served.replica_s, served.ttft_s.size) == ({}, 0.0, 0)


@pytest.mark.parametrize(
    ("columns", "what"),
    [
        (([0.0, 1.0], [5], [5]), "different lengths"),
        (([1.0, 0.0], [5, 5], [5, 5]), "out of order"),
        (([-1.0], [5], [5]), "outside"),
        (([0.0], [0], [5]), "without tokens"),
        (([0.0, 1.0], [5, 5], [5, 5], [[1]]), "different lengths"),
    ],
)
def test_a_trace_that_cannot_be_is_refused(columns: tuple[list[float], ...], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        Trace(*columns)  # type: ignore[arg-type]  # what a careless reader might pass


def test_a_trace_tells_its_rate_and_cannot_be_made_another() -> None:
    source = TraceSource(Trace([0.0, 0.5, 0.9, 2.0], [1] * 4, [1] * 4), start_ms=1000.0)
    assert source.rate_per_s(2000.0) == 3
    assert source.rate_per_s(3000.0) == 1
    with pytest.raises(ConfigError, match="the rate it had"):
        source.set_factor(2.0, 1000.0)


def test_a_run_without_replicas_is_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        simulate(trace(), SPEC, replicas=0)
