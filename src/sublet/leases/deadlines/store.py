"""The SQL of leases with a deadline: what is promised and not yet done, and which accelerators are free for how long."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, bindparam, func, or_, select

from sublet.leases.model import TERMINAL, Lease, LeaseState, SoldWindow
from sublet.leases.quotes import calendar
from sublet.leases.rows import lease_of
from sublet.store.tables.leases import fences, leases, quotes
from sublet.store.types import Instant
from sublet.surplus.model import Promised
from sublet.values.windows import Window

_OPEN = [state.value for state in LeaseState if state not in TERMINAL and state is not LeaseState.ENDING]
_ANY = select(
    or_(
        select(leases.c.id)
        .where(leases.c.pool_id == bindparam("pool"), leases.c.service_s.is_not(None), leases.c.state.in_(_OPEN))
        .exists(),
        select(quotes.c.id)
        .where(
            quotes.c.pool_id == bindparam("pool"),
            quotes.c.service_s.is_not(None),
            quotes.c.expires_at > bindparam("now", type_=Instant),
        )
        .exists(),
    )
)
"""Whether anything may be promised of a pool by a deadline; built once, because every sale asks."""


def open_leases(connection: Connection, pool_id: str) -> list[Lease]:
    """Leases of the pool with a deadline that are not over, the oldest first."""
    query = (
        select(leases)
        .where(leases.c.pool_id == pool_id, leases.c.state.in_(_OPEN), leases.c.service_s.is_not(None))
        .order_by(leases.c.created_at, leases.c.id)
    )
    return [lease_of(row) for row in connection.execute(query)]


def promised(connection: Connection, pool_id: str, now: datetime) -> list[Promised]:
    """What is promised of the pool by a deadline and still to be delivered: by leases, and by quotes that are held."""
    if not connection.execute(_ANY, {"pool": pool_id, "now": now}).scalar():
        return []
    found = [
        Promised(lease.id, lease.accelerators, lease.left_s, lease.window.end)
        for lease in open_leases(connection, pool_id)
    ]
    taken = select(leases.c.quote_id).where(leases.c.quote_id == quotes.c.id).exists()
    held = connection.execute(
        select(quotes.c.id, quotes.c.accelerators, quotes.c.service_s, quotes.c.end_at)
        .where(
            quotes.c.pool_id == pool_id,
            quotes.c.expires_at > now,
            quotes.c.held_until > now,
            quotes.c.service_s.is_not(None),
            ~taken,
        )
        .order_by(quotes.c.id)
    )
    found += [Promised(row.id, row.accelerators, float(row.service_s), row.end_at) for row in held]
    return found


def waiting(connection: Connection, pool_id: str, now: datetime) -> list[SoldWindow]:
    """Leases that wait, until their deadlines: their home directories need room all the time."""
    return [
        SoldWindow(lease.accelerators, lease.class_name, Window(now, lease.window.end))
        for lease in open_leases(connection, pool_id)
        if lease.waits and lease.window.end > now
    ]


def other_tenants(connection: Connection, pool_id: str, organization_id: str) -> bool:
    """Whether another organization has a lease with a deadline on the pool: it will need accelerators again."""
    query = (
        select(leases.c.id)
        .where(
            leases.c.pool_id == pool_id,
            leases.c.state.in_(_OPEN),
            leases.c.service_s.is_not(None),
            leases.c.organization_id != organization_id,
        )
        .limit(1)
    )
    return connection.execute(query).first() is not None


def free_until(connection: Connection, pool_id: str, now: datetime, clean_s: int) -> dict[str, datetime | None]:
    """Accelerators that nobody holds now, and until when a lease may use each: None where nobody has booked it."""
    begins = next_bookings(connection, pool_id, now)
    found: dict[str, datetime | None] = {}
    for unit in calendar.free_units(connection, pool_id, Window.starting(now, 1), now):
        begin = begins.get(unit.id)
        found[unit.id] = None if begin is None else begin - timedelta(seconds=clean_s)
    return found


def next_bookings(connection: Connection, pool_id: str, now: datetime) -> dict[str, datetime]:
    """When the next booking of each accelerator begins, where there is one."""
    query = (
        select(fences.c.unit_id, func.min(fences.c.fence_start).label("begin"))
        .where(
            fences.c.pool_id == pool_id,
            fences.c.fence_start > now,
            or_(fences.c.expires_at.is_(None), fences.c.expires_at > now),
        )
        .group_by(fences.c.unit_id)
    )
    return {row.unit_id: row.begin for row in connection.execute(query)}
