"""The parent's end of a child process with rulesets: every question has an answer within its time, or a fault."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

from contracts.errors import OptiInfraError
from rules.engines.compiler import Program

COMMAND = (sys.executable, "-m", "rules.engines.child")
MAX_ANSWER_BYTES = 16 * 1024 * 1024
END_WITHIN_S = 1.0


class ChildFault(OptiInfraError):
    """The child died, hung, erred or said what it should not. It is not asked again."""


class RulesChild:
    """A child process with the rulesets of one program. Times are wall seconds.

    Raises ChildFault when it is not ready within `timeout_s`. Whoever makes one closes it, also after a fault.
    """

    def __init__(self, program: Program, *, timeout_s: float, command: Sequence[str] = COMMAND) -> None:
        self._program = program
        self._asked = 0
        self._unread = b""
        # Not forked: a fork would take over locks that threads of the parent hold.
        try:
            self._process = subprocess.Popen(
                [*command, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise ChildFault(f"cannot be started: {error}", where="rule engine") from error
        assert self._process.stdin is not None  # noqa: S101 - for the types: both are pipes
        assert self._process.stdout is not None  # noqa: S101
        self._in, self._out = self._process.stdin, self._process.stdout
        os.set_blocking(self._in.fileno(), False)
        os.set_blocking(self._out.fileno(), False)
        shards = [
            {"fields": shard.fields, "ranks": shard.ranks, "rules": shard.definition()} for shard in program.shards
        ]
        try:
            ready = self._exchange({"shards": shards}, timeout_s)
            if ready != {"ready": len(shards)}:
                raise self._fault(f"said {_short(ready)} where it should be ready")
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def ask(self, moments: Sequence[Sequence[int]], timeout_s: float) -> list[tuple[int, ...]]:
        """The ranks of the rules that fire, rising, for each moment told as the indices of what holds."""
        self._asked += 1
        said = self._exchange({"ask": self._asked, "moments": moments}, timeout_s)
        fired: Any = said.get("fired")
        if said.get("answer") != self._asked or not self._sound(fired, len(moments)):
            raise self._fault(f"said {_short(said)}, which is no answer to the question")
        return [tuple(ranks) for ranks in fired]

    def _sound(self, fired: Any, count: int) -> bool:
        known = range(len(self._program.names))
        return (
            isinstance(fired, list)
            and len(fired) == count
            and all(isinstance(ranks, list) and all(type(n) is int and n in known for n in ranks) for ranks in fired)
        )

    def _exchange(self, question: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        try:
            said = json.loads(self._line_for(json.dumps(question).encode() + b"\n", timeout_s))
        except ValueError as error:
            raise self._fault("said something that is not JSON") from error
        if not isinstance(said, dict):
            raise self._fault(f"said {_short(said)}, which is no object")
        if "error" in said:
            raise self._fault(f"erred: {said['error']}")
        return said

    def _line_for(self, question: bytes, timeout_s: float) -> bytes:
        """Write the question and read one line. Neither may block: a child that hangs does not read either."""
        deadline_s = time.monotonic() + timeout_s
        unwritten, line = memoryview(question), bytearray(self._unread)
        poll = select.poll()
        poll.register(self._out.fileno(), select.POLLIN)
        poll.register(self._in.fileno(), select.POLLOUT)
        while b"\n" not in line:
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise self._fault(f"gave no answer within {timeout_s:g} s")
            for fd, _ in poll.poll(left_s * 1000):
                if fd == self._out.fileno():
                    read = os.read(fd, 65536)
                    line += read
                    if not read or len(line) > MAX_ANSWER_BYTES:
                        raise self._fault(self._how_it_ended() if not read else "does not stop talking")
                elif unwritten:
                    try:
                        unwritten = unwritten[os.write(fd, unwritten) :]
                    except BrokenPipeError:
                        unwritten = unwritten[:0]  # it is gone; what it said last is still to be read
                    if not unwritten:
                        poll.unregister(fd)
        found, _, rest = bytes(line).partition(b"\n")
        self._unread = rest
        return found

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(END_WITHIN_S)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"

    def _fault(self, what: str) -> ChildFault:
        return ChildFault(f"the child process of durable_rules {what}", where="rule engine")

    def close(self) -> None:
        """Ask it to end by closing its pipe; it is killed where it does not, and never left behind."""
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_WITHIN_S)
        self.kill()

    def kill(self) -> None:
        """End it now, hung or stopped as it may be, and take note of its end: no zombie stays."""
        self._process.kill()
        self._process.wait()
        with contextlib.suppress(BrokenPipeError):
            self._in.close()
        self._out.close()


def _short(said: object) -> str:
    text = json.dumps(said)
    return text if len(text) <= 200 else f"{text[:200]}…"
