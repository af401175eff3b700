"""The calendar: who holds which accelerator when. It has one row for each accelerator and holder. Rows can't overlap."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Row,
    Select,
    delete,
    func,
    insert,
    or_,
    select,
    type_coerce,
    update,
)

from sublet.fleet.inventory import units
from sublet.fleet.model import Unit
from sublet.leases.model import WINDOW_S_MAX, Fence, HandingBack, SoldWindow, UnitState
from sublet.store.tables.leases import fences, unit_states
from sublet.values.clock import from_micros
from sublet.values.windows import Window

# No fence is longer than the longest lease and its gaps, so only fences that began that recently can overlap a window.
_FENCE_MAX = timedelta(seconds=WINDOW_S_MAX + 86_400)
MOVING = "mov_"
"""How the holder of what a lease is going to move to begins; the rest is the lease's own id."""


def free_units(connection: Connection, pool_id: str, fenced: Window, now: datetime) -> list[Unit]:
    """Working accelerators of the pool that are not in quarantine and that nobody holds during `fenced`, by position.

    A fence that ends when another begins does not overlap it.
    """
    query = select(units).where(*_free(pool_id, fenced, now)).order_by(units.c.position)
    return [Unit(row.id, row.pool_id, row.position, row.device, True, None) for row in connection.execute(query)]


def free_ids(
    connection: Connection, pool_id: str, fenced: Window, now: datetime, most: int, wanted: Collection[str] = ()
) -> list[str]:
    """The ids of at most `most` of the `free_units`, `wanted` ones first."""
    query = select(units.c.id).where(*_free(pool_id, fenced, now)).limit(most)
    order = (units.c.id.not_in(wanted), units.c.position) if wanted else (units.c.position,)
    return list(connection.execute(query.order_by(*order)).scalars())


def free_count(connection: Connection, pool_id: str, fenced: Window, now: datetime) -> int:
    """The number of `free_units`."""
    query = select(func.count()).select_from(units).where(*_free(pool_id, fenced, now))
    return int(connection.execute(query).scalar_one())


def moving_in(connection: Connection, pool_id: str, window: Window, now: datetime) -> int:
    """How many accelerators of the pool are held during `window` for leases of other pools, which are going to move to it."""
    query = select(func.count(fences.c.unit_id.distinct())).where(
        *_overlap(pool_id, window, now), fences.c.holder_id.startswith(MOVING, autoescape=True)
    )
    return int(connection.execute(query).scalar_one())


def other_tenants(
    connection: Connection, pool_id: str, organization_id: str, fenced: Window, now: datetime
) -> set[str]:
    """Other organizations that hold accelerators of the pool during `fenced`."""
    found = connection.execute(
        select(fences.c.organization_id)
        .where(*_overlap(pool_id, fenced, now), fences.c.organization_id != organization_id)
        .distinct()
    )
    return {row.organization_id for row in found}


def book(connection: Connection, pool_id: str, now: datetime, within: Window | None = None) -> list[SoldWindow]:
    """Everything that is sold or held of the pool from `now` on, one entry for each class, window and block. If `within` is
    given, only that window counts."""
    over = _overlap(pool_id, within, now) if within is not None else _from(pool_id, now)
    return [_sold(*row) for row in _alike(connection, over, now)]


def book_rows(connection: Connection, pool_id: str, now: datetime) -> Iterable[tuple[int, str, int, int, str | None]]:
    """The entries of `book` as they are stored: accelerators, class, start and end in microseconds since the epoch, block."""
    return _alike(connection, _from(pool_id, now), now)


