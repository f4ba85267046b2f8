"""Draws replays: what each policy reaches at what cost, and how fleets followed the load; data in, SVG text out.

The same data gives the same bytes. Text stays text, and axes and words take the colour of the page around them; the
colours of lines are those of Okabe and Ito (jfly.uni-koeln.de/color), which colour-blind people can tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import contextmanager
from io import StringIO
from math import log10
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

import numpy as np

from contracts.errors import Unavailable
from optiinfra.replay.curves import Curve, Line
from optiinfra.replay.frontier import Point, edge
from optiinfra.replay.registry import OURS, POLICIES, STATIC_P99, WHOLE
from optiinfra.replay.report import ORACLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#010203"
"""Becomes `currentColor`: the colour of the text around the picture."""

SOFT = "#888888"
_OURS = {OURS.name: ("#D55E00", "o"), WHOLE: ("#0072B2", "X"), ORACLE: (INK, "*"), STATIC_P99: ("#E69F00", "s")}
_PEERS = [each.name for each in POLICIES if each is not OURS]
_OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_DASHES = ("-", "--", ":", "-.")
_MARKS = "sDv^Pp<>"
_FLOOR, _DEAREST = 0.9, 2.6
"""Points below this attainment or above this cost are left out of a frontier: what matters would be too small."""

_MOST_OVER = 2.0
"""Replicas above so many times the greatest need are cut off a timeline, and told in words."""

_TICKS = (0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999, 0.99999)
_NO_MISS = 1e-5
"""All in time is drawn where one in 100,000 is missed."""

_MOST_TICKS = 14
_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)
_DAY_S, _HOUR_S = 86_400, 3_600


def frontier_svg(points: Sequence[Point], name: str = "frontier", *, alone: bool = False) -> str:
    """Cost against attainment of one start-up: a line for each policy through its points that no other of its points
    beats. `name` begins every id in it. `alone`: a file of its own, on white. Raises Unavailable without matplotlib."""
    kept = [each for each in points if each.attainment >= _FLOOR and each.cost_vs_oracle <= _DEAREST]
    names = list(dict.fromkeys(each.policy for each in points if each.policy != ORACLE))
    with drawing(7.6, 4.6) as figure:
        axes = figure.add_subplot()
        for policy in names:
            line = edge([each for each in kept if each.policy == policy])
            if line:
                x, y = [each.cost_vs_oracle for each in line], [_nines(each.attainment) for each in line]
                axes.plot(x, y, label=policy, **_style(policy))
        axes.axvline(1.0, color=INK, linewidth=1, label="oracle: all in time", zorder=0)
        top = max([_nines(0.9995), *(_nines(each.attainment) for each in kept if each.policy in names)]) + 0.15
        ticks = [each for each in _TICKS if _nines(each) <= top]
        axes.set_yticks([_nines(each) for each in ticks], [_percent(each) for each in ticks])
        axes.set_ylim(_nines(_FLOOR), top)
        for goal in (0.99, 0.999):
            axes.axhline(_nines(goal), color=SOFT, linewidth=1, dashes=(4, 3), zorder=0)
        axes.set_xlabel("cost, in units of the oracle's")
        axes.set_ylabel("requests in time")
        axes.grid(color=SOFT, alpha=0.25, linewidth=0.6)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, labelcolor=INK)
        return svg_of(figure, name, "Cost and share of requests in time of each policy", alone)


def left_out(points: Sequence[Point]) -> int:
    """How many points a frontier has no room for."""
    return sum(each.attainment < _FLOOR or each.cost_vs_oracle > _DEAREST for each in points)


def timeline_svg(
    demand: Line,
    curves: Sequence[Curve],
    name: str = "timeline",
    *,
    outages_s: Sequence[tuple[int, int]] = (),
    losses_s: Sequence[int] = (),
    alone: bool = False,
) -> str:
    """Demand and each fleet below one another over the seconds of the trace, then who waits and what share is late.

    `outages_s`: spans without measurements, drawn as bands; `losses_s`: when replicas were lost, drawn as lines.
    Raises Unavailable without matplotlib.
    """
    told = [each for each in curves if each.waiting is not None and each.late_ratio is not None]
    heights = [1.25] * len(curves) + [1.0] * (2 if told else 0)
    with drawing(9.2, sum(heights) * 1.12 + 0.5) as figure:
        rows = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
        top = _top(demand, curves)
        for axes, curve in zip(rows, curves, strict=False):
            _fleet(axes, demand, curve, top)
        if told:
            _misses(rows[-2], rows[-1], told)
        for axes in rows:
            for begin_s, end_s in outages_s:
                axes.axvspan(begin_s, end_s, facecolor=SOFT, alpha=0.35, linewidth=0)
            for at_s in losses_s:
                axes.axvline(at_s, color="#CC79A7", linewidth=0.8, dashes=(2, 2))
            axes.grid(axis="y", color=SOFT, alpha=0.25, linewidth=0.6)
        _time(rows[-1], float(demand.at_s[0]), float(demand.at_s[-1]))
        return svg_of(figure, name, "Load, replicas, waiting and late requests over time", alone)


def _fleet(axes: Axes, demand: Line, curve: Curve, top: float) -> None:
    colour = _style(curve.name)["color"]
    axes.fill_between(demand.at_s, demand.value, color=SOFT, alpha=0.45, linewidth=0, step="post", label="load")
    axes.step(curve.ready.at_s, curve.ready.value, where="post", color=colour, linewidth=1.3, label="ready")
    if curve.billed is not None:
        billed = curve.billed
        axes.step(billed.at_s, billed.value, where="post", color=colour, linewidth=0.7, alpha=0.55, label="billed")
    axes.set_ylim(0, top)
    axes.set_ylabel("replicas")
    notes = [curve.note] if curve.note else []
    notes += [f"up to {_highest(curve):,.0f}, cut off here"] if _highest(curve) > top else []
    axes.set_title(curve.name + (f" ({'; '.join(notes)})" if notes else ""), loc="left", fontsize=9, color=INK)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=3, frameon=False, labelcolor=INK, fontsize=8)


def _misses(waiting: Axes, late: Axes, curves: Sequence[Curve]) -> None:
    for curve in curves:
        ours = curve.name in _OURS
        style = {"color": _style(curve.name)["color"], "linewidth": 1.1 if ours else 0.8, "label": curve.name}
        style["zorder"] = 3 if ours else 2
        if curve.waiting is not None and curve.late_ratio is not None:
            waiting.step(curve.waiting.at_s, curve.waiting.value, where="post", **style)
            late.step(curve.late_ratio.at_s, curve.late_ratio.value * 100, where="post", **style)
    waiting.set_yscale("symlog", linthresh=10)
    waiting.set_ylim(bottom=0)
    waiting.yaxis.set_major_formatter("{x:,.0f}")
    late.set_ylim(0)
    waiting.set_ylabel("requests")
    late.set_ylabel("%")
    waiting.set_title("waiting", loc="left", fontsize=9, color=INK)
    late.set_title("late", loc="left", fontsize=9, color=INK)
    waiting.legend(
        loc="lower right", bbox_to_anchor=(1.0, 0.98), ncols=len(curves), frameon=False, labelcolor=INK, fontsize=8
    )


def _time(axes: Axes, begin_s: float, end_s: float) -> None:
    """Days where there are some, else hours or minutes of the trace."""
    sizes = ((_DAY_S, "day"), (_HOUR_S, "hour"), (60, "minute"))
    unit_s, word = next(((size, word) for size, word in sizes if end_s - begin_s >= 2 * size), (1, "second"))
    step = next(each for each in _STEPS if (end_s - begin_s) / unit_s / each <= _MOST_TICKS)
    ticks = np.arange(-(-begin_s // (unit_s * step)) * step, end_s / unit_s + 1e-9, step)
    axes.set_xticks(ticks * unit_s, [f"{tick:g}" for tick in ticks])
    axes.set_xlim(begin_s, end_s)
    axes.set_xlabel(f"{word}s of the trace that are over")


def _top(demand: Line, curves: Sequence[Curve]) -> float:
    """Where the rows of fleets end: one policy that loses its head would make the others flat."""
    needed = float(demand.value.max(initial=1.0))
    needed = max([needed, *(_highest(each) for each in curves if each.name == ORACLE)])
    return 1.05 * max(needed, min(_MOST_OVER * needed, max(map(_highest, curves), default=0.0)))


def _highest(curve: Curve) -> float:
    return float((curve.billed or curve.ready).value.max(initial=1.0))


def _nines(attainment: float) -> float:
    """2 for 99 %, 3 for 99.9 %."""
    return -log10(max(1.0 - attainment, _NO_MISS))


def _percent(attainment: float) -> str:
    return f"{attainment * 100:g} %" + (" or more" if 1.0 - attainment < 1.01 * _NO_MISS else "")


def _style(policy: str) -> dict[str, Any]:
    """The same in every picture: a peer's follows from its place in the registry."""
    if policy in _OURS:
        colour, mark = _OURS[policy]
        return {"color": colour, "marker": mark, "markersize": 7, "linewidth": 2.4, "zorder": 3}
    place = _PEERS.index(policy) if policy in _PEERS else len(_PEERS)
    return {
        "color": _OTHERS[place % len(_OTHERS)],
        "linestyle": _DASHES[place // len(_OTHERS) % len(_DASHES)],
        "marker": _MARKS[place % len(_MARKS)],
        "markersize": 4,
        "linewidth": 1.3,
    }


@contextmanager
def drawing(width_in: float, height_in: float) -> Iterator[Figure]:
    """A figure under settings that no file of the user's changes."""
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ImportError as error:
        fix = "pip install 'optiinfra[report]'"
        raise Unavailable("matplotlib is not installed", where="--html", fix=fix) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        ink = ("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color")
        settings: Any = {
            "svg.hashsalt": "optiinfra",
            "svg.fonttype": "none",
            "text.parse_math": False,
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.linewidth": 0.6,
            "path.simplify": True,
            **dict.fromkeys(ink, INK),
        }
        matplotlib.rcParams.update(settings)
        yield Figure(figsize=(width_in, height_in), layout="constrained")


def _path(text: str) -> str:
    """The same lines in half of the letters: tenths of a point, and no word where a line goes on."""
    short = " ".join(re.sub(r"(\.\d)\d+", r"\1", text).split())
    return short if re.search("[CQ]", short) else short.replace(" L ", " ")


def svg_of(figure: Figure, name: str, title: str, alone: bool) -> str:
    """The figure as text. `name` begins every id in it; `alone`: a file of its own, on white."""
    out = StringIO()
    figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r' d="([^"]*)"', lambda path: f' d="{_path(path[1])}"', text)
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    used = set(re.findall(r"(?:url\(#|href=\"#)([^\")]+)", text))
    text = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", text)
    text = re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", text)
    text = re.sub(r'<svg\b([^>]*?) width="[^"]*"', r"<svg\1", re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text))
    paper = ' style="background:#fff;color:#1b1b1b"' if alone else ""
    text = text.replace("<svg", f'<svg role="img"{paper}', 1)
    return text.replace(">", f"><title>{escape(title)}</title>", 1)
