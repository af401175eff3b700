"""What a refused customer is offered can be accepted as it is, holds nothing, and never piles up; windows of any start."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import Connection, select
from tests.leases.world import CUSTOMER, KEY, PRICE_NANO, World, pool_spec

from sublet.leases import store as sql
from sublet.leases.changes.extending import Extensions
from sublet.leases.changes.model import ChangeRequest, ExtensionRefusedError
from sublet.leases.model import NoCapacityError, QuoteExpiredError
from sublet.leases.quotes import calendar
from sublet.leases.quotes.request import QuoteRequest
from sublet.store.tables.leases import quotes
from sublet.surplus.model import BeyondForecastError
from sublet.values.clock import parse_time
from sublet.values.errors import InvalidInputError
from sublet.values.money import text_from_nano
from sublet.values.windows import Window


def refused(world: World, request: QuoteRequest, who: str = CUSTOMER) -> list[dict[str, object]]:
    with pytest.raises(NoCapacityError) as refusal:
        world.leases.quote(who, request)
    return list(refusal.value.details["alternatives"])


def test_every_alternative_is_accepted_as_it_is_at_its_price(world: World) -> None:
    world.fleet.sync([pool_spec("metal", 4), pool_spec("other", 4, "gpu")])
    world.sell(3, seconds=1200, organization="org_other")
    wanted = world.request(2, seconds=600)
    offers = refused(world, wanted)
    kinds = [str(item["kind"]) for item in offers]
    assert kinds[0] == "fewer" and {"start", "pool", "deadline"} <= set(kinds)
    assert world.leases.quote(CUSTOMER, world.request(1)).held_until is not None
    for item in offers:
        hours = item.get("service_s", (parse_time(str(item["end"])) - parse_time(str(item["start"]))).seconds)
        assert item["total"] == text_from_nano(
            round(PRICE_NANO * int(str(item["accelerators"])) * int(str(hours)) / 3600)
        )
    later = next(item for item in offers if item["kind"] == "start")
    lease = world.leases.accept(CUSTOMER, str(later["quote_id"]), [KEY])
    assert lease.accelerators == 2 and lease.window.seconds == 600
    assert timedelta(seconds=1200) <= lease.window.start - world.clock.now() < timedelta(seconds=1300)
    other = next(item for item in offers if item["kind"] == "pool")
    assert world.leases.accept(CUSTOMER, str(other["quote_id"]), [KEY]).pool_id == other["pool_id"] != world.pool.id


def test_offers_hold_nothing_count_for_no_limit_and_the_next_refusal_replaces_them(world: World) -> None:
    world.sell(4, seconds=1200, organization="org_other")
    first = refused(world, world.request(2, seconds=600))
    for _ in range(30):
        offers = refused(world, world.request(2, seconds=600))
    with world.store.read() as connection:
        now = world.clock.now()
        kept = select(quotes.c.id).where(quotes.c.organization_id == CUSTOMER, quotes.c.expires_at > now)
        assert set(connection.execute(kept).scalars()) == {item["quote_id"] for item in offers} and len(offers) <= 8
        assert sql.open_quotes(connection, CUSTOMER, now) == [], "what comes with a refusal is not in the list"
        assert sql.count_open_quotes(connection, CUSTOMER, now) == 0
        assert {item.organization_id for item in calendar.all_fences(connection)} == {"org_other"}
    with pytest.raises(QuoteExpiredError):
        world.leases.accept(CUSTOMER, str(first[0]["quote_id"]), [KEY])
    # What is offered is admitted when it is accepted, not before.
    later = next(item for item in offers if item["kind"] == "start")
    start = parse_time(str(later["start"]))
    world.leases.accept(
        "org_other",
        world.leases.quote("org_other", replace(world.request(4), start=start, end=parse_time(str(later["end"])))).id,
        [KEY],
    )
    with pytest.raises(NoCapacityError):
        world.leases.accept(CUSTOMER, str(later["quote_id"]), [KEY])


def test_a_window_of_any_start_is_the_earliest_that_is_sold(world: World) -> None:
    now = world.clock.now()
    world.sell(3, seconds=7200, organization="org_other")
    request = QuoteRequest(4, "notice", pool=world.pool.name, duration_s=3600, finish_by=now + timedelta(hours=12))
    quote = world.leases.quote(CUSTOMER, request)
    clean_s = world.timing.clean_s
    assert quote.window.start == now + timedelta(seconds=7200 + clean_s) and quote.window.seconds == 3600
    assert world.leases.accept(CUSTOMER, quote.id, [KEY]).window == quote.window
    soon = replace(request, accelerators=1)
    assert world.leases.quote(CUSTOMER, soon).window.start == now
    assert refused(world, replace(request, finish_by=now + timedelta(hours=2)))
    for wrong in (
        replace(request, finish_by=now + timedelta(minutes=59)),
        replace(request, duration_s=None, end=now + timedelta(hours=1)),
        replace(request, start=now + timedelta(hours=12)),
    ):
        with pytest.raises(InvalidInputError):
            world.leases.quote(CUSTOMER, wrong)


def test_a_window_of_any_start_is_looked_for_as_far_as_the_forecast_reaches(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The starts beyond the forecast are passed over; a window that was asked for itself is refused."""
    sold, now = world.sellable, world.clock.now()

    def within_an_hour(connection: Connection, pool_id: str, class_name: str, window: Window) -> int:
        if window.end > now + timedelta(hours=1):
            raise BeyondForecastError("too far")
        return sold(connection, pool_id, class_name, window)

    ports = replace(world.leases._ports, sellable=within_an_hour)
    monkeypatch.setattr(world.leases._admission, "_ports", ports)
    monkeypatch.setattr(world.leases.changes, "_extensions", Extensions(ports))
    lease = world.sell(4, seconds=600, organization="org_other")
    wanted = QuoteRequest(4, "notice", pool=world.pool.name, duration_s=1200, finish_by=now + timedelta(hours=30))
    assert refused(world, replace(wanted, accelerators=5))
    with pytest.raises(ExtensionRefusedError) as refusal:
        world.leases.change(lease.id, ChangeRequest(end=now + timedelta(hours=2)), "org_other")
    longest = parse_time(str(refusal.value.details["longest_end"]))
    assert now + timedelta(minutes=59) < longest <= now + timedelta(hours=1)
    assert world.leases.quote(CUSTOMER, wanted).window.start < now + timedelta(minutes=20)
    far = now + timedelta(hours=3)
    with pytest.raises(BeyondForecastError):
        world.leases.quote(CUSTOMER, QuoteRequest(1, "notice", pool=world.pool.name, start=far, duration_s=600))


def test_hours_by_a_deadline_have_no_finish_by(world: World) -> None:
    request = replace(world.order_request(1, 8), finish_by=world.clock.now() + timedelta(hours=9))
    with pytest.raises(InvalidInputError, match="finish_by"):
        world.leases.quote(CUSTOMER, request)
