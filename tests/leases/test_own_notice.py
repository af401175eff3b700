"""A notice longer than the class's: what it costs, when it is sold, and that the owner keeps to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.leases.test_reclaim import order
from tests.leases.world import CUSTOMER, KEY, PRICE_NANO, World

from sublet.leases.changes.model import ChangeRequest, ExtensionRefusedError
from sublet.leases.model import Lease, NoCapacityError
from sublet.leases.quotes.request import QuoteRequest
from sublet.simulation.world import World as Simulated
from sublet.store.tables.leases import fences
from sublet.values.errors import InvalidInputError
from sublet.values.service_classes import SHIPPED
from sublet.values.windows import Window

LONG_S = 3_900
FACTOR = 1.05
"""An hour more than the class's five minutes, at five percent an hour."""


def wanted(world: World, count: int = 1, notice_s: int | None = LONG_S, class_name: str = "notice") -> QuoteRequest:
    return QuoteRequest(count, class_name, pool=world.pool.name, duration_s=4 * 3600, notice_s=notice_s)


def sold(world: World, count: int = 1) -> Lease:
    return world.leases.accept(CUSTOMER, world.leases.quote(CUSTOMER, wanted(world, count)).id, [KEY])


def test_the_quote_names_the_notice_its_price_and_the_rule(world: World) -> None:
    quote = world.leases.quote(CUSTOMER, wanted(world))
    assert (quote.notice_s, quote.price_nano) == (LONG_S, PRICE_NANO * FACTOR)
    assert quote.notice_rule == ("65 minutes of notice instead of 5 add 5 % to the price: 5 % for each further hour.")
    [listed] = world.leases.open_quotes(CUSTOMER)
    assert listed == quote
    plain = world.leases.quote(CUSTOMER, wanted(world, notice_s=300))
    assert (plain.notice_s, plain.price_nano, plain.notice_rule) == (300, PRICE_NANO, "")


@pytest.mark.parametrize(
    ("class_name", "notice_s"),
    [("notice", 299), ("notice", 4 * 3600 + 1), ("firm", 600), ("spot", 600), ("deadline", 600)],
)
def test_a_notice_that_a_class_is_not_sold_with_is_refused(world: World, class_name: str, notice_s: int) -> None:
    request = wanted(world, notice_s=notice_s, class_name=class_name)
    with pytest.raises(InvalidInputError, match="notice"):
        world.leases.quote(CUSTOMER, request)


def test_it_is_sold_only_where_the_surplus_can_keep_it_and_the_class_is_offered_instead(world: World) -> None:
    world.noticed = 1
    with pytest.raises(NoCapacityError) as refused:
        world.leases.quote(CUSTOMER, wanted(world, 2))
    first = refused.value.details["alternatives"][0]
    assert (first["kind"], first["class"], first["accelerators"]) == ("notice", "notice", 2)
    quote = world.leases.quote(CUSTOMER, wanted(world, 1))
    world.noticed = 0
    with pytest.raises(NoCapacityError):
        world.leases.accept(CUSTOMER, quote.id, [KEY])


def test_a_reclaim_gives_the_lease_its_own_notice_and_others_theirs(world: World) -> None:
    own, usual = sold(world), world.sell(1, seconds=4 * 3600)
    world.run(60, 10)
    now = world.clock.now()
    world.leases.reclaim(order(world, 4), "owner")
    assert world.lease(own).reclaim_at == now + timedelta(seconds=LONG_S)
    assert world.lease(usual).reclaim_at == now + timedelta(seconds=300)
    world.run(600, 10)
    assert world.lease(usual).state.terminal and not world.lease(own).state.terminal
    world.run(LONG_S, 30)
    assert world.lease(own).state.terminal


def test_rising_demand_gives_notice_as_early_as_the_longer_notice_needs(world: World) -> None:
    own = sold(world, 2)
    world.run(60, 10)
    now = world.clock.now()
    world.stay = 0
    world.run(10)
    told = world.lease(own).reclaim_at
    assert told is not None and told >= now + timedelta(seconds=LONG_S)


def test_an_extension_keeps_the_notice_its_price_and_its_check(world: World) -> None:
    lease = sold(world)
    until = lease.window.end + timedelta(hours=1)
    world.noticed = 0
    with pytest.raises(ExtensionRefusedError):
        world.leases.change(lease.id, ChangeRequest(end=until), CUSTOMER)
    world.noticed = 4
    world.price_nano = 2 * PRICE_NANO
    world.leases.change(lease.id, ChangeRequest(end=until), CUSTOMER)
    assert world.lease(lease).price_at(lease.window.end) == 2 * PRICE_NANO * FACTOR
    assert world.lease(lease).notice_s == LONG_S


def test_in_the_calendar_it_counts_for_its_whole_window(world: World) -> None:
    sold(world)
    world.sell(1)
    with world.store.read() as connection:
        names = set(connection.execute(select(fences.c.class_name)).scalars())
    assert names == {"+notice", "notice"}


def test_terms_that_a_class_no_longer_has_do_not_break_an_extension(world: World) -> None:
    lease = sold(world)
    changed = [replace(item, longest_notice_s=0) if item.name == "notice" else item for item in SHIPPED.values()]
    world.classes = type(SHIPPED)(changed)
    leases = world.restart()
    leases.change(lease.id, ChangeRequest(end=lease.window.end + timedelta(hours=1)), CUSTOMER)
    assert world.lease(lease).notice_s == LONG_S


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Simulated]:
    world = Simulated(tmp_path / "w")
    world.remember(days=8, need=0.4, spread=0.2)
    yield world
    world.close()


def test_the_real_rule_never_sells_more_with_a_longer_notice(measured: Simulated) -> None:
    surplus, pool, now = measured.system.surplus, measured.pool, measured.clock.now()
    for hours in (1, 4, 12):
        window = Window.starting(now, hours * 3600)
        counts = [surplus.sellable(pool.id, "notice", window, notice_s=each).count for each in (None, 3600, 4 * 3600)]
        firm, usual = surplus.sellable(pool.id, "firm", window).count, counts[0]
        assert counts == sorted(counts, reverse=True) and firm <= usual, (hours, counts)
    organization = measured.system.accounts.create_organization("acme").id
    leases = measured.system.leases
    before = surplus.sellable(pool.id, "firm", Window.starting(now, 3600)).count
    request = QuoteRequest(1, "notice", pool=pool.name, duration_s=3600, notice_s=3600)
    lease = leases.accept(organization, leases.quote(organization, request).id, [KEY])
    after = surplus.sellable(pool.id, "firm", Window.starting(now, 3600)).count
    assert lease.notice_s == 3600 and after <= before
