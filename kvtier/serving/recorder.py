"""Records which blocks each request asked for, as a trace that `optiinfra kv simulate` plays: lengths and ids, no text.

A line a request, in the form of Mooncake's traces: `timestamp` in ms since 1970, `input_length` and `output_length` in
tokens, `hash_ids`; and `block_tokens`, the tokens of one id. Only whole blocks of the engine are known, so lengths are
rounded down to these. Ids are keyed by a number that is drawn anew for each file and kept nowhere: equal ids in a file
are equal beginnings of prompts, and from a known text no id can be told.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from queue import Full, Queue
from threading import Thread

from kvtier.serving.asked import thinned

BLOCK_TOKENS = 512
"""Of Mooncake's traces; what is recorded where the engine's blocks divide it."""
_ID_BITS = 52
_WAITING = 4096
_CLOSE_S = 5.0
_log = logging.getLogger("vllm.kvtier")


@dataclass(frozen=True)
class _Request:
    arrived_s: float
    prompt: Sequence[bytes]
    output_tokens: int


class Recorder:
    """Writes to `path` in a thread of its own, up to `cap_bytes`. A file that stands there becomes `path`.1.

    `block_tokens`: of the engine's blocks; `id_tokens`: of one id, a multiple of it, by default 512 where that is one.
    Raises ValueError where it is none. Where the disk refuses, the recording ends, and the log says so.
    """

    def __init__(self, path: Path, block_tokens: int, cap_bytes: int, id_tokens: int | None = None) -> None:
        if id_tokens is None:
            id_tokens = block_tokens if BLOCK_TOKENS % block_tokens else BLOCK_TOKENS
        if id_tokens < 1 or id_tokens % block_tokens:
            raise ValueError(f"record_block_tokens {id_tokens} is no multiple of {block_tokens}, the tokens of a block")
        self._block_tokens, self._id_tokens, self._cap_bytes = block_tokens, id_tokens, cap_bytes
        self._refused = self._lost = self._written_bytes = 0
        self._secret = secrets.token_bytes(32)
        self._waiting: Queue[_Request | None] = Queue(_WAITING)
        self._path, self._ended, self._fd = path, False, -1
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.replace(path.with_name(path.name + ".1"))
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            self._end(error)
        self._thread = Thread(target=self._run, name="kvtier-record", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        """Whether the file takes no more."""
        return self._ended

    @property
    def unrecorded(self) -> int:
        """Requests that were noted, and are not in the file."""
        return self._refused + self._lost

    def note(self, arrived_s: float, prompt: Sequence[bytes], output_tokens: int) -> None:
        """A request: when it came, the keys of its prompt's blocks in order, and the tokens of its answer. Never
        waits: what cannot be taken is left out."""
        if not prompt:
            return
        try:
            if self._ended:
                raise Full
            self._waiting.put_nowait(_Request(arrived_s, prompt, output_tokens))
        except Full:
            self._refused += 1

    def close(self) -> None:
        """Write what waits, and end; where the disk answers nothing, without what it did not take in time."""
        with suppress(Full):
            self._waiting.put(None, timeout=_CLOSE_S)
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            _log.warning("The recording of requests in %s is left: its disk does not answer", self._path)
        elif self._fd >= 0:
            os.close(self._fd)

    def _run(self) -> None:
        while (request := self._waiting.get()) is not None:
            if not self._ended:
                self._write(self._line(request))
            self._lost += self._ended

    def _write(self, line: bytes) -> None:
        try:
            if self._written_bytes + len(line) > self._cap_bytes:
                raise OSError(f"it has its {self._cap_bytes} bytes")
            if os.write(self._fd, line) < len(line):
                raise OSError("the disk is full")
            self._written_bytes += len(line)
        except OSError as error:
            self._end(error)
            with suppress(OSError):
                os.ftruncate(self._fd, self._written_bytes)

    def _end(self, error: OSError) -> None:
        self._ended = True
        _log.warning("The recording of requests in %s ends: %s", self._path, error)

    def _line(self, request: _Request) -> bytes:
        keys = thinned(request.prompt, self._id_tokens // self._block_tokens)
        told = {
            "timestamp": round(request.arrived_s * 1000),
            "input_length": len(request.prompt) * self._block_tokens,
            "output_length": request.output_tokens,
            "hash_ids": [self._id(key) for key in keys],
            "block_tokens": self._id_tokens,
        }
        return json.dumps(told, separators=(",", ":")).encode() + b"\n"

    def _id(self, key: bytes) -> int:
        return int.from_bytes(blake2b(key, key=self._secret, digest_size=8).digest()) >> (64 - _ID_BITS)
