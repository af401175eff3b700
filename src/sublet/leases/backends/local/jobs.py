"""The job of a lease on this machine: a record of its exits that PID 1 of the sandbox writes, and what it printed. What the drain
hooks of any lease print is kept in the same place.

Both lie outside the sandbox, below `jobs/LEASE` beside the leases, and outlive the lease. PID 1 has the record open; a tenant
who logs in can't reach it, since PID 1 is not dumpable. An exit is on disk before anyone is told of it: after that, the command
does not run again, even if the shim is killed. Standard library only: the shim imports this.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path

from sublet.leases.backends.job import LOG_PART_BYTES_MAX, JobExit, JobOrder, LogPart, is_over, part_of
from sublet.leases.backends.local.disk import keep_free_bytes
from sublet.leases.backends.local.files import Spec

DIRECTORY = "jobs"
LOG_FILE_BYTES = 4 << 20
LOG_FILES_MAX = 2
"""The newest part of a log that is kept, in two files, so that the older one can be dropped."""
_RECORD_BYTES_MAX = 4096
_LINE = re.compile(r"([0-9]{1,3}) ([0-9]{1,3}) ([0-9]{1,20})")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


def order_of(spec: Spec) -> JobOrder | None:
    """The job that a lease runs; None for a lease that is only logged in to."""
    if not spec.job:
        return None
    job = spec.job
    return JobOrder(tuple(job["command"]), dict(job["environment"]), int(job["retries"]), int(job["grace_s"]))


class JobFiles:
    """Where the job of a lease is recorded."""

    def __init__(self, base: Path, lease_id: str) -> None:
        self.root = base / DIRECTORY / lease_id

    def open_record(self) -> int:
        """The record for PID 1, as a descriptor that appends."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(self.root / "record", os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def exits(self) -> tuple[JobExit, ...]:
        """How the command has exited, one for each attempt; what is no line of a record is no exit."""
        try:
            with open(self.root / "record", "rb") as file:
                text = file.read(_RECORD_BYTES_MAX).decode("ascii", errors="replace")
        except OSError:
            return ()
        found: dict[int, JobExit] = {}
        for line in text.splitlines():
            if parts := _LINE.fullmatch(line):
                attempt, code, micros = (int(part) for part in parts.groups())
                found.setdefault(attempt, JobExit(attempt, code, datetime.fromtimestamp(micros / 1e6, UTC)))
        return tuple(found[attempt] for attempt in sorted(found))

    def log_files(self) -> list[tuple[int, Path]]:
        """What is kept of the log, the oldest first, each with the offset of its first byte."""
        with contextlib.suppress(OSError):
            return sorted((int(path.name[4:]), path) for path in self.root.glob("log-*") if path.name[4:].isdigit())
        return []

    def read_log(self, offset: int) -> LogPart:
        for start, path in self.log_files():
            with contextlib.suppress(OSError):
                size = path.stat().st_size
                if offset < start + size:
                    at = max(offset, start)
                    with open(path, "rb") as file:
                        file.seek(at - start)
                        return part_of(file.read(LOG_PART_BYTES_MAX), at)
        return LogPart("", offset, offset)


class JobLog:
    """Writes what the command prints. Beyond what is kept, the oldest goes; where the disk is nearly full, nothing is written. The
    command never waits for it."""

    def __init__(self, files: JobFiles) -> None:
        self._files = files
        kept = files.log_files()
        self._start, self._path = kept[-1] if kept else (0, files.root / "log-0")

    def write(self, content: bytes) -> None:
        try:
            self._files.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            usage = shutil.disk_usage(self._files.root)
            if usage.free < keep_free_bytes(usage.total) // 2:
                return
            with open(self._path, "ab") as file:
                size = file.tell()
                if size and size + len(content) > LOG_FILE_BYTES:
                    self._start += size
                    self._path = self._files.root / f"log-{self._start}"
                    self._drop_old()
                    self._path.write_bytes(content)
                else:
                    file.write(content)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise

    def _drop_old(self) -> None:
        for _, path in self._files.log_files()[: 1 - LOG_FILES_MAX or None]:
            path.unlink(missing_ok=True)


class RunningJob:
    """The job as the shim follows it."""

    def __init__(self, order: JobOrder, files: JobFiles) -> None:
        self.order, self.files = order, files
        self.asked = False
        """Whether the command was told to end, since the lease is about to be paused or over."""

    @property
    def over(self) -> bool:
        return is_over(self.order, self.files.exits())

    @property
    def attempt(self) -> int:
        """The number of the attempt that runs or comes next."""
        return len(self.files.exits()) + 1


def running_job(base: Path, spec: Spec) -> RunningJob | None:
    order = order_of(spec)
    return RunningJob(order, JobFiles(base, spec.lease_id)) if order is not None else None


def purge(base: Path, kept_days: int, live: frozenset[str]) -> None:
    """Remove the records of leases that are not `live` and have not changed for so long."""
    since = time.time() - kept_days * 86_400
    with contextlib.suppress(OSError):
        for entry in (base / DIRECTORY).iterdir():
            newest = max([entry.stat().st_mtime, *(path.stat().st_mtime for path in entry.iterdir())])
            if entry.name not in live and newest < since:
                shutil.rmtree(entry, ignore_errors=True)
