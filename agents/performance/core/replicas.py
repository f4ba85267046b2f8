"""What is seen of a replica in a window, and what follows from that alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

LEAST_WORK = 1e-3
"""Requests, tokens or seconds below which a window is taken to be empty."""
_LEAST_ITL_S = 1e-5
_FULL_S = 1.0
"""A window is full when its mean queue takes longer than this: then it was hardly ever empty."""


@dataclass(frozen=True, slots=True)
class ReplicaSeen:
    """One replica, or the mean replica of a workload, over one window of `span_s`.

    `running`, `waiting`: means of requests in the batch and in the queue. `finished`, `prompt_tokens`,
    `generation_tokens`: counted in the window. `done`, `in_time`: requests whose first token came, and those of them
    within the objective. `replicas`: of how many it is the mean. `itl_s`: mean inter-token latency; `kv_usage_ratio`:
    mean share of the KV cache in use. Both None where not known.
    """

    span_s: float
    finished: float
    running: float
    waiting: float
    prompt_tokens: float
    generation_tokens: float
    done: float
    in_time: float
    replicas: int = 1
    itl_s: float | None = None
    kv_usage_ratio: float | None = None


def cleaned(each: ReplicaSeen) -> ReplicaSeen:
    """Without traces of work too small to divide by, and without latencies that no engine has."""

    def some(value: float) -> float:
        return value if value >= LEAST_WORK else 0.0

    return replace(
        each,
        finished=some(each.finished),
        done=some(each.done),
        prompt_tokens=some(each.prompt_tokens),
        generation_tokens=some(each.generation_tokens),
        itl_s=each.itl_s if each.itl_s is not None and each.itl_s > _LEAST_ITL_S else None,
    )


def backlog_s(each: ReplicaSeen) -> float:
    """How long the mean queue takes at the pace of the window."""
    return each.waiting * each.span_s / max(each.done, each.finished, LEAST_WORK)


def is_full(each: ReplicaSeen) -> bool:
    """Whether the queue was hardly ever empty."""
    return each.waiting >= 1.0 and backlog_s(each) >= _FULL_S


def itl_s_of(each: ReplicaSeen) -> float | None:
    """Mean inter-token latency; by Little's law from the batch where it is not measured, None without tokens."""
    if each.generation_tokens < 1.0:
        return None
    if each.itl_s is not None:
        return each.itl_s
    little_s = each.running * each.span_s / each.generation_tokens
    return little_s if little_s > _LEAST_ITL_S else None


def room(each: ReplicaSeen) -> float | None:
    """Requests that the KV cache has room for, where its use is known."""
    if each.kv_usage_ratio is None or each.kv_usage_ratio <= 0.02 or each.running <= 0:
        return None
    return each.running / each.kv_usage_ratio
