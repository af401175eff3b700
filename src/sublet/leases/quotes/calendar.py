"""The calendar: who holds which accelerator when. It has one row for each accelerator and holder. Rows can't overlap."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Executable,
    Row,
    Select,
    Update,
    bindparam,
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
from sublet.leases import unit_store as unit_sql
from sublet.leases.model import WINDOW_S_MAX, Fence, HandingBack, SoldWindow, UnitState
from sublet.leases.quotes.memory import Calendars, PoolCalendar
from sublet.leases.quotes.memory import Row as KnownRow
from sublet.store.changes import can_keep, kept, renew, replace_kept
from sublet.store.tables.leases import fences, unit_states
from sublet.values.clock import from_micros, to_micros
from sublet.values.windows import Window

# No fence is longer than the longest lease and its gaps, so only fences that began that recently can overlap a window.
_FENCE_MAX = timedelta(seconds=WINDOW_S_MAX + 86_400)
_FENCES = ("fences",)
_CALENDARS = "calendars"
_WHICH = (fences.c.pool_id, fences.c.holder_id, fences.c.unit_id, fences.c.fence_start)
_TIMES = (fences.c.start_at, fences.c.end_at, fences.c.fence_start, fences.c.fence_end)
# Built once: to build a statement costs more than to execute it.
_INSERT = insert(fences)
_RELEASE = delete(fences).where(fences.c.holder_id == bindparam("holder")).returning(*_WHICH)
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
    if (known := remembered(connection, pool_id, now)) is not None:
        working = _working(connection, pool_id, known)
        free = np.flatnonzero(_free_of(connection, pool_id, known, working, fenced, now))
        if not wanted:
            return [working.ids[place] for place in free[:most]]
        numbers = [known.number(unit_id) for unit_id in wanted]
        last = ~np.isin(working.numbers[free], numbers)
        return [working.ids[place] for place in free[np.argsort(last, kind="stable")[:most]]]
    query = select(units.c.id).where(*_free(pool_id, fenced, now)).limit(most)
    order = (units.c.id.not_in(wanted), units.c.position) if wanted else (units.c.position,)
    return list(connection.execute(query.order_by(*order)).scalars())


def free_count(connection: Connection, pool_id: str, fenced: Window, now: datetime) -> int:
    """The number of `free_units`."""
    if (known := remembered(connection, pool_id, now)) is not None:
        working = _working(connection, pool_id, known)
        return int(np.count_nonzero(_free_of(connection, pool_id, known, working, fenced, now)))
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
    if (known := remembered(connection, pool_id, now)) is not None:
        return known.alike(now)
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


@dataclass(frozen=True, slots=True)
class Booked:
    """What is sold, or only `held` by an open quote."""

    sold: SoldWindow
    held: bool


def booked(connection: Connection, pool_id: str, window: Window, now: datetime) -> list[Booked]:
    """What is sold or held of the pool in `window`, without the gaps around it: one entry for each class, window and block."""
    plain = (type_coerce(fences.c.start_at, BigInteger), type_coerce(fences.c.end_at, BigInteger))
    alike = (fences.c.class_name, fences.c.start_at, fences.c.end_at, fences.c.block_id, fences.c.expires_at)
    query = (
        select(func.count(), fences.c.class_name, *plain, fences.c.block_id, fences.c.expires_at)
        .where(
            fences.c.pool_id == pool_id,
            fences.c.fence_end > window.start,
            fences.c.end_at > window.start,
            fences.c.start_at < window.end,
            _standing(now),
        )
        .group_by(*alike)
    )
    return [Booked(_sold(*row[:5]), row.expires_at is not None) for row in connection.execute(query)]


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
        with _changing(connection) as calendars:
            connection.execute(_INSERT, values)
            for pool_id in {str(value["pool_id"]) for value in values}:
                if (known := calendars.known(pool_id)) is not None:
                    known.add(_row_of(value) for value in values if value["pool_id"] == pool_id)


def fences_of(connection: Connection, holder_id: str) -> list[Fence]:
    found = connection.execute(select(fences).where(fences.c.holder_id == holder_id).order_by(fences.c.unit_id))
    return [_fence(row) for row in found]


def all_fences(connection: Connection) -> list[Fence]:
    """All fences of all pools, for checks of the whole calendar."""
    return [_fence(row) for row in connection.execute(select(fences))]


def devices_of(connection: Connection, unit_ids: Sequence[str]) -> Mapping[str, str]:
    """The device of each accelerator."""
    if not can_keep(connection):
        return _devices(connection, units.c.id.in_(unit_ids))
    # The one writer reads a pool's devices once; what is known only grows until an accelerator changes.
    known: dict[str, str] = kept(connection, ("units",), "devices", dict)
    for unit_id in unit_ids:
        if unit_id not in known:
            pool = select(units.c.pool_id).where(units.c.id == unit_id).scalar_subquery()
            known.update(_devices(connection, units.c.pool_id == pool))
    return {unit_id: known[unit_id] for unit_id in unit_ids if unit_id in known}


def _devices(connection: Connection, which: ColumnElement[bool]) -> dict[str, str]:
    return {row.id: row.device for row in connection.execute(select(units.c.id, units.c.device).where(which))}


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
        its = (fences.c.holder_id == holder_id, fences.c.unit_id == fence.unit_id)
        _end(connection, update(fences).where(*its), new_end, new_fence_end)


def lengthen(
    connection: Connection, holder_id: str, end: datetime, clean_s: int, handing: HandingBack | None = None
) -> None:
    """End the sold window later, or restore its old end. Accelerators that are given back keep their own end. The caller has
    checked that nobody else holds that time."""
    _end(connection, update(fences).where(fences.c.holder_id == holder_id), end, end + timedelta(seconds=clean_s))
    if handing is not None and handing.at < end:
        shorten(connection, holder_id, handing.at, clean_s, handing.unit_ids)


def release(connection: Connection, holder_id: str) -> set[str]:
    """Delete all rows of the holder; which accelerators they were of."""
    return _delete(connection, _RELEASE, {"holder": holder_id})


def release_units(connection: Connection, holder_id: str, unit_ids: list[str]) -> None:
    """Delete the holder's rows of these accelerators."""
    its = (fences.c.holder_id == holder_id, fences.c.unit_id.in_(unit_ids))
    _delete(connection, delete(fences).where(*its).returning(*_WHICH))


