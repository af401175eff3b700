"""Unsold hours of blocks are on sale by a deadline, without a record, and what is promised of them is sold to nobody else."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.app.test_deadlines import ORDERS, World, ordered, quoted

from sublet.leases.blocks.service import NewBlockRequest
from sublet.leases.model import LeaseState, NoCapacityError
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", accelerators=8, deadline={"broken_per_1000_max": 20, "orders": ORDERS})
    made.customer = made.system.accounts.create_organization("tidal").id
    made.in_use = 2.0
    made.observe()
    end = made.clock.now() + timedelta(days=30)
    made.system.blocks.create(NewBlockRequest(made.pool.name, 4, end), "operator")
    yield made
    made.close()


def rent(world: World, count: int, hours: float) -> None:
    end = world.clock.now() + timedelta(hours=hours)
    quote = world.system.leases.quote(world.customer, QuoteRequest(count, "firm", end, None, world.pool.id))
    world.system.leases.accept(world.customer, quote.id, [SSH_KEY])


def test_unsold_hours_are_promised_without_a_record_and_no_more_than_they_are(world: World) -> None:
    assert quoted(world, 4, 2, 12).likely == 1.0
    with pytest.raises(NoCapacityError):
        quoted(world, 1, 12, 12.1)
    world.clock.advance(120)
    world.observe()
    rent(world, 3, 200)
    ordered(world, 1, 4, 25)
    with pytest.raises(NoCapacityError):
        quoted(world, 2, 1, 12)


def test_what_is_promised_of_a_block_is_sold_to_nobody_else_and_kept_whatever_the_owner_needs(world: World) -> None:
    lease = ordered(world, 4, 4, 6.5)
    with pytest.raises(NoCapacityError):
        rent(world, 4, 12)
    world.in_use = 8.0
    world.observe()
    world.pass_time(6.5 * 3600, 120)
    ended = world.system.leases.lease(lease.id)
    assert (ended.state, ended.end_reason, ended.metered_s) == (LeaseState.ENDED, "completed", 4 * 4 * 3600)
