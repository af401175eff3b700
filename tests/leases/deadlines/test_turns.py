"""Leases with a deadline on the simulated backend: resumed, paused, metered, completed or late, each exactly once."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction

import pytest
from tests.leases.world import CUSTOMER, KEY, PRICE_NANO, World

from sublet.leases.backends.base import RunState
from sublet.leases.model import Fence, LeaseState, NoCapacityError, WrongStateError
from sublet.leases.quotes import calendar
from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.store import Store
from sublet.surplus.deadlines.admission import Answer
from sublet.values.clock import SimulatedClock, format_time
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window


@pytest.fixture
def world(store: Store, clock: SimulatedClock) -> World:
    return World(store, clock)


def _held(world: World) -> int:
    with world.store.read() as connection:
        book = calendar.book(connection, world.pool.id, world.clock.now())
    return sum(item.accelerators for item in book if item.window.contains(world.clock.now()))


def test_it_runs_to_its_hours_and_ends_by_itself_with_exactly_them_billed(world: World) -> None:
    lease = world.order(hours=1, by_hours=4, count=2)
    assert lease.state is LeaseState.SCHEDULED and lease.waits
    world.run(60, 10)
    assert world.lease(lease).state is LeaseState.ACTIVE
    assert _held(world) == 2
    world.run(3700, 30)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "completed")
    assert ended.metered_s == world.billed_s(lease) == 2 * 3600
    assert world.credits == []
    assert _held(world) == 0


def test_it_is_paused_for_the_owner_and_resumed_when_the_need_has_gone(world: World) -> None:
    lease = world.order(hours=1, by_hours=8, count=4)
    world.run(600, 10)
    assert world.lease(lease).state is LeaseState.ACTIVE
    world.stay = 0
    world.run(30, 10)
    noticed = world.lease(lease)
    assert noticed.state is LeaseState.NOTICE
    assert noticed.reclaim_at is not None
    world.run(120, 10)
    paused = world.lease(lease)
    assert (paused.state, paused.unit_ids, paused.pauses) == (LeaseState.PAUSED, (), 1)
    assert world.backend.observe(lease.id).state is RunState.PAUSED
    assert _held(world) == 0
    before = world.billed_s(lease)
    world.run(3600, 60)
    assert world.billed_s(lease) == before
    world.stay = 4
    world.run(120, 10)
    assert world.lease(lease).state is LeaseState.ACTIVE
    world.run(3600, 30)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "completed")
    assert world.billed_s(lease) == ended.metered_s == 4 * 3600
    assert world.credits == []


def test_one_that_is_late_is_broken_once_with_the_credit_of_its_class(world: World) -> None:
    lease = world.order(hours=2, by_hours=3, count=1)
    world.run(1800, 30)
    world.stay = 0
    world.run(3 * 3600, 60)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "late")
    rest_s = 2 * 3600 - ended.metered_s
    assert 0 < rest_s < 2 * 3600
    [credit] = world.credits
    assert credit.amount_nano == ended.credit_nano == round(Fraction(PRICE_NANO * rest_s, 7200))
    world.run(600, 60)
    assert len(world.credits) == 1


def test_one_that_never_began_is_late_all_the_same(world: World) -> None:
    world.stay = 0
    lease = world.order(hours=1, by_hours=2)
    world.run(2 * 3600 + 60, 60)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason, ended.metered_s) == (LeaseState.ENDED, "late", 0)
    assert [note.amount_nano for note in world.credits] == [PRICE_NANO // 2]


def test_its_tenant_may_end_it_early_and_pays_what_was_delivered(world: World) -> None:
    lease = world.order(hours=2, by_hours=8)
    world.run(1800, 30)
    world.leases.end(lease.id, CUSTOMER)
    world.run(60, 10)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "released")
    assert 1700 < ended.metered_s <= 1800
    assert world.credits == []


@pytest.mark.parametrize("begun", [False, True])
def test_one_that_waits_may_be_ended(world: World, begun: bool) -> None:
    lease = world.order(hours=2, by_hours=8)
    if begun:
        world.run(600, 30)
    world.stay = 0
    world.run(300, 10)
    world.leases.end(lease.id, CUSTOMER)
    world.run(60, 10)
    assert world.lease(lease).state is (LeaseState.ENDED if begun else LeaseState.CANCELED)
    assert world.backend.observe(lease.id).state in (RunState.ABSENT, RunState.STOPPED)


def test_a_reclaim_pauses_it_before_anything_else_is_broken(world: World) -> None:
    spot = world.sell(2, "spot", seconds=4 * 3600)
    lease = world.order(hours=1, by_hours=8, count=2)
    world.run(60, 10)
    order = ReclaimOrder("metal", 2, Window.starting(world.clock.now(), 7200), "a run")
    plan = world.leases.preview_reclaim(order)
    assert [victim.id for victim in plan.victims] == [lease.id]
    assert plan.victims[0].cost.destroyed_nano == 0
    world.leases.reclaim(order, "owner")
    world.run(300, 10)
    assert world.lease(lease).state is LeaseState.PAUSED
    assert world.lease(spot).state is LeaseState.ACTIVE
    world.run(7200, 60)
    assert world.lease(lease).state is LeaseState.ACTIVE


def test_without_slack_it_is_taken_in_the_place_of_its_class(world: World) -> None:
    spot = world.sell(2, "spot", seconds=4 * 3600)
    world.order(hours=2, by_hours=2.2, count=2)
    world.run(60, 10)
    plan = world.leases.preview_reclaim(ReclaimOrder("metal", 2, Window.starting(world.clock.now(), 7200), "a run"))
    assert [victim.id for victim in plan.victims] == [spot.id]


def test_the_one_with_least_slack_runs_and_takes_the_place_of_one_with_much_more(world: World) -> None:
    patient = world.order(hours=4, by_hours=40, count=4)
    world.run(300, 10)
    assert world.lease(patient).state is LeaseState.ACTIVE
    urgent = world.order(hours=1, by_hours=3, count=4)
    world.run(240, 10)
    assert world.lease(patient).state is LeaseState.ACTIVE, "it was resumed a moment ago"
    world.run(600, 10)
    assert world.lease(patient).state is LeaseState.PAUSED
    assert world.lease(urgent).state is LeaseState.ACTIVE
    world.run(3 * 3600, 60)
    assert world.lease(urgent).end_reason == "completed"
    world.run(4 * 3600, 60)
    assert world.lease(patient).end_reason == "completed"
    assert world.lease(patient).pauses == 1


def test_it_runs_until_its_accelerators_are_booked_and_knows_so_from_the_start(world: World) -> None:
    booked = world.sell(4, "firm", seconds=3600, ahead_s=3600)
    lease = world.order(hours=2, by_hours=12, count=4)
    world.run(30, 10)
    noticed = world.lease(lease)
    assert noticed.state is LeaseState.NOTICE
    assert noticed.reclaim_at is not None and noticed.reclaim_at < booked.window.start
    world.run(3630, 10)
    assert world.lease(lease).state is LeaseState.PAUSED
    assert world.lease(booked).state is LeaseState.ACTIVE
    world.run(3 * 3600, 30)
    assert world.lease(lease).end_reason == "completed"


def test_need_that_comes_and_goes_pauses_it_ever_more_rarely(world: World) -> None:
    lease = world.order(hours=8, by_hours=200, count=4)
    for _ in range(60):
        world.stay = 0
        world.run(180, 30)
        world.stay = 4
        world.run(180, 30)
    assert world.lease(lease).pauses <= 15, "an hour has twenty such spikes"


def test_a_failed_accelerator_is_replaced_or_else_it_waits_for_others(world: World) -> None:
    lease = world.order(hours=1, by_hours=8, count=3)
    world.run(600, 30)
    first, second = world.lease(lease).unit_ids[:2]
    world.fleet.set_service(first, False, "XID 79")
    world.run(60, 10)
    assert world.lease(lease).state is LeaseState.ACTIVE
    assert first not in world.lease(lease).unit_ids
    world.fleet.set_service(second, False, "XID 79")
    world.run(60, 10)
    assert world.lease(lease).state is LeaseState.PAUSED
    assert world.lease(lease).accelerators == 3
    world.fleet.set_service(first, True, "repaired")
    world.run(4200, 30)
    ended = world.lease(lease)
    assert (ended.end_reason, ended.metered_s, world.credits) == ("completed", 3 * 3600, [])
    assert world.billed_s(lease) == 3 * 3600


def test_a_crash_between_any_two_steps_loses_and_doubles_nothing(world: World) -> None:
    lease = world.order(hours=1, by_hours=8, count=4)
    for minute in range(200):
        world.stay = 0 if minute % 60 in range(20, 35) else 4
        world.restart()
        world.run(60, 20)
        assert _held(world) <= 4
    ended = world.lease(lease)
    assert (ended.end_reason, ended.metered_s) == ("completed", 4 * 3600)
    assert world.billed_s(lease) == 4 * 3600


BAD = {
    "no hours": {"service_s": None},
    "no deadline": {"end": None},
    "none": {"service_s": 0},
    "negative": {"service_s": -3600},
    "too many": {"service_s": 30 * 86_400},
    "does not fit": {"service_s": 9 * 3600},
    "more than the pool": {"accelerators": 5},
    "past": {"end": -1},
    "far": {"end": 20 * 24},
    "start": {"start": 1},
    "duration": {"duration_s": 3600},
}


@pytest.mark.parametrize("change", BAD.values(), ids=BAD.keys())
def test_what_can_not_be_sold_is_refused_before_anything_changes(world: World, change: dict[str, object]) -> None:
    now = world.clock.now()
    values: dict[str, object] = {
        "accelerators": 1, "class_name": "deadline", "end": 8, "pool": "metal", "service_s": 3600, **change
    }  # fmt: skip
    for name in ("end", "start"):
        if isinstance(values.get(name), int):
            values[name] = now + timedelta(hours=int(str(values[name])))
    with pytest.raises(InvalidInputError):
        world.leases.quote(CUSTOMER, QuoteRequest(**values))  # type: ignore[arg-type]
    assert world.leases.open_quotes(CUSTOMER) == []


def test_a_window_class_takes_no_hours_of_service(world: World) -> None:
    end = world.clock.now() + timedelta(hours=1)
    with pytest.raises(InvalidInputError, match="service_s is for classes"):
        world.leases.quote(CUSTOMER, QuoteRequest(1, "spot", end, pool="metal", service_s=600))


def test_a_refusal_names_the_earliest_deadline_that_can_be_promised(world: World) -> None:
    world.answer = Answer(False, 1, "paths", "Not enough idle capacity for that deadline: it would be late.", 0)
    world.earliest = world.clock.now() + timedelta(hours=30)
    with pytest.raises(NoCapacityError, match="earliest deadline that can be promised is") as caught:
        world.leases.quote(CUSTOMER, world.order_request(count=2))
    assert [item["kind"] for item in caught.value.details["alternatives"]] == ["later", "fewer"]


def test_hours_that_do_not_fit_are_answered_with_the_earliest_deadline(world: World) -> None:
    world.answer = Answer(False, 0, "deadline", "Not enough idle capacity for that deadline.", -1)
    world.earliest = world.clock.now() + timedelta(hours=30)
    with pytest.raises(InvalidInputError, match="the earliest deadline that can be promised is") as caught:
        world.leases.quote(CUSTOMER, world.order_request(hours=9, by_hours=8))
    assert format_time(world.earliest) in str(caught.value)


def test_a_quote_says_its_price_how_likely_it_is_and_its_latest_start(world: World) -> None:
    quote = world.leases.quote(CUSTOMER, world.order_request(hours=2, by_hours=8, count=3))
    told = quote.as_dict()
    assert quote.total_nano == 6 * PRICE_NANO
    assert told["deadline"]["likely"] == 1.0
    assert told["deadline"]["service_s"] == 7200
    lease = world.leases.accept(CUSTOMER, quote.id, [KEY])
    assert world.leases.accept(CUSTOMER, quote.id, [KEY]).id == lease.id
    with pytest.raises(WrongStateError):
        world.leases.cancel_quote(CUSTOMER, quote.id)


def test_what_is_held_can_be_accepted_and_what_is_not_is_asked_again(world: World) -> None:
    quote = world.leases.quote(CUSTOMER, world.order_request())
    world.answer = Answer(False, 0, "idle_now", "nothing is idle.", 0)
    assert world.leases.accept(CUSTOMER, quote.id, [KEY]).state is LeaseState.SCHEDULED


def test_a_planned_pause_is_withdrawn_when_the_need_has_gone(world: World) -> None:
    lease = world.order(hours=1, by_hours=8, count=4)
    world.run(300, 10)
    world.stay = 0
    world.run(20, 10)
    assert world.lease(lease).state is LeaseState.NOTICE
    world.stay = 4
    world.run(20, 10)
    kept = world.lease(lease)
    assert (kept.state, kept.reclaim_at, kept.reclaim_origin) == (LeaseState.ACTIVE, None, None)
    assert _held(world) == 4
    with world.store.read() as connection:
        last = max(fence.window.end for fence in calendar.fences_of(connection, lease.id))
    assert last < lease.window.end - timedelta(hours=6), "it keeps its accelerators for as long as it needs them"
    assert world.backend.observe(lease.id).reclaim_at is None, "its tenant knows"
    world.run(3600, 30)
    ended = world.lease(lease)
    assert (ended.end_reason, ended.pauses, ended.metered_s) == ("completed", 0, 4 * 3600)


def test_an_order_that_is_withdrawn_withdraws_its_pause(world: World) -> None:
    lease = world.order(hours=1, by_hours=8, count=4)
    world.run(300, 10)
    now = world.clock.now()
    made = world.leases.reclaim(ReclaimOrder(world.pool.id, 4, Window.starting(now, 3600), "run"), "team")
    world.run(20, 10)
    assert world.lease(lease).state is LeaseState.NOTICE
    world.leases.withdraw_reclaim(made["id"], "team")
    kept = world.lease(lease)
    assert (kept.state, kept.reclaim_at) == (LeaseState.ACTIVE, None)
    assert world.clock.now() + timedelta(hours=2) > max(item.window.end for item in _fences(world, lease.id))


def test_a_pause_for_another_lease_is_withdrawn_when_that_one_is_given_back(world: World) -> None:
    slack = world.order(hours=1, by_hours=12, count=4)
    world.run(700, 10)
    urgent = world.order(hours=1, by_hours=2, count=4)
    world.run(20, 10)
    asked = world.lease(slack)
    assert (asked.state, asked.reclaim_origin) == (LeaseState.NOTICE, "turn")
    world.run(20, 10)
    assert world.lease(slack).state is LeaseState.NOTICE, "it stands as long as the other waits"
    world.leases.end(urgent.id, CUSTOMER)
    world.run(20, 10)
    assert (world.lease(slack).state, world.lease(slack).pauses) == (LeaseState.ACTIVE, 0)


def test_a_pause_for_a_booking_is_withdrawn_when_the_booking_is_canceled(world: World) -> None:
    booked = world.sell(count=4, seconds=600, ahead_s=900)
    lease = world.order(hours=1, by_hours=8, count=2)
    world.run(60, 10)
    running = world.lease(lease)
    assert running.reclaim_at is not None and running.reclaim_origin == "turn"
    world.leases.end(booked.id, CUSTOMER)
    world.run(30, 10)
    assert (world.lease(lease).state, world.lease(lease).reclaim_at) == (LeaseState.ACTIVE, None)
    world.run(3700, 30)
    assert (world.lease(lease).end_reason, world.lease(lease).pauses) == ("completed", 0)


def _fences(world: World, lease_id: str) -> list[Fence]:
    with world.store.read() as connection:
        return calendar.fences_of(connection, lease_id)
