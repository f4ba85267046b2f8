"""The one state directory: who owns it, what runs in it, and where event time stands."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.clock import ClockAnchor
from contracts.errors import Conflict, OptiInfraError, Unavailable

CLOCK_RESERVE_S = 15.0
"""Wall seconds of event time that are reserved ahead on disk: a SIGKILL cannot make event time go back."""

KAFKA_DIR = "kafka"
"""Where `make kafka` keeps its data; never touched from here."""

M = TypeVar("M", bound=BaseModel)


class _Stored(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class RunInfo(_Stored):
    """What `status` shows of the running `up`; times in wall ms."""

    pid: int
    started_wall_ms: int
    health_url: str
    broker: str
    bootstrap: str
    store: str
    redis: str
    fleet: str
    anchor: ClockAnchor
    pids: dict[str, int] = {}
    logs: str = ""


class ClockMark(_Stored):
    """No event time later than this has been handed out."""

    event_high_ms: int


class StateDir:
    """Files under one directory, written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()

    @property
    def logs(self) -> Path:
        """Where every process writes its log."""
        return self.path / "logs"

    def sub(self, name: str) -> Path:
        """A directory of one part, made if it is missing."""
        with disk_errors(self.path):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        return self.path / name

    @contextmanager
    def owned(self) -> Iterator[None]:
        """Hold the directory's lock. Raises Conflict with the owner's pid when another `up` runs."""
        self.sub("logs")
        with disk_errors(self.path), (self.path / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._conflict() from None
            lock.seek(0)
            lock.truncate()
            lock.write(str(os.getpid()))
            lock.flush()
            try:
                yield
            finally:
                lock.truncate(0)

    def owner_pid(self) -> int | None:
        """The pid of the `up` that runs here, or None."""
        try:
            with (self.path / "lock").open("r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    text = lock.read().strip()
                    return int(text) if text.isdigit() else 0
        except OSError:
            return None
        return None

    def _conflict(self) -> Conflict:
        pid = self.owner_pid() or "?"
        return Conflict(
            f"optiinfra is running here already, as process {pid}",
            where=str(self.path),
            fix=f"Look with `optiinfra status`; end it with Ctrl-C in its terminal or `kill {pid}`; "
            "or run a second one with --state OTHER_DIR --port OTHER_PORT.",
        )

    def write(self, name: str, model: BaseModel) -> None:
        """Replace a file atomically. Raises Unavailable when the disk is full or not writable."""
        with disk_errors(self.path):
            handle, temporary = tempfile.mkstemp(dir=self.path, prefix=f".{name}.")
            try:
                with os.fdopen(handle, "w", encoding="utf-8") as file:
                    file.write(model.model_dump_json(indent=1))
                Path(temporary).replace(self.path / name)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise

    def read(self, name: str, model: type[M]) -> M | None:
        """A stored file, None when it is missing or unreadable (an older version's, say)."""
        try:
            return model.model_validate_json((self.path / name).read_text(encoding="utf-8"))
        except (OSError, ValidationError, json.JSONDecodeError):
            return None

    def run_info(self) -> RunInfo | None:
        """What the running `up` wrote of itself; None when none runs."""
        return self.read("run.json", RunInfo) if self.owner_pid() is not None else None

    def anchor(self, wall_ms: int, speed: float) -> ClockAnchor:
        """The clock of this run. Event time never goes back: it goes on from the larger of wall time and the latest
        event time that an earlier run in this directory can have reached (a fast simulation runs ahead of the wall)."""
        mark = self.read("clock.json", ClockMark)
        event_ms = max(wall_ms, mark.event_high_ms if mark else 0)
        return ClockAnchor(wall_anchor_ms=wall_ms, event_anchor_ms=event_ms, speed=speed)

    def reserve(self, event_ms: int, speed: float) -> None:
        """Note that event time may run on for `CLOCK_RESERVE_S` wall seconds from here before the next note."""
        self.write("clock.json", ClockMark(event_high_ms=event_ms + int(CLOCK_RESERVE_S * speed * 1000)))

    def settle(self, event_ms: int) -> None:
        """Note, at a clean stop, exactly where event time ended."""
        self.write("clock.json", ClockMark(event_high_ms=event_ms + 1))

    def looks_ours(self) -> bool:
        """Whether an `up` has run here: what else lies in a directory is not ours to delete."""
        return (self.path / "lock").is_file()

    def reset(self) -> list[str]:
        """Delete what is kept here, save for the data of a real Kafka, which may be running and has a reset of its own.

        Raises Conflict while an `up` runs. Returns the names that were deleted.
        """
        if self.owner_pid() is not None:
            raise self._conflict()
        if not self.path.is_dir():
            return []
        gone = sorted(entry.name for entry in self.path.iterdir() if entry.name != KAFKA_DIR)
        with disk_errors(self.path):
            for name in gone:
                entry = self.path / name
                shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
        return gone


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a full or read-only disk into Unavailable with the remedy."""
    try:
        yield
    except OptiInfraError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(
                "the disk of the state directory is full",
                where=str(path),
                fix="Free some space, or move with --state DIR; `optiinfra reset` deletes what is kept here.",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise Unavailable(
                f"the state directory cannot be written ({error.strerror})",
                where=str(path),
                fix="Make it writable, or choose another with --state DIR.",
            ) from error
        raise
