"""What can go wrong when a tier is opened. Once it is open nothing is raised: it answers "not here" instead."""

from __future__ import annotations


class TierError(Exception):
    """The tier cannot be opened. `fix` says what to do about it."""

    def __init__(self, message: str, *, where: str, fix: str) -> None:
        super().__init__(f"{where}: {message} {fix}")
        self.message, self.where, self.fix = message, where, fix
