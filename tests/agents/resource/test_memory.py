"""Stage `resource`: what it finds, when, and that it says nothing where nothing is known."""

from __future__ import annotations

from typing import Any

import pytest

from agents.resource.core.memory_state import ResourceSettings
from agents.resource.stages import resource_stage
from contracts.catalog.findings import FINDINGS, KINDS
from contracts.events import Action, ActionKind, Alert, Finding, Message
from contracts.topics import ACTIONS, ALERTS, EVENTS, OUTCOMES, SLIS, TICKS
from contracts.topics import FINDINGS as FINDINGS_TOPIC
from tests.agents.resource.memory_desk import STAGE, action, findings, run, sets, use, window
from tests.agents.watching_desk import ms, outcome, tick

LOAD: dict[str, Any] = {"requests_running": 90.0, "requests_waiting": 0.0}
RISE = [0.5 + 0.01 * place for place in range(40)]


def alerts(log: list[Message]) -> list[Alert]:
    return [each for each in run(log)[1] if isinstance(each, Alert)]


def test_it_reads_slis_and_what_is_done_and_writes_findings_and_alerts() -> None:
    assert (STAGE.inputs, STAGE.outputs) == ((SLIS, ACTIONS, OUTCOMES, EVENTS, TICKS), (FINDINGS_TOPIC, ALERTS))


def test_a_rising_cache_is_scored_timed_and_forecast() -> None:
    last = findings(use(RISE))[-1]
    assert last.value("kv_p95_ratio") == pytest.approx(0.84)
    assert last.value("kv_full_in_s") == pytest.approx((1 - 0.85) / 0.001)
    assert last.value("kv_rise_per_min_ratio") == pytest.approx(0.06)
    assert last.value("kv_above_s") == 50
    assert (last.value("pressure_level"), last.freshness_s) == (1.0, 0.0)
    assert "left out, as nobody told: allocation" in last.words
    assert "full in 150 s" in last.words


def test_every_number_of_the_catalogue_is_told_where_all_is_known() -> None:
    log = use([0.94 + 0.001 * place for place in range(36)], kv_allocation_failures_per_s=0.01, **LOAD)
    for each in (sets(196, at_s=15), sets(9000, ActionKind.CONTEXT, at_s=15)):
        log[2:2] = [each, outcome(each, 60)]
    assert findings(log)[-1].values.keys() == {name for name, each in FINDINGS.items() if each.kind == "pressure"}


def test_looks_are_told_at_their_time_and_once() -> None:
    found = findings(use([0.5] * 40))
    assert [(each.at_ms - ms(0)) / 1000 for each in found] == [50, 90, 140, 180, 230, 270, 320, 360]
    assert KINDS["pressure"] == 45


@pytest.mark.parametrize(
    "changes",
    [{"kv_cache_usage_ratio": None, "preemptions_per_s": None}, {"size_s": 0}],
    ids=["nothing of memory", "latest values alone"],
)
def test_where_pages_tell_nothing_of_memory_nothing_is_said(changes: dict[str, Any]) -> None:
    log: list[Message] = []
    for at_s in range(10, 400, 10):
        log += [window(at_s, **changes), tick(at_s)]
    assert STAGE.step(None, log)[1] == []


def test_without_kv_use_there_is_no_score_and_preemptions_are_told_all_the_same() -> None:
    last = findings(use([0.5] * 20, kv_cache_usage_ratio=None, preemptions_per_s=1.0))[-1]
    assert last.value("pressure_score") is None
    assert last.value("preempted_ratio") == pytest.approx(0.2)
    assert "no score" in last.words


def test_silence_ends_what_is_said() -> None:
    log = use([0.9] * 20) + [tick(200 + at_s) for at_s in range(10, 600, 10)]
    assert findings(log)[-1].at_ms <= ms(200 + 120)


def test_what_was_counted_outlives_an_hour_of_silence() -> None:
    false_alarm = [*use(RISE[:29]), *use([0.7] * 70, from_s=290)]
    kept, _ = run([*false_alarm, tick(990 + 3700)])
    assert (kept.readings.by_size, kept.account.false_alarms) == ({}, 1)
    back = findings([*false_alarm, tick(4700), tick(4710), *use([0.5] * 10, from_s=4710)])
    assert back[-1].value("oom_forecasts_false") == 1.0


