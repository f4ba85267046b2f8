"""Structured logs: one JSON object a line, rotated by size, the libraries' records in the same file."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import RotatingFileHandler
from pathlib import Path

import structlog

LOG_BYTES = 5_000_000
LOG_FILES = 2


@contextmanager
def logging_to(name: str, directory: Path, level: str = "info") -> Iterator[None]:
    """Send every log record of this process to `directory/name.jsonl` while the block runs.

    A record that cannot be written (a full disk) is dropped: work goes on, and the supervisor reports the disk.
    """
    handler: logging.Handler
    try:
        path = directory / f"{name}.jsonl"
        handler = RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES, encoding="utf-8")
    except OSError:
        handler = logging.StreamHandler(sys.stderr)
    logging.raiseExceptions = False
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.contextvars.merge_contextvars,
    ]
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    before, level_before, config_before = root.handlers[:], root.level, structlog.get_config()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for chatty in ("aiokafka", "kafka", "faust", "mode", "aiohttp.access", "asyncio"):
        logging.getLogger(chatty).setLevel("WARNING" if level != "debug" else "DEBUG")
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )
    try:
        with structlog.contextvars.bound_contextvars(process=name):
            yield
    finally:
        root.handlers[:] = before
        root.setLevel(level_before)
        structlog.configure(**config_before)
        handler.close()