def _alike(
    connection: Connection, over: tuple[ColumnElement[bool], ...], now: datetime
) -> Iterable[tuple[int, str, int, int, str | None]]:
    # The database adds them up: many accelerators are sold over few windows. Times stay numbers, because to make a thousand
    # datetimes costs more than the rest of a sale.
    alike = (fences.c.class_name, fences.c.start_at, fences.c.end_at, fences.c.block_id)
    plain = (alike[0], type_coerce(alike[1], BigInteger), type_coerce(alike[2], BigInteger), alike[3])
    query = select(func.count(), *plain).where(*over, fences.c.end_at > now).group_by(*alike)
    return [(row[0], row[1], row[2], row[3], row[4]) for row in connection.execute(query)]


def _sold(count: int, class_name: str, start_us: int, end_us: int, block_id: str | None) -> SoldWindow:
    return SoldWindow(count, class_name, Window(from_micros(start_us), from_micros(end_us)), block_id)


def most_at_once(sold: Sequence[SoldWindow], window: Window) -> int:
    """The number of accelerators that are held at the busiest moment of `window`."""
    inside = [item for item in sold if item.window.overlaps(window)]
    moments = {window.start, *(item.window.start for item in inside if item.window.start > window.start)}
    return max(sum(item.accelerators for item in inside if item.window.start <= at < item.window.end) for at in moments)


def last_end(connection: Connection, pool_id: str, fenced: Window, now: datetime) -> datetime | None:
    """When the last sold or held window during `fenced` ends, or None."""
    query = select(func.max(fences.c.end_at)).where(*_overlap(pool_id, fenced, now))
    found: datetime | None = connection.execute(query).scalar_one()
    return found


def insert_fences(connection: Connection, rows: Iterable[Fence]) -> None:
    values = [
        {
            "holder_id": fence.holder_id,
            "unit_id": fence.unit_id,
            "pool_id": fence.pool_id,
            "class_name": fence.class_name,
            "organization_id": fence.organization_id,
            "start_at": fence.window.start,
            "end_at": fence.window.end,
            "fence_start": fence.fenced.start,
            "fence_end": fence.fenced.end,
            "expires_at": fence.expires_at,
            "block_id": fence.block_id,
        }
        for fence in rows
    ]
    if values:
        connection.execute(insert(fences), values)


def fences_of(connection: Connection, holder_id: str) -> list[Fence]:
    found = connection.execute(select(fences).where(fences.c.holder_id == holder_id).order_by(fences.c.unit_id))
    return [_fence(row) for row in found]


def all_fences(connection: Connection) -> list[Fence]:
    """All fences of all pools, for checks of the whole calendar."""
    return [_fence(row) for row in connection.execute(select(fences))]


def devices_of(connection: Connection, unit_ids: list[str]) -> dict[str, str]:
    """The device of each accelerator."""
    found = connection.execute(select(units.c.id, units.c.device).where(units.c.id.in_(unit_ids)))
    return {row.id: row.device for row in found}


def shorten(
    connection: Connection, holder_id: str, end: datetime, clean_s: int, unit_ids: Sequence[str] | None = None
) -> None:
    """End the sold window earlier, for `unit_ids` only if they are given. The cleanup gap moves with it. Never extends a
    fence."""
    for fence in fences_of(connection, holder_id):
        if unit_ids is not None and fence.unit_id not in unit_ids:
            continue
        new_end = min(fence.window.end, max(end, fence.window.start + timedelta(seconds=1)))
        new_fence_end = min(fence.fenced.end, new_end + timedelta(seconds=clean_s))
        connection.execute(
            update(fences)
            .where(fences.c.holder_id == holder_id, fences.c.unit_id == fence.unit_id)
            .values(end_at=new_end, fence_end=new_fence_end)
        )


def lengthen(
    connection: Connection, holder_id: str, end: datetime, clean_s: int, handing: HandingBack | None = None
) -> None:
    """End the sold window later, or restore its old end. Accelerators that are given back keep their own end. The caller has
    checked that nobody else holds that time."""
    connection.execute(
        update(fences)
        .where(fences.c.holder_id == holder_id)
        .values(end_at=end, fence_end=end + timedelta(seconds=clean_s))
    )
    if handing is not None and handing.at < end:
        shorten(connection, holder_id, handing.at, clean_s, handing.unit_ids)


