"""Maintenance, a block that is taken back by force, and rising need move leases before they end them; volumes go with them."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, update
from tests.leases.moves.pools import TwoPools
from tests.leases.world import CUSTOMER, KEY

from sublet.leases.blocks.breaking import BlockPlan, broken_by
from sublet.leases.jobs.model import NewJob
from sublet.leases.maintenance.service import MaintenanceRequest, MaintenanceWindows
from sublet.leases.model import Lease, LeaseState, OnReclaim
from sublet.leases.reclaim.moving import Targets
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.leases.volumes.model import VolumeLimits
from sublet.leases.volumes.service import NewVolume, Volumes
from sublet.store import Store
from sublet.store.tables.leases import leases
from sublet.surplus.blocks.model import Block, ChangeKind
from sublet.surplus.model import PoolFacts
from sublet.values.clock import SimulatedClock
from sublet.values.windows import Window


@pytest.fixture
def world(store: Store, clock: SimulatedClock) -> TwoPools:
    return TwoPools(store, clock)


def windows(world: TwoPools) -> MaintenanceWindows:
    def facts(pool: str, connection: Connection) -> PoolFacts:
        return PoolFacts(world.pool.id, world.pool.name, world.accelerators)

    return MaintenanceWindows(world.store, facts, world.leases._ports)


def away(world: TwoPools, count: int, force: bool = False) -> MaintenanceRequest:
    return MaintenanceRequest(world.pool.name, world.clock.now() + timedelta(hours=2), count, force=force)


def take_back(world: TwoPools, count: int = 4) -> None:
    start = world.clock.now()
    order = ReclaimOrder(world.pool.name, count, Window.starting(start, 7200), "a training run", True)
    world.leases.reclaim(order, "operator")


@pytest.mark.parametrize("class_name", ["notice", "firm"])
def test_maintenance_moves_a_lease_where_there_is_room(world: TwoPools, class_name: str) -> None:
    lease, stays = world.sell_movable(2, class_name), world.sell(1, class_name, seconds=3600)
    world.run(60, 20)
    request = away(world, 4, force=class_name == "firm")
    plan = windows(world).preview(request, "operator").plan
    assert "1 lease moves to another pool; 1 lease ends early, which frees 1 accelerators" in plan.sentence
    made = windows(world).add(request, "operator").as_dict()
    assert {item["lease_id"]: item["move_to"] for item in made["takes_back"]} == {
        lease.id: world.other.id,
        stays.id: "",
    }
    world.run(600, 20)
    moved, ended = world.lease(lease), world.lease(stays)
    assert (moved.state, moved.pool_id) == (LeaseState.ACTIVE, world.other.id)
    assert (ended.end_reason, [note.lease_id for note in world.credits]) == ("reclaimed", [stays.id])


def test_canceled_maintenance_leaves_a_lease_that_was_to_move(world: TwoPools) -> None:
    lease = world.sell_movable(2)
    world.run(60, 20)
    made = windows(world).add(away(world, 4), "operator")
    assert world.lease(lease).move is not None
    windows(world).cancel(made.plan.maintenance.id, "operator")
    world.run(600, 20)
    kept = world.lease(lease)
    assert (kept.state, kept.pool_id, kept.move) == (LeaseState.ACTIVE, world.pool.id, None)


def from_block(world: TwoPools, lease: Lease) -> Block:
    """A block from which the lease was sold."""
    now = world.clock.now()
    block = Block("blk_x", world.pool.id, 4, Window.starting(now - timedelta(days=1), 30 * 86400), None, "USD", "", now)
    world.store.write(
        lambda connection: (
            connection.execute(update(leases).where(leases.c.id == lease.id).values(block_id=block.id)).rowcount
        )
    )
    return block


def test_what_was_sold_from_a_block_moves_before_it_is_broken_by_force(world: TwoPools) -> None:
    lease, stays = world.sell_movable(2, "firm"), world.sell(1, "firm", seconds=3600)
    world.run(60, 20)
    block = from_block(world, lease)
    from_block(world, stays)
    after = replace(block, withdrawn_at=world.clock.now())
    sold = [world.lease(lease), world.lease(stays)]
    with world.store.read() as connection:
        elsewhere = Targets(connection, world.leases._ports, world.clock.now())
        plan = BlockPlan(block, after, ChangeKind.WITHDRAWN, broken_by(after, sold, world.clock.now(), 0, elsewhere))
    assert {victim.id: victim.move is not None for victim in plan.victims} == {lease.id: True, stays.id: False}
    assert plan.sentence.startswith(
        "1 sold lease would move to another pool; 1 sold lease of 1 accelerators would be broken, for credits of "
    )
    take_back(world)
    world.run(600, 20)
    moved = world.lease(lease)
    assert (moved.pool_id, moved.block_id, moved.state) == (world.other.id, None, LeaseState.ACTIVE)


def test_volumes_go_with_the_lease(world: TwoPools) -> None:
    ports = replace(world.leases._ports, volumes=VolumeLimits(mib_max=1000, count_max=3))
    world.leases.volumes = Volumes(world.store, world.leases._backends, ports)
    volume = world.leases.volumes.create(CUSTOMER, NewVolume("data", 100, world.pool.name))
    world.leases.tick()
    request = replace(world.request(2, "notice", 3600), on_reclaim=OnReclaim.MOVE, volumes=("data",))
    lease = world.leases.accept(CUSTOMER, world.leases.quote(CUSTOMER, request).id, [KEY])
    world.run(60, 20)
    take_back(world)
    world.run(600, 20)
    moved, carried = world.lease(lease), world.leases.volumes.volume(volume.id, CUSTOMER)
    assert (moved.state, moved.pool_id, moved.volumes) == (LeaseState.ACTIVE, world.other.id, ((volume.id, "data"),))
    assert (carried.pool_id, carried.lease_id) == (world.other.id, lease.id)


@pytest.mark.parametrize("begun", [False, True])
def test_a_job_moves_before_it_begins_and_ends_where_it_runs(world: TwoPools, begun: bool) -> None:
    request = replace(world.request(2, "notice", 3600, 0 if begun else 1800), on_reclaim=OnReclaim.MOVE)
    ((job, lease),) = world.leases.jobs.submit(CUSTOMER, NewJob(("train",), request)).jobs
    world.run(60, 20)
    take_back(world)
    world.run(3000, 60)
    _, over = world.leases.jobs.job(job.id)
    assert over.id == lease.id and over.pool_id == (world.pool.id if begun else world.other.id)
    assert (over.end_reason == "reclaimed") == begun


def test_rising_need_counts_who_is_going_to_move_in(world: TwoPools) -> None:
    request = replace(world.request(2, "notice", 7200), pool=world.other.name)
    there = world.leases.accept(CUSTOMER, world.leases.quote(CUSTOMER, request).id, [KEY])
    mover = world.sell_movable(2)
    world.run(60, 20)
    take_back(world)
    world.run(10)
    planned = world.lease(mover).move
    assert planned is not None and planned.pool_id == world.other.id
    world.need(3, world.other)
    world.run(10)
    assert world.clock.now() < planned.at, "nothing has moved yet"
    assert world.lease(there).reclaim_at is not None, "two stay and two come, where three may"
