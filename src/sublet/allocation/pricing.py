"""Price advice for the products of a round, from the quotes of past hours: pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sublet.allocation.advice import Advice, Bounds, DemandModel
from sublet.allocation.mix.model import Offer
from sublet.allocation.model import Facts, Product
from sublet.allocation.ports import AskedHour
from sublet.values.money import NANO

FLOOR, CEILING = 0.5, 2.0
"""What advice stays within, as multiples of the price that the settings state for the class."""
HOURS_PER_DAY = 24


def learned(rows: Sequence[AskedHour], reference: float) -> DemandModel:
    """The buyers of one class on one pool, day by day. Lengths share their price, so they are one market."""
    days: dict[date, dict[int, list[int]]] = {}
    for row in rows:
        counts = days.setdefault(row.hour.date(), {}).setdefault(row.price_nano, [0, 0])
        counts[0] += row.quotes
        counts[1] += row.accepted
    model = DemandModel(reference)
    if days:
        for number in range(min(days).toordinal(), max(days).toordinal() + 1):
            day = days.get(date.fromordinal(number), {})
            model.learn_day(
                [(price / NANO, asked, accepted) for price, (asked, accepted) in sorted(day.items()) if price > 0]
            )
    return model


def advised(facts: Facts, product: Product, offer: Offer, rows: Sequence[AskedHour]) -> Advice | None:
    """The price for the next day; None for a product without a price. An accelerator-hour counts as costing what leased-in
    capacity costs or else its energy, and the losses expected of the class; what other products would earn with it is not counted.
    Leased-in capacity is never advised below its cost."""
    if offer.price is None or offer.price <= 0 or product.reference <= 0:
        return None
    own = [row for row in rows if row.class_name == product.class_name]
    pool = facts.state.pool(product.pool)
    capacity = pool.idle[0] * HOURS_PER_DAY / max(_size(own), 1e-9)
    bounds = Bounds(max(FLOOR * product.reference, pool.cost, 1e-9), max(CEILING * product.reference, pool.cost, 1e-9))
    return learned(own, product.reference).advise(
        offer.price, bounds, capacity, max(pool.energy, pool.cost) + offer.loss
    )


def priced_low(facts: Facts, rows: Sequence[AskedHour]) -> dict[str, float]:
    """What the best prices would add an hour, by pool: of each class, by the demand that its quotes show. Lengths of a class share
    their price."""
    found: dict[str, float] = {}
    seen: set[tuple[str, str]] = set()
    for product in facts.products:
        key = product.pool, product.class_name
        if key in seen:
            continue
        seen.add(key)
        offer = next(
            item for item in facts.state.pool(product.pool).offers
            if (item.class_name, item.hours) == (product.class_name, product.hours)
        )  # fmt: skip
        pool_id = facts.pool_ids.get(product.pool)
        own = [row for row in rows if (row.pool_id, row.currency) == (pool_id, facts.state.currency)]
        advice = advised(facts, product, offer, own)
        if advice is not None:
            size = _size([row for row in own if row.class_name == product.class_name])
            found[product.pool] = found.get(product.pool, 0.0) + advice.missed * size / HOURS_PER_DAY
    return found


def _size(rows: Sequence[AskedHour]) -> float:
    """Accelerator-hours of an order, on average."""
    orders = sum(row.quotes for row in rows)
    return sum(row.accelerators * row.length_h for row in rows) / orders if orders else 1.0


def as_dict(advice: Advice | None) -> dict[str, Any] | None:
    if advice is None:
        return None
    return {
        "price": round(advice.price, 6),
        "best": round(advice.best, 6),
        "accepted_share": {
            "value": round(advice.expected, 6),
            "low": round(advice.low, 6),
            "high": round(advice.high, 6),
            "source": f"{advice.quotes:.0f} quotes, older ones counted less",
        },
        "reason": advice.reason,
    }
