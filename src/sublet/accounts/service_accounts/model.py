"""The model of service accounts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sublet.values.clock import format_time

PER_ORGANIZATION_MAX = 200


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """A program of an organization. Its keys have its `role`, and its `project` if it has one. `live_keys` are those that are
    neither revoked nor expired; `last_used_at` is the latest use of any of its keys, to the minute."""

    id: str
    organization_id: str
    name: str
    role: str
    project: str
    created_at: datetime
    created_by: str = ""
    removed_at: datetime | None = None
    live_keys: int = 0
    last_used_at: datetime | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "name": self.name,
            "role": self.role,
            "project": self.project,
            "created_by": self.created_by,
            "created_at": format_time(self.created_at),
            "live_keys": self.live_keys,
            "last_used_at": format_time(self.last_used_at) if self.last_used_at else None,
        }
