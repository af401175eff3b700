"""Events of the fleet in the outbox, all for the operator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.fleet.model import PoolSpec
from sublet.store.events import declare
from sublet.values.clock import format_time, parse_time


@dataclass(frozen=True, slots=True)
class CapacityLost:
    """A pool that lost `lost` accelerators and has `in_service` left."""

    pool: str
    name: str
    lost: int
    in_service: int
    reason: str


@dataclass(frozen=True, slots=True)
class MaintenanceAnnounced:
    """Maintenance of a pool, from the settings or scheduled by the operator."""

    pool: str
    name: str
    accelerators: int
    start: datetime
    end: datetime
    reason: str


CAPACITY_LOST = declare(
    "pool.capacity_lost",
    CapacityLost,
    "Accelerators of a pool went out of service.",
    subject="pool",
    audience="operator",
)
MAINTENANCE_CANCELED = declare(
    "pool.maintenance_canceled",
    MaintenanceAnnounced,
    "Maintenance of a pool was canceled, or ended early.",
    subject="pool",
    audience="operator",
)
MAINTENANCE_ANNOUNCED = declare(
    "pool.maintenance_announced",
    MaintenanceAnnounced,
    "Maintenance of a pool was announced.",
    subject="pool",
    audience="operator",
)


def record_loss(
    connection: Connection, pool_id: str, name: str, lost: int, left: int, reason: str, now: datetime
) -> None:
    CAPACITY_LOST.record(connection, CapacityLost(pool_id, name, lost, left, reason), now)


def record_maintenance(
    connection: Connection, pool_id: str, spec: PoolSpec, before: Mapping[str, Any], now: datetime
) -> None:
    """Record each maintenance window that is not over and was not stated `before`, once."""
    known = list(before.get("maintenance", ()))
    for item in spec.stated.get("maintenance", ()):
        if item in known:
            continue
        start, end = parse_time(item["start"]), parse_time(item["end"])
        if end > now:
            fact = MaintenanceAnnounced(pool_id, spec.name, int(item["accelerators"]), start, end, str(item["reason"]))
            key = (pool_id, format_time(start), format_time(end), str(fact.accelerators))
            MAINTENANCE_ANNOUNCED.record(connection, fact, now, key=key)


@dataclass(frozen=True, slots=True)
class LoopStuck:
    """A loop of a control plane that has not completed a round since `since`, or fails repeatedly."""

    loop: str
    node: str
    since: datetime
    failures: int
    error: str


@dataclass(frozen=True, slots=True)
class NodeUnreachable:
    """A node without a heartbeat since `seen_at`."""

    node: str
    name: str
    seen_at: datetime


@dataclass(frozen=True, slots=True)
class BackupTooOld:
    """The last backup of a node, if there was one, is older than the settings allow."""

    node: str
    made_at: datetime | None
    allowed_hours: int


LOOP_STUCK = declare(
    "loop.stuck",
    LoopStuck,
    "A loop of a control plane is stuck or keeps failing.",
    subject="loop",
    audience="operator",
)
NODE_UNREACHABLE = declare(
    "node.unreachable", NodeUnreachable, "A node stopped sending heartbeats.", subject="node", audience="operator"
)
BACKUP_TOO_OLD = declare(
    "backup.too_old", BackupTooOld, "The last backup is too old.", subject="node", audience="operator"
)
