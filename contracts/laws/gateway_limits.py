"""Limits of a gateway: which of two values lets more through, and the numbers that rules and settings share."""

from __future__ import annotations

LEAST_CONTEXT_TOKENS = 4096
"""Requests of up to so many tokens are refused by none of our rules, where the operator names no other number."""
BREAKER_S = 120
"""So long requests are refused after engines died."""


def looser(name: str, value: float, than: float) -> bool:
    """Whether limit `name` lets more through at `value`; 0 is no limit. A breaker is open until its time.

    >>> looser("max_in_flight", 0, 40), looser("max_in_flight", 90, 40), looser("max_in_flight", 40, 40)
    (True, True, False)
    >>> looser("breaker_until_ms", 5_000, 9_000), looser("breaker_until_ms", 9_000, 0)
    (True, False)
    """
    if value == than or than == 0:
        return False
    return value == 0 or (value < than if name == "breaker_until_ms" else value > than)
