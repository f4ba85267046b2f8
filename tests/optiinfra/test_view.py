"""The view: missing is a dash, stale is dim, a broken promise is red, and every embedded part is named."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from rich.console import Console
from rich.text import Text

from contracts.events import Alert, Answer, Decision, Message, MetricsSnapshot, Outcome, Severity, Sli, SliValue
from contracts.objectives import Objectives
from optiinfra.health import Check, ChildView, Vitals
from optiinfra.live import LiveState
from optiinfra.view import MISSING, About, Scene, child_table, line, render
from optiinfra.wiring.acting import RULES_STAY
from tests.contracts.messages import FULL as EVERY

NOW = 1_700_000_020_000
SLI = Sli(
    workload="chat",
    size_s=10,
    start_ms=NOW - 12_000,
    coverage_ratio=1.0,
    freshness_s=0.0,
    cause_ms=NOW - 1000,
    instances=2,
    instances_up=2,
    values={
        "ttft_p95_s": SliValue(value=0.4),
        "requests_per_s": SliValue(value=3.0),
        "itl_p95_s": SliValue(value=None),
    },
)


def scene(*messages: Message, **more: object) -> Scene:
    live = LiveState(speed=20)
    for message in messages:
        live.apply(message, NOW)
    vitals = Vitals({"broker": Check(True)}, (), {"scrapes": 4, "dead_letters": 0}, live.latency, {})
    about = About("embedded, in memory", "none", "none", "simulated (twin)", 20.0, 8686)
    made = Scene(about, live, vitals, {}, Objectives(), NOW, 12.0)
    return replace(made, **more)  # type: ignore[arg-type]  # fields of a Scene


def drawn(what: Scene, width: int = 140) -> str:
    console = Console(width=width, force_terminal=True, color_system="standard", no_color=False)
    with console.capture() as capture:
        console.print(render(what, width))
    return capture.get()


def plain(what: Scene) -> str:
    return Text.from_ansi(drawn(what)).plain


def row(what: Scene) -> list[str]:
    return next(text for text in plain(what).splitlines() if text.startswith("chat")).split()


def test_every_embedded_or_simulated_part_is_named() -> None:
    shown = plain(scene())
    for words in ("embedded, in memory", "store: none", "simulated (twin)", "at 20× wall", "Ctrl-C stops", ":8686"):
        assert words in shown


def test_values_are_shown_and_missing_ones_are_dashes() -> None:
    assert row(scene(SLI)) == ["chat", "2/2", "3.00", "0.400", *[MISSING] * 6, "2"]


def test_a_broken_promise_is_red_and_a_kept_one_is_not() -> None:
    red = re.compile(r"\x1b\[31m *0\.400")
    assert not red.search(drawn(scene(SLI)))
    assert red.search(drawn(scene(SLI, objectives={"chat": Objectives(ttft_s=0.25)})))


def test_old_values_are_dim() -> None:
    dim = re.compile(r"\x1b\[2m *3\.00")
    assert not dim.search(drawn(scene(SLI)))
    assert dim.search(drawn(scene(SLI, now_ms=NOW + 60_000)))


def test_a_stalled_replica_is_told_as_such() -> None:
    assert "stalled" in row(scene(SLI.model_copy(update={"stalled": True})))


def test_alerts_and_children_in_trouble_are_shown() -> None:
    alert = Alert(name="broker_away", severity=Severity.CRITICAL, subject="kafka:9092", at_ms=NOW, summary="gone")
    what = scene(alert)
    child = ChildView("slis", "backing off", 0, 3, False)
    shown = plain(replace(what, vitals=replace(what.vitals, children=(child,))))
    assert "critical broker_away kafka:9092: gone" in shown
    assert "not up: slis (backing off)" in shown


def test_one_line_says_the_same_without_a_terminal() -> None:
    told = line(scene(SLI))
    assert told == "12 s | scrapes=4 dead_letters=0 decisions=0 actions=0 | chat: 2/2 up, 3.00 req/s, TTFT p95 0.400 s"
    assert line(scene()).endswith("no SLIs yet")


def test_a_name_with_markup_stays_text() -> None:
    assert "[red]x[/red]" in plain(scene(SLI.model_copy(update={"workload": "[red]x[/red]"})))


def test_the_child_table_has_a_row_a_process() -> None:
    table = child_table((ChildView("slis", "running", 7, 1, True, "ok", 4), ChildView("twin", "waiting", 0, 0, False)))
    assert table.row_count == 2


FULL = SLI.model_copy(
    update={
        "values": {
            name: SliValue(value=value)
            for name, value in {
                "requests_per_s": 9876.54,
                "ttft_p95_s": 123.456,
                "itl_p95_s": 12.345,
                "ttft_attainment_ratio": 0.9876,
                "requests_waiting": 12345.0,
                "requests_running": 321.0,
                "kv_cache_usage_ratio": 0.87,
                "prefix_cache_hit_ratio": 0.76,
            }.items()
        }
    }
)
IMPORTANT = ("9876.54", "123.456", "12.345", "98.8%", "12345", "2/2")


@pytest.mark.parametrize(
    ("width", "shown", "left_out"),
    [
        (140, (*IMPORTANT, "321", "87%", "76%"), ()),
        (100, (*IMPORTANT, "321", "87%", "76%"), ()),
        (80, IMPORTANT, ("321", "87%", "76%")),
        (60, ("9876.54", "123.456", "98.8%"), ("321", "12.345")),
    ],
)
def test_numbers_are_shown_whole_or_not_at_all(width: int, shown: tuple[str, ...], left_out: tuple[str, ...]) -> None:
    long = FULL.model_copy(update={"instance_id": "vllm-chat-production-0.example.internal:8000"})
    text = Text.from_ansi(drawn(scene(FULL, long), width)).plain
    header, *rows = [one for one in text.splitlines() if one.lstrip().startswith(("workload", "chat", "vllm"))]
    assert "…" not in header.split("up", 1)[1]
    assert len(rows) == 2
    assert all(len(one) <= width for one in rows)
    for value in shown:
        assert value in rows[0].split()
    for value in left_out:
        assert value not in rows[0]
    assert "…" not in rows[1].split(maxsplit=1)[1]  # the name may be cut, no number


def test_event_time_ahead_of_the_wall_is_told_where_it_passes_for_wall_time() -> None:
    def header(speed: float, ahead_ms: int) -> str:
        return plain(scene(about=replace(scene().about, speed=speed, ahead_ms=ahead_ms)))

    assert "(7 min ahead of the wall)" in header(1.0, 7 * 60_000)
    assert "ahead" not in header(1.0, 30_000)
    assert "ahead" not in header(20.0, 7 * 60_000)


ACTING = "acts: autonomous on the simulated fleet, and on nothing else · reviewer: deterministic (no LLM is set)"


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_no_line_is_broken_within_a_part_and_what_was_decided_takes_one_line(width: int) -> None:
    some = {type(message): message for message in EVERY}
    alert = Alert(
        name="no_data", severity=Severity.WARNING, subject="chat", at_ms=NOW, workload="chat", summary="x " * 99
    )
    what = scene(SLI, alert, some[Decision], some[Outcome], about=replace(scene().about, acting=ACTING))
    lines = [one.rstrip() for one in Text.from_ansi(drawn(what, width)).plain.splitlines()]
    assert all(len(one) <= width for one in lines)
    assert "reviewer: deterministic (no LLM is set)" in " · ".join(lines).split(" · ")
    told = [one for one in lines if re.match(r"\d\d:\d\d:\d\d ", one)]
    assert len(told) == 3
    assert [one for one in told if " no_data chat: x" in one]


def test_a_replica_that_was_taken_away_is_left_out_after_a_while_and_one_that_is_down_is_not() -> None:
    def told(later_s: int, instance_id: str | None = None, **values: float) -> Sli:
        update = {"start_ms": SLI.start_ms + later_s * 1000, "instance_id": instance_id, "revision": later_s}
        return SLI.model_copy(update=update | {"values": {k: SliValue(value=v) for k, v in values.items()}})

    first = [told(0), told(0, "chat-0", up_ratio=1.0), told(0, "chat-1", up_ratio=1.0)]
    silent = plain(scene(*first, now_ms=NOW + 600_000))
    assert re.search(r"chat-0 +up", silent)  # nobody was told of: what stood last is shown, dimmed
    later = plain(scene(*first, told(180), told(180, "chat-0", up_ratio=0.0), now_ms=NOW + 180_000))
    assert re.search(r"chat-0 +down", later)
    assert "chat-1" not in later


def test_an_alert_that_comes_again_and_again_takes_one_line() -> None:
    def alert(name: str, at_s: int) -> Alert:
        at_ms = NOW + at_s * 1000
        return Alert(name=name, severity=Severity.CRITICAL, subject="sink", at_ms=at_ms, summary="lost")

    shown = plain(scene(alert("broker_away", 0), *(alert("offset_gap", second) for second in range(7))))
    assert [one for one in shown.splitlines() if " critical " in one and "sink: lost" in one] == [
        "22:13:40 critical broker_away sink: lost",
        "22:13:46 critical offset_gap ×7 sink: lost",
    ]


def test_a_replica_that_was_taken_away_is_left_out_at_once_until_it_is_scraped_again() -> None:
    def told(at_ms: int, size_s: int = 0) -> Sli:
        values = {"up_ratio": SliValue(value=1.0)}
        start_ms = at_ms - size_s * 1000
        update = {"size_s": size_s, "start_ms": start_ms, "instance_id": "chat-0", "values": values}
        return SLI.model_copy(update=update)

    last = next(each for each in EVERY if isinstance(each, MetricsSnapshot))
    gone = last.model_copy(update={"workload": "chat", "instance_id": "chat-0", "left": True, "scraped_at_ms": NOW})
    there = told(NOW - 2000)
    assert "chat-0" in plain(scene(SLI, there))
    assert "chat-0" not in plain(scene(SLI, there, gone))
    assert "chat-0" not in plain(scene(SLI, gone, there)), "topics are read side by side"
    assert "chat-0" not in plain(scene(SLI, there, gone, told(NOW + 4000, 10))), "its last window comes later"
    assert "chat-0" in plain(scene(SLI, there, gone, told(NOW + 2000), told(NOW + 4000, 10)))
    assert "chat-0" in plain(scene(SLI, told(NOW + 2000), gone, told(NOW + 4000, 10))), "it came back before"


def test_an_alert_of_many_lines_takes_one_line() -> None:
    summary = f"{RULES_STAY}: a.yaml:3: no such SLI\n  Did you mean …?\na.yaml:9: no such rule"
    alert = Alert(name="rules_refused", severity=Severity.WARNING, subject="rules", at_ms=NOW, summary=summary)
    [told] = [one for one in plain(scene(SLI, alert)).splitlines() if "no such" in one or "mean" in one]
    assert f"rules_refused rules: {RULES_STAY}: a.yaml:3: no such SLI · Did" in told


def test_what_waits_for_a_person_says_since_when_and_of_which_rule() -> None:
    asked = next(each for each in EVERY if isinstance(each, Decision))
    asked = asked.model_copy(update={"answer": Answer.NEEDS_APPROVAL, "at_ms": NOW})
    what = f"22:13:40 ? optiinfra approve {asked.decision_id[:10]}: chat scale_up +1, needs approval · scale-up-on-burn"
    assert what in plain(scene(SLI, asked))
