"""Continuous batching on one replica, iteration by iteration: who waits, who is prefilled, who decodes, and how long.

Each iteration gives every decoding request one token and spends what is left of the token budget on prompt chunks,
first come, first served, as vLLM's scheduler does. An iteration costs the same work whatever its batch: what all
decoding requests share (a token, an interval, a sixteenth of a block) is counted once, and who ends next is on a heap.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from connectors.twin.coefficients import BLOCK_TOKENS
from connectors.twin.kv import KvCache, blocks_of
from connectors.twin.meters import Meters
from connectors.twin.request import Request, Sequence
from connectors.twin.spec import EngineSpec


class Engine:
    """`submit` requests in order of time after `advance` to that time; `meters` are what a page shows.

    Advancing in one go or in many gives the same state: everything happens at times of its own.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self.spec = spec
        self.meters = Meters()
        self.kv = KvCache(spec.kv_blocks)
        self._waiting: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}
        self._prefilling: deque[Sequence] = deque()
        self._decoding = 0
        self._kv_tokens = 0
        self._step = 0
        self._phases = [0] * BLOCK_TOKENS
        self._ends: list[tuple[int, int, Sequence]] = []
        self._chunks: list[tuple[Sequence, int]] = []
        self._began_ms = 0.0
        self._end_ms: float | None = None
        self._paused_ms: float | None = None

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests in the batch, being prefilled or decoding."""
        return len(self._running)

    @property
    def outstanding(self) -> int:
        """Requests submitted and not ended."""
        return len(self._waiting) + len(self._running)

    def submit(self, request: Request) -> bool:
        """Queue a request at its arrival; False when it exceeds the model's length, which the server refuses."""
        if request.prompt_tokens + request.output_tokens > self.spec.max_model_len:
            return False
        self._waiting.append(Sequence(request, request.arrival_ms, request.prompt_tokens))
        if self._end_ms is None and self._paused_ms is None:
            self._schedule(request.arrival_ms)
        return True

    def advance(self, to_ms: float) -> None:
        """Let every iteration that ends by `to_ms` happen."""
        if self._paused_ms is not None:
            return
        while self._end_ms is not None and self._end_ms <= to_ms:
            end_ms = self._end_ms
            self._complete(end_ms)
            self._schedule(end_ms)

    def pause(self, at_ms: float) -> None:
        """Stop making progress; requests still come in and wait."""
        self.advance(at_ms)
        if self._paused_ms is None:
            self._paused_ms = at_ms

    def resume(self, at_ms: float) -> None:
        """Go on where `pause` stopped: the iteration in flight ends that much later."""
        if self._paused_ms is None:
            return
        held_ms, self._paused_ms = at_ms - self._paused_ms, None
        if self._end_ms is not None:
            self._end_ms += held_ms
        else:
            self._schedule(at_ms)

    def _schedule(self, at_ms: float) -> None:
        """Compose the next iteration: decode steps first, then chunks of prompts, then new requests."""
        spec, kv = self.spec, self.kv
        preempted = self._reserve_decode_blocks(at_ms)
        budget = spec.max_num_batched_tokens - self._decoding
        chunks, tokens, pairs = self._chunks, 0, 0.0
        chunks.clear()
        waiting, running = self._waiting, self._running
        for sequence in self._prefilling:
            if budget == 0:
                break
            chunk = min(budget, sequence.target - sequence.computed)
            chunks.append((sequence, chunk))
            pairs += chunk * (sequence.computed + 0.5 * chunk)
            tokens += chunk
            budget -= chunk
        while waiting:
            head = waiting[0]
            if head.first_token_ms < 0 and head.submitted_ms + head.request.patience_ms <= at_ms:
                waiting.popleft()
                self.meters.finished["abort"] += 1
                continue
            if preempted or budget == 0 or len(running) >= spec.max_num_seqs or not kv.take(blocks_of(head.target)):
                break
            waiting.popleft()
            self._admit(head, at_ms)
            chunk = min(budget, head.target - head.computed)
            chunks.append((head, chunk))
            pairs += chunk * (head.computed + 0.5 * chunk)
            tokens += chunk
            budget -= chunk
        self._began_ms = at_ms
        if tokens:
            took_ms = spec.coefficients.prefill_ms(tokens, pairs)
            self._end_ms = at_ms + took_ms + spec.coefficients.added_by_decode_ms(self._decoding, self._kv_tokens)
        elif self._decoding:
            self._end_ms = at_ms + spec.coefficients.decode_ms(self._decoding, self._kv_tokens)
        else:
            self._end_ms = None

    def _admit(self, sequence: Sequence, at_ms: float) -> None:
        request = sequence.request
        sequence.blocks = blocks_of(sequence.target)
        # At least one token must be computed, or there would be no logits to sample from.
        reusable = min(request.prefix_tokens, request.prompt_tokens - 1)
        sequence.computed = self.kv.cached_tokens(request.prefix_id, reusable)
        if sequence.scheduled_ms < 0:
            sequence.scheduled_ms = at_ms
            sequence.cached = sequence.computed
            self.meters.prefix_queries_tokens += request.prompt_tokens
            self.meters.prefix_hits_tokens += sequence.computed
        self._running[request.request_id] = sequence
        self._prefilling.append(sequence)

    def _reserve_decode_blocks(self, at_ms: float) -> bool:
        """Take the blocks that this step's tokens open, pushing out the newest requests while there are too few."""
        preempted = False
        while not self.kv.take(self._phases[self._step % BLOCK_TOKENS]):
            self._preempt(next(reversed(self._running.values())), at_ms)
            preempted = True
        return preempted

    def _preempt(self, sequence: Sequence, at_ms: float) -> None:
        """Give up a request's KV; it returns to the head of the queue and is computed anew."""
        if sequence.joined_step >= 0:
            sequence.generated += self._step - sequence.joined_step
            sequence.last_token_ms = at_ms
            self._leave_decode(sequence, self._step)
        else:
            self._prefilling.remove(sequence)
        del self._running[sequence.request.request_id]
        self.kv.give_back(sequence.blocks)
        sequence.blocks = sequence.computed = 0
        sequence.target = sequence.request.prompt_tokens + sequence.generated
        sequence.preemptions += 1
        self.meters.preemptions += 1
        self._waiting.appendleft(sequence)

    def _complete(self, at_ms: float) -> None:
        """Give out the tokens of the iteration that ends now."""
        meters, decoded, computed = self.meters, self._decoding, 0
        if decoded:
            meters.inter_token_s.add((at_ms - self._began_ms) / 1000.0, decoded)
            meters.generation_tokens += decoded
            self._kv_tokens += decoded
        self._step += 1
        first_before = meters.prompt_tokens_computed
        tokens_before = meters.generation_tokens - decoded
        while self._ends and self._ends[0][0] <= self._step:
            end_step, _, sequence = heappop(self._ends)
            # A preempted sequence leaves its old end behind on the heap.
            if sequence.joined_step >= 0 and sequence.end_step == end_step:
                self._leave_decode(sequence, end_step)
                self._finish(sequence, at_ms)
        for sequence, chunk in self._chunks:
            sequence.computed += chunk
            if sequence.computed == sequence.target:
                self._prefilling.remove(sequence)
                self._first_token(sequence, at_ms)
        computed = meters.prompt_tokens_computed - first_before
        produced = meters.generation_tokens - tokens_before
        # vLLM counts a prompt in the iteration that finishes it, and no iteration without output.
        if computed or produced:
            meters.iteration_tokens.add(computed + produced)

    def _first_token(self, sequence: Sequence, at_ms: float) -> None:
        request, meters = sequence.request, self.meters
        if request.fails:
            del self._running[request.request_id]
            self.kv.give_back(sequence.blocks)
            meters.finished["error"] += 1
            return
        if sequence.first_token_ms < 0:
            sequence.first_token_ms = at_ms
            meters.ttft_s.add((at_ms - sequence.submitted_ms) / 1000.0)
            meters.prompt_tokens += request.prompt_tokens
            meters.prompt_tokens_cached += sequence.cached
            meters.prompt_tokens_computed += request.prompt_tokens - sequence.cached
        else:
            meters.inter_token_s.add((at_ms - sequence.last_token_ms) / 1000.0)
        meters.generation_tokens += 1
        sequence.generated += 1
        sequence.joined_step = self._step
        if sequence.generated >= request.output_tokens:
            self._finish(sequence, at_ms)
            return
        self._decoding += 1
        self._kv_tokens += sequence.target
        self._phases[sequence.phase] += 1
        heappush(self._ends, (sequence.end_step, request.request_id, sequence))

    def _leave_decode(self, sequence: Sequence, step: int) -> None:
        held_tokens = sequence.held_tokens(step)
        self._decoding -= 1
        self._kv_tokens -= held_tokens
        self._phases[sequence.phase] -= 1
        sequence.blocks = blocks_of(held_tokens)
        sequence.joined_step = -1

    def _finish(self, sequence: Sequence, at_ms: float) -> None:
        request, meters = sequence.request, self.meters
        del self._running[request.request_id]
        self.kv.give_back(sequence.blocks)
        self.kv.keep(request.prefix_id, request.prefix_tokens)
        meters.finished["length" if request.output_tokens >= request.max_tokens else "stop"] += 1
        decode_s = (at_ms - sequence.first_token_ms) / 1000.0
        prefill_s = (sequence.first_token_ms - sequence.scheduled_ms) / 1000.0
        e2e_s = (at_ms - sequence.submitted_ms) / 1000.0
        meters.e2e_s.add(e2e_s)
        meters.http_s.add(e2e_s)
        meters.queue_s.add((sequence.scheduled_ms - sequence.submitted_ms) / 1000.0)
        meters.prefill_s.add(prefill_s)
        meters.decode_s.add(decode_s)
        meters.inference_s.add(prefill_s + decode_s)
        meters.per_output_token_s.add(decode_s / (request.output_tokens - 1) if request.output_tokens > 1 else 0.0)
        meters.request_prompt_tokens.add(request.prompt_tokens)
        meters.request_generation_tokens.add(request.output_tokens)
        meters.request_max_generation_tokens.add(request.output_tokens)
        meters.request_max_tokens.add(request.max_tokens)
        meters.request_choices.add(1)
        meters.request_preemptions.add(sequence.preemptions)
        meters.request_computed_tokens.add(request.prompt_tokens - sequence.cached)
