"""Listens to vLLM's KV events and writes the requests behind them as a trace, in vLLM's own environment.

    vllm serve MODEL --kv-events-config '{"enable_kv_cache_events": true, "endpoint": "ipc:///tmp/kv-events"}'
    python -m kvtier.serving.listen ipc:///tmp/kv-events requests.jsonl

For servers without our disk tier, whose own recording knows more (`events.py` says what events do not tell). Written
for and run on the events of vLLM 0.32. Events of the GPU's blocks are heard, of the first group of layers.
"""

from __future__ import annotations

import argparse
import signal
import sys
from math import inf
from pathlib import Path
from typing import Any

from kvtier.serving.events import Requests
from kvtier.serving.recorder import Recorder

_LOOK_MS = 500


class Listener:
    """Takes what a server publishes; a trace of it stands in `path` from the first block on."""

    def __init__(self, path: Path, cap_bytes: int, id_tokens: int | None, pause_s: float) -> None:
        self.missed = self._next = 0
        self.requests, self._pause_s = Requests(pause_s), pause_s
        self._path, self._cap_bytes, self._id_tokens = path, cap_bytes, id_tokens
        self._recorder: Recorder | None = None
        self._block_tokens, self._now_s = 0, 0.0

    @property
    def ended(self) -> bool:
        """Whether the trace has grown to its cap, or its disk refused it: no more of it will be written."""
        return self._recorder is not None and self._recorder.ended

    def take(self, number: int, batch: list[Any]) -> None:
        """One message of the server: its number, and `[time, events, rank]`. Numbers that begin again are those of a
        server that was started again, with an empty cache."""
        if number < self._next:
            self.tell(inf)
            orphans, self.requests = self.requests.orphans, Requests(self._pause_s)
            self.requests.orphans = orphans
        elif self._next:
            self.missed += number - self._next
        self._next, self._now_s = number + 1, float(batch[0])
        for event in batch[1]:
            if event["type"] == "BlockStored" and event.get("medium") in (None, "GPU") and not event.get("group_idx"):
                self._stored(event)
        self.tell(self._now_s)

    def tell(self, now_s: float) -> None:
        """Write the requests that have paused by now."""
        for each in self.requests.paused(now_s):
            if self._recorder is not None:
                self._recorder.note(each.arrived_s, each.prompt, each.answered_blocks * self._block_tokens)

    def close(self) -> None:
        """Write the rest."""
        self.tell(inf)
        if self._recorder is not None:
            self._recorder.close()

    def _stored(self, event: dict[str, Any]) -> None:
        if self._recorder is None:
            self._block_tokens = int(event["block_size"])
            self._recorder = Recorder(self._path, self._block_tokens, self._cap_bytes, self._id_tokens)
        parent = event["parent_block_hash"]
        blocks = [_key(each) for each in event["block_hashes"]]
        self.requests.stored(self._now_s, blocks, None if parent is None else _key(parent))


def _key(told: bytes | int) -> bytes:
    return told if isinstance(told, bytes) else told.to_bytes(8, "big", signed=told < 0)


def main() -> None:
    """The command. Its two libraries are vLLM's."""
    import msgspec
    import zmq

    asked = argparse.ArgumentParser(prog="python -m kvtier.serving.listen", description=(__doc__ or "").split("\n")[0])
    asked.add_argument("endpoint", help="of --kv-events-config, as ipc:///tmp/kv-events; each rank has its own")
    asked.add_argument("path", type=Path, help="of the trace")
    asked.add_argument("--cap-mb", type=float, default=100.0, help="the most that the trace grows to")
    asked.add_argument("--block-tokens", type=int, help="of one id; by default 512 where the server's blocks divide it")
    asked.add_argument(
        "--pause", type=float, default=2.0, help="seconds after which a chain that goes on is the next turn"
    )
    given = asked.parse_args()
    listener = Listener(given.path, int(given.cap_mb * 1e6), given.block_tokens, given.pause)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    socket = zmq.Context().socket(zmq.SUB)
    socket.connect(given.endpoint)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    try:
        while not listener.ended:
            if socket.poll(_LOOK_MS):
                _, number, payload = socket.recv_multipart()
                listener.take(int.from_bytes(number, "big"), msgspec.msgpack.decode(payload))
    except KeyboardInterrupt:
        pass
    finally:
        listener.close()
        missed, orphans = listener.missed, listener.requests.orphans
        print(f"{missed} messages missed, {orphans} blocks of unknown beginning", file=sys.stderr)


if __name__ == "__main__":
    main()
