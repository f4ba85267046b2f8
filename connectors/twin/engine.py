"""Continuous batching on one replica, iteration by iteration, and how long each takes; who is in it, `batch.py` says.

An iteration costs the same work whatever its batch: what all decoding requests share (a token, an interval, a sixteenth
of a block) is counted once. Iterations of a batch that does not change are one `Stretch`, which costs the same work
however many they are.
"""

from __future__ import annotations

from connectors.twin.batch import Batch
from connectors.twin.kv import KvCache
from connectors.twin.meters import Meters
from connectors.twin.request import Request, Sequence
from connectors.twin.spec import EngineSpec
from connectors.twin.stretch import Stretch
from connectors.twin.tiers import Store
from connectors.twin.watch import Watch


class Engine:
    """`submit` requests in order of time after `advance` to that time; `meters` are what a page shows.

    Advancing in one go or in many gives the same state: everything happens at times of its own.
    """

    def __init__(self, spec: EngineSpec, watch: Watch | None = None, disk: Store | None = None) -> None:
        """`disk`: what an earlier process left there."""
        self.spec = spec
        self.tiers = spec.tiers(disk)
        self._slower = 1.0 + spec.below.store_ratio if self.tiers is not None else 1.0
        self._meters = Meters()
        self._batch = Batch(spec, self.tiers, self._meters, watch)
        self._stretch: Stretch | None = None
        self._end_ms = 0.0
        self._now_ms = 0.0
        self._counted = 0
        self._lent_steps = 0
        self._interval_before_s = 0.0
        self._paused_ms: float | None = None

    @property
    def meters(self) -> Meters:
        """What has been counted up to the time advanced to."""
        self._catch_up()
        return self._meters

    @property
    def kv(self) -> KvCache:
        """The KV cache at the time advanced to."""
        self._catch_up()
        return self._batch.kv

    @property
    def last_end_ms(self) -> float:
        """When a request last ended in the batch."""
        return self._batch.last_end_ms

    @property
    def waiting(self) -> int:
        """Requests in the queue, and those whose blocks are being loaded."""
        return len(self._batch.waiting) + self.deferred

    @property
    def deferred(self) -> int:
        """Requests whose blocks are being loaded from a tier."""
        return len(self._batch.loading)

    @property
    def running(self) -> int:
        """Requests in the batch, being prefilled or decoding."""
        return len(self._batch.running)

    @property
    def outstanding(self) -> int:
        """Requests submitted and not ended."""
        return len(self._batch.waiting) + len(self._batch.running) + (0 if self.tiers is None else self.deferred)

    def held(self) -> list[Sequence]:
        """The requests submitted and not ended: those of the batch, those that load, then the queue."""
        return [*self._batch.running.values(), *self._batch.loading.held(), *self._batch.waiting]

    def submit(self, request: Request) -> bool:
        """Queue a request at its arrival; False when it exceeds the model's length, which the server refuses."""
        if request.prompt_tokens + request.output_tokens > self.spec.max_model_len:
            return False
        hashes = request.block_hashes(self.spec.hash_tokens)
        queued = bool(self._batch.waiting)
        self._batch.waiting.append(Sequence(request, request.arrival_ms, request.prompt_tokens, hashes=hashes))
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
            elif self._stretch is None and self._batch.loading.next_ms <= to_ms:
                self._schedule(self._batch.loading.next_ms)
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
        """Start the next iteration, where there is anything to do."""
        batch = self._batch
        tokens, pairs, preempted = batch.compose(at_ms)
        self._begin(at_ms, tokens, pairs, 1 if preempted else batch.steps_alike())
        if preempted and batch.waiting and self._stretch is None:
            # Nobody is left whose end would let them in. Once more is enough: nobody decodes, so nobody is pushed out.
            self._schedule(at_ms)

    def _complete(self, at_ms: float) -> None:
        """The iterations that were started end now."""
        steps = self._stretch.steps if self._stretch is not None else 0
        self._count(steps)
        self._batch.complete(at_ms, steps)

    def _begin(self, at_ms: float, tokens: int, pairs: float, alike: int) -> None:
        """Start the iteration that was composed, and when it holds no prompts the `alike` ones after it too."""
        made, batch = self.spec.profile.coefficients, self._batch
        decoding, held = batch.decoding.count, batch.decoding.tokens
        if tokens:
            self._stretch = Stretch.of_prefill(made, at_ms, tokens, pairs, decoding, held, self._slower)
        elif decoding:
            self._stretch = Stretch.of_decode(made, at_ms, decoding, held, self._slower, alike)
            if batch.waiting:
                self._cut(batch.waiting[0].gives_up_ms)
            if self.tiers is not None:
                self._cut(batch.loading.next_ms)
        else:
            self._stretch = None
            return
        self._end_ms = self._stretch.end_ms(self._stretch.steps)
        self._counted, self._lent_steps = 0, 1
        self._interval_before_s = self._meters.inter_token_s.total

    def _catch_up(self) -> None:
        """Count the steps of the stretch that have ended by now."""
        if self._stretch is not None and self._stretch.steps > 1:
            self._count(self._stretch.done_by(self._now_ms))

    def _count(self, done: int) -> None:
        """Count decode steps up to `done` of the stretch, and lend the blocks of those and of the one under way."""
        stretch, batch, meters = self._stretch, self._batch, self._meters
        decoded = batch.decoding.count
        if stretch is None or not decoded or done <= self._counted:
            return
        meters.inter_token_s.add_steps(stretch, self._counted, done, decoded)
        meters.inter_token_s.total = (
            self._interval_before_s + decoded * (stretch.end_ms(done) - stretch.began_ms) / 1000.0
        )
        meters.generation_tokens += decoded * (done - self._counted)
        if not batch.chunks:
            meters.iteration_tokens.add(decoded, done - self._counted)
        self._counted = done
        begun = min(done + 1, stretch.steps)
        batch.kv.take(batch.decoding.opened(self._lent_steps, begun - self._lent_steps))
        self._lent_steps = begun
