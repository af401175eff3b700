"""The SQL of maintenance windows."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from sublet.leases.maintenance.model import Maintenance
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import maintenance_windows as windows
from sublet.values.windows import Window

WINDOWS = Listing("maintenance", (windows.c.created_at, windows.c.id), descending=True)


def insert_window(connection: Connection, item: Maintenance) -> None:
    connection.execute(
        insert(windows).values(
            id=item.id,
            pool_id=item.pool_id,
            accelerators=item.accelerators,
            start_at=item.window.start,
            end_at=item.window.end,
            reason=item.reason,
            actor=item.actor,
            reclaim_id=item.reclaim_id,
            created_at=item.created_at,
            canceled_at=None,
        )
    )


def cancel_window(connection: Connection, window_id: str, now: datetime) -> bool:
    """False where it was canceled before."""
    wanted = update(windows).where(windows.c.id == window_id, windows.c.canceled_at.is_(None))
    return connection.execute(wanted.values(canceled_at=now)).rowcount == 1


def window_named(connection: Connection, window_id: str) -> Maintenance | None:
    row = connection.execute(select(windows).where(windows.c.id == window_id)).first()
    return _window(row) if row is not None else None


def window_page(
    connection: Connection, pool_id: str | None, now: datetime, wanted: PageRequest, *, live: bool
) -> Page[Maintenance]:
    """The newest first; with `live`, those that are neither canceled nor over."""
    query = select(windows)
    if pool_id is not None:
        query = query.where(windows.c.pool_id == pool_id)
    if live:
        query = query.where(windows.c.canceled_at.is_(None), windows.c.end_at > now)
    return WINDOWS.read(connection, query, wanted).map(_window)


def between(connection: Connection, since: datetime, until: datetime) -> list[Maintenance]:
    """Windows that overlap `[since, until)`; one that was canceled in its course counts until then."""
    query = select(windows).where(windows.c.start_at < until, windows.c.end_at > since)
    return [_window(row) for row in connection.execute(query.order_by(windows.c.start_at, windows.c.id))]


def standing(connection: Connection, pool_id: str | None, now: datetime) -> list[Maintenance]:
    """Windows that are neither canceled nor over, of one pool or of all, the earliest first."""
    query = select(windows).where(windows.c.canceled_at.is_(None), windows.c.end_at > now)
    if pool_id is not None:
        query = query.where(windows.c.pool_id == pool_id)
    return [_window(row) for row in connection.execute(query.order_by(windows.c.start_at, windows.c.id))]


def _window(row: Row[Any]) -> Maintenance:
    return Maintenance(
        row.id,
        row.pool_id,
        row.accelerators,
        Window(row.start_at, row.end_at),
        row.reason,
        row.actor,
        row.created_at,
        row.reclaim_id,
        row.canceled_at,
    )
