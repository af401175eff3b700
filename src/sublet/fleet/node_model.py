"""The model of nodes, their processes, and leaders."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sublet.values.clock import format_time

UNREACHABLE_S = 20.0
"""A node, or a process, whose last sign of life is older than this, in seconds, is taken for gone."""


@dataclass(frozen=True, slots=True)
class Node:
    """A machine with a data directory. `seen_at` is the last heartbeat of its control plane, or None."""

    id: str
    name: str
    version: str
    created_at: datetime
    seen_at: datetime | None
    pool_ids: tuple[str, ...] = ()

    def reachable(self, now: datetime) -> bool:
        """Whether its control plane sent a heartbeat lately."""
        return self.seen_at is not None and (now - self.seen_at).total_seconds() <= UNREACHABLE_S

    def as_dict(self, now: datetime) -> dict[str, Any]:
        return {
            "id": self.id,
            "name": self.name,
            "version": self.version,
            "state": "reachable" if self.reachable(now) else "unreachable",
            "seen_at": format_time(self.seen_at) if self.seen_at else None,
            "created_at": format_time(self.created_at),
            "pool_ids": list(self.pool_ids),
        }


@dataclass(frozen=True, slots=True)
class Leader:
    """The leader of `name`. `token` increases with every change of the leader, `beat` with every heartbeat. `holder` is empty
    if the last leader resigned."""

    name: str
    holder: str
    node_id: str
    token: int
    beat: int
    since: datetime
