"""Continuous batching on one replica, iteration by iteration: who waits, who is prefilled, who decodes, and how long.

Each iteration gives every decoding request one token and spends what is left of the token budget on prompt chunks,
first come, first served, as vLLM's scheduler does. An iteration costs the same work whatever its batch: what all
decoding requests share (a token, an interval, a sixteenth of a block) is counted once, and who ends next is on a heap.
Iterations of a batch that does not change are one `Stretch`, which costs the same work however many they are.

A request whose blocks lie in a tier below the GPUs leaves the queue, takes room for them and waits until they are
loaded, while others run; then it is in the batch, with the rest of its prompt to compute.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush

from connectors.twin.kv import KvCache, blocks_of
from connectors.twin.loading import Loading
from connectors.twin.meters import Meters
from connectors.twin.profiles import BLOCK_TOKENS
from connectors.twin.request import Request, Sequence
from connectors.twin.spec import EngineSpec
from connectors.twin.stretch import Stretch
from connectors.twin.tiers import Store
from connectors.twin.watch import Watch


class Engine:
    """`submit` requests in order of time after `advance` to that time; `meters` are what a page shows.

    Advancing in one go or in many gives the same state: everything happens at times of its own. `last_end_ms` is when
    a request last ended in the batch.
    """

    def __init__(self, spec: EngineSpec, watch: Watch | None = None, disk: Store | None = None) -> None:
        """`disk`: what an earlier process left there."""
        self.spec = spec
        self.tiers = spec.tiers(disk)
        self._loading = Loading(self.tiers, spec.hash_tokens)
        self._slower = 1.0 + spec.below.store_ratio if self.tiers is not None else 1.0
        self._watch = watch
        self._meters = Meters()
        self._kv = KvCache(spec.kv_blocks, spec.hash_tokens // BLOCK_TOKENS)
        self._waiting: deque[Sequence] = deque()
        self._running: dict[int, Sequence] = {}
        self._prefilling: deque[Sequence] = deque()
        self._decoding = 0
        self._kv_tokens = 0
        self._step = 0
        self._phases = [0] * BLOCK_TOKENS
        self._ends: list[tuple[int, int, Sequence]] = []
        self._chunks: list[tuple[Sequence, int]] = []
        self._stretch: Stretch | None = None
        self._end_ms = 0.0
        self._now_ms = 0.0
        self._counted = 0
        self._lent_steps = 0
        self._interval_before_s = 0.0
        self._paused_ms: float | None = None
        self.last_end_ms = 0.0

    @property
    def meters(self) -> Meters:
        """What has been counted up to the time advanced to."""
        self._catch_up()
        return self._meters

    @property
    def kv(self) -> KvCache:
        """The KV cache at the time advanced to."""
        self._catch_up()
        return self._kv

    @property
    def waiting(self) -> int:
        """Requests in the queue, and those whose blocks are being loaded."""
        return len(self._waiting) + self.deferred

    @property
    def deferred(self) -> int:
        """Requests whose blocks are being loaded from a tier."""
        return len(self._loading)

    @property
    def running(self) -> int:
        """Requests in the batch, being prefilled or decoding."""
        return len(self._running)

    @property
    def outstanding(self) -> int:
        """Requests submitted and not ended."""
        return len(self._waiting) + len(self._running) + (0 if self.tiers is None else self.deferred)

    def held(self) -> list[Sequence]:
        """The requests submitted and not ended: those of the batch, those that load, then the queue."""
        return [*self._running.values(), *self._loading.held(), *self._waiting]

    def submit(self, request: Request) -> bool:
        """Queue a request at its arrival; False when it exceeds the model's length, which the server refuses."""
        if request.prompt_tokens + request.output_tokens > self.spec.max_model_len:
            return False
        hashes = request.block_hashes(self.spec.hash_tokens)
        queued = bool(self._waiting)
        self._waiting.append(Sequence(request, request.arrival_ms, request.prompt_tokens, hashes=hashes))
        if self._stretch is not None:
            # Behind a queue nothing changes: its head is let in when somebody ends.
            if not queued:
                self._cut(request.arrival_ms)
        elif self._paused_ms is None:
            self._schedule(request.arrival_ms)
        return True

    def advance(self, to_ms: float) -> None:
        """Let every iteration that ends by `to_ms` happen."""
        if self._paused_ms is not None:
            return
        while True:
            if self._stretch is not None and self._end_ms <= to_ms:
                end_ms = self._end_ms
                self._complete(end_ms)
                self._schedule(end_ms)
            elif self._stretch is None and self._loading.next_ms <= to_ms:
                self._schedule(self._loading.next_ms)
            else:
                break
        self._now_ms = max(self._now_ms, to_ms)

    def pause(self, at_ms: float) -> None:
        """Stop making progress; requests still come in and wait."""
        self.advance(at_ms)
        if self._paused_ms is None:
            self._paused_ms = at_ms
            self._cut(at_ms)

    def resume(self, at_ms: float) -> None:
        """Go on where `pause` stopped: the iteration in flight ends that much later."""
        if self._paused_ms is None:
            return
        held_ms, self._paused_ms = at_ms - self._paused_ms, None
        if self._stretch is not None:
            self._stretch.held_ms += held_ms
            self._end_ms += held_ms
        else:
            self._schedule(at_ms)

    def _cut(self, at_ms: float) -> None:
        """What comes next is looked at anew when the iteration in flight ends."""
        if self._stretch is not None and self._stretch.steps > 1:
            self._stretch.cut(at_ms)
            self._end_ms = self._stretch.end_ms(self._stretch.steps)

    def _schedule(self, at_ms: float) -> None:
        """Compose the next iteration: decode steps first, then chunks of prompts, then new requests."""
        spec = self.spec
        preempted = self._reserve_decode_blocks(at_ms)
        if self.tiers is not None:
            self._take_loaded(at_ms)
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
            if head.gives_up_ms <= at_ms:
                waiting.popleft()
                self._meters.finished["abort"] += 1
                if self._watch is not None:
                    self._watch.ended(head, "abort", at_ms)
                continue
            if preempted or budget == 0 or len(running) >= spec.max_num_seqs or not self._admit(head, at_ms):
                break
            waiting.popleft()
            if head.loading:
                continue
            chunk = min(budget, head.target - head.computed)
            chunks.append((head, chunk))
            pairs += chunk * (head.computed + 0.5 * chunk)
            tokens += chunk
            budget -= chunk
        self._begin(at_ms, tokens, pairs, 1 if preempted else self._steps_alike())
        if preempted and waiting and self._stretch is None:
            # Nobody is left whose end would let them in. Once more is enough: nobody decodes, so nobody is pushed out.
            self._schedule(at_ms)

    def _begin(self, at_ms: float, tokens: int, pairs: float, alike: int) -> None:
        """Start the iteration that was composed, and when it holds no prompts the `alike` ones after it too."""
        made, decoding, held = self.spec.profile.coefficients, self._decoding, self._kv_tokens
        if tokens:
            self._stretch = Stretch.of_prefill(made, at_ms, tokens, pairs, decoding, held, self._slower)
        elif decoding:
            self._stretch = Stretch.of_decode(made, at_ms, decoding, held, self._slower, alike)
            if self._waiting:
                self._cut(self._waiting[0].gives_up_ms)
            if self.tiers is not None:
                self._cut(self._loading.next_ms)
        else:
            self._stretch = None
            return
        self._end_ms = self._stretch.end_ms(self._stretch.steps)
        self._counted, self._lent_steps = 0, 1
        self._interval_before_s = self._meters.inter_token_s.total

    def _steps_alike(self) -> int:
        """Iterations until somebody ends, or room for their tokens might run out: only then can who waits get in."""
        if not self._decoding:
            return 1
        while not self._is_end(*self._ends[0]):
            heappop(self._ends)
        # Sixteen steps in a row open one block for each request.
        room = BLOCK_TOKENS * (self._kv.free // self._decoding)
        return min(self._ends[0][0] - self._step, 1 + room)

    @staticmethod
    def _is_end(step: int, _: int, sequence: Sequence) -> bool:
        """A preempted sequence leaves its old end behind on the heap."""
        return sequence.joined_step >= 0 and sequence.end_step == step

    def _admit(self, sequence: Sequence, at_ms: float) -> bool:
        """Lend a sequence its blocks, those that are known by their hash among them; False when there are too few. One
        whose further blocks lie in a tier begins to load them, every other one is in the batch."""
        request, kv = sequence.request, self._kv
        # At least one token must be computed, or there would be no logits to sample from.
        most = (request.prompt_tokens - 1) // self.spec.hash_tokens
        found = sequence.hashes[: kv.known(sequence.hashes[:most])]
        own = blocks_of(sequence.target) - len(found) * kv.per_hash
        if not kv.take_with(found, own):
            return False
        sequence.blocks, sequence.named, sequence.told = own, list(found), len(found)
        sequence.computed = len(found) * self.spec.hash_tokens
        if sequence.scheduled_ms < 0:
            sequence.cached = sequence.computed
            self._meters.prefix_queries_tokens += request.prompt_tokens
            self._meters.prefix_hits_tokens += sequence.computed
        if not self._loading.begin(sequence, sequence.hashes[:most], len(found), at_ms, self._meters):
            self._join(sequence, at_ms)
        return True

    def _join(self, sequence: Sequence, at_ms: float) -> None:
        """It is in the batch from now on."""
        if sequence.scheduled_ms < 0:
            sequence.scheduled_ms = at_ms
            if self._watch is not None:
                self._watch.began(sequence, at_ms)
        self._running[sequence.request.request_id] = sequence
        self._prefilling.append(sequence)

    def _take_loaded(self, at_ms: float) -> None:
        """Those whose blocks are there by now are in the batch, as far as it has room; they hold their blocks already,
        so that nobody else can keep them out."""
        for sequence in self._loading.arrive(at_ms):
            self._name_blocks(sequence)
        while self._loading.arrived and len(self._running) < self.spec.max_num_seqs:
            sequence = self._loading.arrived.popleft()
            if sequence.gives_up_ms > at_ms:
                self._join(sequence, at_ms)
                continue
            self._kv.give_back(sequence.blocks, sequence.named)
            self._meters.finished["abort"] += 1
            if self._watch is not None:
                self._watch.ended(sequence, "abort", at_ms)

    def _name_blocks(self, sequence: Sequence) -> None:
        """Whole blocks that have been computed are there for others; those that another made meanwhile stay its own."""
        whole = min(len(sequence.hashes), sequence.computed // self.spec.hash_tokens)
        for hashed in sequence.hashes[sequence.told : whole]:
            if self.tiers is not None:
                self.tiers.store(hashed)
            if self._kv.name(hashed):
                sequence.named.append(hashed)
                sequence.blocks -= self._kv.per_hash
        sequence.told = max(sequence.told, whole)

    def _release(self, sequence: Sequence) -> None:
        """Take a sequence out of the batch, and its blocks back."""
        del self._running[sequence.request.request_id]
        self._kv.give_back(sequence.blocks, sequence.named)
        sequence.blocks, sequence.named, sequence.told = 0, [], 0

    def _reserve_decode_blocks(self, at_ms: float) -> bool:
        """Take the blocks that this step's tokens open, pushing out the newest requests while there are too few."""
        preempted = False
        while not self._kv.take(self._phases[self._step % BLOCK_TOKENS]):
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
        self._release(sequence)
        sequence.computed = 0
        sequence.target = sequence.request.prompt_tokens + sequence.generated
        sequence.preemptions += 1
        self._meters.preemptions += 1
        self._waiting.appendleft(sequence)

    def _catch_up(self) -> None:
        """Count the steps of the stretch that have ended by now."""
        if self._stretch is not None and self._stretch.steps > 1:
            self._count(self._stretch.done_by(self._now_ms))

    def _count(self, done: int) -> None:
        """Count decode steps up to `done` of the stretch, and lend the blocks of those and of the one under way."""
        stretch, decoded, meters = self._stretch, self._decoding, self._meters
        if stretch is None or not decoded or done <= self._counted:
            return
        meters.inter_token_s.add_steps(stretch, self._counted, done, decoded)
        meters.inter_token_s.total = (
            self._interval_before_s + decoded * (stretch.end_ms(done) - stretch.began_ms) / 1000.0
        )
        meters.generation_tokens += decoded * (done - self._counted)
        if not self._chunks:
            meters.iteration_tokens.add(decoded, done - self._counted)
        self._counted = done
        begun = min(done + 1, stretch.steps)
        cycles, rest = divmod(begun - self._lent_steps, BLOCK_TOKENS)
        first = self._step + self._lent_steps
        opened = sum(self._phases[(first + i) % BLOCK_TOKENS] for i in range(rest))
        self._kv.take(cycles * decoded + opened)
        self._lent_steps = begun

    def _complete(self, at_ms: float) -> None:
        """Give out the tokens of the iterations that end now."""
        meters, decoded, steps = self._meters, self._decoding, self._stretch.steps if self._stretch else 0
        self._count(steps)
        self._kv_tokens += decoded * steps
        self._step += steps
        while self._ends and self._ends[0][0] <= self._step:
            step, number, sequence = heappop(self._ends)
            if self._is_end(step, number, sequence):
                self._leave_decode(sequence, step)
                self._finish(sequence, at_ms)
        if not self._chunks:
            return
        computed_before, produced_before = meters.prompt_tokens_computed, meters.generation_tokens
        for sequence, chunk in self._chunks:
            sequence.computed += chunk
            self._name_blocks(sequence)
            if sequence.computed == sequence.target:
                self._prefilling.remove(sequence)
                self._first_token(sequence, at_ms)
        computed = meters.prompt_tokens_computed - computed_before
        produced = meters.generation_tokens - produced_before + decoded
        # vLLM counts a prompt in the iteration that finishes it, and no iteration without output.
        if computed or produced:
            meters.iteration_tokens.add(computed + produced)

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
        sequence.blocks = blocks_of(held_tokens) - len(sequence.named) * self._kv.per_hash
        sequence.joined_step = -1

    def _finish(self, sequence: Sequence, at_ms: float) -> None:
        self._release(sequence)
        self.last_end_ms = at_ms
        reason = "length" if sequence.request.output_tokens >= sequence.request.max_tokens else "stop"
        self._meters.ended(sequence, reason, at_ms)
        if self._watch is not None:
            self._watch.ended(sequence, reason, at_ms)