def any_expired(connection: Connection, pool_id: str, now: datetime) -> bool:
    """Whether rows of expired holds may be left in the pool."""
    known = remembered(connection, pool_id, now)
    return known is None or known.expired(now)


def release_expired(connection: Connection, now: datetime, limit: int) -> None:
    """Delete the rows of expired holds, which no longer count."""
    stale = select(fences.c.holder_id).where(fences.c.expires_at.is_not(None), fences.c.expires_at <= now).limit(limit)
    _delete(connection, delete(fences).where(fences.c.holder_id.in_(stale)).returning(*_WHICH))


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


# -- what is kept in memory


def remembered(connection: Connection, pool_id: str, now: datetime) -> PoolCalendar | None:
    """The calendar of a pool in memory, as the caller's write sees it; None where it has to be read."""
    if not can_keep(connection):
        return None
    return _calendars(connection).pool(pool_id, lambda: _rows(connection, pool_id, now))


def _calendars(connection: Connection) -> Calendars:
    return kept(connection, _FENCES, _CALENDARS, Calendars)


@contextmanager
def _changing(connection: Connection) -> Iterator[Calendars]:
    """The calendars in memory, to which the caller does what its statement does to the table."""
    calendars = _calendars(connection)
    yield calendars
    renew(connection, _FENCES, _CALENDARS)


def _delete(connection: Connection, statement: Executable, parameters: Mapping[str, Any] | None = None) -> set[str]:
    """Delete fences; which accelerators they were of."""
    with _changing(connection) as calendars:
        found = connection.execute(statement, parameters).all()
        for row in found:
            if (known := calendars.known(row.pool_id)) is not None:
                known.remove((row.holder_id, row.unit_id, to_micros(row.fence_start)))
    return {row.unit_id for row in found}


def _end(connection: Connection, statement: Update, end: datetime, fence_end: datetime) -> None:
    """End fences at another time."""
    with _changing(connection) as calendars:
        for row in connection.execute(statement.values(end_at=end, fence_end=fence_end).returning(*_WHICH)).all():
            if (known := calendars.known(row.pool_id)) is not None:
                which = (row.holder_id, row.unit_id, to_micros(row.fence_start))
                known.end(which, to_micros(end), to_micros(fence_end))


def _rows(connection: Connection, pool_id: str, now: datetime) -> list[KnownRow]:
    plain = [type_coerce(column, BigInteger) for column in (*_TIMES, fences.c.expires_at)]
    names = (fences.c.holder_id, fences.c.unit_id, fences.c.class_name, fences.c.block_id)
    query = select(*names, *plain).where(fences.c.pool_id == pool_id, fences.c.fence_end > now)
    return [KnownRow(*row) for row in connection.execute(query)]


def _row_of(value: Mapping[str, Any]) -> KnownRow:
    expires = value["expires_at"]
    return KnownRow(
        value["holder_id"],
        value["unit_id"],
        value["class_name"],
        value["block_id"],
        to_micros(value["start_at"]),
        to_micros(value["end_at"]),
        to_micros(value["fence_start"]),
        to_micros(value["fence_end"]),
        None if expires is None else to_micros(expires),
    )


@dataclass(frozen=True, slots=True)
class _Working:
    """The accelerators of a pool that are in service, by position, and their numbers in its calendar."""

    known: PoolCalendar
    ids: tuple[str, ...]
    numbers: NDArray[np.intp]


def _working(connection: Connection, pool_id: str, known: PoolCalendar) -> _Working:
    def read() -> _Working:
        mine = (units.c.pool_id == pool_id, units.c.in_service == 1)
        ids = tuple(connection.execute(select(units.c.id).where(*mine).order_by(units.c.position)).scalars())
        return _Working(known, ids, np.array([known.number(unit_id) for unit_id in ids], dtype=np.intp))

    found = kept(connection, ("units",), ("working", pool_id), read)
    if found.known is known:
        return found
    numbers = np.array([known.number(unit_id) for unit_id in found.ids], dtype=np.intp)
    again = _Working(known, found.ids, numbers)
    return replace_kept(connection, ("working", pool_id), again)


def _free_of(
    connection: Connection, pool_id: str, known: PoolCalendar, working: _Working, fenced: Window, now: datetime
) -> NDArray[np.bool_]:
    """Which of the working accelerators are free."""
    free = ~known.busy(fenced, now)[working.numbers]
    for unit_id in unit_sql.quarantined_units(connection, pool_id):
        free &= working.numbers != known.number(unit_id)
    return free


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
