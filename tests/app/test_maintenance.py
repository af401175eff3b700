"""Planned maintenance: what is in the way gets notice and its credit, what is sold later too, and to cancel it undoes all of it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sublet.fleet.events import MAINTENANCE_ANNOUNCED, MAINTENANCE_CANCELED
from sublet.leases.blocks.service import NewBlockRequest
from sublet.leases.maintenance.model import MaintenanceOverlapError
from sublet.leases.maintenance.service import MaintenancePlanned, MaintenanceRequest
from sublet.leases.model import FirmLeaseError, Lease, LeaseState, NoCapacityError, WrongStateError
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.world import SSH_KEY, World
from sublet.store import outbox
from sublet.store.tables.outbox import outbox_events
from sublet.values.errors import InvalidInputError, NotFoundError

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A pool of eight whose owner uses one."""
    made = World(tmp_path / "w", accelerators=8)
    made.in_use = 1.0
    made.remember(days=8, need=0.1, spread=0.0)
    yield made
    made.close()


@pytest.fixture
def customer(world: World) -> str:
    return world.system.accounts.create_organization("tidal").id


def rent(world: World, customer: str, count: int, hours: float, class_name: str = "spot", ahead_h: float = 0) -> Lease:
    start = world.clock.now() + ahead_h * HOUR
    wanted = QuoteRequest(count, class_name, start + hours * HOUR, start if ahead_h else None, world.pool.id)
    quote = world.system.leases.quote(customer, wanted)
    return world.system.leases.accept(customer, quote.id, [SSH_KEY])


def plan(world: World, from_h: float, to_h: float, count: int = 0, **more: Any) -> MaintenancePlanned:
    now = world.clock.now()
    request = MaintenanceRequest(world.pool.name, now + to_h * HOUR, count, now + from_h * HOUR, **more)
    return world.system.maintenance.add(request, "operator")


def test_it_is_withheld_by_its_name_and_stands_in_the_plan(world: World, customer: str) -> None:
    made = plan(world, 2, 4, reason="new racks")
    assert (made.plan.maintenance.accelerators, made.plan.sentence) == (8, "no lease is in the way")
    world.system.blocks.create(NewBlockRequest(world.pool.name, 2, world.clock.now() + HOUR), "operator")
    with pytest.raises(NoCapacityError):
        rent(world, customer, 1, 6, "firm")
    reasons = [item for rung in world.system.surplus.ladder(world.pool.id).rungs for item in rung.withheld]
    assert any("new racks" in item.sentence for item in reasons if item.reason_code == "maintenance")
    steps = [step for step in world.system.capacity.pending() if step.subject == made.plan.maintenance.id]
    assert [step.kind for step in steps] == ["maintenance_begins", "maintenance_ends"]
    assert all("8 away: new racks" in step.reason for step in steps)


def test_what_is_sold_afterwards_hears_of_it_in_time_and_is_gone_when_it_begins(world: World, customer: str) -> None:
    made = plan(world, 2, 4).plan.maintenance
    lease = rent(world, customer, 2, 6, "notice")
    world.pass_time(3600)
    assert world.system.leases.lease(lease.id).state is LeaseState.ACTIVE
    while world.clock.now() < made.window.start:
        world.pass_time(60)
    gone = world.system.leases.lease(lease.id)
    assert (gone.state, gone.end_reason) == (LeaseState.ENDED, "reclaimed")
    assert gone.ended_at is not None and gone.ended_at <= made.window.start


def test_leases_in_the_way_get_notice_and_are_gone_when_it_begins(world: World, customer: str) -> None:
    inside, before = rent(world, customer, 3, 6), rent(world, customer, 1, 1)
    world.pass_time(300)
    preview = world.system.maintenance.preview(
        MaintenanceRequest(world.pool.id, world.clock.now() + 4 * HOUR, 0, world.clock.now() + 2 * HOUR), "operator"
    )
    assert [victim.id for victim in preview.plan.takes.victims] == [
        inside.id
    ] and "1 lease ends" in preview.plan.sentence
    assert world.system.leases.lease(inside.id).reclaim_at is None, "a preview changes nothing"
    made = plan(world, 2, 4)
    begins = made.plan.maintenance.window.start
    told = world.system.leases.lease(inside.id)
    assert told.state is LeaseState.NOTICE and told.reclaim_at is not None
    assert begins - timedelta(minutes=1) < told.reclaim_at < begins, "there is time to clean up"
    assert world.system.leases.lease(before.id).reclaim_at is None
    world.pass_time(2 * 3600 + 120)
    gone = world.system.leases.lease(inside.id)
    assert (gone.state, gone.end_reason) == (LeaseState.ENDED, "reclaimed")
    assert made.plan.maintenance.id in {item.id for item in world.system.maintenance.page(live=True).items}


