"""The folder of a tier: locked by one process, and of one format; blocks of a former format are given up."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path
from time import sleep
from typing import Any

from kvtier.engine.errors import TierError

VERSION = 2
"""Of records and sums. 2: sums of rows and columns; 1: Horner's rule down each lane."""
INDEX = "index.kv"
_GLANCE_S = 0.05

_log = logging.getLogger("vllm.kvtier")


class Home:
    """A tier's folder, held until `close`. Where it cannot be written it is read alone."""

    def __init__(self, root: Path, layout: dict[str, Any]) -> None:
        self.root, self.read_only = root, False
        try:
            root.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise TierError(str(error), where=str(root), fix="Give a folder that can be made.") from error
        self._fd = self._locked()
        try:
            self._agree({"version": VERSION, **layout})
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def _locked(self) -> int:
        path = self.root / "lock"
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            self.read_only = True
            try:
                fd = os.open(self.root, os.O_RDONLY)
            except OSError as error:
                raise TierError(str(error), where=str(self.root), fix="Let the server read it.") from error
        try:
            _taken(fd, (fcntl.LOCK_SH if self.read_only else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            fix = "Give each server a folder of its own, or stop the other one."
            raise TierError("another process holds it.", where=str(self.root), fix=fix) from error
        return fd

    def _agree(self, wanted: dict[str, Any]) -> None:
        """The format that stands in the folder is the one wanted, or none does yet, or it is the same of a former
        version: then its index goes first, so that whatever happens no block of it is taken for one of ours."""
        path = self.root / "format.json"
        try:
            stands = json.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            stands = None
        except (OSError, ValueError) as error:
            raise TierError(f"no format can be read: {error}.", where=str(path), fix="Empty the folder.") from error
        former = _former(stands, wanted)
        if (stands is None or former) and not self.read_only:
            half = path.with_suffix(".new")
            try:
                if former:
                    _log.warning("The blocks in %s were written by a former version: it starts empty", self.root)
                    (self.root / INDEX).unlink(missing_ok=True)
                half.write_text(json.dumps(wanted), "utf-8")
                half.replace(path)
            except OSError as error:
                raise TierError(str(error), where=str(path), fix="Make room on the disk.") from error
        elif stands != wanted:
            what = f"it holds blocks of {stands}, not of {wanted}."
            raise TierError(what, where=str(self.root), fix="Empty the folder, or give another one.")


def _taken(fd: int, how: int) -> None:
    """Take the lock, at the second try where another server was just looking whether it is held."""
    try:
        fcntl.flock(fd, how)
    except BlockingIOError:
        sleep(_GLANCE_S)
        fcntl.flock(fd, how)


def in_use(root: Path) -> bool:
    """Whether a process holds the tier in a folder, or may: False only where its lock could be taken, or is not there.
    One that may only be read has no lock of its own to look at."""
    try:
        fd = os.open(root / "lock", os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def _former(stands: Any, wanted: dict[str, Any]) -> bool:
    """Whether what stands is what is wanted in all but its version, which is older."""
    if not isinstance(stands, dict) or not isinstance(stands.get("version"), int):
        return False
    return stands["version"] < VERSION and {**stands, "version": VERSION} == wanted
