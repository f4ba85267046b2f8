"""What one engine has counted since its process began: the mutable side of the numbers on a metrics page.

A histogram is counted in disjoint bins here, because an engine observes thousands of values a second, and becomes a
cumulative `contracts.laws.histogram.Histogram` when somebody looks.
"""

from __future__ import annotations

from bisect import bisect_left

from connectors.twin.request import Sequence
from connectors.twin.stretch import Stretch
from contracts.laws.histogram import Histogram

# Bucket edges of vLLM 0.32.
TTFT_S = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)
PER_TOKEN_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0),
)
REQUEST_S = (
    *(0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 50.0, 60.0),
    *(120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0),
)
TOKENS = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)
ITERATION_TOKENS = tuple(1.0 if n == 0 else float(2 ** (n + 2)) for n in range(13))
PREEMPTIONS = (1.0, 2.0, 3.0, 4.0, 5.0, 10.0, 20.0)
HTTP_S = (
    *(0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0),
    *(7.5, 10.0, 30.0, 60.0),
)
KV_BLOCK_S = (
    *(0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0),
    *(60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0),
)
CHOICES = (1.0, 2.0, 5.0, 10.0, 20.0)

FINISHED_REASONS = ("stop", "length", "abort", "error", "repetition")


class Bins:
    """Observations by bin: `counts[i]` lie in (edge[i-1], edge[i]], the last ones above every edge."""

    __slots__ = ("counts", "edges", "total")

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.total = 0.0

    def add(self, value: float, times: int = 1) -> None:
        """Observe `value` in the unit of the edges, `times` over."""
        self.counts[bisect_left(self.edges, value)] += times
        self.total += value * times

    def add_steps(self, stretch: Stretch, after: int, upto: int, times: int) -> None:
        """Observe, in seconds, how long the steps beyond `after` up to `upto` took, `times` over; `total` is left."""
        first, last = (bisect_left(self.edges, stretch.took_ms(step) / 1000.0) for step in (after + 1, upto))
        if first == last and (upto < stretch.steps or not stretch.held_ms):
            self.counts[first] += times * (upto - after)
            return
        for step in range(after + 1, upto + 1):
            self.counts[bisect_left(self.edges, stretch.took_ms(step) / 1000.0)] += times

    @property
    def count(self) -> int:
        """All observations."""
        return sum(self.counts)

    def histogram(self) -> Histogram:
        """The same, cumulative and frozen."""
        running, cumulative = 0, []
        for count in self.counts:
            running += count
            cumulative.append(running)
        return Histogram(le=self.edges, counts=tuple(cumulative), sum=self.total)


class Meters:
    """Counters and histograms of one engine, all of them cumulative; times in seconds, lengths in tokens.

    Laws that hold after every event, as they do on a real page: `inter_token_s.count` is generated tokens less first
    tokens; prompt tokens are those computed plus those found in the cache or in a tier below it (`prompt_tokens_host`,
    `prompt_tokens_disk`, which `prompt_tokens_cached` counts too); `iteration_tokens.total` is prompt tokens
    computed plus tokens generated; a request's inference time is its prefill plus its decode time.
    """

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.prompt_tokens_computed = 0
        self.prompt_tokens_cached = 0
        self.generation_tokens = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0
        self.external_queries_tokens = 0
        self.external_hits_tokens = 0
        self.prompt_tokens_host = 0
        self.prompt_tokens_disk = 0
        self.preemptions = 0
        self.finished = dict.fromkeys(FINISHED_REASONS, 0)
        self.ttft_s = Bins(TTFT_S)
        self.inter_token_s = Bins(PER_TOKEN_S)
        self.per_output_token_s = Bins(PER_TOKEN_S)
        self.e2e_s = Bins(REQUEST_S)
        self.http_s = Bins(HTTP_S)
        self.queue_s = Bins(REQUEST_S)
        self.inference_s = Bins(REQUEST_S)
        self.prefill_s = Bins(REQUEST_S)
        self.decode_s = Bins(REQUEST_S)
        self.request_prompt_tokens = Bins(TOKENS)
        self.request_generation_tokens = Bins(TOKENS)
        self.request_max_generation_tokens = Bins(TOKENS)
        self.request_max_tokens = Bins(TOKENS)
        self.request_choices = Bins(CHOICES)
        self.request_preemptions = Bins(PREEMPTIONS)
        self.request_computed_tokens = Bins(TOKENS)
        self.iteration_tokens = Bins(ITERATION_TOKENS)
        # vLLM samples the lives of KV blocks; the model does not, so these three stay empty.
        self.kv_block_lifetime_s = Bins(KV_BLOCK_S)
        self.kv_block_idle_s = Bins(KV_BLOCK_S)
        self.kv_block_reuse_gap_s = Bins(KV_BLOCK_S)

    @property
    def prompt_tokens_device(self) -> int:
        """Prompt tokens that were found on the GPU itself."""
        return self.prompt_tokens_cached - self.prompt_tokens_host - self.prompt_tokens_disk

    def ended(self, sequence: Sequence, reason: str, at_ms: float) -> None:
        """A request has said all it had to say."""
        request = sequence.request
        self.finished[reason] += 1
        decode_s = (at_ms - sequence.first_token_ms) / 1000.0
        prefill_s = (sequence.first_token_ms - sequence.scheduled_ms) / 1000.0
        e2e_s = (at_ms - sequence.submitted_ms) / 1000.0
        self.e2e_s.add(e2e_s)
        self.http_s.add(e2e_s)
        self.queue_s.add((sequence.scheduled_ms - sequence.submitted_ms) / 1000.0)
        self.prefill_s.add(prefill_s)
        self.decode_s.add(decode_s)
        self.inference_s.add(prefill_s + decode_s)
        self.per_output_token_s.add(decode_s / (request.output_tokens - 1) if request.output_tokens > 1 else 0.0)
        self.request_prompt_tokens.add(request.prompt_tokens)
        self.request_generation_tokens.add(request.output_tokens)
        self.request_max_generation_tokens.add(request.output_tokens)
        self.request_max_tokens.add(request.max_tokens)
        self.request_choices.add(1)
        self.request_preemptions.add(sequence.preemptions)
        self.request_computed_tokens.add(request.prompt_tokens - sequence.cached)

    def began(self, sequence: Sequence, at_ms: float) -> None:
        """A request has its first token."""
        request = sequence.request
        self.ttft_s.add((at_ms - sequence.submitted_ms) / 1000.0)
        self.prompt_tokens += request.prompt_tokens
        self.prompt_tokens_cached += sequence.cached
        self.prompt_tokens_computed += request.prompt_tokens - sequence.cached
        self.prompt_tokens_host += sequence.from_host
        self.prompt_tokens_disk += sequence.from_disk
