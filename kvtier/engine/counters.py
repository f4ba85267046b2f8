"""What a tier counts, and the same as text for Prometheus."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace


@dataclass
class Counters:
    """Since the tier was opened. `refused` and `missed` say why, by reason."""

    stored_blocks: int = 0
    stored_bytes: int = 0
    loaded_blocks: int = 0
    loaded_bytes: int = 0
    evicted_blocks: int = 0
    corrupt_blocks: int = 0
    recovered_blocks: int = 0
    read_errors: int = 0
    write_errors: int = 0
    load_s: float = 0.0
    store_s: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)
    missed: dict[str, int] = field(default_factory=dict)

    def copy(self) -> Counters:
        """The same counts, that go on no more."""
        return replace(self, refused=dict(self.refused), missed=dict(self.missed))

    def refuse(self, why: str) -> None:
        """A block was not stored."""
        self.refused[why] = self.refused.get(why, 0) + 1

    def miss(self, why: str) -> None:
        """A block was not loaded."""
        self.missed[why] = self.missed.get(why, 0) + 1


@dataclass(frozen=True)
class Fill:
    """How full a tier is: blocks held, slots under the cap, how many of these are in quarantine, the most bytes it may
    take on disk, and slots for which the disk has no room."""

    blocks: int
    slots: int
    bad_slots: int
    cap_bytes: int
    roomless_slots: int = 0


_DOC = {
    "stored_blocks": "Blocks written.",
    "stored_bytes": "Bytes of blocks written.",
    "loaded_blocks": "Blocks read and found right.",
    "loaded_bytes": "Bytes of blocks read and found right.",
    "evicted_blocks": "Blocks given up for others.",
    "corrupt_blocks": "Blocks whose sum was wrong: never served.",
    "recovered_blocks": "Blocks found when the tier was opened.",
    "read_errors": "Reads that the disk refused.",
    "write_errors": "Writes that the disk refused.",
    "load_s": "Seconds spent on loads.",
    "store_s": "Seconds spent on stores.",
}


def exposition(counters: Counters, fill: Fill, prefix: str = "kvtier_disk") -> str:
    """The text format of Prometheus, version 0.0.4."""
    lines: list[str] = []
    values = asdict(counters)
    for name, doc in _DOC.items():
        stem = name[:-2] + "_seconds" if name.endswith("_s") else name
        lines += [f"# HELP {prefix}_{stem}_total {doc}", f"# TYPE {prefix}_{stem}_total counter"]
        lines.append(f"{prefix}_{stem}_total {values[name]}")
    for name, doc in (
        ("refused", "Blocks that were not stored, by reason."),
        ("missed", "Loads that failed, by reason."),
    ):
        lines += [f"# HELP {prefix}_{name}_blocks_total {doc}", f"# TYPE {prefix}_{name}_blocks_total counter"]
        lines += [f'{prefix}_{name}_blocks_total{{reason="{why}"}} {n}' for why, n in sorted(values[name].items())]
    for name, doc in (
        ("blocks", "Blocks held."),
        ("slots", "Slots."),
        ("bad_slots", "Slots in quarantine."),
        ("roomless_slots", "Slots for which the disk has no room."),
    ):
        lines += [
            f"# HELP {prefix}_{name} {doc}",
            f"# TYPE {prefix}_{name} gauge",
            f"{prefix}_{name} {getattr(fill, name)}",
        ]
    lines += [f"# HELP {prefix}_cap_bytes The most bytes on disk.", f"# TYPE {prefix}_cap_bytes gauge"]
    lines.append(f"{prefix}_cap_bytes {fill.cap_bytes}")
    return "\n".join(lines) + "\n"
