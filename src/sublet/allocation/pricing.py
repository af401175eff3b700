"""Price advice for the products of a round, from the quotes of past hours: pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from sublet.allocation.advice import Advice, Bounds, DemandModel
from sublet.allocation.mix.model import Offer
from sublet.allocation.model import Product, Round
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


def advised(found: Round, product: Product, offer: Offer, rows: Sequence[AskedHour]) -> Advice | None:
    """The price for the next day; None for a product without a price. An accelerator-hour counts as costing its energy and the
    losses expected of the class; what other products would earn with it is not counted."""
    if offer.price is None or offer.price <= 0 or product.reference <= 0:
        return None
    own = [row for row in rows if row.class_name == product.class_name]
    orders = sum(row.quotes for row in own)
    size = sum(row.accelerators * row.length_h for row in own) / orders if orders else 1.0
    pool = found.facts.state.pool(product.pool)
    capacity = pool.idle[0] * HOURS_PER_DAY / max(size, 1e-9)
    bounds = Bounds(max(FLOOR * product.reference, pool.cost, 1e-9), max(CEILING * product.reference, pool.cost, 1e-9))
    return learned(own, product.reference).advise(offer.price, bounds, capacity, pool.energy + offer.loss)


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
