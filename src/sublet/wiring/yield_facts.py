"""What yield decides from, observed in the running system: idle capacity, the surplus rule's limits, prices and quotes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sublet.allocation.mix.model import Ceiling, Kind, Offer, PoolState, State
from sublet.allocation.model import Facts, Mode, Product, nearest, rate_of, share_of
from sublet.allocation.ports import AllocationPorts, AskedHour
from sublet.config.settings import Settings
from sublet.fleet import store as fleet_sql
from sublet.fleet.model import Pool
from sublet.leases import market
from sublet.ledger.prices.book import PriceBook
from sublet.ledger.service import Ledger
from sublet.models.service import Models
from sublet.store import Store
from sublet.surplus.model import Sold
from sublet.values.errors import SubletError
from sublet.values.money import NANO
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window
from sublet.wiring.capacity import Capacity
from sublet.wiring.owned import stated_of
from sublet.wiring.yield_models import ModelFacts

STEPS = (1.0,) * 6
HOUR = timedelta(hours=1)
HOUR_S = 3600


@dataclass(frozen=True, slots=True)
class Observer:
    """Reads the state of the whole system in one transaction."""

    settings: Settings
    store: Store
    capacity: Capacity
    models: Models
    ledger: Ledger

    def __call__(self, asked: Sequence[AskedHour], asked_hours: float) -> Facts:
        now = self.store.clock.now()
        with self.store.read() as connection:
            looked = [
                pool
                for pool in fleet_sql.all_pools(connection)
                if pool.capacity(now) > 0 and mode_of(self.settings, pool) is not Mode.OFF
            ]
            currency = _currency(looked)
            pools = [pool for pool in looked if pool.currency == currency]
            book = self.ledger.books.current(connection)
            states: list[PoolState] = []
            products: list[Product] = []
            for pool in pools:
                own = [row for row in asked if row.pool_id == pool.id and row.currency == currency]
                decided, known = self._pool(connection, pool, book, (own, asked_hours))
                states.append(decided)
                products += known
            models = ModelFacts.read(self.models, connection, {pool.id: pool.name for pool in pools}, now)
            loads = models.states(connection, currency, book, now)
            served = tuple(item for item, _ in loads)
            state = State(now, STEPS, tuple(states), served, models.fits(), models.limits(), currency)
            return Facts(
                state,
                {pool.name: mode_of(self.settings, pool) for pool in pools},
                {pool.name: pool.id for pool in pools},
                products,
                [load for _, load in loads],
                models.pinned(),
                [
                    f"pool {pool.name} is priced in {pool.currency} and is left out: this round decides in {currency}"
                    for pool in looked
                    if pool.currency != currency
                ],
            )

    def _pool(
        self, connection: Connection, pool: Pool, book: PriceBook, quotes: tuple[Sequence[AskedHour], float]
    ) -> tuple[PoolState, list[Product]]:
        """A pool as if no replica ran there: those beyond the floors may be drained, so what they hold is not sold."""
        now, leased = self.store.clock.now(), self.capacity.leased(pool.id, connection)
        energy = float(self.settings.allocation.energy_price_per_kwh) * float(pool.watts) / 1000
        offers, products = [], []
        classes = self.capacity.classes.on_sale
        for service_class in classes:
            for hours in lengths_of(service_class):
                offer, product = self._offer(pool, service_class, hours, (book, *quotes))
                offers.append(offer)
                products.append(product)
        idle = [self._idle(connection, pool, leased, now + HOUR * step) for step in range(len(STEPS))]
        return (
            PoolState(
                pool.name,
                tuple(float(count) for count in idle),
                tuple(offers),
                self._ceilings(connection, pool, leased),
                energy,
                stated_of(pool).cost_nano / NANO,
            ),
            products,
        )

    def _idle(self, connection: Connection, pool: Pool, leased: Sequence[Sold], start: datetime) -> int:
        """What replicas and new sales may have together in the hour from `start`: floors, and what the replicas' class may sell."""
        window = Window(start, start + HOUR)
        rented = self.capacity.rented.name
        count = self._sellable(connection, pool, rented, window, leased)
        floors = self.capacity.floors(connection, pool.id)
        return min(floors + count, self.capacity.model_limit(connection, pool.id))

    def _sellable(self, connection: Connection, pool: Pool, name: str, window: Window, leased: Sequence[Sold]) -> int:
        try:
            found = self.capacity.surplus.sellable(pool.id, name, window, sold=leased, connection=connection)
        except SubletError:
            return 0
        return found.count

    def _ceilings(self, connection: Connection, pool: Pool, leased: Sequence[Sold]) -> tuple[Ceiling, ...]:
        """The rule's limit of each class and length. What a stricter class or a longer window sells counts under it, too."""
        now = self.store.clock.now()
        classes = [item for item in self.capacity.classes.on_sale if item.by_window]
        found = []
        for item in classes:
            for hours in lengths_of(item):
                count = self._sellable(connection, pool, item.name, Window.starting(now, hours * HOUR_S), leased)
                under = tuple(
                    (other.name, length)
                    for other in classes
                    for length in lengths_of(other)
                    if other.strictness > item.strictness or (other.name == item.name and length >= hours)
                )
                found.append(Ceiling(f"{item.name} {hours:g} h", under, (float(count),) * len(STEPS)))
        return tuple(found)

    def _offer(
        self,
        pool: Pool,
        service_class: ServiceClass,
        hours: float,
        known: tuple[PriceBook, Sequence[AskedHour], float],
    ) -> tuple[Offer, Product]:
        book, asked, asked_hours = known
        rows = [item for item in asked if (item.class_name, item.length_h) == (service_class.name, hours)]
        price = list_price(book, pool, service_class.name, self.store.clock.now())
        orders, accepted = sum(item.quotes for item in rows), sum(item.accepted for item in rows)
        size = sum(item.accelerators for item in rows) / orders if orders else 0.0
        source = f"{orders} quotes in {asked_hours:g} hours"
        rate = rate_of(orders, max(1.0, asked_hours), size, source)
        share = share_of(accepted, orders, source)
        kind = _kind(service_class)
        # What is asked for and accepted at the price of today; hours by a deadline are accelerator-hours.
        sold = rate.value * share.value * (hours if kind is Kind.BACKLOG else 1.0)
        loss = (price or 0.0) * service_class.risk * float(service_class.credit_ratio)
        reference = pool.price_nano / NANO * float(service_class.price_ratio)
        offer = Offer(service_class.name, hours, kind, price, (sold,) * len(STEPS), loss)
        return offer, Product(
            pool.name, service_class.name, hours, rate, share, "the price book" if price else "none", reference
        )


