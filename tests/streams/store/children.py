"""Real children for the tests of the store: the store child, and messages to put through it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from contracts.events import Sli, SliValue
from contracts.laws.attainment import Attainment
from optiinfra.plan import free_port

START_MS = 1_700_000_000_000

_SERVE = """
import asyncio, sys
from pathlib import Path
from contracts.errors import OptiInfraError
from streams.store.server import run_store
from streams.store.target import Embedded
path, port, ready = sys.argv[1:]
try:
    asyncio.run(run_store(target=Embedded(Path(path)), port=int(port), ready_file=Path(ready)))
except OptiInfraError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(error.exit_code)
"""


class StoreProcess:
    """The store child on a directory and a port of its own; both outlive a kill, as they do under the supervisor."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder, self.port = folder, port or free_port()
        self.path, self.ready = folder / "store", folder / "ready.json"
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        self.ready.unlink(missing_ok=True)
        self.process = self.spawn()
        until = time.monotonic() + 60
        while not self.ready.exists():
            if self.process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"the store child did not get ready: {self.process.communicate()[1]}")
            time.sleep(0.02)
        assert json.loads(self.ready.read_text()) == {"url": self.url, "pid": self.process.pid}

    def spawn(self) -> subprocess.Popen[str]:
        """Start a child without waiting for it."""
        command = [sys.executable, "-c", _SERVE, str(self.path), str(self.port), str(self.ready)]
        return subprocess.Popen(command, text=True, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)

    def end(self, number: signal.Signals) -> int:
        """Send a signal and wait; returns the exit code."""
        process, self.process = self.process, None
        assert process is not None
        os.kill(process.pid, number)
        process.communicate(timeout=30)
        return process.returncode

    def close(self) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)


async def eventually(asked: Callable[[], Awaitable[bool]], what: str, within_s: float = 45) -> None:
    """Ask until the answer is yes. The bound is there to fail a hung test, not to measure."""
    until = time.monotonic() + within_s
    while not await asked():
        assert time.monotonic() < until, f"never came: {what}"
        await asyncio.sleep(0.05)


def sli(workload: str, window: int = 0, **changes: object) -> Sli:
    """One good SLI message, of 10 s window number `window`."""
    good = {
        "workload": workload,
        "instance_id": None,
        "size_s": 10,
        "start_ms": START_MS + window * 10_000,
        "revision": 0,
        "coverage_ratio": 1.0,
        "freshness_s": 0.5,
        "cause_ms": START_MS + (window + 1) * 10_000,
        "instances": 2,
        "instances_up": 2,
        "values": {
            "ttft_p95_s": SliValue(value=0.25 + window, samples=40),
            "itl_p95_s": SliValue(value=None, samples=0),
            "ttft_attainment_ratio": SliValue(value=0.9, samples=40),
        },
        "attainment": {"ttft": Attainment(good=36, total=40)},
    }
    return Sli.model_validate({**good, **changes})
