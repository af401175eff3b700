"""Leases against budgets and prepaid credit: their whole cost is reserved when they are sold, and moves to what is spent as
they are delivered."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.ledger.prepaid import prepay

from sublet.leases.backends.simulated import Faults
from sublet.leases.model import Lease, Quote
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.ledger.budgets.model import BudgetExceededError
from sublet.ledger.service import new_budget
from sublet.simulation.world import SSH_KEY, World
from sublet.store.tables.ledger import budget_states, events, holds
from sublet.values.windows import Window
from sublet.wiring.lease_money import lease_hold

DOLLAR = 10**9
# Two hours before February begins in UTC.
EVENING = datetime(2026, 1, 31, 22, 0, tzinfo=UTC)


class Market:
    """A world with one customer, who buys spot at 2.00 times its class's ratio an hour."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.customer = world.system.accounts.create_organization("customer").id
        world.remember(days=30, need=0.2, spread=0.02)
        world.observe()

    @property
    def ledger(self) -> Any:
        return self.world.system.ledger

    def quote(self, hours: float, accelerators: int = 1, start: datetime | None = None) -> Quote:
        request = QuoteRequest(accelerators, "spot", start=start, pool="simulated", duration_s=int(hours * 3600))
        return self.world.system.leases.quote(self.customer, request)

    def accept(self, quote: Quote, **buyer: str) -> Lease:
        return self.world.system.leases.accept(self.customer, quote.id, [SSH_KEY], **buyer)

    def states(self) -> dict[tuple[str, datetime], tuple[int, int]]:
        with self.world.system.store.read() as connection:
            rows = connection.execute(select(budget_states)).all()
        return {(row.budget_id, row.period_start): (row.spent_nano, row.held_nano) for row in rows}

    def budget(self, nano: int, **fields: Any) -> str:
        made: str = self.ledger.create_budget(new_budget(self.customer, nano, **{"thresholds": ()} | fields)).id
        return made

    def sums(self) -> tuple[int, int]:
        found = self.states().values()
        return sum(spent for spent, _ in found), sum(held for _, held in found)


@pytest.fixture
def market(tmp_path: Path) -> Iterator[Callable[..., Market]]:
    made: list[World] = []

    def make(**options: Any) -> Market:
        settings: dict[str, Any] = {"accelerators": 8, "start": EVENING} | options
        world = World(tmp_path / f"w{len(made)}", 1, **settings)
        made.append(world)
        return Market(world)

    yield make
    for world in made:
        world.close()


