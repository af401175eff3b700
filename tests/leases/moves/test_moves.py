"""A lease that the owner takes back moves to another pool where it may: told, held, made, billed and recorded as one lease."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.leases.moves.pools import TwoPools
from tests.leases.world import CUSTOMER, KEY, pool_spec
from tests.store.events import kinds, payloads

from sublet.leases.backends.base import RunState
from sublet.leases.lifecycle.outcomes import promise_of
from sublet.leases.model import Lease, LeaseState, NoCapacityError, OnFailure, OnReclaim
from sublet.leases.quotes import calendar
from sublet.leases.reclaim.moving import Targets
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.leases.reclaim.victims import Victim
from sublet.leases.store import over_since
from sublet.store import Store
from sublet.surplus.record.calibration import Outcome
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window


@pytest.fixture
def world(store: Store, clock: SimulatedClock) -> TwoPools:
    return TwoPools(store, clock)


def order(world: TwoPools, count: int, force: bool = False, ahead_s: int = 0) -> ReclaimOrder:
    start = world.clock.now() + timedelta(seconds=ahead_s)
    return ReclaimOrder(world.pool.name, count, Window.starting(start, 7200), "a training run", force)


def held(world: TwoPools, lease: Lease) -> int:
    """How many accelerators the other pool has on sale beside what is held."""
    with world.store.read() as connection:
        window = Window.starting(world.clock.now() + timedelta(minutes=20), 600)
        return calendar.free_count(connection, world.other.id, window, world.clock.now())


def test_it_is_told_held_moved_and_runs_to_its_end_as_one_lease(any_store: Store, clock: SimulatedClock) -> None:
    world = TwoPools(any_store, clock)
    lease = world.sell_movable(3)
    world.run(120, 20)
    port = world.lease(lease).endpoint
    plan = world.leases.preview_reclaim(order(world, 4))
    [victim] = plan.victims
    assert isinstance(victim, Victim) and victim.as_dict()["move_to"] == world.other.id and victim.credit_nano == 0
    assert plan.destroyed_nano == victim.cost.work_nano
    world.leases.reclaim(order(world, 4), "operator")
    world.run(20)
    noticed = world.lease(lease)
    assert (noticed.state, noticed.credit_nano) == (LeaseState.NOTICE, 0)
    assert noticed.move is not None and noticed.move.pool_id == world.other.id
    assert "moves to another pool" in world.backend.told(lease.id)[-1]
    [told] = payloads(world.store, "lease.move_planned")
    assert told["to_pool"] == world.other.id
    [waits] = [step for step in world.leases.plan().pending if step.kind == "transfer"]
    assert waits.subject == lease.id and waits.at == noticed.move.at
    # What it is going to have is nobody else's from the notice on.
    assert held(world, lease) == 1
    with pytest.raises(NoCapacityError):
        request = replace(world.request(2, "spot", 3000), pool=world.other.name)
        world.leases.quote("org_other", request)
    world.run(400, 20)
    moved = world.lease(lease)
    assert (moved.state, moved.pool_id, moved.reclaim_at, moved.move) == (LeaseState.ACTIVE, world.other.id, None, None)
    assert (
        moved.endpoint == port
        and len(moved.unit_ids) == 3
        and world.backend.observe(lease.id).state is RunState.RUNNING
    )
    assert [(item.from_pool_id, item.to_pool_id) for item in moved.moves] == [(world.pool.id, world.other.id)]
    assert kinds(world.store, "lease.") == [
        "lease.ready",
        "lease.move_planned",
        "lease.degraded",
        "lease.moved",
        "lease.recovered",
    ]
    with world.store.read() as connection:
        assert (
            calendar.free_count(connection, world.pool.id, Window.starting(world.clock.now(), 60), world.clock.now())
            == 4
        )
    world.run(3600, 60)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason, world.credits) == (LeaseState.ENDED, "window_over", [])
    assert 3 * (3600 - 60) < ended.metered_s == world.billed_s(lease) < 3 * 3600
    assert {item.price_nano for item in world.billed.values()} == {lease.price_nano}
    assert {item.pool_id for item in world.billed.values()} == {world.pool.id, world.other.id}
    with world.store.read() as connection:
        [row] = over_since(connection, world.other.id, lease.created_at, 10)
    promise = promise_of(row)
    assert promise is not None and promise.outcome is Outcome.KEPT


def test_rising_demand_moves_it_and_a_need_that_passes_leaves_it(world: TwoPools) -> None:
    lease = world.sell_movable(2)
    world.run(60, 20)
    world.need(1)
    world.run(10)
    assert world.lease(lease).move is not None and held(world, lease) == 2
    world.need(4)
    world.run(120, 10)
    kept = world.lease(lease)
    assert (kept.state, kept.move, kept.reclaim_at, kept.pool_id) == (LeaseState.ACTIVE, None, None, world.pool.id)
    assert held(world, lease) == 4
    world.need(0)
    world.run(600, 10)
    assert world.lease(lease).pool_id == world.other.id


def test_without_room_elsewhere_it_is_broken_with_its_credit(world: TwoPools) -> None:
    quote = world.leases.quote("org_other", replace(world.request(3, "notice", 7200), pool=world.other.name))
    world.leases.accept("org_other", quote.id, [KEY])
    lease = world.sell_movable(2)
    world.run(60, 20)
    world.leases.reclaim(order(world, 4), "operator")
    world.run(600, 20)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason, ended.moves) == (LeaseState.ENDED, "reclaimed", ())
    assert [note.amount_nano for note in world.credits] == [ended.credit_nano] and ended.credit_nano > 0


@pytest.mark.parametrize("way", ["asks for no move", "other generation", "other pool is gone", "of a deadline"])
def test_only_where_its_terms_and_the_pools_allow_it(world: TwoPools, way: str) -> None:
    if way == "other generation":
        world.fleet.sync([pool_spec("metal", 4), pool_spec("spare", 4, generation="h200")])
    if way == "other pool is gone":
        world.fleet.sync([pool_spec("metal", 4)])
    lease = (
        world.sell(2, seconds=3600)
        if way == "asks for no move"
        else world.order()
        if way == "of a deadline"
        else world.sell_movable(2)
    )
    world.run(60, 20)
    world.leases.reclaim(order(world, 4), "operator")
    world.run(600, 20)
    assert world.lease(lease).pool_id == world.pool.id and world.lease(lease).moves == ()


def test_a_lease_that_has_not_begun_moves_at_once_with_all_of_its_window(world: TwoPools) -> None:
    lease = world.sell_movable(4, ahead_s=1800)
    world.leases.reclaim(order(world, 4), "operator")
    moved = world.lease(lease)
    assert (moved.state, moved.pool_id, moved.window) == (LeaseState.SCHEDULED, world.other.id, lease.window)
    assert kinds(world.store, "lease.") == ["lease.moved"]
    world.run(1800 + 3700, 60)
    ended = world.lease(lease)
    assert (ended.end_reason, ended.metered_s) == ("window_over", world.billed_s(lease))


@pytest.mark.parametrize(("left_s", "moves"), [(0, False), (-30, False), (59, False), (60, True)])
def test_what_ends_within_a_minute_of_the_move_ends_where_it_is(world: TwoPools, left_s: int, moves: bool) -> None:
    lease = world.sell_movable(2)
    world.run(60, 20)
    running = world.lease(lease)
    with world.store.read() as connection:
        targets = Targets(connection, world.leases._ports, world.clock.now())
        found = targets.find(running, lease.window.end - timedelta(seconds=left_s))
    assert (found is not None) == moves


def test_a_firm_lease_that_is_broken_by_force_moves_first(world: TwoPools) -> None:
    lease = world.sell_movable(2, "firm")
    world.run(60, 20)
    world.leases.reclaim(order(world, 4, force=True), "operator")
    world.run(400, 20)
    assert world.lease(lease).pool_id == world.other.id and world.credits == []


def test_those_who_can_move_go_before_those_who_would_be_broken(world: TwoPools) -> None:
    young = world.sell(2, seconds=3600)
    world.run(60, 20)
    movable = world.sell_movable(2)
    world.run(60, 20)
    world.leases.reclaim(order(world, 2), "operator")
    world.run(400, 20)
    assert (world.lease(young).pool_id, world.lease(movable).pool_id) == (world.pool.id, world.other.id)
    assert world.lease(young).reclaim_at is None


def test_a_tenant_who_leaves_before_the_move_is_owed_nothing_and_holds_nothing(world: TwoPools) -> None:
    lease = world.sell_movable(2)
    world.run(60, 20)
    world.leases.reclaim(order(world, 4), "operator")
    world.run(10)
    world.leases.end(lease.id, CUSTOMER)
    assert held(world, lease) == 4
    world.run(60, 10)
    ended = world.lease(lease)
    assert (ended.end_reason, ended.credit_nano, world.credits) == ("released", 0, [])
    with world.store.read() as connection:
        [row] = over_since(connection, world.pool.id, lease.created_at, 10)
    promise = promise_of(row)
    assert promise is not None and promise.outcome is Outcome.RELEASED


def test_where_the_target_fails_another_is_taken_or_else_it_ends_with_its_credit(world: TwoPools) -> None:
    one, two = world.sell_movable(2), world.sell_movable(2)
    world.run(60, 20)
    world.leases.reclaim(order(world, 4), "operator")
    world.run(10)
    units = world.fleet.units(world.other.id)
    world.fleet.set_service(units[0].id, False, "fell off the bus")
    world.run(600, 20)
    leases = [world.lease(one), world.lease(two)]
    assert sorted(item.pool_id == world.other.id for item in leases) == [False, True]
    [broken] = [item for item in leases if item.pool_id == world.pool.id]
    assert (broken.state, broken.end_reason) == (LeaseState.ENDED, "reclaimed")
    assert [note.amount_nano for note in world.credits] == [broken.credit_nano] and broken.credit_nano > 0
    [moved] = [item for item in leases if item.pool_id == world.other.id]
    assert units[0].id not in moved.unit_ids


def test_what_can_not_be_moved_in_time_is_on_sale_again_and_the_lease_ends(world: TwoPools) -> None:
    lease = world.sell_movable(2)
    world.run(60, 20)
    world.leases.reclaim(order(world, 4), "operator")
    world.run(10)
    world.clock.advance(300 + 700)
    assert held(world, lease) == 4, "its hold has expired"
    world.run(60, 20)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason, len(world.credits)) == (LeaseState.ENDED, "reclaimed", 1)
    assert calendar_of(world) == []


def test_a_pool_whose_backend_moves_nothing_refuses_the_choice(world: TwoPools) -> None:
    features = replace(world.leases._ports, features=lambda backend: frozenset({"network"}))
    world.leases._admission._ports = features
    with pytest.raises(InvalidInputError, match="does not support moves"):
        world.sell_movable(1)
    assert replace(world.request(), on_reclaim=OnReclaim.MOVE).as_dict()["on_reclaim"] == "move"
    assert "on_reclaim" not in world.request().as_dict()


def calendar_of(world: TwoPools) -> list[str]:
    with world.store.read() as connection:
        return [fence.holder_id for fence in calendar.all_fences(connection)]


def test_a_lease_that_moved_can_move_again_and_back(world: TwoPools) -> None:
    lease = world.sell_movable(2, seconds=7200)
    world.run(60, 20)
    world.need(0)
    world.run(500, 20)
    assert world.lease(lease).pool_id == world.other.id
    world.need(4)
    world.need(0, world.other)
    world.run(700, 20)
    found = world.lease(lease)
    assert found.pool_id == world.pool.id and len(found.moves) == 2
    assert found.ssh_public_keys == (KEY,)


def test_what_fails_before_the_move_costs_the_owner_no_credit(world: TwoPools) -> None:
    lease = world.sell_movable(2)
    world.run(60, 20)
    world.leases.reclaim(order(world, 4), "operator")
    world.run(10)
    assert world.lease(lease).move is not None
    world.backend.stop(lease.id, "killed by its tenant")
    world.run(60, 10)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "sandbox_failed")
    assert (ended.credit_nano, world.credits, held(world, lease)) == (0, [], 4)


def test_an_accelerator_that_fails_before_the_move_is_credited_from_then_on(world: TwoPools) -> None:
    owed = []
    for planned in (False, True):
        request = replace(world.request(4, "notice"), on_reclaim=OnReclaim.MOVE, on_failure=OnFailure.END)
        lease = world.leases.accept(CUSTOMER, world.leases.quote(CUSTOMER, request).id, [KEY])
        world.run(60, 20)
        if planned:
            world.leases.reclaim(order(world, 4), "operator")
            world.run(10)
            assert world.lease(lease).move is not None
        else:
            world.clock.advance(10)
        units = world.fleet.units(world.pool.id)
        world.fleet.set_service(units[0].id, False, "fell off the bus")
        world.run(120, 10)
        ended = world.lease(lease)
        assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "accelerator_failed")
        owed.append(ended.credit_nano)
        world.fleet.set_service(units[0].id, True, "it is back")
        world.run(60, 10)
    assert owed[0] > 0 and owed[1] == pytest.approx(owed[0], rel=0.01)


def test_the_owner_of_the_other_pool_can_count_on_what_a_reclaim_there_promised(world: TwoPools) -> None:
    mover = world.sell_movable(2)
    world.run(60, 20)
    world.leases.reclaim(order(world, 4), "operator")
    world.run(10)
    there = replace(order(world, 4), pool=world.other.name)
    assert world.leases.preview_reclaim(there).short == 2, "two are promised to who moves in"
    world.leases.reclaim(replace(there, accelerators=2), "operator")
    for unit in world.lease(mover).move.unit_ids:  # type: ignore[union-attr]
        world.fleet.set_service(unit, False, "fell off the bus")
    world.run(600, 20)
    ended = world.lease(mover)
    assert (ended.pool_id, ended.end_reason, len(world.credits)) == (world.pool.id, "reclaimed", 1)
