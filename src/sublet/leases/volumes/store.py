"""The SQL of volumes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, func, insert, select, update

from sublet.leases.volumes.model import Volume, VolumeBusyError, VolumeInUseError, VolumeState
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import volumes

VOLUMES = Listing("volumes", (volumes.c.created_at, volumes.c.id), descending=True)
_GONE = VolumeState.REMOVED.value


def insert_volume(connection: Connection, volume: Volume) -> None:
    connection.execute(
        insert(volumes).values(
            id=volume.id,
            organization_id=volume.organization_id,
            pool_id=volume.pool_id,
            name=volume.name,
            size_mib=volume.size_mib,
            project=volume.project,
            state=volume.state.value,
            created_at=volume.created_at,
            billed_until=volume.billed_until,
        )
    )


def carry(connection: Connection, lease_id: str, pool_id: str) -> None:
    """Let the lease's volumes belong to another pool of the same machine, to which the lease moves."""
    connection.execute(update(volumes).where(volumes.c.lease_id == lease_id).values(pool_id=pool_id))


def volume(connection: Connection, id_or_name: str, organization_id: str | None) -> Volume | None:
    """One that is not removed, by its id, or within an organization by its name."""
    query = select(volumes).where(volumes.c.state != _GONE)
    if organization_id is None:
        query = query.where(volumes.c.id == id_or_name)
    else:
        named = (volumes.c.id == id_or_name) | (volumes.c.name == id_or_name)
        query = query.where(volumes.c.organization_id == organization_id, named)
    row = connection.execute(query).first()
    return _volume(row) if row else None


def page(connection: Connection, organization_id: str | None, wanted: PageRequest) -> Page[Volume]:
    """Those that are not removed, the newest first."""
    query = select(volumes).where(volumes.c.state != _GONE)
    if organization_id is not None:
        query = query.where(volumes.c.organization_id == organization_id)
    return VOLUMES.read(connection, query, wanted).map(_volume)


def held(connection: Connection, organization_id: str) -> tuple[int, int]:
    """How many volumes an organization has, and their MiB."""
    query = select(func.count(), func.coalesce(func.sum(volumes.c.size_mib), 0)).where(
        volumes.c.organization_id == organization_id, volumes.c.state != _GONE
    )
    count, mib = connection.execute(query).one()
    return int(count), int(mib)


def unfinished(connection: Connection, pool_ids: Sequence[str], limit: int) -> list[Volume]:
    """Volumes of the pools that are to be made or removed, the oldest first."""
    states = [VolumeState.MAKING.value, VolumeState.REMOVING.value]
    query = select(volumes).where(volumes.c.pool_id.in_(pool_ids), volumes.c.state.in_(states))
    return [_volume(row) for row in connection.execute(query.order_by(volumes.c.created_at, volumes.c.id).limit(limit))]


def due(connection: Connection, pool_ids: Sequence[str], now: datetime, limit: int) -> list[Volume]:
    """Volumes of the pools whose next hour has begun, the longest overdue first. One that has not been made, or is to be
    removed, costs nothing."""
    query = select(volumes).where(
        volumes.c.pool_id.in_(pool_ids), volumes.c.state == VolumeState.READY.value, volumes.c.billed_until <= now
    )
    return [_volume(row) for row in connection.execute(query.order_by(volumes.c.billed_until).limit(limit))]


def change(connection: Connection, volume_id: str, before: Iterable[VolumeState], **values: Any) -> bool:
    """Change a volume that is in one of these states; False where it is in another by now."""
    states = [state.value for state in before]
    done = connection.execute(
        update(volumes).where(volumes.c.id == volume_id, volumes.c.state.in_(states)).values(**values)
    )
    return done.rowcount == 1


def attach(connection: Connection, volume_id: str, lease_id: str, now: datetime) -> bool:
    """Give a volume that is ready and nobody's to a lease; False where it is not."""
    idle = _idle(now) & volumes.c.restoring.is_(None)
    return connection.execute(update(volumes).where(_free(volume_id), idle).values(lease_id=lease_id)).rowcount == 1


def attach_all(connection: Connection, wanted: Iterable[tuple[str, str]], lease_id: str, now: datetime) -> None:
    """Give volumes, by id and name, to a lease. Raises VolumeInUseError for one that went to another since it was quoted, and
    VolumeBusyError."""
    for volume_id, name in wanted:
        if attach(connection, volume_id, lease_id, now):
            continue
        found = volume(connection, volume_id, None)
        busy = found.busy(now) if found is not None else None
        if busy is not None:
            raise VolumeBusyError(f"volume {name} is {busy} just now; try again in a moment", retry_after_s=5)
        raise VolumeInUseError(f"volume {name} was attached to another lease or removed in the meantime; try again")


def hold(connection: Connection, volume_id: str, token: str, now: datetime, until: datetime) -> bool:
    """Keep a volume that is ready, nobody's and not busy for the work that `token` names, or keep it longer; False where it is
    not free."""
    mine = _idle(now) | (volumes.c.busy_with == token)
    done = connection.execute(update(volumes).where(_free(volume_id), mine).values(busy_with=token, busy_until=until))
    return done.rowcount == 1


def unhold(connection: Connection, volume_id: str, token: str) -> None:
    """The work that `token` names is over."""
    mine = (volumes.c.id == volume_id) & (volumes.c.busy_with == token)
    connection.execute(update(volumes).where(mine).values(busy_with=None, busy_until=None))


def restoring(connection: Connection, pool_ids: Sequence[str], limit: int) -> list[Volume]:
    """Volumes of the pools into which a snapshot is to be brought back."""
    query = select(volumes).where(volumes.c.pool_id.in_(pool_ids), volumes.c.restoring.isnot(None))
    return [_volume(row) for row in connection.execute(query.order_by(volumes.c.id).limit(limit))]


def attached(connection: Connection, lease_id: str) -> list[Volume]:
    """The volumes that a lease has."""
    return [_volume(row) for row in connection.execute(select(volumes).where(volumes.c.lease_id == lease_id))]


def _free(volume_id: str) -> ColumnElement[bool]:
    return (volumes.c.id == volume_id) & (volumes.c.state == VolumeState.READY.value) & volumes.c.lease_id.is_(None)


def _idle(now: datetime) -> ColumnElement[bool]:
    return volumes.c.busy_until.is_(None) | (volumes.c.busy_until <= now)


def detach(connection: Connection, lease_id: str) -> None:
    """The lease is over: its volumes are nobody's."""
    connection.execute(update(volumes).where(volumes.c.lease_id == lease_id).values(lease_id=None))


def advance(connection: Connection, volume_id: str, expected: datetime, until: datetime) -> bool:
    """Move `billed_until` if it still is `expected`."""
    done = connection.execute(
        update(volumes).where(volumes.c.id == volume_id, volumes.c.billed_until == expected).values(billed_until=until)
    )
    return done.rowcount == 1


def _volume(row: Row[Any]) -> Volume:
    return Volume(
        row.id,
        row.organization_id,
        row.pool_id,
        row.name,
        row.size_mib,
        VolumeState(row.state),
        row.created_at,
        row.billed_until,
        row.lease_id,
        row.last_error,
        row.removed_at,
        row.project,
        row.busy_with,
        row.busy_until,
        row.restoring,
    )
