"""The live view: one refreshing table of workloads and replicas, and plain lines where there is no terminal."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from contracts.events import Alert, Severity
from contracts.objectives import Objectives
from optiinfra.health import ChildView, Vitals
from optiinfra.live import LiveState, Subject, WorkloadView
from optiinfra.view_deeds import deeds_lines, one_line, short

STALE_S = 30.0
"""Event seconds after which a value is shown dimmed: three of the smallest windows."""

GONE_S = 120.0
"""Event seconds after which a replica of which nothing is told any more is left out."""

AHEAD_MS = 60_000
"""Event time that is so far ahead of the wall is told at speed 1, where people take it for wall time."""

COLUMNS = ("up", "req/s", "TTFT p95 s", "ITL p95 s", "TTFT met", "queue", "run", "KV", "hit", "age s")
SPARE = ("hit", "run", "KV", "ITL p95 s", "age s", "queue")
"""Columns that are left out where the terminal is narrow, the first ones first."""
WIDE = 100
NAME_LEAST, NAME_MOST = 16, 34

MISSING = "–"
SHOWN_REPLICAS = 24
SHOWN_ALERTS = 5
_COLOURS = {Severity.CRITICAL: "bold red", Severity.WARNING: "yellow", Severity.INFO: "cyan"}


@dataclass(frozen=True)
class About:
    """What the header says: the parts, and that they are embedded or simulated where they are; by how much event time
    was ahead of the wall when the run began."""

    broker: str
    store: str
    redis: str
    fleet: str
    speed: float
    health_port: int
    ahead_ms: int = 0
    acting: str = ""


@dataclass(frozen=True)
class Scene:
    """All that one frame is drawn from."""

    about: About
    live: LiveState
    vitals: Vitals
    objectives: Mapping[str, Objectives]
    default: Objectives
    now_ms: int
    wall_s: float

    def promise(self, workload: str) -> Objectives:
        """The objectives of a workload."""
        return self.objectives.get(workload, self.default)


def render(scene: Scene, width: int = 140) -> RenderableType:
    """One frame for a terminal of so many columns."""
    parts: list[RenderableType] = [_header(scene, width)]
    if scene.live.workloads:
        parts.append(_table(scene, width))
    else:
        parts.append(Text("waiting for the first scrapes …", style="dim"))
    troubled = [child for child in scene.vitals.children if not child.up]
    if troubled:
        parts.append(Text("not up: " + ", ".join(f"{c.name} ({c.phase})" for c in troubled), style="yellow"))
    parts += deeds_lines(scene.live.deeds, scene.now_ms)
    parts += _alerts(scene.live.alerts)
    parts.append(_footer(scene, width))
    return Group(*parts)


def _header(scene: Scene, width: int) -> Text:
    about = scene.about
    clock = datetime.fromtimestamp(scene.now_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    ahead = about.speed == 1 and about.ahead_ms > AHEAD_MS
    parts = [f"fleet: {about.fleet}", f"event time {clock} at {about.speed:g}× wall"]
    text = Text("OptiInfra", style="bold")
    text.append("  ", style="not bold")
    embedded = [f"broker: {about.broker}", f"store: {about.store}", f"redis: {about.redis}"]
    text.append(_folded(embedded, width, len("OptiInfra  ")), style="not bold")
    text.append(f"\n{_folded(parts, width)}", style="not bold")
    if ahead:
        text.append(f" ({about.ahead_ms / 60_000:.0f} min ahead of the wall)", style="yellow")
    if about.acting:
        text.append(f"\n{_folded(about.acting.split(_DOT), width)}", style="not bold")
    return text


_DOT = " · "


def _folded(parts: Sequence[str], width: int, taken: int = 0) -> str:
    """Parts in lines of the terminal's width; a line ends between two of them, not within."""
    text, room = "", width - taken
    for part in parts:
        joint = _DOT if text else ""
        if text and cell_len(joint + part) > room:
            joint, room = "\n", width
        text += joint + part
        room -= cell_len(joint.strip("\n") + part)
    return text


def _table(scene: Scene, width: int) -> Table:
    """The names give way to the numbers: a name that is cut is still one to know, a number that is cut is none."""
    names, rows = [], []
    for name in sorted(scene.live.workloads):
        view = scene.live.workloads[name]
        names.append(Text(name, style="bold"))
        rows.append(_row(view, scene, scene.promise(name), _up(view)))
        there = [each for each in sorted(view.replicas) if not _gone(view.replicas[each], view)]
        shown = there[:SHOWN_REPLICAS]
        for replica in shown:
            subject = view.replicas[replica]
            names.append(Text(f"  {replica}"))
            rows.append(_row(subject, scene, scene.promise(name), _up_one(subject)))
        if len(there) > len(shown):
            names.append(Text(f"  … {len(there) - len(shown)} more", style="dim"))
            rows.append([Text("")] * len(COLUMNS))
    widths = {
        title: 1 + max(cell_len(title), *(row[number].cell_len for row in rows)) for number, title in enumerate(COLUMNS)
    }
    for number, title in enumerate(SPARE):
        if width < WIDE and (number < 3 or width - sum(widths.values()) <= NAME_LEAST):
            del widths[title]
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 1, 0, 0))
    room = width - sum(widths.values()) - 1
    table.add_column("workload / replica", no_wrap=True, max_width=max(1, min(NAME_MOST, room)))
    for title in widths:
        table.add_column(title, justify="right", no_wrap=True)
    for name_cell, row in zip(names, rows, strict=True):
        table.add_row(name_cell, *(cell for title, cell in zip(COLUMNS, row, strict=True) if title in widths))
    return table


