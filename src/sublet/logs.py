"""Structured logs: one JSON object a line, in files that rotate, with keys masked."""

from __future__ import annotations

import logging
import logging.handlers
import re
import sys
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import structlog

FILE_BYTES_MAX = 10 * 1024 * 1024
FILES_MAX = 5

_SECRET = re.compile(r"sublet_[A-Za-z0-9_-]{20,}")


def configure(process: str, data_dir: Path, level: str = "info") -> None:
    """Write this process's log to data_dir/logs/PROCESS.log, and warnings to standard error.

    Raises OSError where the folder can't be written.
    """
    folder = data_dir / "logs"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    to_file = logging.handlers.RotatingFileHandler(
        folder / f"{process}.log", maxBytes=FILE_BYTES_MAX, backupCount=FILES_MAX, encoding="utf-8"
    )
    to_person = logging.StreamHandler(sys.stderr)
    to_person.setLevel(logging.WARNING)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]
    to_file.setFormatter(
        _formatter(shared, [structlog.processors.format_exc_info, mask, structlog.processors.JSONRenderer()])
    )
    to_person.setFormatter(_formatter(shared, [mask, _one_line]))
    root = logging.getLogger()
    root.handlers[:] = [to_file, to_person]
    root.setLevel(level.upper())
    for noisy in ("asyncio", "httpcore", "httpx", "asyncssh", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )


def mask(logger: Any, method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that blots out anything that looks like one of Sublet's keys."""
    for name, value in entry.items():
        if isinstance(value, str) and "sublet_" in value:
            entry[name] = _SECRET.sub("sublet_…", value)
    return entry


def _formatter(
    shared: list[structlog.typing.Processor], last: list[structlog.typing.Processor]
) -> structlog.stdlib.ProcessorFormatter:
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
    )


def _one_line(logger: Any, method: str, entry: MutableMapping[str, Any]) -> str:
    """What a person at the terminal needs: the level, the event, and the error's sentence."""
    failed = entry.get("exc_info")
    sentence = f": {failed[1]}" if isinstance(failed, tuple) and failed[1] else ""
    return f"sublet: {entry.get('level', '')}: {entry.get('event', '')}{sentence}"
