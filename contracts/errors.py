"""Every error a person can meet, and the edit that fixes it.

    OptiInfraError              something a person can act on: message, where, fix
    ├── ConfigError             a file, flag or variable is wrong (exit code 2)
    ├── Unavailable             a dependency cannot be reached or is not installed (exit code 3)
    ├── Conflict                somebody else owns the resource: a second `up`, a port in use (exit code 4)
    ├── BadMessage              bytes on a topic that no reader can handle; carries a stable reason code
    └── LedgerLost              the ledger is not the one that was opened: act on nothing it says

A class stands here only because somebody catches it differently.
"""

from __future__ import annotations

from enum import StrEnum


class OptiInfraError(Exception):
    """An error with its remedy. `str()` gives `where: message. fix`."""

    exit_code = 1

    def __init__(self, message: str, *, where: str = "", fix: str = "") -> None:
        self.message, self.where, self.fix = message, where, fix
        super().__init__(message)

    def __str__(self) -> str:
        head = f"{self.where}: {self.message}" if self.where else self.message
        return f"{head.rstrip('.')}. {self.fix}" if self.fix else head


class ConfigError(OptiInfraError):
    """Settings, target files or arguments that cannot be used as they stand."""

    exit_code = 2


class Unavailable(OptiInfraError):
    """A broker, store, binary or extra that is not there; `fix` says how to get it."""

    exit_code = 3


class Conflict(OptiInfraError):
    """The resource has another owner; `fix` says who and how to end it."""

    exit_code = 4


class Reason(StrEnum):
    """Why a message went to the `deadletter` topic. Codes are stable: dashboards and scripts match on them."""

    MISSING_HEADER = "missing_header"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VERSION = "unknown_version"
    WRONG_TOPIC = "wrong_topic"
    NOT_JSON = "not_json"
    SCHEMA = "schema"
    TOO_LARGE = "too_large"
    STEP_FAILED = "step_failed"
    STATE_TOO_LARGE = "state_too_large"
    MALFORMED_PAGE = "malformed_page"
    STORE_REFUSED = "store_refused"
    HANDLER_FAILED = "handler_failed"
    UNDELIVERED = "undelivered"


class BadMessage(OptiInfraError):
    """A message that cannot be handled; the reader dead-letters it with `reason` and the original bytes."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


class LedgerLost(OptiInfraError):
    """The ledger was emptied or replaced under whoever works with it; what it says now is not what has been done."""