def test_an_act_on_a_forecast_after_which_memory_does_not_fill_is_counted_as_prevented() -> None:
    done = action(290)
    log = [*use(RISE[:29]), done, *use([0.7] * 6, from_s=290), outcome(done, 350), *use([0.7] * 64, from_s=350)]
    last = findings(log)[-1]
    assert (last.value("oom_prevented"), last.value("oom_not_prevented")) == (1.0, 0.0)
    assert "prevented 1 of 1 times" in last.words


def test_without_the_act_the_same_is_a_forecast_that_was_wrong() -> None:
    last = findings([*use(RISE[:29]), *use([0.7] * 70, from_s=290)])[-1]
    assert (last.value("oom_prevented"), last.value("oom_forecasts_false")) == (0.0, 1.0)


def test_a_gateway_is_advised_once_when_it_begins_and_once_when_it_is_over() -> None:
    told = alerts(use([0.8] * 10 + [0.88] * 20 + [0.7] * 10 + [0.88] * 10))
    names = [each.name.removeprefix("gateway_queue_") for each in told]
    assert names == ["advised", "ended", "advised"]
    assert findings(use([0.88] * 10))[-1].value("queue_advised") == 1.0
    assert "let requests queue at the gateway" in findings(use([0.88] * 10))[-1].words


def unknown(from_s: float, to_s: float) -> list[Message]:
    """Windows that tell of preemptions and of no KV use."""
    none: dict[str, Any] = {"kv_cache_usage_ratio": None, "kv_cache_usage_max_ratio": None}
    return use([0.0] * round((to_s - from_s) / 10), from_s=from_s, **none)


def test_advice_ends_two_minutes_after_kv_use_was_told_last() -> None:
    log = [*use([0.93] * 40), *unknown(400, 700)]
    assert [each.name for each in alerts(log)] == ["gateway_queue_advised", "gateway_queue_ended"]
    ended = alerts(log)[-1]
    assert 520 < (ended.at_ms - ms(0)) / 1000 < 570
    assert ended.summary.startswith("KV use is not known any longer")
    found = {(each.at_ms - ms(0)) / 1000: each for each in findings(log)}
    (soon, *_, last) = [each for at_s, each in found.items() if at_s > 410]
    assert (soon.value("queue_advised"), last.value("queue_advised")) == (1.0, 0.0)
    assert "context_cut_tokens" in soon.values
    assert "context_cut_tokens" not in last.values
    assert "KV use is not told now" in soon.words


def test_silence_ends_the_advice() -> None:
    log = use([0.93] * 20) + [tick(200 + at_s) for at_s in range(10, 600, 10)]
    assert [each.name for each in alerts(log)] == ["gateway_queue_advised", "gateway_queue_ended"]


def test_three_engines_that_begin_anew_advise_a_breaker_once() -> None:
    log = use([0.95]) + use([0.5] * 3, from_s=10, restarts=1.0) + use([0.5] * 40, from_s=40)
    assert [each.name for each in alerts(log)].count("breaker_advised") == 1


def test_a_rolling_restart_by_hand_with_memory_to_spare_advises_no_breaker() -> None:
    log = use([0.02] * 6)
    for at_s in (60, 120, 180):
        log += [*use([0.02], from_s=at_s, restarts=1.0), *use([0.02] * 5, from_s=at_s + 10)]
    assert alerts(log + use([0.02] * 20, from_s=240)) == []
    assert max(each.values["restarts_seen"] for each in findings(log)) == 3


def test_restarts_that_were_ordered_advise_nothing() -> None:
    tuned = action(5, kind=ActionKind.TUNE)
    log = [*use([0.5]), tuned, *use([0.5] * 3, from_s=10, restarts=1.0), outcome(tuned, 41), *use([0.5] * 9, from_s=40)]
    assert alerts(log) == []
    assert findings(log)[-1].value("restarts_seen") == 0.0


def test_an_ordered_restart_is_past_a_minute_after_its_end() -> None:
    tuned = action(5, kind=ActionKind.TUNE)
    log = [*use([0.5]), tuned, outcome(tuned, 10), tuned, *use([0.5] * 20, from_s=10, restarts=1.0)]
    assert findings(log)[-1].value("restarts_seen") == 11.0


def rolling(at_s: float, names: int) -> Action:
    """New settings for so many replicas, one after the other, ten minutes each at most."""
    one = action(at_s, kind=ActionKind.TUNE)
    shares = {f"chat-{each}": 1.0 for each in range(names)}
    return one.model_copy(update={"spec": one.spec.model_copy(update={"replicas": names, "by_replica": shares})})


