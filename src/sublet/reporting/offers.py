"""What an organization may rent now: every pool and class, how many, and at what price."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from sublet.console.renting import ClassOffer, PoolOffer
from sublet.fleet.model import Pool
from sublet.values.errors import SubletError
from sublet.values.money import Money
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window
from sublet.wiring.system import Sublet

POOLS_MAX = 50


def offers(system: Sublet, organization_id: str, length: timedelta) -> list[PoolOffer]:
    """What may be rented from now on for `length`. A class without a price for the organization has none."""
    now = system.clock.now()
    window = Window(now, now + length)
    pools = [pool for pool in system.fleet.pools() if pool.offline_at is None and pool.in_service][:POOLS_MAX]
    classes = [item for item in system.capacity.classes.on_sale if item.by_window]
    with system.store.read() as connection:
        return [
            PoolOffer(
                pool.name,
                pool.generation,
                pool.site,
                tuple(_offer(system, connection, pool, item, window, organization_id) for item in classes),
            )
            for pool in pools
        ]


def _offer(
    system: Sublet, connection: Connection, pool: Pool, item: ServiceClass, window: Window, organization_id: str
) -> ClassOffer:
    try:
        nano, currency = system.price(connection, pool.id, item.name, window, organization_id)
        price = Money(nano, currency)
    except SubletError:
        price = None
    try:
        count = system.surplus.sellable(pool.id, item.name, window, connection=connection).count
    except SubletError:
        count = 0
    return ClassOffer(item.name, item.sentence, count, price)
