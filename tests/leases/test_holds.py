"""Quotes hold capacity long enough to accept them, and are no way to keep it without paying."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.leases.test_api import Site
from tests.leases.world import CUSTOMER, KEY, World

from sublet.leases.model import NoCapacityError, QuoteExpiredError, WrongStateError
from sublet.leases.quotes.holds import HOLD_S_MIN, ROLLING_S, Hold, HoldLimits, hold_s
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import LimitExceededError, NotFoundError
from sublet.values.windows import Window

DAY_S = 86_400
START = SimulatedClock().now()
HOUR = Window.starting(START, 3600)


def free_for_others(world: World) -> bool:
    """Whether somebody else could rent the whole pool at this moment."""
    try:
        quote = world.leases.quote("org_other", world.request(count=4, seconds=60))
    except NoCapacityError:
        return False
    world.leases.cancel_quote("org_other", quote.id)
    return True


@pytest.mark.parametrize("sizes", [(4,), (1,), (4, 1, 3)])
def test_quotes_renewed_every_minute_hold_a_tenth_of_the_pool_at_most(world: World, sizes: tuple[int, ...]) -> None:
    """For 90 days ahead, asked for again the moment each quote is over, in one size or in several."""
    held_s = passed_s = 0
    for _ in range(100):
        for size in sizes:
            with suppress(NoCapacityError, LimitExceededError):
                world.leases.quote(CUSTOMER, world.request(size, "firm", 90 * DAY_S))
        for step_s in (5, 5, 10, 40):
            held_s += step_s * sum(item.accelerators for item in world.leases.book(world.pool.id))
            passed_s += step_s
            world.clock.advance(step_s)
    # The first hour's share may be spent at once; after it, a tenth an hour.
    assert held_s <= 0.10 * 4 * (passed_s + ROLLING_S)
    assert world.leases.quote("org_other", world.request(4)).held_until is not None


def test_a_customer_beyond_the_limit_still_rents_what_is_there(world: World) -> None:
    for _ in range(30):
        quote = world.leases.quote(CUSTOMER, world.request(count=4, seconds=3600))
        world.clock.advance(60)
        world.leases.tick()
    assert quote.held_until is None
    quote = world.leases.quote(CUSTOMER, world.request(count=4, seconds=3600))
    assert quote.held_until is None and quote.price_nano > 0
    lease = world.leases.accept(CUSTOMER, quote.id, [KEY])
    world.run(5)
    assert world.lease(lease).state == "active"


def test_a_quote_without_a_hold_is_refused_once_others_have_the_capacity(world: World) -> None:
    world.holds = HoldLimits(hold_s=0)
    world.restart()
    quote = world.leases.quote(CUSTOMER, world.request(count=3))
    assert quote.held_until is None and world.leases.book(world.pool.id) == []
    world.sell(count=2, organization="org_other")
    with pytest.raises(NoCapacityError, match="has since been sold"):
        world.leases.accept(CUSTOMER, quote.id, [KEY])


def test_quotes_that_become_leases_do_not_count(world: World) -> None:
    for _ in range(12):
        lease = world.sell(count=4, seconds=60)
        world.run(70, 10)
        assert world.lease(lease).state == "ended"
    assert world.leases.quote(CUSTOMER, world.request(count=4)).held_until is not None


def test_a_long_window_is_held_for_less_and_its_price_stands_as_long(world: World) -> None:
    now = world.clock.now()
    day = world.leases.quote(CUSTOMER, world.request(1, seconds=DAY_S))
    long = world.leases.quote(CUSTOMER, world.request(1, seconds=3 * DAY_S))
    assert (day.held_until, long.held_until) == (now + timedelta(seconds=60), now + timedelta(seconds=20))
    assert long.expires_at == day.expires_at == now + timedelta(seconds=60)
    world.clock.advance(30)
    world.leases.tick()
    assert world.leases.accept(CUSTOMER, long.id, [KEY]).accelerators == 1, "the hold is over, the offer is not"


def test_an_accelerator_that_fails_under_a_quote_is_replaced_at_acceptance(world: World) -> None:
    quote = world.leases.quote(CUSTOMER, world.request(count=2))
    for unit in world.fleet.units(world.pool.id)[:2]:
        world.fleet.set_service(unit.id, False, "XID 79")
    lease = world.leases.accept(CUSTOMER, quote.id, [KEY])
    assert set(lease.devices) == {"cpu:2", "cpu:3"}


def test_a_canceled_quote_holds_nothing_and_makes_no_lease(world: World) -> None:
    quote = world.leases.quote(CUSTOMER, world.request(count=4))
    assert not free_for_others(world)
    canceled = world.leases.cancel_quote(CUSTOMER, quote.id)
    assert world.leases.cancel_quote(CUSTOMER, quote.id) == canceled
    assert free_for_others(world) and world.leases.open_quotes(CUSTOMER) == []
    with pytest.raises(QuoteExpiredError):
        world.leases.accept(CUSTOMER, quote.id, [KEY])
    with pytest.raises(NotFoundError):
        world.leases.cancel_quote("org_other", quote.id)
    with pytest.raises(WrongStateError, match="sublet lease end"):
        world.leases.cancel_quote(CUSTOMER, world.sell().quote_id)


def test_a_canceled_quote_counts_for_the_seconds_that_it_held(world: World) -> None:
    for _ in range(40):
        quote = world.leases.quote(CUSTOMER, world.request(count=4))
        assert quote.held_until is not None
        world.clock.advance(5)
        world.leases.cancel_quote(CUSTOMER, quote.id)


def test_canceling_and_asking_again_is_bounded_too(world: World) -> None:
    held_s = 0
    for _ in range(60):
        quote = world.leases.quote(CUSTOMER, world.request(count=4, seconds=7200))
        held_s += 30 if quote.held_until is not None else 0
        world.clock.advance(30)
        world.leases.cancel_quote(CUSTOMER, quote.id)
    assert held_s <= 0.11 * 3600, "half an hour in which it held six minutes"


def test_one_moment_has_a_limit_of_its_own(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, holds=HoldLimits(pool_share_max=0.5))
    kept = [world.leases.quote(CUSTOMER, world.request(1, seconds=600)).held_until for _ in range(3)]
    assert [moment is not None for moment in kept] == [True, True, False]


@given(
    st.lists(st.tuples(st.integers(1, 8), st.integers(0, 7200), st.integers(1, 60)), max_size=40),
    st.integers(1, 8),
    st.integers(60, 90 * DAY_S),
    st.floats(0, 1),
)
def test_no_hold_takes_more_than_its_share_of_the_hour(
    past: list[tuple[int, int, int]], accelerators: int, seconds: int, share: float
) -> None:
    limits = HoldLimits(idle_share_max=share)
    now = START + timedelta(hours=3)
    holds = [
        Hold(count, now - timedelta(seconds=ago), now - timedelta(seconds=ago - length)) for count, ago, length in past
    ]
    given_s = hold_s(limits, accelerators, Window.starting(now, seconds), 8, holds, now)
    assert given_s == 0 or HOLD_S_MIN <= given_s <= limits.hold_s
    since = now - timedelta(seconds=ROLLING_S)
    used = sum(hold.accelerators * max(0.0, (hold.end - max(hold.start, since)).total_seconds()) for hold in holds)
    assert given_s == 0 or used + given_s * accelerators <= share * 8 * ROLLING_S
    shorter = hold_s(limits, accelerators, Window.starting(now, max(60, seconds // 2)), 8, holds, now)
    assert shorter >= given_s, "a longer window is never held for longer"


def test_cancel_over_http(world: World) -> None:
    site = Site(world)
    body = {"pool": world.pool.name, "accelerators": 4, "duration_s": 3600}
    status, quote = site.call("alice", "POST", "/v1/quotes", body)
    assert status == 201 and quote["held_until"] and quote["on_failure"] == "shrink"
    assert [item["id"] for item in site.call("alice", "GET", "/v1/quotes")[1]["quotes"]] == [quote["id"]]
    assert site.call("bob", "POST", f"/v1/quotes/{quote['id']}/cancel")[0] == 404
    assert site.call("bob", "GET", "/v1/quotes")[1]["quotes"] == []
    assert site.call("team", "POST", f"/v1/quotes/{quote['id']}/cancel")[0] == 403
    for _ in range(2):
        assert site.call("alice", "POST", f"/v1/quotes/{quote['id']}/cancel")[0] == 200
    assert site.call("bob", "POST", "/v1/quotes", body)[0] == 201


def test_a_retried_request_gets_the_same_quote_whatever_it_holds(world: World) -> None:
    request = replace(world.request(4), on_failure=world.request().on_failure)
    first = world.leases.quote(CUSTOMER, request, "k")
    world.clock.advance(59)
    assert world.leases.quote(CUSTOMER, request, "k") == first
