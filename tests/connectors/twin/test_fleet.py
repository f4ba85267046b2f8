"""The fleet routes, starts, drains and fails replicas, and accounts for every request."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectors.twin.fleet import Fleet, Phase, Replica, WorkloadSpec, default_workloads
from connectors.twin.load import LoadSpec
from connectors.twin.router import least_outstanding
from contracts.errors import ConfigError, Conflict

START_MS = 1_700_000_000_000
CHAT = WorkloadSpec("chat", "a/model", 2, LoadSpec(3.0, day_s=300, phase=0.3), startup_s=10.0)


def fleet(**changes: object) -> Fleet:
    return Fleet((replace(CHAT, **changes),), seed=1, start_ms=START_MS)  # type: ignore[arg-type]  # any field


def after(f: Fleet, seconds: float) -> Fleet:
    f.advance(f.now_ms + seconds * 1000)
    return f


def served(replica: Replica) -> int:
    return sum(replica.engine.meters.finished.values()) if replica.engine else 0


def accounted(f: Fleet) -> bool:
    """Holds while no process has ended: then its meters are gone with it."""
    counts = f.router["chat"]
    inside = sum(served(r) + r.engine.outstanding for r in f.replicas.values() if r.engine)
    return counts.arrived == counts.sent + counts.unserved + counts.refused and counts.sent == inside + counts.lost


def test_both_replicas_share_the_load_and_every_request_is_accounted_for() -> None:
    f = after(fleet(), 120)
    a, b = (served(r) for r in f.replicas.values())
    assert f.router["chat"].arrived > 100
    assert min(a, b) > 0.3 * max(a, b)
    assert accounted(f)


def test_the_router_takes_the_least_loaded_ready_replica() -> None:
    f = after(fleet(), 30)
    ready = list(f.replicas.values())
    chosen = least_outstanding(ready)
    assert chosen is not None
    assert chosen.engine is not None
    assert chosen.engine.outstanding == min(r.engine.outstanding for r in ready if r.engine)
    f.drain("chat-0")
    f.fail("chat-1")
    assert least_outstanding(ready) is None


@given(cuts=st.lists(st.floats(0, 60), max_size=12))
@settings(max_examples=15, deadline=None)
def test_where_time_is_cut_does_not_matter(cuts: list[float]) -> None:
    def books(moments: list[float]) -> list[object]:
        f = fleet()
        f.advance(START_MS + 5_000)
        f.add_replica("chat")
        for at_s in sorted(moments):
            f.advance(START_MS + 5_000 + at_s * 1000)
        f.advance(START_MS + 65_000)
        found: list[object] = [vars(f.router["chat"])]
        for r in f.replicas.values():
            assert r.engine is not None
            m = r.engine.meters
            found.append((r.phase, m.finished, m.ttft_s.counts, m.inter_token_s.total, r.engine.outstanding))
        return found

    assert books(cuts) == books([])


def test_a_new_replica_serves_after_its_start_up_delay_and_is_discovered_then() -> None:
    f = after(fleet(), 1)
    new = f.add_replica("chat")
    after(f, 9)
    assert (new.replica_id, new.phase, new.listens) == ("chat-2", Phase.STARTING, False)
    assert new not in f.discoverable()
    after(f, 30)
    assert new.phase is Phase.READY
    assert served(new) > 0
    assert new in f.discoverable()


def test_a_drained_replica_finishes_what_it_has_and_may_then_be_removed() -> None:
    f = after(fleet(), 60)
    replica = f.replica("chat-0")
    assert replica.engine is not None
    assert replica.engine.outstanding > 0
    f.drain("chat-0")
    with pytest.raises(Conflict, match="requests in flight"):
        f.remove("chat-0")
    total = served(replica) + replica.engine.outstanding
    after(f, 200)
    assert replica.drained
    assert served(replica) == total
    f.remove("chat-0")
    assert replica.phase is Phase.GONE
    assert replica not in f.discoverable()
    with pytest.raises(ConfigError, match="no replica 'chat-0'"):
        f.drain("chat-0")
    assert f.add_replica("chat").replica_id == "chat-2", "numbers are not used again"


def test_a_draining_replica_goes_back_into_rotation_with_what_it_holds() -> None:
    f = after(fleet(), 60)
    replica = f.replica("chat-0")
    assert replica.engine is not None
    f.drain("chat-0")
    held = replica.engine.outstanding
    f.restore("chat-0")
    assert (replica.phase, replica.engine.outstanding) == (Phase.READY, held)
    before = served(replica) + held
    after(f, 60)
    assert served(replica) + replica.engine.outstanding > before, "it is sent requests again"
    assert accounted(f)


def test_a_doomed_replica_dies_when_it_should_serve_and_recovers_as_any_other() -> None:
    f = fleet()
    replica = f.add_replica("chat", doomed=True)
    after(f, 9)
    assert replica.phase is Phase.STARTING
    after(f, 1)
    assert (replica.phase, replica.listens) == (Phase.FAILED, False)
    assert replica not in f.discoverable(), "it has never served"
    f.recover(replica.replica_id)
    after(f, 10)
    assert (replica.phase, replica.listens) == (Phase.READY, True)


def test_a_failed_replica_loses_what_it_held_and_recovers_with_counters_at_zero() -> None:
    f = after(fleet(), 60)
    replica = f.replica("chat-0")
    assert replica.engine is not None
    held = replica.engine.outstanding
    started_ms = replica.process_started_ms
    f.fail("chat-0")
    assert f.router["chat"].lost == held > 0
    assert replica in f.discoverable(), "it should be scraped: its silence is news"
    after(f, 20)
    f.recover("chat-0")
    after(f, 10)
    assert replica.phase is Phase.READY
    assert replica.process_started_ms == started_ms + CHAT.startup_s * 1000 + 80_000
    assert served(replica) == 0


def test_with_no_replica_ready_requests_are_not_served_and_counted_so() -> None:
    f = fleet()
    for name in list(f.replicas):
        f.fail(name)
    after(f, 30)
    assert f.router["chat"].unserved == f.router["chat"].arrived > 0
    assert accounted(f)


def test_a_frozen_replica_makes_no_progress_while_requests_wait_in_it() -> None:
    f = after(fleet(), 20)
    replica = f.replica("chat-0")
    f.freeze("chat-0")
    tokens = replica.engine.meters.generation_tokens if replica.engine else -1
    after(f, 40)
    assert replica.engine is not None
    assert replica.engine.meters.generation_tokens == tokens
    assert replica.engine.waiting > 0
    f.thaw("chat-0")
    after(f, 40)
    assert replica.engine.meters.generation_tokens > tokens
    assert accounted(f)


def test_a_reset_begins_a_new_process_with_counters_at_zero() -> None:
    f = after(fleet(), 30)
    replica = f.replica("chat-1")
    f.reset("chat-1", delay_s=0.0)
    assert replica.listens
    assert served(replica) == 0
    assert replica.process_started_ms == f.now_ms
    f.reset("chat-1")
    assert not replica.listens


@pytest.mark.parametrize(
    ("verb", "first"),
    [
        *(("recover", None), ("restore", None), ("fail", "fail"), ("drain", "fail"), ("restore", "fail")),
        *(("freeze", "freeze"), ("freeze", "fail")),
    ],
)
def test_a_command_that_does_not_fit_the_replicas_state_is_refused(verb: str, first: str | None) -> None:
    f = fleet()
    if first is not None:
        getattr(f, first)("chat-0")
    with pytest.raises(Conflict, match=f"cannot {verb} chat-0"):
        getattr(f, verb)("chat-0")


def test_unknown_names_are_refused_with_those_there_are() -> None:
    f = fleet()
    with pytest.raises(ConfigError) as unknown:
        f.add_replica("chatt")
    assert "Workloads: chat" in str(unknown.value)
    with pytest.raises(ConfigError) as missing:
        f.fail("chat-9")
    assert "chat-0, chat-1" in str(missing.value)


def test_a_default_day_meets_its_objectives_mostly_and_queues_at_its_peak() -> None:
    f = Fleet(default_workloads(day_s=1200), seed=1, start_ms=START_MS)
    longest = 0
    for _ in range(120):
        after(f, 10)
        chat = [r.engine for r in f.replicas.values() if r.workload.name == "chat" and r.engine]
        longest = max(longest, sum(e.waiting for e in chat))
    for name in ("chat", "code"):
        meters = [r.engine.meters for r in f.replicas.values() if r.workload.name == name and r.engine]
        ttft = sum(sum(m.ttft_s.counts[: m.ttft_s.edges.index(0.5) + 1]) for m in meters)
        itl = sum(sum(m.inter_token_s.counts[: m.inter_token_s.edges.index(0.1) + 1]) for m in meters)
        assert 0.8 < ttft / sum(m.ttft_s.count for m in meters) < 0.99
        assert itl / sum(m.inter_token_s.count for m in meters) > 0.99
    assert longest > 8
