"""Draws a study of KV tiers: by capacity and policy what a disk hits, writes and saves, as SVG text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kvtier.study import Row
from optiinfra.replay.charts import INK, SOFT, drawing, svg_of

_STYLES = {
    "optiinfra": ("#D55E00", "-", "o"),
    "belady": (INK, "--", "*"),
    "lru": ("#0072B2", "-", "s"),
    "lfu": ("#009E73", "-", "D"),
    "arc": ("#CC79A7", "-", "v"),
    "fifo": ("#E69F00", "-", "^"),
    "s3fifo": ("#56B4E9", "--", "P"),
    "sieve": ("#009E73", ":", "<"),
    "gdsf": ("#CC79A7", "--", ">"),
}
"""Colour, line and mark of each policy: the same in every picture."""


@dataclass(frozen=True)
class Panel:
    """One small picture: its title, and what it draws of a row."""

    title: str
    of: Callable[[Row], float]


def panels(block_bytes: int) -> tuple[Panel, ...]:
    """What is drawn, in reading order."""
    return (
        Panel("hit ratio of the disk, % of blocks", lambda row: 100 * row.hit_blocks / max(1, row.asked_blocks)),
        Panel("tokens saved, millions", lambda row: row.saved_tokens / 1e6),
        Panel("written to the disk, TB", lambda row: row.written_blocks * block_bytes / 1e12),
        Panel("prefill saved, s", lambda row: row.saved_s),
        Panel("mean TTFT less, ms (prefill only)", lambda row: 1e3 * (row.ttft_mean_without_s - row.ttft_mean_s)),
        Panel("p95 TTFT less, ms (prefill only)", lambda row: 1e3 * (row.ttft_p95_without_s - row.ttft_p95_s)),
    )


def lines(rows: Sequence[Row], panel: Panel) -> dict[str, list[tuple[float, float]]]:
    """For each policy its points by capacity: (GB, value)."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in sorted(rows, key=lambda each: each.capacity_bytes):
        found.setdefault(row.policy, []).append((row.capacity_bytes / 1e9, panel.of(row)))
    return found


def study_svg(rows: Sequence[Row], block_bytes: int, name: str = "kv") -> str:
    """Six panels over capacity, of rows at one bandwidth. Raises Unavailable without matplotlib."""
    sizes = sorted({row.capacity_bytes / 1e9 for row in rows})
    with drawing(10.5, 5.6) as figure:
        for axes, panel in zip(figure.subplots(2, 3).ravel(), panels(block_bytes), strict=True):
            for policy, points in lines(rows, panel).items():
                colour, dash, mark = _STYLES.get(policy, (SOFT, "-", "."))
                ours = policy == "optiinfra"
                axes.plot(
                    *zip(*points, strict=True),
                    label=policy,
                    color=colour,
                    linestyle=dash,
                    marker=mark,
                    markersize=6 if ours else 4,
                    linewidth=2.2 if ours else 1.1,
                    zorder=3 if ours else 2,
                )
            axes.axhline(0, color=SOFT, linewidth=0.8)
            axes.set_xscale("log")
            axes.set_xticks(sizes, [_size(each) for each in sizes])
            axes.minorticks_off()
            axes.grid(color=SOFT, alpha=0.25, linewidth=0.6)
            axes.set_title(panel.title, loc="left", fontsize=9, color=INK)
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names), frameon=False, labelcolor=INK)
        return svg_of(figure, name, "Hits, writes and time saved of each policy, by capacity of the disk", False)


def _size(gb: float) -> str:
    return f"{gb / 1000:g} TB" if gb >= 1000 else f"{gb:g} GB"
