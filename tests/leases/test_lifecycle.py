"""A lease from the quote to the last second billed, on the simulated backend."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from tests.leases.world import CUSTOMER, KEY, World

from sublet.leases.backends.base import BackendFailedError, RunState
from sublet.leases.backends.simulated import Faults
from sublet.leases.model import LeaseState, NoCapacityError, QuoteExpiredError, Timing, UnitState
from sublet.store import Store
from sublet.store.paging import PageRequest
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, InvalidInputError, LimitExceededError, NotFoundError


def test_a_lease_runs_its_window_and_is_billed_to_the_second(world: World) -> None:
    lease = world.sell(count=2, seconds=600)
    world.run(700)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "window_over")
    # The first round of plan-then-act prepares it one second after it was sold, and that second is not delivered.
    assert world.billed_s(lease) == 2 * 599 == ended.metered_s
    assert [item.after for item in world.leases.history(lease.id)] == [
        "requested", "scheduled", "preparing", "active", "ending", "ended",
    ]  # fmt: skip
    assert world.leases.book(world.pool.id) == []
    assert world.backend.observe(lease.id).state is RunState.ABSENT, "forgotten once it is billed and clean"


def test_usage_is_told_once_a_minute_and_the_rest_at_the_end(world: World) -> None:
    lease = world.sell(seconds=150)
    world.run(200)
    assert [interval.accelerator_s for interval in world.emitted] == [59, 60, 30]
    assert len({interval.id for interval in world.emitted}) == 3
    assert all(interval.lease_id == lease.id for interval in world.emitted)


def test_quote_holds_capacity_for_sixty_seconds(world: World) -> None:
    quote = world.leases.quote(CUSTOMER, world.request(count=4))
    with pytest.raises(NoCapacityError):
        world.leases.quote("org_other", world.request())
    world.clock.advance(60)
    with pytest.raises(QuoteExpiredError):
        world.leases.accept(CUSTOMER, quote.id, [KEY])
    assert world.leases.quote("org_other", world.request(count=4)).accelerators == 4


def test_no_capacity_says_what_there_is(world: World) -> None:
    world.sell(count=3)
    with pytest.raises(NoCapacityError) as caught:
        world.leases.quote(CUSTOMER, world.request(count=2))
    assert {"kind": "fewer", "accelerators": 1}.items() <= caught.value.details["alternatives"][0].items()


def test_a_surplus_that_shrinks_between_quote_and_acceptance_is_not_sold(world: World) -> None:
    quote = world.leases.quote(CUSTOMER, world.request(count=2))
    world.surplus = 1
    with pytest.raises(NoCapacityError):
        world.leases.accept(CUSTOMER, quote.id, [KEY])
    world.surplus = 2
    assert world.leases.accept(CUSTOMER, quote.id, [KEY]).accelerators == 2, "the refusal changed nothing"


def test_f33_a_repeated_request_makes_one_quote_and_one_lease(world: World) -> None:
    request = world.request()
    first = world.leases.quote(CUSTOMER, request, "k1")
    assert world.leases.quote(CUSTOMER, request, "k1") == first
    with pytest.raises(ConflictError):
        world.leases.quote(CUSTOMER, replace(request, accelerators=2), "k1")
    lease = world.leases.accept(CUSTOMER, first.id, [KEY], "k2")
    assert world.leases.accept(CUSTOMER, first.id, [KEY], "k2").id == lease.id
    assert world.leases.accept(CUSTOMER, first.id, [KEY]).id == lease.id, "a quote makes one lease, with or without key"
    with pytest.raises(ConflictError):
        world.leases.accept(CUSTOMER, world.leases.quote(CUSTOMER, request).id, [KEY], "k2")
    assert len(world.leases.leases()) == 1


def test_another_organization_sees_nothing(world: World) -> None:
    lease = world.sell()
    assert world.leases.leases("org_other") == []
    for call in (world.leases.lease, world.leases.end):
        with pytest.raises(NotFoundError):
            call(lease.id, "org_other")
    with pytest.raises(NotFoundError):
        world.leases.accept("org_other", lease.quote_id, [KEY])


@pytest.mark.parametrize(
    ("count", "class_name", "seconds", "ahead_s"),
    [(0, "notice", 600, 0), (5000, "notice", 600, 0), (1, "gold", 600, 0), (1, "spot", 59, 0), (1, "spot", 600, -120),
     (1, "spot", 600, 1200 * 86400), (1, "spot", 91 * 86400, 0)],
)  # fmt: skip
def test_a_bad_wish_is_refused_before_anything_changes(
    world: World, count: int, class_name: str, seconds: int, ahead_s: int
) -> None:
    with pytest.raises(InvalidInputError):
        world.leases.quote(CUSTOMER, world.request(count, class_name, seconds, ahead_s))
    assert world.leases.book(world.pool.id) == []


def test_open_quotes_have_a_limit(world: World) -> None:
    world.surplus = 4
    with pytest.raises(LimitExceededError):
        for ahead in range(21):
            world.leases.quote(CUSTOMER, world.request(seconds=60, ahead_s=100 + 100 * ahead))


def test_f2_back_to_back_leases_keep_the_gap_to_clean(world: World) -> None:
    world.surplus = 1
    first = world.sell(seconds=600)
    with pytest.raises(NoCapacityError):
        # It would begin the moment the first ends: the surplus has one, but the accelerator is being cleaned.
        world.fleet.set_service(world.fleet.units(world.pool.id)[1].id, False, "test")
        world.fleet.set_service(world.fleet.units(world.pool.id)[2].id, False, "test")
        world.fleet.set_service(world.fleet.units(world.pool.id)[3].id, False, "test")
        world.sell(seconds=600, ahead_s=600)
    second = world.sell(seconds=600, ahead_s=605)
    world.run(1300, step_s=5)
    assert world.lease(first).state is world.lease(second).state is LeaseState.ENDED
    assert first.unit_ids == second.unit_ids


def test_f12_canceled_while_it_is_prepared(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, faults=Faults(start_s=30))
    lease = world.sell()
    world.run(5)
    assert world.lease(lease).state is LeaseState.PREPARING
    world.leases.end(lease.id, CUSTOMER)
    world.run(2)
    assert (world.lease(lease).state, world.lease(lease).last_error) == (LeaseState.CANCELED, None)
    assert world.billed_s(lease) == 0 and world.leases.book(world.pool.id) == []
    assert world.leases.quote(CUSTOMER, world.request(count=4)).accelerators == 4


def test_f14_f18_a_lease_that_never_starts_is_never_billed(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, faults=Faults(start_fails=1.0))
    lease = world.sell()
    world.run(3)
    failed = world.lease(lease)
    assert (failed.state, failed.end_reason, failed.metered_s) == (LeaseState.FAILED, "start_failed", 0)
    assert failed.last_error == "it did not start: simulated start failure"
    assert world.emitted == [] and world.leases.book(world.pool.id) == []


def test_a_start_that_takes_too_long_fails(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, faults=Faults(start_s=10_000), timing=Timing(start_grace_s=100))
    lease = world.sell(seconds=3600)
    world.run(105)
    assert world.lease(lease).state is LeaseState.FAILED
    assert world.lease(lease).last_error == "it did not start within 100 s"
    assert world.emitted == []


def test_released_early_is_billed_to_then_and_free_at_once(world: World) -> None:
    lease = world.sell(count=4, seconds=3600)
    world.run(100)
    world.leases.end(lease.id, CUSTOMER)
    world.run(1)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "released")
    assert 4 * 99 <= world.billed_s(lease) <= 4 * 100
    assert world.sell(count=4).accelerators == 4


def test_a_crashed_sandbox_comes_back_as_the_same_lease(world: World) -> None:
    lease = world.sell(seconds=600)
    world.run(100)
    world.backend.crash(lease.id)
    world.run(1)
    assert world.backend.observe(lease.id).state is RunState.RUNNING
    world.run(2)
    assert world.lease(lease).state is LeaseState.ACTIVE
    world.run(600, step_s=3)
    assert world.lease(lease).state is LeaseState.ENDED
    assert 590 <= world.billed_s(lease) <= 599


def test_f7_f31_what_no_book_knows_is_ended(world: World) -> None:
    lease = world.sell()
    world.run(3)
    stranger = replace_order(world, "lse_" + "0" * 24)
    world.run(2)
    assert world.backend.observe(stranger).state is RunState.ABSENT
    assert world.lease(lease).state is LeaseState.ACTIVE


def replace_order(world: World, lease_id: str) -> str:
    from sublet.leases.backends.base import StartOrder

    end = world.clock.now() + timedelta(hours=1)
    world.backend.start(StartOrder(lease_id, "org_nobody", ("cpu:0",), (KEY,), end))
    return lease_id


def test_f11_a_silent_backend_never_frees_what_may_still_run(world: World) -> None:
    lease = world.sell(seconds=120)
    world.run(10)
    world.backend._faults = Faults(deaf=1.0)
    world.run(180)
    assert world.lease(lease).state is LeaseState.ENDING
    assert {item.unit_id for item in world.leases.quarantined()} == set(lease.unit_ids)
    assert world.sell(count=3).accelerators == 3
    with pytest.raises(NoCapacityError):
        world.sell(count=1)
    world.backend._faults = Faults()
    world.run(3)
    assert world.lease(lease).state is LeaseState.ENDED
    assert world.leases.quarantined() == [], "proved clean, so back on sale"
    assert world.billed_s(lease) == 119


def test_what_is_not_proved_clean_is_not_sold_again(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, accelerators=1, faults=Faults(unclean=1.0))
    lease = world.sell(seconds=60)
    world.run(70)
    assert world.lease(lease).state is LeaseState.ENDED
    assert [item.unit_id for item in world.leases.quarantined()] == list(lease.unit_ids)
    with pytest.raises(NoCapacityError):
        world.sell()
    world.backend._faults = Faults()
    world.run(3)
    assert world.sell().unit_ids == lease.unit_ids
    moves = [(item.before, item.after) for item in world.leases.history(lease.unit_ids[0])]
    assert moves == [(UnitState.SCRUBBING, UnitState.QUARANTINED), (UnitState.QUARANTINED, UnitState.FREE)]


def test_one_tenant_at_a_time_where_isolation_is_soft(world: World) -> None:
    world.exclusive = True
    world.sell()
    assert world.sell().state is LeaseState.SCHEDULED
    with pytest.raises(NoCapacityError):
        world.sell(organization="org_other")


def test_the_plan_is_shown_before_it_is_carried_out_and_changes_nothing(world: World) -> None:
    lease = world.sell()
    plan = world.leases.plan()
    assert [(step.kind, step.subject) for step in plan.steps] == [("prepare", lease.id)]
    assert world.lease(lease).state is LeaseState.SCHEDULED
    assert world.leases.plan() == plan


def test_pages(world: World) -> None:
    sold = [world.sell(seconds=60, ahead_s=100 * (index + 1)) for index in range(5)]
    first = world.leases.lease_page(CUSTOMER, PageRequest(2))
    second = world.leases.lease_page(CUSTOMER, PageRequest(3, first.next))
    assert {lease.id for lease in first.items + second.items} == {lease.id for lease in sold}
    assert second.next is None


def test_a_lost_answer_is_harmless(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, faults=Faults(deaf=0.3, deaf_after=0.3), seed=7)
    lease = world.sell(seconds=300)
    world.run(600)
    assert world.lease(lease).state is LeaseState.ENDED
    assert world.billed_s(lease) == world.lease(lease).metered_s
    with pytest.raises(BackendFailedError):
        for _ in range(100):
            world.backend.observe(lease.id)


def test_two_control_planes_that_read_the_same_meter_bill_once(world: World) -> None:
    from sublet.leases import store as sql

    lease = world.sell(seconds=600)
    world.run(130)
    metered = world.lease(lease)
    later = world.clock.now()
    with_stale_view = world.store.write(lambda connection: sql.advance_meter(connection, lease.id, None, later, 60))
    assert with_stale_view is False and world.lease(lease) == metered
