"""Hours by a deadline in the whole system: admitted by the record and the forecast, run around the owner, billed and credited."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.app.test_console_acts import Console
from tests.app.worlds import recorded

from sublet.leases.backends import registry
from sublet.leases.model import Lease, LeaseState, NoCapacityError, Quote
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.volumes.service import NewVolume
from sublet.simulation.world import SSH_KEY
from sublet.simulation.world import World as SimulatedWorld
from sublet.surplus.deadlines.book import idle_of, orders_of
from sublet.surplus.deadlines.orders import kept_share
from sublet.values.clock import parse_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.windows import Window

ORDERS = [[1, 8], [4, 24]]
DEADLINE = {"broken_per_1000_max": 20, "orders": ORDERS}


class World(SimulatedWorld):
    """A pool of eight whose owner uses two, and a customer."""

    customer: str


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", accelerators=8, deadline=DEADLINE)
    made.customer = made.system.accounts.create_organization("tidal").id
    made.in_use = 2.0
    made.observe()
    yield made
    made.close()


@pytest.fixture
def known(tmp_path: Path) -> Iterator[World]:
    """The same pool with a record."""
    made = recorded(World, tmp_path / "w", days=20, need=0.25, deadline=DEADLINE)
    made.customer = made.system.accounts.create_organization("tidal").id
    yield made
    made.close()


def quoted(world: World, count: int, hours: float, within: float) -> Quote:
    end = world.clock.now() + timedelta(hours=within)
    wanted = QuoteRequest(count, "deadline", end, pool=world.pool.id, service_s=round(hours * 3600))
    return world.system.leases.quote(world.customer, wanted)


def ordered(world: World, count: int, hours: float, within: float) -> Lease:
    return world.system.leases.accept(world.customer, quoted(world, count, hours, within).id, [SSH_KEY])


def sellable(world: World, name: str, hours: float, ahead: float = 0) -> int:
    start = world.clock.now() + timedelta(hours=ahead)
    return world.system.surplus.sellable(world.pool.id, name, Window.starting(start, hours * 3600)).count


def test_a_pool_without_a_record_sells_none_and_says_so(world: World) -> None:
    with pytest.raises(NoCapacityError, match="no record of 1 h within 8 h yet"):
        quoted(world, 1, 1, 12)
    assert [item.count for item in world.system.surplus.orders_on_sale(world.pool.id)] == []


def test_hours_are_quoted_delivered_metered_and_billed_exactly(known: World) -> None:
    quote = quoted(known, 2, 1, 10)
    assert (quote.likely, quote.total_nano) == (1.0, round(2 * quote.price_nano))
    lease = known.system.leases.accept(known.customer, quote.id, [SSH_KEY])
    known.pass_time(3700)
    ended = known.system.leases.lease(lease.id)
    assert (ended.state, ended.end_reason, ended.metered_s) == (LeaseState.ENDED, "completed", 7200)
    usage = known.system.ledger.rate()
    assert usage is not None
    [promise] = known.system.leases.promises(known.pool.id, known.clock.now() - timedelta(days=1), 10)
    assert (promise.class_name, promise.outcome.value) == ("deadline", "kept")


def test_what_the_surplus_shows_can_be_ordered_and_no_more(known: World) -> None:
    shown = {str(item.kind): item.count for item in known.system.surplus.orders_on_sale(known.pool.id)}
    assert shown["1 h within 8 h"] > 0
    most = shown["1 h within 8 h"]
    with pytest.raises(NoCapacityError):
        quoted(known, most + 1, 1, 9)
    quoted(known, most, 1, 9)


@pytest.mark.parametrize(("hours", "within"), [(3, 6), (0.5, 0.6)])
def test_a_refusal_names_the_earliest_deadline_and_it_can_be_promised(
    known: World, hours: float, within: float
) -> None:
    with pytest.raises(NoCapacityError, match="earliest deadline that can be promised") as caught:
        quoted(known, 2, hours, within)
    earliest = parse_time(str(caught.value.details["earliest"]))
    later = (earliest - known.clock.now()) / timedelta(hours=1)
    assert later > within
    assert quoted(known, 2, hours, later).likely == 1.0


@pytest.mark.parametrize("hours", [1, 4, 12])
def test_stricter_classes_never_have_more_beside_deadline_orders(known: World, hours: float) -> None:
    ordered(known, 4, 4, 25)
    counts = [sellable(known, name, hours) for name in ("firm", "notice", "spot")]
    assert counts == sorted(counts)
    assert counts[-1] <= 6


def test_windows_leave_what_was_promised_by_a_deadline(known: World) -> None:
    """Whatever else is sold, everything that was promised is still kept on every path that the forecast calls possible."""
    ordered(known, 4, 4, 25)
    system, pool_id = known.system, known.pool.id
    while count := min(sellable(known, "spot", 20), 3):
        end = known.clock.now() + timedelta(hours=20)
        quote = system.leases.quote(known.customer, QuoteRequest(count, "spot", end, pool=pool_id))
        system.leases.accept(known.customer, quote.id, [SSH_KEY])
    with system.store.read() as connection:
        view = system.surplus.view(pool_id, None, connection)
        promised = system.capacity.orders(pool_id, connection)
        booked = system.capacity.book(pool_id, connection)
    idle = idle_of(view, booked, system.capacity.classes)
    assert kept_share(orders_of(promised, view.at), idle) == 1.0


def test_the_owner_takes_it_back_and_it_ends_in_time_all_the_same(known: World) -> None:
    lease = ordered(known, 6, 1, 10)
    known.pass_time(600)
    known.in_use = 8.0
    known.observe()
    known.pass_time(600)
    assert known.system.leases.lease(lease.id).state is LeaseState.PAUSED
    known.in_use = 2.0
    known.observe()
    known.pass_time(2 * 3600)
    ended = known.system.leases.lease(lease.id)
    assert (ended.end_reason, ended.metered_s, ended.pauses) == ("completed", 6 * 3600, 1)


def test_late_is_broken_once_and_credited_in_the_ledger(known: World) -> None:
    lease = ordered(known, 1, 1, 9)
    known.in_use = 8.0
    known.observe()
    known.crash()
    known.pass_time(10 * 3600, tick_s=300)
    ended = known.system.leases.lease(lease.id)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "late")
    assert ended.credit_nano == ended.price_nano * ended.undelivered_s // 7200 > 0
    [promise] = known.system.leases.promises(known.pool.id, known.clock.now() - timedelta(days=1), 10)
    assert promise.outcome.value == "broken"


def test_more_than_the_pool_has_is_refused(known: World) -> None:
    with pytest.raises(InvalidInputError, match="the pool has 8"):
        quoted(known, 9, 1, 9)


def test_the_console_shows_how_far_it_is_and_that_it_waits(known: World) -> None:
    console = Console(known)
    known.customer = console.organization("acme")
    lease = ordered(known, 2, 1, 10)
    known.pass_time(1200)
    path = f"/leases/{lease.id}"
    page = console.browsers["acme"].get(path)
    assert "Remaining slack" in page and "Extend: rent the following" not in page
    known.in_use = 8.0
    known.observe()
    known.pass_time(600)
    page = console.browsers["acme"].get(path)
    assert "waits for idle accelerators" in page and "paused" in page


def test_an_order_keeps_the_volumes_that_it_asks_for(known: World) -> None:
    system = known.system
    made = system.leases.volumes.create(known.customer, NewVolume("data", 64, known.pool.id))
    known.pass_time(60)
    end = known.clock.now() + timedelta(hours=10)
    wanted = QuoteRequest(1, "deadline", end, pool=known.pool.id, service_s=3600, volumes=("data",))
    lease = system.leases.accept(known.customer, system.leases.quote(known.customer, wanted).id, [SSH_KEY])
    assert lease.volumes == ((made.id, "data"),)
    with pytest.raises(ConflictError, match=f"attached to lease {lease.id}"):
        system.leases.quote(known.customer, wanted)
    known.pass_time(3700)
    assert system.leases.lease(lease.id).state is LeaseState.ENDED
    assert system.leases.quote(known.customer, replace(wanted, end=known.clock.now() + timedelta(hours=10))).volumes


def test_a_backend_that_pauses_nothing_sells_no_hours_by_a_deadline(
    known: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert known.system.surplus.orders_on_sale(known.pool.id)
    simulated = registry.KINDS["simulated"]
    monkeypatch.setitem(registry.KINDS, "simulated", replace(simulated, features=simulated.features - {"pauses"}))
    assert known.system.surplus.orders_on_sale(known.pool.id) == []
    with pytest.raises(InvalidInputError, match="does not support pauses"):
        quoted(known, 1, 1, 10)
