"""Random lives of a lease, with the real ledger: what is invoiced right after each is what was delivered, at the prices shown."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import pytest
from sqlalchemy import select

from sublet.leases.changes.model import ChangeRequest
from sublet.leases.quotes.request import QuoteRequest
from sublet.ledger.budgets.model import BudgetExceededError
from sublet.ledger.service import new_budget
from sublet.simulation.world import SSH_KEY, World
from sublet.store.tables.ledger import budget_states, events
from sublet.values.errors import SubletError

START = datetime(2026, 1, 31, 20, 0, tzinfo=UTC)
DOLLAR = 10**9


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", 1, accelerators=8, start=START)
    made.remember(days=30, need=0.2, spread=0.02)
    made.observe()
    yield made
    made.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_every_life_is_billed_to_the_second_at_the_prices_that_were_shown(world: World, seed: int) -> None:
    print(f"seed {seed}")
    dice = random.Random(seed)
    leases, ledger = world.system.leases, world.system.ledger
    customer = world.system.accounts.create_organization("customer").id
    ledger.create_budget(new_budget(customer, 10_000 * DOLLAR, period="ever", thresholds=()))
    quote = leases.quote(customer, QuoteRequest(4, "spot", pool="simulated", duration_s=4 * 3600))
    lease = leases.accept(customer, quote.id, [SSH_KEY], project="a")
    world.pass_time(120)
    for _ in range(5):
        world.pass_time(dice.randrange(7, 1500))
        lease = leases.lease(lease.id)
        if lease.state.terminal:
            break
        soon = world.clock.now() + timedelta(seconds=dice.randrange(0, 1200))
        asked = dice.choice(
            [
                ChangeRequest(end=lease.window.end + timedelta(seconds=dice.randrange(60, 3000))),
                ChangeRequest(end=lease.window.end - timedelta(seconds=dice.randrange(60, 3000))),
                ChangeRequest(accelerators=max(1, lease.accelerators - 1), at=soon),
                ChangeRequest(project=dice.choice("abc")),
            ]
        )
        try:
            seen = leases.changes.preview(lease.id, asked, customer)
            assert replace(leases.change(lease.id, asked, customer)) == seen
        except SubletError as error:
            assert leases.lease(lease.id) == lease, error
    if not lease.state.terminal and dice.random() < 0.5:
        leases.end(lease.id, customer)
    for _ in range(200):
        if leases.lease(lease.id).state.terminal:
            break
        world.pass_time(300)
    lease = leases.lease(lease.id)
    assert lease.state.terminal
    ledger.rate()
    assert ledger.prove().ok
    with world.system.store.read() as connection:
        rows = connection.execute(select(events).where(events.c.organization_id == customer)).all()
        [budget] = connection.execute(select(budget_states)).all()
    delivered = sum(row.quantity for row in rows) // 1000
    assert delivered == lease.metered_s
    prices = [lease.price_nano, *(step.price_nano for step in lease.price_steps)]
    assert len(set(prices)) == 1, "the price book did not change"
    exact = Fraction(delivered * lease.price_nano, 3600)
    assert abs(budget.spent_nano - exact) < 10 and budget.held_nano == 0
    assert {row.project for row in rows} <= set("abc")


def test_late_money_strands_no_extension(world: World) -> None:
    """F34: an extension that a budget refuses leaves the lease as it was, and is had at its price once there is money."""
    leases, ledger = world.system.leases, world.system.ledger
    customer = world.system.accounts.create_organization("customer").id
    quote = leases.quote(customer, QuoteRequest(2, "spot", pool="simulated", duration_s=3600))
    budget = ledger.create_budget(new_budget(customer, quote.total_nano, period="ever", thresholds=())).id
    lease = leases.accept(customer, quote.id, [SSH_KEY])
    world.pass_time(300)
    before = leases.lease(lease.id)
    asked = ChangeRequest(end=lease.window.end + timedelta(hours=1), most_nano=quote.price_nano)
    with pytest.raises(BudgetExceededError):
        leases.change(lease.id, asked, customer)
    assert leases.lease(lease.id) == before
    ledger.change_budget(budget, 2 * quote.total_nano)
    assert leases.change(lease.id, asked, customer).lease.window.end == asked.end
    world.pass_time(2 * 3600)
    assert leases.lease(lease.id).end_reason == "window_over" and ledger.prove().ok
