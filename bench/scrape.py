"""How many metrics pages one core reads in a second, against prometheus_client's parser on the same pages."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from bench.report import Row, report
from connectors.vllm.core.page import Page, PageReader, SampleKey, Shape
from connectors.vllm.core.snapshot import Translator
from connectors.vllm.scraper import default_map

FIXTURES = Path(__file__).parents[1] / "tests" / "connectors" / "vllm" / "fixtures"
ROUNDS = 9
PAGES_A_ROUND = 20


def changing_pages(raw: bytes) -> list[bytes]:
    """The same server scrape after scrape: every number of the wanted kind moves, as under load."""
    return [raw.replace(b" 26.0\n", b" %d.0\n" % (26 + i)) for i in range(PAGES_A_ROUND)]


def with_prometheus_client(wanted: frozenset[str]) -> Callable[[bytes], Page]:
    """Parse the whole page with the official parser, keep the samples that we read too."""

    def read(raw: bytes) -> Page:
        keys: list[SampleKey] = []
        values: list[float] = []
        types: dict[str, str] = {}
        for family in text_string_to_metric_families(raw.decode()):
            types[family.name] = family.type
            for sample in family.samples:
                if sample.name in wanted:
                    keys.append(SampleKey(sample.name, tuple(sorted(sample.labels.items()))))
                    values.append(sample.value)
        return Page(Shape(tuple(keys), types, True, False, None), tuple(values))

    return read


def median_s(work: list[tuple[str, Callable[[], object]]]) -> dict[str, float]:
    """Median seconds of each piece of work, taken in turns so that a busy machine slows all alike."""
    times: dict[str, list[float]] = {name: [] for name, _ in work}
    for _ in range(ROUNDS):
        for name, run in work:
            began = time.process_time()
            run()
            times[name].append(time.process_time() - began)
    return {name: statistics.median(taken) for name, taken in times.items()}


def rows_of(label: str, raw: bytes) -> list[Row]:
    """Pages a second and core for one recorded server."""
    metric_map = default_map()
    reader = PageReader(metric_map.wanted, prefix=metric_map.prefix)
    translator = Translator(metric_map)
    peer = with_prometheus_client(metric_map.wanted)
    pages = changing_pages(raw)
    hint = reader.read(raw).shape

    for page in pages[:3]:
        if translator.translate(reader.read(page, hint=hint)) != translator.translate(peer(page)):
            raise SystemExit("the two readers disagree: no figures")

    def read_known(page: bytes) -> Page:
        return reader.read(page, hint=hint)

    def each(read: Callable[[bytes], Page], *, mapped: bool) -> Callable[[], object]:
        if mapped:
            return lambda: [translator.translate(read(page)) for page in pages]
        return lambda: [read(page) for page in pages]

    median = median_s(
        [
            (f"{name}, {what}", each(read, mapped=mapped))
            for what, mapped in (("parsed", False), ("parsed and mapped", True))
            for name, read in (("peer", peer), ("known shape", read_known), ("new shape", reader.read_strict))
        ]
    )
    per_s = {name: PAGES_A_ROUND / taken for name, taken in median.items()}
    return [
        {
            "name": f"{label}, {name}, {what}",
            "value": round(per_s[f"{name}, {what}"], 1),
            "unit": "pages/s/core",
            "peer": f"prometheus_client.parser, {what}",
            "peer_value": round(per_s[f"peer, {what}"], 1),
            "ratio": round(per_s[f"{name}, {what}"] / per_s[f"peer, {what}"], 2),
        }
        for name in ("known shape", "new shape")
        for what in ("parsed", "parsed and mapped")
    ]


def main() -> None:
    """Run on both recorded servers."""
    rows: list[Row] = []
    for label, file in (("vLLM 0.32", "vllm_0.32.txt"), ("vLLM 0.32 with tiers", "vllm_0.32_tiering.txt")):
        rows += rows_of(label, (FIXTURES / file).read_bytes())
    report("scrape", rows)


if __name__ == "__main__":
    main()
