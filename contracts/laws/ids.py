"""Ids derive from causes: the same cause gives the same id in every process, on every run."""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

_SEPARATOR = "\x1f"


@lru_cache(maxsize=4096, typed=True)
def cause_id(*causes: str | int) -> str:
    """Hash causes, in order, to 32 hex digits (BLAKE2b-128). The newest are kept: an id is asked for again and again.

    >>> cause_id("sli", "chat", 10, 1700000000000) == cause_id("sli", "chat", 10, 1700000000000)
    True
    >>> cause_id("a", "bc") == cause_id("ab", "c")
    False
    """
    told = "".join([f"{type(cause).__name__}{cause!s}{_SEPARATOR}" for cause in causes])
    return blake2b(told.encode(), digest_size=16).hexdigest()


def traceparent(trace_id: str, span_cause: str) -> str:
    """A W3C traceparent: `trace_id` is 32 hex digits, the span id derives from `span_cause` (w3.org/TR/trace-context).

    >>> traceparent("0af7651916cd43dd8448eb211c80319c", "x")[:36]
    '00-0af7651916cd43dd8448eb211c80319c-'
    """
    return f"00-{trace_id}-{cause_id('span', span_cause)[:16]}-01"


def trace_id_of(header: str) -> str | None:
    """The 32-digit trace id of a traceparent, or None when the header is not one."""
    parts = header.split("-")
    if len(parts) != 4 or len(parts[1]) != 32 or len(parts[2]) != 16:
        return None
    return parts[1] if all(c in "0123456789abcdef" for c in parts[1]) else None
