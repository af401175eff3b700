"""A job as a backend knows it: a command that a lease runs, how it has exited, and what it printed."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol, runtime_checkable

JOB_DONE = "job_done"
"""The reason of a lease that ended because its job will not run again."""
GRACE_S_MAX = 300
RETRIES_MAX = 10
LOG_PART_BYTES_MAX = 1 << 18


@dataclass(frozen=True, slots=True)
class JobOrder:
    """What a lease runs: `command` in the home directory, again after an exit other than 0 up to `retries` times.

    `grace_s` before the lease is paused or over, the command gets SIGTERM. What it exits with after that is not its result: when
    the lease comes back, the command runs again.
    """

    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0
    grace_s: int = 30


@dataclass(frozen=True, slots=True)
class JobExit:
    """Attempt `attempt`, counted from 1, ended by itself with `code` (128 + N for signal N)."""

    attempt: int
    code: int
    at: datetime


@dataclass(frozen=True, slots=True)
class LogPart:
    """What a job has printed: `text` stands at `offset`, in bytes from the beginning, and the next part begins at `next`.

    `offset` is beyond what was asked for where the oldest part is no longer kept.
    """

    text: str
    offset: int
    next: int


@runtime_checkable
class RunsJobs(Protocol):
    """A backend whose leases can run jobs."""

    def job_log(self, lease_id: str, offset: int) -> LogPart:
        """At most LOG_PART_BYTES_MAX bytes from `offset` on; empty where there is nothing yet, or nothing any more."""
        ...


def is_over(order: JobOrder, exits: tuple[JobExit, ...]) -> bool:
    """Whether the command will not run again."""
    return bool(exits) and (exits[-1].code == 0 or len(exits) > order.retries)


def part_of(content: bytes, offset: int) -> LogPart:
    """`content` as text; a character that is cut off at the end is left for the next part."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text = decoder.decode(content)
    pending, _ = decoder.getstate()
    if not text and pending:
        # Nothing but the beginning of a character, and more may never come: it is told as it is.
        return (
            LogPart("\N{REPLACEMENT CHARACTER}", offset, offset + len(content))
            if len(content) > 3
            else LogPart("", offset, offset)
        )
    return LogPart(text, offset, offset + len(content) - len(pending))