def test_a_part_of_the_pool_takes_only_as_many_as_do_not_fit(world: World, customer: str) -> None:
    leases = [rent(world, customer, 1, 6) for _ in range(4)]
    assert plan(world, 1, 2, 4).plan.takes.victims == ()
    taken = plan(world, 1.5, 3, 2).plan.takes
    assert (taken.freed, len(taken.victims)) == (2, 2)
    assert {victim.id for victim in taken.victims} <= {lease.id for lease in leases}


def test_canceled_it_gives_back_what_is_not_due_yet(world: World, customer: str) -> None:
    lease = rent(world, customer, 3, 6)
    world.pass_time(60)
    made = plan(world, 2, 4).plan.maintenance
    for _ in range(2):
        assert world.system.maintenance.cancel(made.id, "operator").canceled_at is not None
    world.pass_time(60)
    back = world.system.leases.lease(lease.id)
    assert (back.state, back.reclaim_at) == (LeaseState.ACTIVE, None)
    assert rent(world, customer, 1, 6).state is LeaseState.SCHEDULED
    outbox.number(world.system.store)
    with world.system.store.read() as connection:
        kinds = [row.kind for row in connection.execute(outbox_events.select().order_by(outbox_events.c.seq))]
    assert kinds.count(MAINTENANCE_ANNOUNCED.name) == 1 and kinds.count(MAINTENANCE_CANCELED.name) == 1
    world.pass_time(5 * 3600)
    other = plan(world, 0, 1).plan.maintenance
    world.pass_time(3700)
    with pytest.raises(WrongStateError, match="is over"):
        world.system.maintenance.cancel(other.id, "operator")
    with pytest.raises(NotFoundError, match="sublet maintenance ls"):
        world.system.maintenance.cancel("mnt_0", "operator")


def test_firm_leases_are_broken_by_force_alone_with_their_credits(world: World, customer: str) -> None:
    block = NewBlockRequest(world.pool.name, 4, world.clock.now() + 30 * DAY)
    world.system.blocks.create(block, "operator")
    firm = rent(world, customer, 4, 48, "firm")
    world.pass_time(60)
    with pytest.raises(FirmLeaseError, match="promised firmly") as refused:
        plan(world, 10, 12, 6)
    assert refused.value.details["plan"]["short"] == 2
    assert world.system.maintenance.page().items == []
    assert world.system.leases.lease(firm.id).reclaim_at is None
    made = plan(world, 10, 12, 6, force=True)
    [victim] = made.as_dict()["takes_back"]
    assert (victim["lease_id"], victim["forced"]) == (firm.id, True) and float(victim["credit"]) > 0
    [owed] = made.as_dict()["credits"]
    assert owed["amount"] == victim["credit"]
    told = world.system.leases.lease(firm.id).reclaim_at
    assert told is not None and told < made.plan.maintenance.window.start


def test_what_can_not_be_planned_is_refused_in_a_sentence(world: World) -> None:
    for from_h, to_h, count, words in (
        (2, 1, 0, "must end after it starts"),
        (-2, 1, 0, "is past"),
        (-4, -2, 0, "is past"),
        (1, 2, 9, "has 8 accelerators, not 9"),
        (24 * 366 * 4, 24 * 366 * 4 + 1, 0, "three years ahead"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            plan(world, from_h, to_h, count)
    with pytest.raises(NotFoundError):
        world.system.maintenance.add(MaintenanceRequest("nowhere", world.clock.now() + HOUR), "operator")
    plan(world, 1, 3, 5, reason="fans")
    assert plan(world, 1, 3, 3).plan.maintenance.accelerators == 3
    with pytest.raises(MaintenanceOverlapError, match=r"8 of 8 accelerators .* are away already .*fans"):
        plan(world, 2, 4, 1)
    assert plan(world, 3, 4, 8).plan.maintenance.accelerators == 8, "windows that touch do not overlap"


def test_a_models_floor_leaves_when_it_begins(world: World) -> None:
    pool_id = world.pool.id

    def limit() -> int:
        with world.system.store.read() as connection:
            return world.system.capacity.model_limit(connection, pool_id)

    assert limit() == 8
    plan(world, 2, 4, 7)
    assert limit() == 8
    world.clock.advance(2 * 3600)
    assert limit() == 1
