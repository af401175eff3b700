"""What an organization may rent now: every pool and class, how many, and at what price."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Connection

from sublet.console.renting import ClassOffer, DeadlineOffer, PoolOffer
from sublet.console.selling import PoolForSale
from sublet.fleet.model import Pool
from sublet.leases.backends.registry import features_of
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
    by_deadline = [item for item in system.capacity.classes.on_sale if not item.by_window]
    orders = {pool.id: _orders(system, pool) for pool in pools} if by_deadline else {}
    with system.store.read() as connection:
        return [
            PoolOffer(
                pool.name,
                pool.generation,
                pool.site,
                tuple(_offer(system, connection, pool, item, window, organization_id) for item in classes),
                tuple(
                    DeadlineOffer(
                        item.name,
                        item.sentence,
                        tuple((kind, count) for name, kind, count in orders[pool.id] if name == item.name),
                        _price(system, connection, pool, item, window, organization_id),
                    )
                    for item in by_deadline
                ),
            )
            for pool in pools
        ]


def pools_to_ask_for(system: Sublet, feature: str = "") -> list[str]:
    """Names of the pools that are online and whose leases may have `feature`, in the order in which a form offers them: those that
    can be logged in to first, simulated ones last."""
    found = [
        pool
        for pool in system.fleet.pools()
        if pool.offline_at is None and (not feature or feature in features_of(system.settings, pool.backend))
    ]
    return [pool.name for pool in sorted(found, key=lambda pool: (pool.backend == "simulated", pool.name))]


def _offer(
    system: Sublet, connection: Connection, pool: Pool, item: ServiceClass, window: Window, organization_id: str
) -> ClassOffer:
    price = _price(system, connection, pool, item, window, organization_id)
    try:
        count = system.surplus.sellable(pool.id, item.name, window, connection=connection).count
    except SubletError:
        count = 0
    return ClassOffer(item.name, item.sentence, count, price)


def _price(
    system: Sublet, connection: Connection, pool: Pool, item: ServiceClass, window: Window, organization_id: str
) -> Money | None:
    try:
        nano, currency = system.price(connection, pool.id, item.name, window, organization_id)
    except SubletError:
        return None
    return Money(nano, currency)


def _orders(system: Sublet, pool: Pool) -> list[tuple[str, str, int]]:
    """Class, kind and accelerators of every kind of order that the pool can promise now."""
    return [(item.class_name, str(item.kind), item.count) for item in system.surplus.orders_on_sale(pool.id)]


def pool_sizes(system: Sublet) -> dict[str, tuple[str, int]]:
    """The name and the accelerators of each pool, by id; none of a pool that is offline."""
    return {pool.id: (pool.name, pool.accelerators if pool.offline_at is None else 0) for pool in system.fleet.pools()}


def pools_of_owner(system: Sublet) -> dict[str, tuple[str, str, int]]:
    """The name, the generation and the accelerators of each pool that is not offline, by id."""
    return {
        pool.id: (pool.name, pool.generation, pool.accelerators)
        for pool in system.fleet.pools()
        if pool.offline_at is None
    }


def pools_for_sale(system: Sublet) -> list[PoolForSale]:
    """Pools of which the owner may put a part up for sale, with the price and the credit of the strictest class."""
    strictest = system.capacity.classes.strictest
    return [
        PoolForSale(
            pool.id,
            pool.name,
            pool.accelerators,
            Money(round(pool.price_nano * strictest.price_ratio), pool.currency),
            strictest.credit_ratio,
        )
        for pool in system.fleet.pools()
        if pool.offline_at is None and pool.in_service
    ][:POOLS_MAX]
