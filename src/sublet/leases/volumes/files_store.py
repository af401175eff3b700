"""The SQL of copies into volumes, and of snapshots."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Connection, Row, Select, case, cast, delete, func, insert, select, update

from sublet.leases.volumes.files import MIB, CopyState, Origin, Snapshot, VolumeCopy
from sublet.leases.volumes.model import VolumeState
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import volume_copies, volume_snapshots, volumes

SNAPSHOTS = Listing("volume_snapshots", (volume_snapshots.c.created_at, volume_snapshots.c.id), descending=True)
_GONE = VolumeState.REMOVED.value
_COPIES, _KEPT = volume_copies.c, volume_snapshots.c
_OPEN = (CopyState.RECEIVING.value, CopyState.UNPACKING.value)


def insert_copy(connection: Connection, copy: VolumeCopy) -> None:
    connection.execute(
        insert(volume_copies).values(
            id=copy.id,
            volume_id=copy.volume_id,
            path=copy.path,
            replace=int(copy.replace),
            sha256=copy.sha256,
            size_bytes=copy.size_bytes,
            received_bytes=copy.received_bytes,
            state=copy.state.value,
            created_at=copy.created_at,
            changed_at=copy.changed_at,
        )
    )


def copy(connection: Connection, copy_id: str, volume_id: str) -> VolumeCopy | None:
    """A copy into that volume."""
    query = select(volume_copies).where(_COPIES.id == copy_id, _COPIES.volume_id == volume_id)
    row = connection.execute(query).first()
    return _copy(row) if row else None


def open_copies(connection: Connection, volume_id: str) -> list[VolumeCopy]:
    """Copies into a volume that are not over."""
    query = select(volume_copies).where(_COPIES.volume_id == volume_id, _COPIES.state.in_(_OPEN))
    return [_copy(row) for row in connection.execute(query)]


def copies_in(connection: Connection, pool_ids: Sequence[str], state: CopyState, limit: int) -> list[VolumeCopy]:
    """Copies into volumes of the pools that are in that state, the oldest first."""
    query = select(volume_copies).join(volumes, volumes.c.id == _COPIES.volume_id)
    query = query.where(_COPIES.state == state.value, volumes.c.pool_id.in_(pool_ids))
    return [_copy(row) for row in connection.execute(query.order_by(_COPIES.created_at, _COPIES.id).limit(limit))]


def abandoned_copies(connection: Connection, pool_ids: Sequence[str], before: datetime, limit: int) -> list[VolumeCopy]:
    """Copies into volumes of the pools that nobody has continued since then."""
    query = select(volume_copies).join(volumes, volumes.c.id == _COPIES.volume_id)
    query = query.where(
        _COPIES.state == CopyState.RECEIVING.value, _COPIES.changed_at < before, volumes.c.pool_id.in_(pool_ids)
    )
    return [_copy(row) for row in connection.execute(query.limit(limit))]


def change_copy(connection: Connection, copy_id: str, before: CopyState, now: datetime, **values: Any) -> bool:
    """Change a copy that is in this state; False where it no longer is."""
    mine = (_COPIES.id == copy_id) & (_COPIES.state == before.value)
    return connection.execute(update(volume_copies).where(mine).values(changed_at=now, **values)).rowcount == 1


def forget_copies(connection: Connection, before: datetime) -> None:
    """Drop those that were over before then."""
    connection.execute(delete(volume_copies).where(_COPIES.state.notin_(_OPEN), _COPIES.changed_at < before))


def forget_copies_of(connection: Connection, volume_id: str) -> None:
    """The volume is gone, and what was sent into it too."""
    connection.execute(delete(volume_copies).where(_COPIES.volume_id == volume_id))


def insert_snapshot(connection: Connection, snapshot: Snapshot) -> None:
    connection.execute(
        insert(volume_snapshots).values(
            id=snapshot.id,
            volume_id=snapshot.volume_id,
            organization_id=snapshot.organization_id,
            name=snapshot.name,
            origin=snapshot.origin.value,
            state=snapshot.state.value,
            bytes=snapshot.bytes,
            created_at=snapshot.created_at,
            billed_until=snapshot.billed_until,
            expires_at=snapshot.expires_at,
        )
    )


def snapshot(connection: Connection, id_or_name: str, volume_id: str) -> Snapshot | None:
    """A snapshot of the volume that is not removed, by its id, or the newest of that name."""
    named = (_KEPT.id == id_or_name) | (_KEPT.name == id_or_name)
    query = select(volume_snapshots).where(_KEPT.volume_id == volume_id, _KEPT.state != _GONE, named)
    row = connection.execute(query.order_by(_KEPT.created_at.desc()).limit(1)).first()
    return _snapshot(row) if row else None


def snapshot_page(connection: Connection, volume_id: str, wanted: PageRequest) -> Page[Snapshot]:
    """Those of a volume that are not removed, the newest first."""
    query = select(volume_snapshots).where(_KEPT.volume_id == volume_id, _KEPT.state != _GONE)
    return SNAPSHOTS.read(connection, query, wanted).map(_snapshot)


def snapshots_of(connection: Connection, volume_id: str) -> list[Snapshot]:
    """All that are not removed."""
    query = select(volume_snapshots).where(_KEPT.volume_id == volume_id, _KEPT.state != _GONE)
    return [_snapshot(row) for row in connection.execute(query.order_by(_KEPT.created_at))]


def snapshots_in(
    connection: Connection, pool_ids: Sequence[str], states: Iterable[VolumeState], limit: int
) -> list[tuple[Snapshot, str]]:
    """Snapshots in these states with the pools of their volumes, the oldest first."""
    query = _with_pool(pool_ids).where(_KEPT.state.in_([state.value for state in states]))
    return _with_pools(connection, query.order_by(_KEPT.created_at, _KEPT.id).limit(limit))


def due_snapshots(
    connection: Connection, pool_ids: Sequence[str], now: datetime, limit: int
) -> list[tuple[Snapshot, str]]:
    """Those that are billed and whose next hour has begun."""
    query = _with_pool(pool_ids).where(
        _KEPT.state == VolumeState.READY.value, _KEPT.origin == Origin.ASKED.value, _KEPT.billed_until <= now
    )
    return _with_pools(connection, query.order_by(_KEPT.billed_until).limit(limit))


def expired_snapshots(
    connection: Connection, pool_ids: Sequence[str], now: datetime, limit: int
) -> list[tuple[Snapshot, str]]:
    """Those whose time is over."""
    states = [VolumeState.READY.value, VolumeState.FAILED.value]
    query = _with_pool(pool_ids).where(_KEPT.state.in_(states), _KEPT.expires_at <= now)
    return _with_pools(connection, query.limit(limit))


def change_snapshot(connection: Connection, snapshot_id: str, before: Iterable[VolumeState], **values: Any) -> bool:
    """Change a snapshot that is in one of these states; False where it no longer is."""
    mine = (_KEPT.id == snapshot_id) & _KEPT.state.in_([state.value for state in before])
    return connection.execute(update(volume_snapshots).where(mine).values(**values)).rowcount == 1


def remove_of_volume(connection: Connection, volume_id: str, now: datetime) -> None:
    """The volume is gone, and its snapshots too."""
    mine = (_KEPT.volume_id == volume_id) & (_KEPT.state != _GONE)
    connection.execute(update(volume_snapshots).where(mine).values(state=_GONE, removed_at=now))


def bytes_held(connection: Connection, organization_id: str) -> int:
    """What the snapshots occupy that an organization asked for; one that is being made may come to occupy its whole volume."""
    occupied = case(
        (_KEPT.state == VolumeState.MAKING.value, cast(volumes.c.size_mib, BigInteger) * MIB), else_=_KEPT.bytes
    )
    query = select(func.coalesce(func.sum(occupied), 0)).join(volumes, volumes.c.id == _KEPT.volume_id)
    query = query.where(
        _KEPT.organization_id == organization_id, _KEPT.state != _GONE, _KEPT.origin == Origin.ASKED.value
    )
    return int(connection.execute(query).scalar_one())


def advance(connection: Connection, snapshot_id: str, expected: datetime, until: datetime) -> bool:
    """Move `billed_until` if it still is `expected`."""
    mine = (_KEPT.id == snapshot_id) & (_KEPT.billed_until == expected)
    return connection.execute(update(volume_snapshots).where(mine).values(billed_until=until)).rowcount == 1


def _with_pool(pool_ids: Sequence[str]) -> Select[Any]:
    query = select(volume_snapshots, volumes.c.pool_id).join(volumes, volumes.c.id == _KEPT.volume_id)
    return query.where(volumes.c.pool_id.in_(pool_ids))


def _with_pools(connection: Connection, query: Select[Any]) -> list[tuple[Snapshot, str]]:
    return [(_snapshot(row), row.pool_id) for row in connection.execute(query)]


def _copy(row: Row[Any]) -> VolumeCopy:
    return VolumeCopy(
        row.id,
        row.volume_id,
        row.path,
        bool(row.replace),
        row.sha256,
        row.size_bytes,
        row.received_bytes,
        CopyState(row.state),
        row.created_at,
        row.changed_at,
        row.last_error,
    )


def _snapshot(row: Row[Any]) -> Snapshot:
    return Snapshot(
        row.id,
        row.volume_id,
        row.organization_id,
        row.name,
        Origin(row.origin),
        VolumeState(row.state),
        row.created_at,
        row.billed_until,
        row.bytes,
        row.last_error,
        row.expires_at,
        row.removed_at,
    )
