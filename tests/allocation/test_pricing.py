"""Advice for the products of a round: leased-in capacity counts at its cost, and what better prices would add."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from tests.allocation.states import state

from sublet.allocation.model import Facts, Mode, Product, rate_of, share_of
from sublet.allocation.ports import AskedHour
from sublet.allocation.pricing import advised, priced_low
from sublet.values.money import NANO

START = datetime(2026, 11, 2, tzinfo=UTC)


def facts(cost: float) -> Facts:
    """A pool that costs its owner `cost` an hour, with the class firm at 1.50."""
    known = state()
    known = replace(known, pools=tuple(replace(item, cost=cost) for item in known.pools))
    told = rate_of(100, 100, 2, "quotes")
    product = Product("a100", "firm", 1.0, told, share_of(50, 100, "quotes"), "the price book", 1.5)
    return Facts(known, {"a100": Mode.ADVISE}, {"a100": "pol_1"}, (product,))


def asked(price: float, accepted: int, days: int = 20) -> list[AskedHour]:
    """Ten quotes a day at one price, of two accelerators each."""
    return [
        AskedHour(START + timedelta(days=day), "pol_1", "firm", 1.0, round(price * NANO), "USD", 10, accepted, 20, 2 * accepted)
        for day in range(days)
    ]  # fmt: skip


def test_leased_in_capacity_counts_at_its_cost_and_is_never_advised_below_it() -> None:
    rows = asked(1.5, 2)
    found = {}
    for cost in (0.0, 1.2, 1.45):
        known = facts(cost)
        advice = advised(known, known.products[0], known.state.pool("a100").offers[0], rows)
        assert advice is not None and advice.price >= cost and advice.best >= cost
        found[cost] = advice.best
    # A price that leaves little above the cost is worth less than fewer sales at a higher one.
    assert found[0.0] < found[1.2] <= found[1.45] and found[1.2] > 1.3


def test_a_price_far_from_the_best_one_misses_something_and_no_quotes_miss_nothing() -> None:
    known = facts(0.0)
    low = priced_low(known, asked(1.5, 10))
    assert low["a100"] > 0
    assert priced_low(known, []) == {"a100": 0.0}
    assert priced_low(known, [replace(row, pool_id="pol_2") for row in asked(1.5, 10)]) == {"a100": 0.0}
