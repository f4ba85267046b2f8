"""Single requests, as a reader of traces tells them, as a trace that the twin can play."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from connectors.traces import reading
from connectors.traces.shape import Requests
from connectors.twin.feed import Feed
from connectors.twin.fleet import WorkloadSpec
from connectors.twin.trace import Trace
from contracts.errors import ConfigError


def trace_of(requests: Requests) -> tuple[Trace, int]:
    """The trace, and how many requests asked for no token and are given one: a failed one came too.

    Raises ConfigError where the format tells no lengths.
    """
    prompt, output = requests.prompt_tokens, requests.output_tokens
    if prompt is None or output is None:
        raise ConfigError("no token lengths", where=requests.origin, fix="Name a trace that tells tokens.")
    clipped = int(((prompt < 1) | (output < 1)).sum())
    prompts, outputs = np.maximum(prompt, 1).tolist(), np.maximum(output, 1).tolist()
    return Trace(requests.arrival_s.tolist(), prompts, outputs, requests.blocks or ()), clipped


def fed(spec: WorkloadSpec, path: Path, model: str | None, speed: float) -> tuple[WorkloadSpec, Feed]:
    """A workload that takes its requests from a file, with engines that know the hashes of its blocks. Raises
    ConfigError for a file that cannot be read, or tells no single requests."""
    requests = reading.recorded(path, model)
    feed = Feed(trace_of(requests)[0], speed)
    if requests.blocks is None:
        return spec, feed
    return replace(spec, engine=replace(spec.engine, hash_tokens=requests.block_tokens)), feed