def mode_of(settings: Settings, pool: Pool) -> Mode:
    """What yield does on a pool: as its own settings say, or else as `allocation.mode` does."""
    return Mode(stated_of(pool).allocation or settings.allocation.mode)


def lengths_of(service_class: ServiceClass) -> tuple[float, ...]:
    """The lengths that a class is sold by, in hours: its ladder, its orders, or one for what may be taken back at any time."""
    if not service_class.by_window:
        return tuple(sorted({float(hours) for hours, _ in service_class.orders}))
    if service_class.reclaimable:
        return (service_class.shortest_s / HOUR_S,)
    return tuple(sorted(length / HOUR_S for length in service_class.windows_s))


def _kind(service_class: ServiceClass) -> Kind:
    if not service_class.by_window:
        return Kind.BACKLOG
    return Kind.EVICTABLE if service_class.reclaimable else Kind.WINDOW


def list_price(book: PriceBook, pool: Pool, class_name: str, now: datetime) -> float | None:
    """What everybody pays per accelerator-hour, or None if the price book has no price per unit."""
    dimensions = {"pool": pool.name, "generation": pool.generation, "class": class_name, "site": pool.site}
    rate = book.rate_for("", pool.currency, "accelerator.seconds", dimensions, now)
    unit = rate.price.tariff.unit_price() if rate is not None else None
    # The meter counts milliseconds.
    return float(unit) * 1000 * HOUR_S / NANO if unit is not None else None


def _currency(pools: Sequence[Pool]) -> str:
    """The currency of most accelerators."""
    counts: Counter[str] = Counter()
    for pool in pools:
        counts[pool.currency] += pool.accelerators
    return max(sorted(counts), key=lambda each: counts[each]) if counts else "USD"


def asked_hours(connection: Connection, capacity: Capacity, since: datetime, until: datetime) -> list[AskedHour]:
    """Quotes of all pools in `[since, until)`, by hour, class, the nearest length on sale, and price."""
    pool_ids = [pool.id for pool in fleet_sql.all_pools(connection)]
    counts: dict[tuple[datetime, str, str, float, int, str], list[int]] = {}
    for item in market.asked_since(connection, pool_ids, since, until):
        if item.class_name not in capacity.classes:
            continue
        length = nearest(lengths_of(capacity.classes[item.class_name]), item.service_hours or item.hours)
        hour = item.at.replace(minute=0, second=0, microsecond=0)
        row = counts.setdefault((hour, item.pool_id, item.class_name, length, item.price_nano, item.currency), [0] * 4)
        row[0] += 1
        row[1] += item.accepted
        row[2] += item.accelerators
        row[3] += item.accelerators if item.accepted else 0
    return [AskedHour(*key, *row) for key, row in sorted(counts.items())]


def sold_since(
    connection: Connection, capacity: Capacity, product: tuple[str, str, float], since: datetime, now: datetime
) -> int:
    """Accelerators of a product (pool, class, hours) that were sold, or are held by open quotes, since then."""
    pool_id, class_name, hours = product
    lengths = lengths_of(capacity.classes[class_name])
    return sum(
        item.accelerators
        for item in market.sold_since(connection, pool_id, class_name, since, now)
        if nearest(lengths, item.service_hours or item.hours) == hours
    )


def allocation_ports(
    settings: Settings, store: Store, capacity: Capacity, models: Models, ledger: Ledger
) -> AllocationPorts:
    """What yield runs with in the running system."""
    return AllocationPorts(
        observe=Observer(settings, store, capacity, models, ledger),
        quotes=lambda connection, since, until: asked_hours(connection, capacity, since, until),
        sold_since=lambda connection, product, since: sold_since(
            connection, capacity, product, since, store.clock.now()
        ),
        set_scale=models.scale_within,
    )