def test_a_rolling_restart_of_our_own_is_ordered_up_to_its_last_replica() -> None:
    log: list[Message] = [*use([0.5]), rolling(5, 12)]
    for at_s in range(10, 1300, 10):
        log += use([0.5], from_s=at_s, restarts=1.0 if at_s % 90 == 50 else 0.0)
    assert alerts(log) == []
    assert {each.value("restarts_seen") for each in findings(log)} == {0.0}


def test_of_a_large_fleet_a_few_engines_that_begin_anew_advise_no_breaker() -> None:
    def log(restarts: float) -> list[Message]:
        told: list[Message] = []
        for at_s in range(0, 360, 60):
            told += [window(at_s, size_s=60, name=f"chat-{each}") for each in range(40)]
            first: dict[str, Any] = {"restarts": restarts} if at_s == 0 else {}
            told += use([0.95 if at_s == 0 else 0.5] * 6, from_s=at_s, **first)
        return told

    assert "breaker_advised" not in [each.name for each in alerts(log(0.5))]
    assert [each.name for each in alerts(log(1.0))].count("breaker_advised") == 1


def test_replicas_are_named_only_where_a_setting_is_asked_for() -> None:
    def asked(end_s: float, **changes: Any) -> Finding:
        log = day(**LENGTHS | changes)
        place = log.index(tick(end_s)) + 1
        minutes = [window(end_s, size_s=60, name=f"chat-{each}") for each in (1, 0)]
        return findings([*log[:place], *minutes, *log[place:]], "context")[-1]

    assert asked(3300).by_replica == {}, "they told nothing for long"
    assert asked(3500).by_replica == {"chat-0": 1.0, "chat-1": 1.0}
    assert asked(3500, request_tokens_p99=(3000.0, 500)).by_replica == {}
    pressed = findings([window(10, size_s=60, name="chat-0"), *use([0.95] * 10)])[-1]
    assert (pressed.by_replica, pressed.value("context_cut_tokens")) == ({}, 13_107), "a gateway asks for no replica"


def day(**changes: Any) -> list[Message]:
    """An hour of windows of five minutes, with a full KV cache beside them."""
    log: list[Message] = []
    for end_s in range(300, 3900, 300):
        log += [*use([0.9] * 30, from_s=end_s - 300), window(end_s, size_s=300, **changes)]
    return log


LENGTHS = {
    "request_tokens_mean": (400.0, 500),
    "request_tokens_p95": (3000.0, 500),
    "request_tokens_p99": (9000.0, 500),
}


def test_tiers_and_context_windows_are_looked_at_now_and_then() -> None:
    log = day(**LENGTHS, prefix_cache_hit_ratio=(0.4, 50_000))
    found = findings(log, "tiers")
    assert [(each.at_ms - ms(0)) // 1000 for each in found] == [600, 1200, 1800, 2400, 3000, 3600]
    assert found[-1].value("tier_worth_trying") == 1.0
    assert found[-1].value("tier_context_ratio") == pytest.approx(400 / 16_384)
    asked = findings(log, "context")
    assert [(each.at_ms - ms(0)) // 1000 for each in asked] == [1200, 2400, 3600]
    assert asked[-1].values.keys() == {name for name, each in FINDINGS.items() if each.kind == "context"}
    assert (asked[-1].value("context_worth_setting"), asked[-1].value("context_wanted_tokens")) == (1.0, 3840)


def test_a_context_window_that_is_not_known_is_asked_for() -> None:
    stage = resource_stage(ResourceSettings())
    told = [each for each in stage.step(None, day(**LENGTHS))[1] if isinstance(each, Finding)]
    (last, *_) = [each for each in reversed(told) if each.kind == "context"]
    assert (last.values, last.words) == (
        {},
        "max_model_len is not known: name it under engines in optiinfra.yaml",
    )


def test_requests_longer_than_anybody_tells_leave_the_window_unknown() -> None:
    (last, *_) = findings(day(**LENGTHS | {"request_tokens_p95": (None, 500)}), "context")
    assert (last.values, last.words.partition(":")[0]) == ({}, "how long the longest requests are is not known")


def test_where_nothing_is_told_of_lengths_nothing_is_said_of_windows() -> None:
    assert findings(day(), "context") == []
    (found,) = {each.words for each in findings(day(), "tiers")}
    assert found.startswith("not known: reuse was not measured")
