"""Stage `sizing`: every 15 s a finding of how many replicas there should be, and nothing spare on doubtful evidence."""

from __future__ import annotations

from dataclasses import replace

from agents.performance.core.scaler import PredictiveScaler
from agents.performance.stages import stages
from contracts.catalog.findings import FINDINGS
from contracts.events import EndState
from contracts.scaling import LoadSeen
from tests.agents.performance.sizing_desk import LEARNT_S, SETTINGS, Sizer, action, latest, window
from tests.agents.saga_help import TUNE
from tests.agents.saga_help import action as saga_action
from tests.agents.watching_desk import ms, outcome, tick


def test_a_finding_comes_every_fifteen_seconds_of_event_time() -> None:
    found = Sizer().goes_on(120)
    assert [each.at_ms for each in found] == [ms(at_s) for at_s in range(15, 121, 15)]
    assert {(each.workload, each.kind) for each in found} == {("chat", "sizing")}


def test_before_any_capacity_is_known_it_says_so_and_wants_nothing() -> None:
    first = Sizer().goes_on(15)[0]
    assert first.values == {"startup_s": 60.0, "replicas_ordered": 4.0}
    assert first.words.startswith("how many replicas there should be is not known yet; capacity: no")


def test_once_capacity_is_known_every_number_is_told() -> None:
    last = Sizer().goes_on(LEARNT_S)[-1]
    assert last.values.keys() == {name for name, each in FINDINGS.items() if each.kind == "sizing"}
    assert "errors of" in last.words
    assert "a start-up of 60 s is supposed" in last.words


def test_what_the_scaler_is_told_is_what_came() -> None:
    """The same answers as of a scaler that is asked by hand."""
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    assert sizer.state is not None
    mind = sizer.state.mind
    assert mind is not None
    assert isinstance(mind.scaler, str)
    scaler = PredictiveScaler.unpack(mind.facts, mind.scaler, target=0.99)
    start_s = ms(LEARNT_S) // 1000
    wanted = [scaler.decide(LoadSeen(start_s + 15 * n, [8] * 15, 0.0, 20.0, 4, 0)) for n in range(1, 5)]
    assert [each.value("replicas_wanted") for each in sizer.goes_on(60)] == wanted


def test_a_load_that_grows_makes_replicas_short() -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    last = sizer.goes_on(120, 24.0)[-1]
    assert (last.value("replicas_short") or 0) >= 4
    assert last.value("replicas_spare") == 0
    assert last.value("replicas_wanted") == 4 + (last.value("replicas_short") or 0)


def test_a_load_that_falls_makes_replicas_spare() -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    last = sizer.goes_on(1500, 1.0)[-1]
    assert (last.value("replicas_spare") or 0) >= 1
    assert last.value("replicas_short") == 0


def test_no_more_are_wanted_than_the_bounds_allow() -> None:
    sizer = Sizer(replace(SETTINGS, bounds={"chat": (1, 5)}))
    sizer.goes_on(LEARNT_S)
    assert sizer.goes_on(120, 40.0)[-1].value("replicas_wanted") == 5


def test_what_is_ordered_counts_although_it_does_not_serve_yet() -> None:
    sizer = Sizer()
    sizer.goes_on(60)
    order = action(2, 61)
    sizer.send(order)
    assert sizer.goes_on(15)[-1].value("replicas_ordered") == 6
    sizer.send(outcome(order, 76, EndState.FAILED))
    assert sizer.goes_on(15)[-1].value("replicas_ordered") == 4


def test_for_a_replica_that_restarts_with_other_settings_no_other_is_ordered() -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    sizer.goes_on(900, 12.0)
    asked = sizer.goes_on(900, 12.0, replicas_up=8.0, instances=8)[-1]
    assert asked.value("replicas_wanted") == 8
    assert asked.value("replicas_short") == 0
    away = {"replicas_up": 7.0, "instances": 8}
    tune = saga_action(TUNE, at_ms=ms(sizer.at_s), start_by_ms=ms(sizer.at_s + 30))
    sizer.send(tune)
    restarting = sizer.goes_on(90, 12.0, **away)
    assert {(each.value("replicas_ordered"), each.value("replicas_short")) for each in restarting} == {(8.0, 0.0)}
    sizer.send(outcome(tune, sizer.at_s))
    assert sizer.goes_on(60, 12.0, **away)[-1].value("replicas_short") == 1, "it is missed once the tune has ended"


def test_a_start_up_that_was_seen_is_reckoned_with() -> None:
    sizer = Sizer()
    sizer.goes_on(60)
    order = action(1, 60)
    sizer.send(order)
    sizer.goes_on(90)
    sizer.goes_on(5, replicas_up=5.0)
    sizer.send(outcome(order, 156))
    last = sizer.goes_on(15, replicas_up=5.0)[-1]
    assert last.value("startup_s") == 95
    assert "p90 of 1 seen" in last.words