def cost_nano(lease: Lease, seconds: int) -> int:
    return -(-lease.price_nano * lease.accelerators * seconds // 3600)


def test_the_whole_cost_is_held_then_spent_minute_by_minute(market: Callable[..., Market]) -> None:
    found = market()
    found.budget(100 * DOLLAR, period="ever")
    lease = found.accept(found.quote(1))
    whole = cost_nano(lease, 3600)
    assert found.sums() == (0, whole)
    for _ in range(6):
        found.world.pass_time(600)
        spent, held = found.sums()
        assert spent + held == whole
    found.world.pass_time(600)
    assert found.ledger.prove().ok
    spent, held = found.sums()
    assert held == 0 and 0 < spent <= whole


def test_what_does_not_fit_is_refused_and_its_quote_stays_open(market: Callable[..., Market]) -> None:
    found = market()
    price = found.quote(1).price_nano
    budget = found.budget(price, period="ever")
    dear = found.quote(1.5)
    with pytest.raises(BudgetExceededError) as refusal:
        found.accept(dear)
    details = refusal.value.details
    assert details["budget"] == budget and details["resets_at"] is None
    assert Decimal(details["free"]) * DOLLAR == price and Decimal(details["worst_case"]) * DOLLAR == price * 3 // 2
    assert found.world.system.leases.leases() == []
    assert found.sums() == (0, 0)
    found.ledger.change_budget(budget, price * 3 // 2)
    assert found.accept(dear).quote_id == dear.id
    with pytest.raises(BudgetExceededError):
        found.accept(found.quote(0.1))


def test_two_leases_can_not_both_have_what_is_left_for_one(market: Callable[..., Market]) -> None:
    found = market()
    quotes = [found.quote(1), found.quote(1)]
    prepay(found.ledger, found.customer, quotes[0].price_nano * 19 // 10, "bank")
    found.accept(quotes[0])
    with pytest.raises(BudgetExceededError, match="prepaid credit"):
        found.accept(quotes[1])
    assert found.accept(quotes[0]).quote_id == quotes[0].id, "accepting again is the same lease"
    assert found.sums() == (0, quotes[0].price_nano)


def test_a_lease_over_a_months_end_is_held_in_both_months_and_refused_by_either(market: Callable[..., Market]) -> None:
    found = market()
    january, february = datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)
    price = found.quote(1).price_nano
    month = found.budget(3 * price)
    lease = found.accept(found.quote(4))
    assert {key: held for key, (_, held) in found.states().items()} == {
        (month, january): 2 * price,
        (month, february): 2 * price,
    }
    # January has room for one more hour, and so has February: two hours from half past eleven do not fit into it.
    with pytest.raises(BudgetExceededError) as refusal:
        found.accept(found.quote(2, start=EVENING + timedelta(minutes=90)))
    assert refusal.value.details["resets_at"] == "2026-03-01T00:00:00Z"
    found.accept(found.quote(1, start=EVENING + timedelta(minutes=90)))
    found.world.pass_time(5 * 3600, tick_s=120)
    spent = {key: spent for key, (spent, _) in found.states().items()}
    assert all(held == 0 for _, held in found.states().values())
    assert spent[month, january] <= 3 * price and spent[month, february] <= 3 * price
    assert abs(spent[month, february] - int(2.5 * price)) < price // 20
    assert found.ledger.prove().ok
    assert found.world.system.leases.lease(lease.id).state.terminal


@pytest.mark.parametrize("how", ["released", "canceled", "reclaimed", "never started"])
def test_whatever_ends_a_lease_the_rest_is_free_again(market: Callable[..., Market], how: str) -> None:
    found = market(faults=Faults(start_fails=1.0) if how == "never started" else None)
    found.budget(1000 * DOLLAR, period="day")
    leases = found.world.system.leases
    start = EVENING + timedelta(hours=1) if how == "canceled" else None
    lease = found.accept(found.quote(6, start=start))
    assert found.sums()[1] >= cost_nano(lease, 6 * 3600)
    if how == "canceled":
        leases.end(lease.id, found.customer)
    elif how == "released":
        found.world.pass_time(1200)
        leases.end(lease.id, found.customer)
    elif how == "reclaimed":
        found.world.pass_time(1200)
        now = found.world.clock.now()

        order = ReclaimOrder("simulated", 8, Window(now, now + timedelta(hours=8)), "needed")
        leases.reclaim(order, "owner")
    found.world.pass_time(1800)
    assert leases.lease(lease.id).state.terminal
    spent, held = found.sums()
    assert held == 0
    assert (spent == 0) == (how in ("canceled", "never started"))
    assert spent < cost_nano(lease, 3000)
    assert found.ledger.prove().ok


def test_a_crash_at_any_time_holds_and_spends_the_same(market: Callable[..., Market]) -> None:
    found = market()
    found.budget(1000 * DOLLAR)
    lease = found.accept(found.quote(1.5))
    whole = cost_nano(lease, 5400)
    for _ in range(9):
        found.world.crash()
        found.world.pass_time(600)
        spent, held = found.sums()
        assert spent + held <= whole + 1
    found.world.pass_time(600)
    assert found.sums()[1] == 0
    assert found.ledger.prove().ok


def test_a_keys_budget_covers_the_leases_taken_with_that_key(market: Callable[..., Market]) -> None:
    found = market()
    key, _ = found.world.system.accounts.create_key(found.customer)
    price = found.quote(1).price_nano
    found.budget(price, scope="key", scope_id=key.id, period="ever")
    found.accept(found.quote(2))
    with pytest.raises(BudgetExceededError):
        found.accept(found.quote(2), key_id=key.id)
    lease = found.accept(found.quote(1), key_id=key.id, project="search")
    found.world.pass_time(1800)
    with found.world.system.store.read() as connection:
        keys = set(connection.execute(select(events.c.key_id, events.c.project, events.c.hold_id)).all())
        hold = connection.execute(select(holds.c.announced).where(holds.c.id == lease_hold(lease))).scalar_one()
    assert (key.id, "search", lease_hold(lease)) in {tuple(row) for row in keys} and len(keys) == 2
    assert hold > 0
    spent, held = found.sums()
    assert spent + held == price
