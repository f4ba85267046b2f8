"""The view: missing is a dash, stale is dim, a broken promise is red, and every embedded part is named."""

from __future__ import annotations

import re
from dataclasses import replace

from rich.console import Console
from rich.text import Text

from contracts.events import Alert, Severity, Sli, SliValue
from contracts.objectives import Objectives
from optiinfra.health import Check, ChildView, Vitals
from optiinfra.live import LiveState
from optiinfra.view import MISSING, About, Scene, child_table, line, render

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


def scene(*messages: Sli | Alert, **more: object) -> Scene:
    live = LiveState(speed=20)
    for message in messages:
        live.apply(message, NOW)
    vitals = Vitals({"broker": Check(True)}, (), {"scrapes": 4, "dead_letters": 0}, live.latency, {})
    about = About("embedded, in memory", "none", "none", "simulated (twin)", 20.0, 8686)
    made = Scene(about, live, vitals, {}, Objectives(), NOW, 12.0)
    return replace(made, **more)  # type: ignore[arg-type]  # fields of a Scene


def drawn(what: Scene) -> str:
    console = Console(width=140, force_terminal=True, color_system="standard", no_color=False)
    with console.capture() as capture:
        console.print(render(what))
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
    assert row(scene(SLI)) == ["chat", "2/2", "3.00", "0.400", "s", *[MISSING] * 6, "2", "s"]


def test_a_broken_promise_is_red_and_a_kept_one_is_not() -> None:
    red = re.compile(r"\x1b\[31m *0\.400 s")
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
    assert told == "12 s | scrapes=4 dead_letters=0 | chat: 2/2 up, 3.00 req/s, TTFT p95 0.400 s"
    assert line(scene()).endswith("no SLIs yet")


def test_a_name_with_markup_stays_text() -> None:
    assert "[red]x[/red]" in plain(scene(SLI.model_copy(update={"workload": "[red]x[/red]"})))


def test_the_child_table_has_a_row_a_process() -> None:
    table = child_table((ChildView("slis", "running", 7, 1, True, "ok", 4), ChildView("twin", "waiting", 0, 0, False)))
    assert table.row_count == 2
