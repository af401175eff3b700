"""What leases, quotes and reclaims tell of: each thing once, to whom it concerns, and no more than concerns them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from tests.leases.world import CUSTOMER, World
from tests.store.events import kinds, payloads, recorded

from sublet.leases.backends.simulated import Faults
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.store import Store
from sublet.values.clock import SimulatedClock, format_time
from sublet.values.windows import Window


def order(world: World, count: int, in_s: int = 0, seconds: int = 3600, *, force: bool = False) -> ReclaimOrder:
    start = world.clock.now() + timedelta(seconds=in_s)
    window = Window(start, start + timedelta(seconds=seconds))
    return ReclaimOrder(world.pool.name, count, window, "the secret project starts", force)


def test_a_lease_that_runs_to_its_end(world: World) -> None:
    lease = world.sell(seconds=120)
    world.run(150)
    assert kinds(world.store) == ["quote.held", "lease.ready", "lease.ended"]
    found = recorded(world.store, "lease.")
    assert {(event.organization_id, event.subject) for event in found} == {(CUSTOMER, lease.id)}
    assert found[-1].payload["end_reason"] == world.lease(lease).end_reason


def test_a_reclaim_from_notice_to_met(world: World) -> None:
    lease = world.sell(4, "notice", seconds=7200)
    world.run(5)
    made = world.leases.reclaim(order(world, 4), "team")
    deadline = world.lease(lease).reclaim_at
    assert deadline is not None
    [notice] = payloads(world.store, "lease.notice_given")
    assert notice["deadline"] == format_time(deadline)
    assert "secret" not in str([event.payload for event in recorded(world.store) if event.organization_id])
    world.leases.watching.round()
    assert kinds(world.store, "reclaim.") == ["reclaim.made"]
    world.run(400)
    world.leases.watching.round()
    world.leases.watching.round()
    assert kinds(world.store, "reclaim.") == ["reclaim.made", "reclaim.met"]
    assert kinds(world.store, "lease.") == ["lease.ready", "lease.notice_given", "lease.ended", "lease.broken"]
    [first, met] = recorded(world.store, "reclaim.")
    assert (met.subject, met.organization_id, first.payload["victims"]) == (made["id"], None, 1)
    assert met.payload == first.payload


def test_a_reclaim_that_is_missed_is_told_once(world: World) -> None:
    world.sell(4, "notice", seconds=7200)
    world.run(5)
    world.leases.reclaim(order(world, 4), "team")
    world.clock.advance(400)
    for _ in range(3):
        world.leases.watching.round()
    assert kinds(world.store, "reclaim.") == ["reclaim.made", "reclaim.missed"]


def test_a_notice_that_is_withdrawn(world: World) -> None:
    world.sell(4, "notice", seconds=7200)
    world.run(5)
    made = world.leases.reclaim(order(world, 4), "team")
    world.leases.withdraw_reclaim(made["id"], "team")
    world.run(5)
    assert kinds(world.store, "lease.") == ["lease.ready", "lease.notice_given", "lease.notice_withdrawn"]


def test_a_lease_that_is_taken_back_before_it_begins(world: World) -> None:
    world.sell(4, "spot", seconds=3600, ahead_s=3600)
    world.leases.reclaim(order(world, 4, in_s=1800, seconds=7200), "team")
    assert kinds(world.store, "lease.") == ["lease.notice_given", "lease.canceled", "lease.broken"]


def test_accelerators_that_fail(world: World) -> None:
    lease = world.sell(2, seconds=3600)
    world.run(5)
    unit = world.lease(lease).unit_ids[0]
    world.fleet.set_service(unit, False, "XID 79")
    world.run(10)
    [replaced] = payloads(world.store, "lease.replaced")
    assert (replaced["out"], len(replaced["replaced_by"])) == ([unit], 1)
    assert kinds(world.store, "lease.")[:2] == ["lease.ready", "lease.replaced"]
    assert kinds(world.store, "lease.")[-1] == "lease.recovered"
    [lost] = payloads(world.store, "pool.capacity_lost")
    assert (lost["lost"], lost["in_service"], lost["reason"]) == (1, 3, "XID 79")


def test_an_unclean_teardown_concerns_the_operator(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, faults=Faults(unclean=1.0))
    lease = world.sell(seconds=60)
    world.run(90)
    [found] = recorded(store, "unit.quarantined")
    assert (found.organization_id, found.payload["lease"]) == (None, lease.id)
    [ended] = payloads(store, "lease.ended")
    assert "clean" not in ended["reason"]


@pytest.mark.parametrize("canceled", [False, True])
def test_a_quote_that_expires_is_told_unless_it_was_canceled_or_taken(world: World, canceled: bool) -> None:
    quote = world.leases.quote(CUSTOMER, world.request())
    world.sell()
    if canceled:
        world.clock.advance(5)
        world.leases.cancel_quote(CUSTOMER, quote.id)
    world.leases.watching.round()
    world.clock.advance(61)
    for _ in range(3):
        world.leases.watching.round()
        world.clock.advance(10)
    assert [item["quote"] for item in payloads(world.store, "quote.expired")] == ([] if canceled else [quote.id])
