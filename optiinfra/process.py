"""One child process of `optiinfra up`: reads its orders on stdin, says when it is ready, and dies with its parent.

    python -m optiinfra.process NAME              a process of ours; a `ChildOrders` JSON on stdin
    python -m optiinfra.process --exec PID ARGV…  somebody else's program (redis-server), bound to its parent PID too

Ready is one line on stdout, `{"ready": {...}}`. SIGTERM asks for a clean stop. Exit codes: 0 stopped as asked,
2 to 4 as in contracts.errors (configuration, dependency, conflict), 1 anything else, with its traceback in the log.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from typing import NoReturn

import structlog

from contracts.errors import OptiInfraError
from optiinfra import logs
from optiinfra.orders import ChildOrders, Entry
from optiinfra.wiring import entry_of

PR_SET_PDEATHSIG = 1
PARENT_CHECK_S = 1.0


def die_with(parent_pid: int) -> None:
    """Let the kernel kill this process when its parent dies; where there is no such call, a thread looks for it.

    The check after the call closes the gap in which the parent may have died before it (prctl(2), PR_SET_PDEATHSIG).
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(0)


def watch(parent_pid: int) -> None:
    """End this process soon after its parent is gone (macOS has no PR_SET_PDEATHSIG)."""

    def look() -> None:
        while os.getppid() == parent_pid:
            time.sleep(PARENT_CHECK_S)
        os._exit(0)

    threading.Thread(target=look, name="parent-watch", daemon=True).start()


def say_ready(endpoints: Mapping[str, str]) -> None:
    """Tell the supervisor that this process does its work, and where it is reached."""
    sys.stdout.write(json.dumps({"ready": dict(endpoints)}) + "\n")
    sys.stdout.flush()


async def serve(name: str, entry: Entry, orders: ChildOrders) -> None:
    """Run an entry until it returns or SIGTERM asks it to stop."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, stop.set)
    structlog.get_logger(name).info("started", pid=os.getpid())
    await entry(orders, stop, say_ready)
    structlog.get_logger(name).info("stopped", asked=stop.is_set())


def main(argv: list[str]) -> NoReturn:
    """Be one child, and exit as it ended."""
    if argv[:1] == ["--exec"]:
        parent_pid = int(argv[1])
        die_with(parent_pid)
        os.execvp(argv[2], argv[2:])  # noqa: S606 - an argument list from our own supervisor, no shell
    name = argv[0]
    orders = ChildOrders.model_validate_json(sys.stdin.buffer.read())
    die_with(orders.parent_pid)
    watch(orders.parent_pid)
    with logs.logging_to(name, orders.state_dir / "logs", str(orders.settings.get("log_level", "info"))):
        asyncio.run(_run(name, orders))


async def _run(name: str, orders: ChildOrders) -> NoReturn:
    """Serve, log how it ended, and leave from inside the loop.

    Closing the loop of a broken Kafka client can hang, and a process that hangs keeps its partitions.
    """
    log = structlog.get_logger(name)
    code = 0
    try:
        await serve(name, entry_of(name), orders)
    except OptiInfraError as error:
        log.error("gave up", error=str(error), kind=type(error).__name__)
        sys.stderr.write(f"{error}\n")
        code = error.exit_code
    except Exception as error:  # the edge of the process: it is logged, and the supervisor starts afresh
        log.exception("crashed")
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        code = 1
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1:])
