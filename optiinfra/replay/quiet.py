"""Silence in the log, and rest for the garbage collector, while a replay runs."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

_SELDOM = 100_000
"""So many objects more than before make the collector look for cycles: a bound on what it leaves standing."""


@contextmanager
def quiet() -> Iterator[None]:
    """Reviewer and executor log each step; a replay takes more of them in a minute than a person reads in a year.

    Nearly all that a step leaves behind is freed at once, for next to none of it is in a cycle: the collector, which
    would look for cycles a hundred times a second, leaves out what was there before and is called seldom.
    """
    before, thresholds = structlog.get_config(), gc.get_threshold()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    gc.freeze()
    gc.set_threshold(_SELDOM, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()
        structlog.configure(**before)