def release(connection: Connection, holder_id: str) -> None:
    """Delete all rows of the holder."""
    connection.execute(delete(fences).where(fences.c.holder_id == holder_id))


def release_units(connection: Connection, holder_id: str, unit_ids: list[str]) -> None:
    """Delete the holder's rows of these accelerators."""
    connection.execute(delete(fences).where(fences.c.holder_id == holder_id, fences.c.unit_id.in_(unit_ids)))


def release_expired(connection: Connection, now: datetime, limit: int) -> int:
    """Delete the rows of expired holds, which no longer count."""
    stale = select(fences.c.holder_id).where(fences.c.expires_at.is_not(None), fences.c.expires_at <= now).limit(limit)
    return connection.execute(delete(fences).where(fences.c.holder_id.in_(stale))).rowcount


def ends_between(connection: Connection, pool_id: str, window: Window, now: datetime, limit: int) -> list[datetime]:
    """When sold or held windows of the pool end within `window`, earliest first."""
    query = (
        select(fences.c.end_at)
        .where(*_overlap(pool_id, window, now), fences.c.end_at >= window.start, fences.c.end_at < window.end)
        .distinct()
        .order_by(fences.c.end_at)
        .limit(limit)
    )
    return [row.end_at for row in connection.execute(query)]


def next_fence(
    connection: Connection, unit_ids: Sequence[str], since: datetime, now: datetime, without: str
) -> datetime | None:
    """When somebody other than `without` next holds one of these accelerators, from `since` on, or None."""
    query = select(func.min(fences.c.fence_start)).where(
        fences.c.unit_id.in_(unit_ids), fences.c.fence_end > since, fences.c.holder_id != without, _standing(now)
    )
    found: datetime | None = connection.execute(query).scalar_one()
    return found


def overlapping(connection: Connection, pool_id: str, fenced: Window, now: datetime, *, without: str) -> set[str]:
    """Accelerators of the pool that somebody other than `without` holds during `fenced`."""
    found = connection.execute(
        select(fences.c.unit_id).where(*_overlap(pool_id, fenced, now), fences.c.holder_id != without)
    )
    return {row.unit_id for row in found}


def _free(pool_id: str, fenced: Window, now: datetime) -> tuple[ColumnElement[bool], ...]:
    quarantined = select(unit_states.c.unit_id).where(
        unit_states.c.pool_id == pool_id, unit_states.c.state == UnitState.QUARANTINED.value
    )
    return (
        units.c.pool_id == pool_id,
        units.c.in_service == 1,
        units.c.id.not_in(_held(pool_id, fenced, now)),
        units.c.id.not_in(quarantined),
    )


def _held(pool_id: str, fenced: Window, now: datetime) -> Select[tuple[str]]:
    return select(fences.c.unit_id).where(*_overlap(pool_id, fenced, now))


def _overlap(pool_id: str, fenced: Window, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (
        fences.c.pool_id == pool_id,
        fences.c.fence_end > fenced.start,
        fences.c.fence_start < fenced.end,
        fences.c.fence_start > fenced.start - _FENCE_MAX,
        _standing(now),
    )


def _from(pool_id: str, now: datetime) -> tuple[ColumnElement[bool], ...]:
    return (fences.c.pool_id == pool_id, fences.c.fence_end > now, _standing(now))


def _standing(now: datetime) -> ColumnElement[bool]:
    return or_(fences.c.expires_at.is_(None), fences.c.expires_at > now)


def _fence(row: Row[Any]) -> Fence:
    return Fence(
        row.holder_id,
        row.unit_id,
        row.pool_id,
        row.class_name,
        row.organization_id,
        Window(row.start_at, row.end_at),
        Window(row.fence_start, row.fence_end),
        row.expires_at,
        row.block_id,
    )
