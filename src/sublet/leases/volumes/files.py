"""Copies into and out of volumes without a lease, and the snapshots of volumes: what they are, and their states."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sublet.leases.volumes.model import VolumeState
from sublet.values.clock import format_time

HOLD_S = 120
"""For how long a volume is kept for work that nobody continues, as after a crash."""
PART_BYTES_MAX = 8 << 20
COPIES_OPEN_MAX = 4
SNAPSHOTS_PER_VOLUME_MAX = 16
MIB = 1 << 20


class CopyState(StrEnum):
    """RECEIVING its parts, UNPACKING them into the volume, DONE, or FAILED, with the volume as it was before."""

    RECEIVING = "receiving"
    UNPACKING = "unpacking"
    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class VolumeCopy:
    """A tar of `size_bytes` bytes whose one file or directory becomes `path` of the volume, all of it or nothing."""

    id: str
    volume_id: str
    path: str
    replace: bool
    sha256: str
    size_bytes: int
    received_bytes: int
    state: CopyState
    created_at: datetime
    changed_at: datetime
    last_error: str | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "volume_id": self.volume_id,
            "path": self.path,
            "replace": self.replace,
            "sha256": self.sha256,
            "size_bytes": self.size_bytes,
            "received_bytes": self.received_bytes,
            "state": self.state.value,
            "last_error": self.last_error,
            "created_at": format_time(self.created_at),
        }


class Origin(StrEnum):
    """ASKED for by the customer and billed, or made at a RECLAIM and free of charge for a while."""

    ASKED = "asked"
    RECLAIM = "reclaim"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A volume as it was once. `bytes` is what it occupies."""

    id: str
    volume_id: str
    organization_id: str
    name: str
    origin: Origin
    state: VolumeState
    created_at: datetime
    billed_until: datetime
    bytes: int = 0
    last_error: str | None = None
    expires_at: datetime | None = None
    removed_at: datetime | None = None

    @property
    def mib(self) -> int:
        """What is billed of it."""
        return max(1, -(-self.bytes // MIB))

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "volume_id": self.volume_id,
            "name": self.name,
            "origin": self.origin.value,
            "state": self.state.value,
            "bytes": self.bytes,
            "last_error": self.last_error,
            "created_at": format_time(self.created_at),
            "expires_at": format_time(self.expires_at) if self.expires_at else None,
        }
