"""A job: what it runs, and what has become of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from sublet.leases.backends.job import GRACE_S_MAX, RETRIES_MAX, JobExit, JobOrder
from sublet.leases.model import Lease, LeaseState
from sublet.leases.quotes.request import QuoteRequest
from sublet.values.clock import format_time, parse_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.text import checked_line

ARGUMENTS_MAX, COMMAND_BYTES_MAX = 256, 32_768
VARIABLES_MAX, ENVIRONMENT_BYTES_MAX = 64, 16_384
ARRAY_MAX = 64
INDEX_MAX = 1_000_000
NAME_MAX = 80
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")


class PriceLimitError(ConflictError):
    """The price is above the limit that you set; raise the limit, or ask for another class, window or pool."""

    code = "price_limit"


class JobState(StrEnum):
    """What a job is doing. STOPPED: its lease is over, and the command had not ended by itself."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a customer asks for: `command` on the lease that `request` describes, once, or once for each of `indexes`."""

    command: tuple[str, ...]
    request: QuoteRequest
    name: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0
    grace_s: int = 30
    indexes: tuple[int, ...] = ()
    price_max_nano: int | None = None
    """The highest price per accelerator-hour at which it is accepted."""
    ssh_public_keys: tuple[str, ...] = ()
    """Who may log in while it runs; nobody if empty."""


@dataclass(frozen=True, slots=True)
class Job:
    """A command that the lease `lease_id` runs. `done_at` is set once it will not run again."""

    id: str
    organization_id: str
    lease_id: str
    name: str
    command: tuple[str, ...]
    created_at: datetime
    array_id: str | None = None
    array_index: int | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    retries: int = 0
    grace_s: int = 30
    exits: tuple[JobExit, ...] = ()
    done_at: datetime | None = None
    canceled_at: datetime | None = None

    @property
    def order(self) -> JobOrder:
        """What the backend is told."""
        told = {"USER": "tenant", "LOGNAME": "tenant", **self.environment, "SUBLET_JOB_ID": self.id}
        if self.array_index is not None:
            told["SUBLET_ARRAY_INDEX"] = str(self.array_index)
        return JobOrder(self.command, told, self.retries, self.grace_s)

    def state_with(self, lease: Lease) -> JobState:
        """What it is doing, given its lease."""
        if self.done_at is not None:
            return JobState.SUCCEEDED if self.exits[-1].code == 0 else JobState.FAILED
        if self.canceled_at is not None:
            return JobState.CANCELED
        if lease.state.served:
            return JobState.RUNNING
        return _OF_LEASE.get(lease.state, JobState.STOPPED)

    def as_dict(self, lease: Lease) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "lease_id": self.lease_id,
            "name": self.name,
            "command": list(self.command),
            "state": self.state_with(lease).value,
            "exit_code": self.exits[-1].code if self.done_at is not None else None,
            "exits": exits_as_json(self.exits),
            "retries": self.retries,
            "grace_s": self.grace_s,
            "array_id": self.array_id,
            "array_index": self.array_index,
            "pool_id": lease.pool_id,
            "class": lease.class_name,
            "accelerators": lease.accelerators,
            "end": format_time(lease.window.end),
            "end_reason": lease.end_reason,
            "pauses": lease.pauses,
            "accelerator_seconds": lease.metered_s,
            "created_at": format_time(self.created_at),
            "done_at": format_time(self.done_at) if self.done_at else None,
        }


_S = LeaseState
_OF_LEASE = {
    _S.REQUESTED: JobState.WAITING,
    _S.SCHEDULED: JobState.WAITING,
    _S.PREPARING: JobState.STARTING,
    _S.PAUSED: JobState.PAUSED,
}


@dataclass(frozen=True, slots=True)
class Submitted:
    """The jobs that one request made, each with its lease."""

    jobs: tuple[tuple[Job, Lease], ...]

    def as_dict(self) -> dict[str, Any]:
        return {"jobs": [job.as_dict(lease) for job, lease in self.jobs], "array_id": self.jobs[0][0].array_id}


def exits_as_json(exits: Sequence[JobExit]) -> list[dict[str, Any]]:
    return [{"attempt": item.attempt, "code": item.code, "at": format_time(item.at)} for item in exits]


def exits_of_json(found: Sequence[Mapping[str, Any]]) -> tuple[JobExit, ...]:
    return tuple(JobExit(int(item["attempt"]), int(item["code"]), parse_time(str(item["at"]))) for item in found)


def checked(wanted: NewJob) -> NewJob:
    """`wanted`, if it can be run. Raises InvalidInputError, which names the field."""
    checked_line(wanted.name, "name", NAME_MAX)
    size = sum(len(_encoded(text, "command")) + 1 for text in wanted.command)
    if not 0 < len(wanted.command) <= ARGUMENTS_MAX or size > COMMAND_BYTES_MAX or not wanted.command[0]:
        raise InvalidInputError(
            f"command needs 1 to {ARGUMENTS_MAX} words of at most {COMMAND_BYTES_MAX} bytes in all, the first of them a program",
            field="command",
        )
    size = sum(len(_encoded(name + value, "environment")) + 2 for name, value in wanted.environment.items())
    if len(wanted.environment) > VARIABLES_MAX or size > ENVIRONMENT_BYTES_MAX:
        raise InvalidInputError(
            f"environment holds at most {VARIABLES_MAX} variables of {ENVIRONMENT_BYTES_MAX} bytes in all",
            field="environment",
        )
    for name in wanted.environment:
        if not _VARIABLE.fullmatch(name) or name.startswith("SUBLET_"):
            raise InvalidInputError(
                f"environment: {name[:80]!r} can't be set; a name has letters, digits and underscores, and no SUBLET_ at its start",
                field="environment",
            )
    if not 0 <= wanted.retries <= RETRIES_MAX:
        raise InvalidInputError(f"retries must be 0 to {RETRIES_MAX}, not {wanted.retries}", field="retries")
    if not 0 <= wanted.grace_s <= GRACE_S_MAX:
        raise InvalidInputError(f"grace_s must be 0 to {GRACE_S_MAX}, not {wanted.grace_s}", field="grace_s")
    if len(wanted.indexes) > ARRAY_MAX or len(set(wanted.indexes)) != len(wanted.indexes):
        raise InvalidInputError(f"array holds at most {ARRAY_MAX} indexes, each once", field="array")
    return wanted


def _encoded(text: str, field_name: str) -> bytes:
    """As the kernel gets it."""
    if "\0" in text:
        raise InvalidInputError(f"{field_name} can't hold a NUL character", field=field_name)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"{field_name} holds half of a character; send UTF-8", field=field_name) from error
