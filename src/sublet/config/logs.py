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

from sublet.values.text import visible_json

FILE_BYTES_MAX = 10 * 1024 * 1024
FILES_MAX = 5
OWN_LOGGERS = ("sublet", "uvicorn.error")
"""Whose lines below a warning are kept: ours, and when a server starts and stops."""

_SECRET = re.compile(r"sublet_[A-Za-z0-9_-]{20,}")


def configure(process: str, data_dir: Path, level: str = "info") -> None:
    """Write this process's log to data_dir/logs/PROCESS.log, and warnings to standard error.

    A file is turned over at FILE_BYTES_MAX and FILES_MAX old ones are kept. Raises OSError where the folder can't be
    written.
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
    as_json = structlog.processors.JSONRenderer(ensure_ascii=False)
    to_file.setFormatter(_MaskedFormatter(shared, [structlog.processors.format_exc_info, as_json]))
    to_person.setFormatter(_MaskedFormatter(shared, [_one_line]))
    # A full disk must not fill the terminal with tracebacks of the log itself; who writes data says so in one sentence.
    logging.raiseExceptions = False
    root = logging.getLogger()
    root.handlers[:] = [to_file, to_person]
    # Others log each request that they make or take; what matters of it stands in a line of our own.
    root.setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
    for own in OWN_LOGGERS:
        logging.getLogger(own).setLevel(level.upper())
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        cache_logger_on_first_use=True,
    )


def mask(text: str) -> str:
    """`text` with everything blotted out that looks like one of Sublet's keys."""
    return _SECRET.sub("sublet_…", text)


class _MaskedFormatter(structlog.stdlib.ProcessorFormatter):
    """Masks the finished line, so that a key is caught wherever it stood: nested data, an exception, another's log call; and
    spells out what a terminal that shows the log would obey."""

    def __init__(self, shared: list[structlog.typing.Processor], last: list[structlog.typing.Processor]) -> None:
        super().__init__(
            foreign_pre_chain=shared, processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last]
        )

    def format(self, record: logging.LogRecord) -> str:
        return mask(visible_json(super().format(record)))


def _one_line(logger: Any, method: str, entry: MutableMapping[str, Any]) -> str:
    """What a person at the terminal needs: the level, the event, why, and the error's sentence."""
    failed = entry.get("exc_info")
    if failed is True:
        failed = sys.exc_info()
    error = failed[1] if isinstance(failed, tuple) else failed
    reasons = [entry.get("reason"), error if isinstance(error, BaseException) else None]
    why = "".join(f": {' '.join(str(reason).split())}" for reason in reasons if reason)
    # Other people's events may end with a line break.
    event = " ".join(str(entry.get("event", "")).split())
    return f"sublet: {entry.get('level', '')}: {event}{why}"
