"""Which policy should a disk tier have? Hits, writes and time saved on the Mooncake conversation trace."""

from __future__ import annotations

from dataclasses import replace

from bench.calibration import traces
from bench.report import Row, report
from connectors.traces.mooncake import BLOCK_TOKENS
from contracts.laws.kv_bytes import kv_shape
from kvtier.prefill import prefill_of
from kvtier.study import ALL, OURS, Setting, compare
from kvtier.study import Row as Played
from optiinfra.kv_files import read_prompts

LLAMA_70B = {
    "hidden_size": 8192,
    "intermediate_size": 28672,
    "num_attention_heads": 64,
    "num_hidden_layers": 80,
    "num_key_value_heads": 8,
    "torch_dtype": "bfloat16",
    "vocab_size": 128256,
}
CAPACITIES = (500, 1000, 2000, 4000)
BANDWIDTHS = (3.5e9, 7e9, 14e9)
GOALS = {500: (0.45, 0.28), 1000: (0.54, 0.30), 2000: (0.68, 0.40), 4000: (0.84, 0.65)}
"""By GB: hits as a share of the bound's, at blocks written as a share of LRU's."""


def _row(name: str, value: float, unit: str, peer: str, peer_value: float, ratio: float) -> Row:
    return {"name": name, "value": value, "unit": unit, "peer": peer, "peer_value": peer_value, "ratio": ratio}


def rows(played: list[Played], timed: list[Played]) -> list[Row]:
    """Ours beside the goals, LRU and every other policy; and what it saves when it goes for time (`timed`)."""
    table: list[Row] = []
    for size in CAPACITIES:
        here = [each for each in played if each.capacity_bytes == size * 10**9]
        by = {each.policy: each for each in here if each.bandwidth_bytes_per_s == BANDWIDTHS[1]}
        ours, lru, bound = by[OURS], by["lru"], by["belady"]
        hits, writes = ours.hit_blocks / bound.hit_blocks, ours.written_blocks / lru.written_blocks
        goal = GOALS[size]
        table.append(_row(f"{size} GB: hits of the bound's", hits, "", "goal", goal[0], hits / goal[0]))
        table.append(_row(f"{size} GB: blocks written of LRU's", writes, "", "goal", goal[1], goal[1] / writes))
        ratio = ours.hit_blocks / lru.hit_blocks
        table.append(_row(f"{size} GB: hits", ours.hit_blocks, "blocks", "lru", lru.hit_blocks, ratio))
        for name, each in by.items():
            if name not in (OURS, "belady"):
                share = each.hit_blocks / bound.hit_blocks
                what = (
                    f"{size} GB: hits of the bound's, {name} ({each.written_blocks / lru.written_blocks:.0%} written)"
                )
                table.append(_row(what, share, "", OURS, hits, share / hits))
        for bandwidth in BANDWIDTHS:
            at = {each.policy: each for each in here if each.bandwidth_bytes_per_s == bandwidth}
            classic = max((at[name] for name in ALL if name not in (OURS, "belady")), key=lambda each: each.saved_s)
            ours_s = next(
                each.saved_s
                for each in timed
                if (each.capacity_bytes, each.bandwidth_bytes_per_s) == (size * 10**9, bandwidth)
            )
            both = ours_s, classic.saved_s
            what = f"{size} GB at {bandwidth / 1e9:g} GB/s: prefill saved, going for time"
            gain = both[0] / both[1] if both[1] > 0 else float("inf")
            table.append(_row(what, both[0], "s", f"{classic.policy}, always loads", both[1], gain))
            chooses = max(at[name].saved_choosing_s for name in ALL if name not in (OURS, "belady"))
            table.append(_row(what, both[0], "s", "the best other that chooses", chooses, both[0] / max(chooses, 1e-9)))
    return table


def main() -> None:
    """Every policy at four capacities and three bandwidths; about two minutes."""
    trace = traces() / "mooncake" / "conversation_trace.jsonl.gz"
    if not trace.is_file():
        print(f"skipped: no {trace}; set OPTIINFRA_TRACES to the folder that holds mooncake/")
        return
    shape = kv_shape(LLAMA_70B)
    setting = Setting(BLOCK_TOKENS, shape.block_bytes(BLOCK_TOKENS), [size * 10**9 for size in CAPACITIES], BANDWIDTHS)
    prompts, prefill = read_prompts(trace), prefill_of(LLAMA_70B)
    timed = compare(prompts, prefill, replace(setting, policies=(OURS,), for_time=True))
    report("kv_policies", rows(compare(prompts, prefill, setting), timed))


if __name__ == "__main__":
    main()
