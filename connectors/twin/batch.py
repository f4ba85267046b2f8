"""Who is in the batch of one replica: who waits, who is let in, who is prefilled, who decodes, and who is pushed out.

Each iteration gives every decoding request one token and spends what is left of the token budget on prompt chunks,
first come, first served, as vLLM's scheduler does.

A request whose blocks lie in a tier below the GPUs leaves the queue, takes room for them and waits until they are
loaded, while others run; then it is in the batch, with the rest of its prompt to compute.
"""

from __future__ import annotations

from collections import deque

from connectors.twin.decoding import Decoding
from connectors.twin.kv import KvCache
from connectors.twin.lending import Lender
from connectors.twin.loading import Loading
from connectors.twin.meters import Meters
from connectors.twin.profiles import BLOCK_TOKENS
from connectors.twin.request import Sequence
from connectors.twin.spec import EngineSpec
from connectors.twin.tiers import Tiers
from connectors.twin.watch import Watch


class Batch:
    """`waiting` is the queue, `running` everybody in the batch, by id, `chunks` what the iteration that was composed
    computes of whose prompt. `last_end_ms` is when a request last ended here."""

    def __init__(self, spec: EngineSpec, tiers: Tiers | None, meters: Meters, watch: Watch | None) -> None:
        self._spec, self._tiers, self._meters, self._watch = spec, tiers, meters, watch
        self.kv = KvCache(spec.kv_blocks, spec.hash_tokens // BLOCK_TOKENS)
        self._lender = Lender(self.kv, tiers, spec.hash_tokens)
        self.loading = Loading(tiers, spec.hash_tokens)
        self.waiting: deque[Sequence] = deque()
        self.running: dict[int, Sequence] = {}
        self._prefilling: deque[Sequence] = deque()
        self.decoding = Decoding()
        self.chunks: list[tuple[Sequence, int]] = []
        self.last_end_ms = 0.0

    def compose(self, at_ms: float) -> tuple[int, float, bool]:
        """The next iteration: decode steps first, then chunks of prompts, then new requests. The prompt tokens that it
        computes, over how many pairs with those before them, and whether somebody was pushed out for it."""
        spec = self._spec
        preempted = self._reserve_decode_blocks(at_ms)
        if self._tiers is not None:
            self._take_loaded(at_ms)
        budget = spec.max_num_batched_tokens - self.decoding.count
        self.chunks.clear()
        waiting, running = self.waiting, self.running
        for sequence in self._prefilling:
            if budget == 0:
                break
            budget -= self._take_chunk(sequence, budget)
        while waiting:
            head = waiting[0]
            if head.gives_up_ms <= at_ms:
                self._give_up(waiting.popleft(), at_ms)
                continue
            if preempted or budget == 0 or len(running) >= spec.max_num_seqs or not self._admit(head, at_ms):
                break
            waiting.popleft()
            if not head.loading:
                budget -= self._take_chunk(head, budget)
        tokens, pairs = 0, 0.0
        for sequence, chunk in self.chunks:
            tokens += chunk
            pairs += chunk * (sequence.computed + 0.5 * chunk)
        return tokens, pairs, preempted

    def _take_chunk(self, sequence: Sequence, budget: int) -> int:
        """Tokens of its prompt, as many as there is budget for."""
        chunk = min(budget, sequence.target - sequence.computed)
        self.chunks.append((sequence, chunk))
        return chunk

    def steps_alike(self) -> int:
        """Iterations until somebody ends, or room for their tokens might run out: only then can who waits get in."""
        decoding = self.decoding
        if not decoding.count:
            return 1
        # Sixteen steps in a row open one block for each request.
        room = BLOCK_TOKENS * (self.kv.free // decoding.count)
        return min(decoding.until_an_end(), 1 + room)

    def complete(self, at_ms: float, steps: int) -> None:
        """Give out the tokens of the iterations that end now."""
        meters, decoded = self._meters, self.decoding.count
        self.decoding.passed(steps)
        for step, sequence in self.decoding.ending():
            self._leave_decode(sequence, step)
            self._finish(sequence, at_ms)
        if not self.chunks:
            return
        computed_before, produced_before = meters.prompt_tokens_computed, meters.generation_tokens
        for sequence, chunk in self.chunks:
            sequence.computed += chunk
            self._lender.name(sequence)
            if sequence.computed == sequence.target:
                self._prefilling.remove(sequence)
                self._first_token(sequence, at_ms)
        computed = meters.prompt_tokens_computed - computed_before
        produced = meters.generation_tokens - produced_before + decoded
        # vLLM counts a prompt in the iteration that finishes it, and no iteration without output.
        if computed or produced:
            meters.iteration_tokens.add(computed + produced)

    def _admit(self, sequence: Sequence, at_ms: float) -> bool:
        """Lend a sequence its blocks, those that are known by their hash among them; False when there are too few. One
        whose further blocks lie in a tier begins to load them, every other one is in the batch."""
        # At least one token must be computed, or there would be no logits to sample from.
        most = (sequence.request.prompt_tokens - 1) // self._spec.hash_tokens
        if not self._lender.lend(sequence, most):
            return False
        if sequence.scheduled_ms < 0:
            sequence.cached = sequence.computed
            self._meters.prefix_queries_tokens += sequence.request.prompt_tokens
            self._meters.prefix_hits_tokens += sequence.computed
        if not self.loading.begin(sequence, sequence.hashes[:most], sequence.told, at_ms, self._meters):
            self._join(sequence, at_ms)
        return True

    def _join(self, sequence: Sequence, at_ms: float) -> None:
        """It is in the batch from now on."""
        if sequence.scheduled_ms < 0:
            sequence.scheduled_ms = at_ms
            if self._watch is not None:
                self._watch.began(sequence, at_ms)
        self.running[sequence.request.request_id] = sequence
        self._prefilling.append(sequence)

    def _take_loaded(self, at_ms: float) -> None:
        """Those whose blocks are there by now are in the batch, as far as it has room; they hold their blocks already,
        so that nobody else can keep them out."""
        for sequence in self.loading.arrive(at_ms):
            self._lender.name(sequence)
        while self.loading.arrived and len(self.running) < self._spec.max_num_seqs:
            sequence = self.loading.arrived.popleft()
            if sequence.gives_up_ms > at_ms:
                self._join(sequence, at_ms)
            else:
                self._lender.take_back(sequence)
                self._give_up(sequence, at_ms)

    def _give_up(self, sequence: Sequence, at_ms: float) -> None:
        """Its client has no patience left, and no token."""
        self._meters.finished["abort"] += 1
        if self._watch is not None:
            self._watch.ended(sequence, "abort", at_ms)

    def _release(self, sequence: Sequence) -> None:
        """Take a sequence out of the batch, and its blocks back."""
        del self.running[sequence.request.request_id]
        self._lender.take_back(sequence)

    def _reserve_decode_blocks(self, at_ms: float) -> bool:
        """Take the blocks that this step's tokens open, pushing out the newest requests while there are too few."""
        preempted = False
        while not self.kv.take(self.decoding.opening):
            self._preempt(next(reversed(self.running.values())), at_ms)
            preempted = True
        return preempted

    def _preempt(self, sequence: Sequence, at_ms: float) -> None:
        """Give up a request's KV; it returns to the head of the queue and is computed anew."""
        if sequence.joined_step >= 0:
            sequence.generated += self.decoding.step - sequence.joined_step
            sequence.last_token_ms = at_ms
            self._leave_decode(sequence, self.decoding.step)
        else:
            self._prefilling.remove(sequence)
        self._release(sequence)
        sequence.computed = 0
        sequence.target = sequence.request.prompt_tokens + sequence.generated
        sequence.preemptions += 1
        self._meters.preemptions += 1
        self.waiting.appendleft(sequence)

    def _first_token(self, sequence: Sequence, at_ms: float) -> None:
        request, meters = sequence.request, self._meters
        if request.fails:
            self._release(sequence)
            self.last_end_ms = at_ms
            meters.finished["error"] += 1
            if self._watch is not None:
                self._watch.ended(sequence, "error", at_ms)
            return
        if sequence.first_token_ms < 0:
            sequence.first_token_ms = at_ms
            meters.began(sequence, at_ms)
        else:
            meters.inter_token_s.add((at_ms - sequence.last_token_ms) / 1000.0)
        meters.generation_tokens += 1
        sequence.generated += 1
        sequence.joined_step = self.decoding.step
        if sequence.generated >= request.output_tokens:
            self._finish(sequence, at_ms)
        else:
            self.decoding.join(sequence)

    def _leave_decode(self, sequence: Sequence, step: int) -> None:
        self._lender.grown(sequence, self.decoding.leave(sequence, step))

    def _finish(self, sequence: Sequence, at_ms: float) -> None:
        self._release(sequence)
        self.last_end_ms = at_ms
        reason = "length" if sequence.request.output_tokens >= sequence.request.max_tokens else "stop"
        self._meters.ended(sequence, reason, at_ms)
        if self._watch is not None:
            self._watch.ended(sequence, reason, at_ms)
