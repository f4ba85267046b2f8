"""What a tier counts is readable by Prometheus."""

from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from kvtier.engine.counters import exposition
from kvtier.engine.tier import DiskTier
from tests.kvtier.engine.helpers import SLOT, kept, loaded, settings


def test_prometheus_reads_every_count_with_its_reason(tmp_path: Path) -> None:
    with DiskTier(tmp_path, settings(slots=1)) as tier:
        kept(tier, 1)
        kept(tier, 2)
        loaded(tier, 2)
        loaded(tier, 1)
        text = exposition(tier.counters(), tier.fill())
    samples = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["kvtier_disk_stored_blocks_total",] == 2
    assert samples["kvtier_disk_loaded_bytes_total",] == SLOT
    assert samples["kvtier_disk_evicted_blocks_total",] == 1
    assert samples["kvtier_disk_missed_blocks_total", "not_here"] == 1
    assert samples["kvtier_disk_blocks",] == samples["kvtier_disk_slots",] == 1
