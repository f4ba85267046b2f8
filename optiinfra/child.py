"""One supervised child process: started in a session of its own, heard until ready, stopped politely, then firmly."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from contracts.errors import Unavailable

_log = structlog.get_logger("supervisor")

Endpoints = dict[str, str]
Probe = Callable[[], Awaitable[Mapping[str, str] | None]]
"""Asks a program that cannot speak our protocol whether it is ready: its endpoints, or None for not yet."""

PROBE_EVERY_S = 0.1
GONE_POLL_S = 0.5


@dataclass(frozen=True)
class ChildSpec:
    """How one child is run.

    `orders` makes what it reads on stdin from the endpoints known at that moment, so that a restarted broker's new
    address reaches whoever starts after it. Without `probe` the child says itself that it is ready (`process.py`).
    `falls_with` names children whose death makes this one useless: it is ended and started again with them.
    """

    name: str
    argv: tuple[str, ...]
    depends_on: tuple[str, ...] = ()
    falls_with: tuple[str, ...] = ()
    orders: Callable[[Mapping[str, str]], str] = lambda endpoints: ""
    probe: Probe | None = None
    ready_within_s: float = 60.0
    stop_within_s: float = 20.0  # a static member's planned stop on Kafka takes up to 10 s
    env: Mapping[str, str] = field(default_factory=dict)


class Child:
    """A running process of a spec."""

    def __init__(self, spec: ChildSpec, process: asyncio.subprocess.Process, errors: tuple[Path, int]) -> None:
        self.spec = spec
        self.pid = process.pid
        self._process = process
        self._errors, self._errors_from = errors
        self._said: asyncio.Future[Endpoints] = asyncio.get_running_loop().create_future()
        self._listening = asyncio.create_task(self._listen(), name=f"listen-{spec.name}")

    @classmethod
    async def start(cls, spec: ChildSpec, endpoints: Mapping[str, str], logs: Path) -> Child:
        """Start the process. Raises Unavailable when its program is not there."""
        errors = logs / f"{spec.name}.stderr.log"
        with contextlib.ExitStack() as stack:
            try:
                stderr = stack.enter_context(errors.open("ab" if _small(errors) else "wb"))
            except OSError:  # a full disk must not keep a child from running
                stderr = stack.enter_context(open(os.devnull, "wb"))  # noqa: ASYNC230 - the null device does not block
            before = stderr.tell()
            try:
                process = await asyncio.create_subprocess_exec(
                    *spec.argv,
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=stderr,
                    env=dict(spec.env) or None,
                    start_new_session=True,  # Ctrl-C reaches the supervisor alone, which then stops in order
                )
            except OSError as error:
                raise Unavailable(
                    f"{spec.argv[0]} cannot be started ({error.strerror})", where=spec.name, fix="See optiinfra doctor."
                ) from error
        child = cls(spec, process, (errors, before))
        assert process.stdin is not None  # noqa: S101 - tells the type checker what PIPE means
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                process.stdin.write(spec.orders(endpoints).encode())
                await process.stdin.drain()
            process.stdin.close()
        except BaseException:  # cancelled half-way: nobody holds the child yet, so it must not live on
            child.kill()
            raise
        return child

    async def _listen(self) -> None:
        """Take the ready line, and read on so that a chatty child never blocks on a full pipe."""
        assert self._process.stdout is not None  # noqa: S101 - as above
        while True:
            try:
                chunk = await self._process.stdout.readline()
            except ValueError:  # a line beyond asyncio's limit, which is ours to ignore
                continue
            if not chunk:
                return
            if not self._said.done() and chunk.startswith(b'{"ready"'):
                with contextlib.suppress(ValueError, KeyError, AttributeError):
                    self._said.set_result({k: str(v) for k, v in json.loads(chunk)["ready"].items()})

    async def ready(self) -> Endpoints | None:
        """Wait until the child works; its endpoints, or None when it died or took longer than its spec allows."""
        waiting = asyncio.ensure_future(self._probe() if self.spec.probe else asyncio.shield(self._said))
        gone = asyncio.ensure_future(self._end())
        try:
            await asyncio.wait({waiting, gone}, timeout=self.spec.ready_within_s, return_when=asyncio.FIRST_COMPLETED)
            return waiting.result() if waiting.done() and not waiting.cancelled() else None
        finally:
            for task in (waiting, gone):
                task.cancel()
            await asyncio.gather(waiting, gone, return_exceptions=True)

    async def _probe(self) -> Endpoints:
        assert self.spec.probe is not None  # noqa: S101 - the caller looked
        while (found := await self.spec.probe()) is None:  # noqa: ASYNC110 - a foreign program sets no event of ours
            await asyncio.sleep(PROBE_EVERY_S)
        return dict(found)

    async def wait(self) -> int:
        """The exit code, negative for a signal; what the child had started goes with it."""
        code = await self._end()
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)
        return code

    async def _end(self) -> int:
        """The exit code, once the child itself is gone. asyncio alone would wait until every grandchild has closed the
        pipe that it inherited; they are ended instead, since a group without its leader does nobody's work."""
        ended = asyncio.ensure_future(self._process.wait())
        try:
            while (code := self._process.returncode) is None:
                await asyncio.wait({ended}, timeout=GONE_POLL_S)
        finally:
            ended.cancel()
        self.kill()
        return code

    def last_words(self) -> str:
        """The last line that this process wrote to stderr: for a Python program, the error that ended it."""
        try:
            with self._errors.open("rb") as file:
                file.seek(max(self._errors_from, self._errors.stat().st_size - 2000))
                lines = file.read().decode("utf-8", "replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1].strip()[:500] if lines else ""

    @property
    def running(self) -> bool:
        return self._process.returncode is None

    def kill(self) -> None:
        """SIGKILL to the child and everything it started, also when the child itself is gone."""
        self._signal(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM; SIGKILL when that did not end it within the spec's bound."""
        self._signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._end(), self.spec.stop_within_s)
        except TimeoutError:
            _log.warning(
                "killed: it did not stop in time", child=self.spec.name, pid=self.pid, s=self.spec.stop_within_s
            )
            self.kill()
            await self._end()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)  # the child leads its own process group, which may outlive it


def _small(path: Path) -> bool:
    """Whether an error log may still grow: beyond 1 MB it starts anew."""
    return not path.exists() or path.stat().st_size < 1_000_000