def test_without_fresh_slis_nothing_is_spare_and_nothing_is_lowered() -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    spare = sizer.goes_on(1500, 1.0)[-1].value("replicas_spare")
    assert spare
    blind = sizer.send(*(tick(sizer.at_s + gap) for gap in range(1, 62)))
    assert [each.value("replicas_spare") for each in blind] == [None, None, None]
    assert blind[-1].value("replicas_wanted") == blind[-1].value("replicas_ordered") == 4
    assert (blind[-1].freshness_s, blind[-1].cause_ms) == (60.0, ms(sizer.at_s))


def test_with_too_few_instances_heard_nothing_is_spare() -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    sizer.goes_on(1500, 1.0)
    few = sizer.goes_on(15, 0.5, coverage_ratio=0.4)[-1]
    assert few.value("replicas_spare") is None
    assert few.value("replicas_wanted") == 4


def test_where_some_instances_tell_no_arrivals_it_may_raise_and_not_lower() -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    sizer.goes_on(1500, 1.0)
    low = sizer.goes_on(15, 0.5, samples=3)[-1]
    assert (low.value("replicas_spare"), low.value("replicas_wanted"), low.value("replicas_short")) == (None, 4, 0)
    high = sizer.goes_on(60, 30.0, samples=3)[-1]
    assert high.value("replicas_spare") is None
    assert (high.value("replicas_short") or 0) > 0


def test_scrapes_rarer_than_looks_are_waited_for() -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    log = [
        message for at_s in range(305, 425, 5) for message in ([latest(at_s)] if at_s % 30 == 0 else []) + [tick(at_s)]
    ]
    found = sizer.send(*log)
    assert [each.at_ms for each in found] == [ms(at_s) for at_s in (330, 360, 390, 420)]
    assert all(each.value("replicas_spare") is not None for each in found)


def test_an_sli_a_little_ahead_is_no_younger_than_time_allows() -> None:
    sizer = Sizer()
    sizer.goes_on(60)
    sizer.send(latest(110.0))
    found = sizer.send(*(tick(at_s) for at_s in range(61, 106)))
    assert found[-1].value("replicas_spare") is None
    assert found[-1].freshness_s == 40.0


def test_slis_of_instances_later_revisions_and_short_windows_are_not_read() -> None:
    sizer = Sizer()
    sizer.goes_on(60)
    before = sizer.state
    sizer.send(latest(61).model_copy(update={"instance_id": "chat-0"}))
    sizer.send(window(61).model_copy(update={"revision": 1}), window(61, size_s=10))
    assert sizer.state == before


def test_longer_windows_are_read_only_where_there_are_no_shorter_ones() -> None:
    sizer = Sizer()
    sizer.send(latest(0), window(0, size_s=300, total=7, good=7))
    assert sizer.state is not None
    assert sizer.state.served is not None
    assert (sizer.state.served.size_s, sizer.state.served.done) == (300, 7)
    sizer.send(window(60), window(300, size_s=300))
    assert sizer.state.served is not None
    assert (sizer.state.served.size_s, sizer.state.served.done, sizer.state.served.late) == (60, 487, 4)


def test_with_windows_alone_no_replicas_are_counted() -> None:
    sizer = Sizer()
    found = sizer.send(tick(0), window(3), tick(1), tick(15))
    assert [(each.values, each.freshness_s) for each in found] == [({"startup_s": 60.0}, 12.0)]
    assert Sizer().send(window(18), tick(14), tick(15))[0].freshness_s == 0


def test_a_scaler_that_another_version_packed_begins_anew() -> None:
    sizer = Sizer()
    sizer.goes_on(LEARNT_S)
    assert sizer.state is not None
    assert sizer.state.mind is not None
    strange = sizer.state.mind.model_copy(update={"scaler": "of another time"})
    sizer.state = sizer.state.model_copy(update={"mind": strange})
    assert sizer.goes_on(15)[-1].value("replicas_wanted") is not None


def test_a_step_leaves_the_state_it_was_given_as_it_was() -> None:
    (stage,) = stages(SETTINGS)
    sizer = Sizer()
    sizer.goes_on(75)
    state, _ = stage.step(sizer.state, [latest(80), tick(90)])  # this state holds a scaler that is alive
    assert state is not None
    before = state.model_dump_json()
    once = stage.step(state, [latest(105, 40.0), tick(105)])
    assert state.model_dump_json() == before
    again = stage.step(state, [latest(105, 40.0), tick(105)])
    assert once[1] == again[1]


def test_replicas_that_fall_silent_one_after_the_other_were_all_there_when_nothing_is_seen() -> None:
    sizer = Sizer()
    sizer.goes_on(120)
    fading = [latest(121, replicas_up=float(up), instances=4, coverage_ratio=up / 4) for up in (3, 2)]
    gone = latest(121, None, replicas_up=None, instances=4, coverage_ratio=0.25)
    last = sizer.send(*fading, gone, tick(135))[-1]
    assert (last.value("replicas_ordered"), last.value("replicas_spare")) == (4, None)


def test_a_replica_that_does_not_answer_does_not_serve() -> None:
    sizer = Sizer()
    sizer.goes_on(120)
    assert sizer.goes_on(15, replicas_up=3.0, instances=4, coverage_ratio=0.75)[-1].value("replicas_ordered") == 3
