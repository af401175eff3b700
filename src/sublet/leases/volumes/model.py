"""A volume: what it is, and the states that it goes through."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError

SIZE_MIB_MIN, SIZE_MIB_MAX = 16, 16 << 20
VOLUMES_PER_LEASE_MAX = 8
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")


class VolumeInUseError(ConflictError):
    """The volume belongs to a lease that is not over; end that lease, or choose another volume."""

    code = "volume_in_use"


class VolumeBusyError(ConflictError):
    """The volume's files are being copied, kept or restored; try again when that is done."""

    code = "volume_busy"


class VolumeQuotaError(LimitExceededError):
    """Volumes of your organization would exceed what the operator allows; remove one, or ask for a smaller one."""

    code = "volume_quota"


class VolumeState(StrEnum):
    """MAKING until its blocks are allocated, REMOVING until nothing is left. FAILED: there was no room; remove it."""

    MAKING = "making"
    READY = "ready"
    FAILED = "failed"
    REMOVING = "removing"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True)
class VolumeLimits:
    """What one organization may have."""

    mib_max: int = 10_240
    count_max: int = 20
    reclaim_snapshot_s: int = 7 * 86_400
    """For how long the snapshot that is made at a reclaim is kept, free of charge; 0: none is made."""


@dataclass(frozen=True, slots=True)
class Volume:
    """A disk of `size_mib` MiB on the machine of a pool, of which every block is allocated. `lease_id` is the one lease that
    has it."""

    id: str
    organization_id: str
    pool_id: str
    name: str
    size_mib: int
    state: VolumeState
    created_at: datetime
    billed_until: datetime
    lease_id: str | None = None
    last_error: str | None = None
    removed_at: datetime | None = None
    project: str = ""
    """The project of the key that made it; empty for the organization itself."""
    busy_with: str | None = None
    busy_until: datetime | None = None
    restoring: str | None = None

    def busy(self, now: datetime) -> str | None:
        """What its files are needed for, so that no lease and nothing else can have them."""
        if self.restoring is not None:
            return "restoring"
        if self.busy_until is None or self.busy_until <= now:
            return None
        return "snapshotting" if (self.busy_with or "").startswith("snp_") else "copying"

    def as_dict(self, now: datetime) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "pool_id": self.pool_id,
            "name": self.name,
            "size_mib": self.size_mib,
            "state": self.state.value,
            "lease_id": self.lease_id,
            "busy_with": self.busy(now),
            "last_error": self.last_error,
            "created_at": format_time(self.created_at),
            "removed_at": format_time(self.removed_at) if self.removed_at else None,
        }


@dataclass(frozen=True, slots=True)
class StorageHour:
    """One hour of a volume, from `start` on. `id` follows from volume and hour, so the same hour told twice is one."""

    id: str
    volume_id: str
    organization_id: str
    pool_id: str
    size_mib: int
    start: datetime


def checked_name(text: str) -> str:
    """`text`, if it can name a volume: it is a directory below /volumes in a lease. Raises InvalidInputError."""
    if not _NAME.fullmatch(text):
        raise InvalidInputError(
            "a volume's name has 1 to 40 lower-case letters, digits and hyphens, with no hyphen at its ends",
            field="name",
        )
    return text


def checked_size(size_mib: int) -> int:
    """Raises InvalidInputError."""
    if not SIZE_MIB_MIN <= size_mib <= SIZE_MIB_MAX:
        raise InvalidInputError(f"size_mib must be {SIZE_MIB_MIN} to {SIZE_MIB_MAX}, not {size_mib}", field="size_mib")
    return size_mib
