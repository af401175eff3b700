"""Reads what is booked of a pool over future time: from the calendar of leases, blocks, claims, maintenance and models."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from sqlalchemy import Connection

from sublet.fleet.model import Pool
from sublet.leases.quotes import calendar
from sublet.surplus import bookings as parts
from sublet.surplus.bookings import Booking, PoolCalendar, calendar_window, steps_of
from sublet.values.windows import Window
from sublet.wiring.system import Sublet

_LAST = datetime(9999, 1, 1, tzinfo=UTC)


def pool_calendar(
    system: Sublet, pool: str, since: datetime | None = None, until: datetime | None = None
) -> PoolCalendar:
    """The calendar of a pool, by its id or name, as one transaction sees it; by default, of the next 30 days.

    Raises NotFoundError, and InvalidInputError for a time that no calendar covers.
    """
    now = system.clock.now()
    window = calendar_window(now, since, until)
    with system.store.read() as connection:
        found = system.fleet.pool(pool, connection)
        classes = tuple(item.name for item in system.capacity.classes.on_sale)
        booked = [*_of_pool(system, connection, found, window), *_sold(system, connection, found, window)]
        orders = system.capacity.orders(found.id, connection)
    waiting_s = sum(order.accelerators * order.left_s for order in orders)
    return PoolCalendar(found.id, found.name, window, classes, waiting_s / 3600, steps_of(booked, window, classes))


def _of_pool(system: Sublet, connection: Connection, pool: Pool, window: Window) -> Iterator[Booking]:
    """The capacity, and what its owner and operator keep or put up for sale."""
    capacity = system.capacity
    facts = capacity.facts(pool.id, connection)
    if pool.offline_at is None or pool.offline_at > pool.online_at:
        yield Booking(parts.CAPACITY, pool.in_service, Window(pool.online_at, pool.offline_at or _LAST))
    yield Booking(parts.QUARANTINED, facts.quarantined, window)
    yield Booking(parts.FLOORS, capacity.floors(connection, pool.id), window)
    for absence in facts.absences:
        yield Booking(parts.MAINTENANCE, absence.count, absence.window)
    for claim in system.demand.claims(pool.id, window, connection):
        yield Booking(parts.CLAIMED, claim.count, claim.window)
    for held in facts.reclaims:
        yield Booking(parts.RECLAIMED, held.count, held.window)
    for block in facts.blocks:
        yield Booking(parts.BLOCKS, block.count, block.window)


def _sold(system: Sublet, connection: Connection, pool: Pool, window: Window) -> Iterator[Booking]:
    """What leases and open quotes hold, and what replicas beyond the floors rent."""
    for rented in system.capacity.rented_replicas(pool.id, connection):
        yield Booking(parts.REPLICAS, rented.count, rented.window)
    for item in calendar.booked(connection, pool.id, window, system.clock.now()):
        if item.held:
            kind = parts.HELD_FROM_BLOCKS if item.sold.block_id else parts.HELD
        else:
            kind = parts.SOLD_FROM_BLOCKS if item.sold.block_id else parts.SOLD + item.sold.class_name
        yield Booking(kind, item.sold.accelerators, item.sold.window)
