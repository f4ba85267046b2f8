"""The page of a study of KV tiers that a person reads: one HTML file with its pictures in it, no network."""

from __future__ import annotations

from collections.abc import Sequence

from kvtier.study import Row

COLUMNS = (
    "capacity",
    "policy",
    "hits",
    "of the bound",
    "written",
    "of LRU's",
    "saved tokens",
    "disk",
    "saved",
    "choosing",
    "TTFT mean",
    "TTFT p95",
)


def cells(row: Row) -> tuple[str, ...]:
    """A row as it stands in a table, by `COLUMNS`; TTFT without the disk, then with it."""
    return (
        f"{row.capacity_bytes / 1e9:,.0f} GB",
        row.policy,
        f"{row.hit_blocks:,}",
        _ratio(row.hits_of_belady_ratio),
        f"{row.written_blocks:,}",
        _ratio(row.writes_of_lru_ratio),
        f"{row.saved_tokens:,}",
        f"{row.bandwidth_bytes_per_s / 1e9:g} GB/s",
        f"{row.saved_s:,.0f} s",
        f"{row.saved_choosing_s:,.0f} s",
        f"{row.ttft_mean_without_s:.3f} → {row.ttft_mean_s:.3f} s",
        f"{row.ttft_p95_without_s:.3f} → {row.ttft_p95_s:.3f} s",
    )


def render(
    rows: Sequence[Row], *, trace: str, prompts: int, block_tokens: int, block_bytes: int, speed: str, command: str
) -> str:
    """The page of some rows, of the speed that prefill is taken to have, and of the command that makes it again. The
    same arguments give the same text."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    from optiinfra.kv_charts import study_svg

    sheet = Environment(
        loader=PackageLoader("optiinfra", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sections = []
    for place, bandwidth in enumerate(dict.fromkeys(row.bandwidth_bytes_per_s for row in rows)):
        here = [row for row in rows if row.bandwidth_bytes_per_s == bandwidth]
        picture = study_svg(here, block_bytes, f"b{place}")
        sections.append((bandwidth, picture, [(row.policy, cells(row)) for row in here]))
    return sheet.get_template("kv.html.j2").render(
        trace=trace,
        prompts=prompts,
        block_tokens=block_tokens,
        block_bytes=block_bytes,
        speed=speed,
        gpu_s=rows[0].ttft_mean_without_s if rows else None,
        command=command,
        columns=COLUMNS,
        sections=sections,
    )


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