def _gone(replica: Subject, view: WorkloadView) -> bool:
    """Whether nothing was told of a replica for a while in which its workload was told of: it was taken away. One that
    does not answer is told of, as down, for as long as it is among the targets."""
    return view.newest_ms - replica.newest_ms > GONE_S * 1000


def _up(view: WorkloadView) -> Text:
    newest = view.latest or view.window
    if newest is None:
        return Text(MISSING)
    return Text(f"{newest.instances_up}/{newest.instances}", style="" if newest.instances_up else "red")


def _up_one(subject: Subject) -> Text:
    value = subject.value("up_ratio")
    if value is None:
        return Text(MISSING)
    return Text("up") if value > 0 else Text("down", style="red")


def _row(subject: Subject, scene: Scene, promise: Objectives, up: Text) -> list[Text]:
    age_s = max(0.0, (scene.now_ms - subject.newest_ms) / 1000) if subject.newest_ms else None
    stale = age_s is None or age_s > STALE_S
    attained = subject.value("ttft_attainment_ratio")
    stalled = any(sli is not None and sli.stalled for sli in (subject.window, subject.latest))
    cells = [
        up,
        _number(subject.value("requests_per_s"), "{:.2f}"),
        _number(subject.value("ttft_p95_s"), "{:.3f}", above=promise.ttft_s),
        _number(subject.value("itl_p95_s"), "{:.3f}", above=promise.itl_s),
        _number(attained, "{:.1%}", below=promise.attainment_target_ratio),
        Text("stalled", style="bold red") if stalled else _number(subject.value("requests_waiting"), "{:.0f}"),
        _number(subject.value("requests_running"), "{:.0f}"),
        _number(subject.value("kv_cache_usage_ratio"), "{:.0%}", above=0.95),
        _number(subject.value("prefix_cache_hit_ratio"), "{:.0%}"),
        _number(age_s, "{:.0f}"),
    ]
    if stale:
        for cell in cells:
            cell.stylize("dim")
    return cells


def _number(value: float | None, pattern: str, above: float | None = None, below: float | None = None) -> Text:
    """A value, red when it breaks its bound; a dash when it is missing, which is not zero."""
    if value is None:
        return Text(MISSING, style="dim")
    broken = (above is not None and value > above) or (below is not None and value < below)
    return Text(pattern.format(value), style="red" if broken else "")


_ID = re.compile("[0-9a-f]{32}")


def _alerts(alerts: Iterable[Alert]) -> list[RenderableType]:
    """The newest alerts, each kind of a subject once: one that comes again and again must not hide the others."""
    newest: dict[tuple[str, str, str], list[Alert]] = {}
    for alert in alerts:
        kind = (alert.name, alert.workload, alert.subject)
        newest[kind] = [*newest.pop(kind, []), alert]
    return [one_line(alert_line(same[-1], len(same))) for same in list(newest.values())[-SHOWN_ALERTS:]]


def alert_line(alert: Alert, times: int = 1) -> Text:
    """An alert in one line; its time of day is event time, UTC. `times`: how often it came of late."""
    clock = datetime.fromtimestamp(alert.at_ms / 1000, UTC).strftime("%H:%M:%S")
    again = f" ×{times}" if times > 1 else ""
    subject = short(alert.subject) if _ID.fullmatch(alert.subject) else alert.subject
    where = " ".join(dict.fromkeys(name for name in (alert.workload, subject) if name != "-"))
    summary = " · ".join(line.strip() for line in alert.summary.splitlines() if line.strip())
    return Text(f"{clock} {alert.severity} {alert.name}{again} {where}: {summary}", style=_COLOURS[alert.severity])


def _footer(scene: Scene, width: int) -> Text:
    counts = scene.vitals.counts
    parts = [f"{counts[name]:,} {name.replace('_', ' ')}" for name in counts]
    p50 = scene.live.latency_s()["scrape_to_sli_p50"]
    if p50 is not None:
        parts.append(f"scrape→SLI p50 {p50:.2f} s")
    parts.append(f"{scene.wall_s:.0f} s")
    port = scene.about.health_port
    return Text(f"{_folded(parts, width)}\nCtrl-C stops; optiinfra status; health on :{port}", style="dim")


def line(scene: Scene) -> str:
    """The same in one line, for logs and pipes."""
    workloads = []
    for name in sorted(scene.live.workloads):
        view = scene.live.workloads[name]
        ttft, rate = view.value("ttft_p95_s"), view.value("requests_per_s")
        shown = [
            f"{rate:.2f} req/s" if rate is not None else f"{MISSING} req/s",
            f"TTFT p95 {ttft:.3f} s" if ttft is not None else f"TTFT p95 {MISSING}",
        ]
        workloads.append(f"{name}: {_up(view).plain} up, {', '.join(shown)}")
    deeds = scene.live.deeds
    told = {**scene.vitals.counts} | {"decisions": sum(deeds.decisions.values()), "actions": sum(deeds.ended.values())}
    counts = " ".join(f"{name}={count}" for name, count in told.items())
    down = [child.name for child in scene.vitals.children if not child.up]
    trouble = f" | not up: {', '.join(down)}" if down else ""
    return f"{scene.wall_s:.0f} s | {counts}{trouble} | {'; '.join(workloads) or 'no SLIs yet'}"


def child_table(children: tuple[ChildView, ...]) -> Table:
    """The processes, for `optiinfra status`."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("process", "state", "pid", "restarts", "health", "lag"):
        table.add_column(title)
    for child in children:
        table.add_row(
            child.name,
            Text(child.phase, style="" if child.up else "red"),
            str(child.pid or MISSING),
            str(child.restarts),
            child.health or MISSING,
            MISSING if child.lag is None else str(child.lag),
        )
    return table
