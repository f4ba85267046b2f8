"""The one state directory: who owns it, what runs in it, and where event time stands."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from contracts.clock import ClockAnchor
from contracts.errors import Conflict, Unavailable

CLOCK_RESERVE_S = 15.0
"""Wall seconds of event time that are reserved ahead on disk: a SIGKILL cannot make event time go back."""

LOCK_WITHIN_S = 1.0
"""Wall seconds for which a lock is tried again: somebody who only looks at it holds it for a moment."""

OUR_FILES = ("acted.json", "clock.json", "run.json", "store.ready.json", "store.ready.tmp")
OUR_DIRS = ("logs", "redis", "store", "twin")
"""All that an `up` makes here besides its lock, and all that is ever deleted. Not among them is `kafka`, where
`make kafka` keeps its data."""

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
    store_url: str = ""
    twin_url: str = ""
    redis_url: str = Field(default="", repr=False)  # of our own child, which has no password; never of another's


class ClockMark(_Stored):
    """No event time later than this has been handed out."""

    event_high_ms: int


class ActedMark(_Stored):
    """An action was handed to the executor here: from then on a ledger ought to be there."""

    action_id: str


class StateDir:
    """Files under one directory, written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path.expanduser().absolute()
        self._lock: IO[str] | None = None

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
        with self._locked() as lock:
            with disk_errors(self.path):
                lock.seek(0)
                lock.truncate()
                lock.write(str(os.getpid()))
                lock.flush()
            self._lock = lock
            try:
                yield
            finally:
                self._lock = None
                with suppress(OSError):  # the lock itself ends with the file that is closed; its text is for people
                    lock.truncate(0)

    @contextmanager
    def _locked(self) -> Iterator[IO[str]]:
        """The lock file, held alone."""
        until_s = time.monotonic() + LOCK_WITHIN_S
        while True:
            with disk_errors(self.path):
                lock = (self.path / "lock").open("a+")
            with lock:
                held = _try_lock(lock, fcntl.LOCK_EX)
                # A `reset` may have deleted the file between our opening and our locking it: then it locks nothing.
                if held and self._is_lock(lock):
                    yield lock
                    return
            if time.monotonic() >= until_s:
                raise self._conflict()
            time.sleep(0.02)

    def _is_lock(self, lock: IO[str]) -> bool:
        """Whether the open file still is the one that others find under the lock's name."""
        try:
            there = (self.path / "lock").stat()
        except OSError:
            return False
        return os.path.samestat(os.fstat(lock.fileno()), there)

    def check_owned(self) -> None:
        """Raises Unavailable when the lock that we hold is not the directory's any more: it was deleted or replaced,
        and another `up` may begin here at any moment."""
        if self._lock is None or not self._is_lock(self._lock):
            raise Unavailable(
                "the state directory of this run was removed or replaced while it ran",
                where=str(self.path),
                fix="Start again with `optiinfra up`; to delete what is kept, stop first and use `optiinfra reset`.",
            )

    def owner_pid(self) -> int | None:
        """The pid of the `up` that runs here, or None; 0 when it has not written it yet."""
        try:
            with (self.path / "lock").open() as lock:
                if _try_lock(lock, fcntl.LOCK_SH):  # shared: those who look do not get into one another's way
                    return None
                text = lock.read().strip()
                return int(text) if text.isdigit() else 0
        except OSError:
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
        except (OSError, UnicodeDecodeError, ValidationError, json.JSONDecodeError):
            return None

    def run_info(self) -> RunInfo | None:
        """What the running `up` wrote of itself; None when none runs, or it has written nothing yet: what an earlier
        run left speaks of a broker and a ledger that are not there any more."""
        owner, run = self.owner_pid(), self.read("run.json", RunInfo)
        return run if run is not None and run.pid == owner else None

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

    def acted(self) -> bool:
        """Whether any run here ever had an action to carry out."""
        return self.read("acted.json", ActedMark) is not None

    def note_acted(self, action_id: str) -> None:
        """Note, before the first action is begun, that there is something a ledger must not forget. Raises Unavailable
        when the disk is full or not writable."""
        if not self.acted():
            self.write("acted.json", ActedMark(action_id=action_id))

    def ours(self) -> list[str]:
        """The names here that `reset` deletes; empty where no `up` has run, since then nothing here is ours."""
        if not (self.path / "lock").is_file():
            return []
        with disk_errors(self.path):
            return sorted(entry.name for entry in self.path.iterdir() if _is_ours(entry))

    def reset(self) -> tuple[list[str], list[str]]:
        """Delete what an `up` has made here, by name, and nothing else: people put state where other things lie.

        Raises Conflict while an `up` runs, and keeps one from starting meanwhile. Returns the names that were deleted
        and those that are left.
        """
        if not self.ours():
            return [], []
        with self._locked(), disk_errors(self.path):
            gone = self.ours()
            for name in sorted(gone, key=lambda name: name == "lock"):  # the lock last: until then it keeps others out
                entry = self.path / name
                shutil.rmtree(entry) if _is_dir(entry) else entry.unlink()
            return gone, sorted(entry.name for entry in self.path.iterdir())


def _try_lock(lock: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_dir(entry: Path) -> bool:
    """Whether it is a directory itself: what a link leads to is somewhere else."""
    return stat.S_ISDIR(entry.lstat().st_mode)


def _is_ours(entry: Path) -> bool:
    """Whether an `up` makes something of this name and kind; `.clock.json.x7k2` is one that was being written."""
    if _is_dir(entry):
        return entry.name in OUR_DIRS
    name = entry.name
    return name in (*OUR_FILES, "lock") or any(name.startswith(f".{ours}.") for ours in OUR_FILES)


@contextmanager
def disk_errors(path: Path, what: str = "the state directory") -> Iterator[None]:
    """Turn whatever the disk refuses (full, read-only, gone, broken) into Unavailable with the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Unavailable(
                f"the disk of {what} is full",
                where=str(path),
                fix="Free some space, or move with --state DIR; `optiinfra reset` deletes what is kept here.",
            ) from error
        if error.errno == errno.ENOENT:
            raise Unavailable(
                f"{what} is not there, or was removed meanwhile",
                where=str(path),
                fix="Start again with `optiinfra up`, which makes it.",
            ) from error
        raise Unavailable(
            f"{what} cannot be read or written ({error.strerror or error})",
            where=str(path),
            fix="Make it writable, or choose another with --state DIR.",
        ) from error
