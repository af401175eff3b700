"""The waiting list: who is offered what, when, for how long, and that no accelerator is offered twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select
from tests.conftest import _sqlite
from tests.leases.world import CUSTOMER, KEY, World, peak

from sublet.leases.model import QuoteExpiredError
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes.request import QuoteRequest
from sublet.leases.waitlist import service as module
from sublet.leases.waitlist.limits import WaitlistLimits
from sublet.leases.waitlist.model import (
    OFFERS_MAX,
    Entry,
    EntryState,
    NewEntry,
    WaitlistFullError,
    WaitlistStateError,
    in_turn,
    request_of,
)
from sublet.store.paging import PageRequest
from sublet.store.tables.audit import audit_entries
from sublet.store.tables.outbox import outbox_events
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError, NotFoundError, SubletError
from sublet.values.windows import Window

OTHER, THIRD = "org_other", "org_third"


def join(world: World, count: int = 1, organization: str = CUSTOMER, hours: float = 1, **more: Any) -> Entry:
    request = QuoteRequest(count, "notice", pool=world.pool.name, duration_s=round(hours * 3600))
    return world.leases.waitlist.join(organization, NewEntry(request, **more), "key_1")


def tend(world: World) -> list[str]:
    return [entry.id for entry in world.leases.waitlist.tend()]


def now_of(world: World, entry: Entry) -> Entry:
    return world.leases.waitlist.entry(entry.id, entry.organization_id)


def told(world: World) -> list[str]:
    with world.store.read() as connection:
        found = connection.execute(select(outbox_events.c.kind).order_by(outbox_events.c.at)).scalars()
        return [kind for kind in found if kind.startswith("waitlist.")]


def test_what_waits_is_offered_as_a_held_quote_once_there_is_capacity(world: World) -> None:
    sold = world.sell(4, seconds=7200, organization=OTHER)
    entry = join(world, 2)
    assert tend(world) == [] and now_of(world, entry).reason == module.NO_CAPACITY
    world.leases.end(sold.id)
    world.run(30)
    assert tend(world) == [entry.id] and tend(world) == []
    offered = now_of(world, entry)
    quote = world.leases.open_quotes(CUSTOMER)[0]
    assert offered.state is EntryState.OFFERED and offered.quote_id == quote.id
    # Held within the share that quotes may hold, and valid for as long as a person needs to read a message.
    assert quote.held_until is not None and quote.held_until > world.clock.now() + timedelta(seconds=60)
    assert (quote.expires_at - world.clock.now()).total_seconds() == WaitlistLimits().offer_s
    assert told(world) == ["waitlist.offered"]
    lease = world.leases.accept(CUSTOMER, quote.id, [KEY])
    tend(world)
    assert (now_of(world, entry).state, now_of(world, entry).lease_id) == (EntryState.LEASED, lease.id)


def test_nothing_is_bought_unless_the_request_says_so(world: World) -> None:
    asked, silent = join(world, 1, ssh_public_keys=(KEY,)), join(world, 1, OTHER)
    assert set(tend(world)) == {asked.id, silent.id}
    bought = now_of(world, asked)
    assert bought.state is EntryState.LEASED and world.leases.lease(bought.lease_id or "").organization_id == CUSTOMER
    assert now_of(world, silent).state is EntryState.OFFERED and world.leases.leases(OTHER) == []
    assert sorted(told(world)) == ["waitlist.bought", "waitlist.offered"]
    with world.store.read() as connection:
        rows = connection.execute(select(audit_entries.c.operation, audit_entries.c.organization_id)).all()
    assert {("leases.offer_waitlist_entry", CUSTOMER), ("leases.offer_waitlist_entry", OTHER)} == {
        (row.operation, row.organization_id) for row in rows
    }


def test_joining_and_leaving_again_and_again_fills_no_table(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OVER_KEPT", 3)
    other = join(world, 1, OTHER)
    for _ in range(8):
        world.leases.waitlist.leave(join(world, 1).id, CUSTOMER)
        world.clock.advance(1)
    standing = join(world, 1)
    kept = world.leases.waitlist.page(CUSTOMER, PageRequest()).items
    assert [entry.state for entry in kept] == [EntryState.WAITING, *[EntryState.LEFT] * 3] and kept[0].id == standing.id
    assert now_of(world, other).state is EntryState.WAITING


def test_a_price_above_the_limit_is_not_offered_and_is_named(world: World) -> None:
    entry = join(world, price_max_nano=1_500_000_000)
    assert tend(world) == []
    assert "above your limit of 1.5" in now_of(world, entry).reason
    world.price_nano = 1_500_000_000
    assert tend(world) == [entry.id]


def test_an_offer_that_lapses_goes_to_the_next_and_after_three_the_entry_leaves(world: World) -> None:
    first, second = join(world, 4), None
    world.clock.advance(1)
    second = join(world, 4, OTHER)
    assert tend(world) == [first.id]
    world.run(WaitlistLimits().offer_s + 1, 60)
    assert tend(world) == [second.id], "the one who let it lapse goes to the end of the line"
    order = [first.id]
    for _ in range(12):
        world.run(3601, 600)
        order += tend(world)
    ended = [now_of(world, item) for item in (first, second)]
    assert Counter(order)[first.id] == OFFERS_MAX and [item.offers for item in ended] == [OFFERS_MAX] * 2
    assert [item.state for item in ended] == [EntryState.LAPSED] * 2
    assert told(world).count("waitlist.lapsed") == 2


def test_every_organization_is_served_once_before_anyone_is_served_twice(world: World) -> None:
    many = []
    for _ in range(3):
        many.append(join(world))
        world.clock.advance(1)
    late = join(world, organization=OTHER)
    assert [entry.id for entry in in_turn([*many, late])] == [many[0].id, late.id, many[1].id, many[2].id]
    world.surplus = 2
    assert tend(world) == [many[0].id, late.id]
    world.surplus = 4
    world.clock.advance(1)
    third = join(world, organization=THIRD)
    # Two are free: the newcomer's first comes before the second of the one that has an offer.
    assert tend(world)[0] == third.id


def test_a_canceled_quote_counts_as_a_lapsed_offer_and_leaving_cancels_it(world: World) -> None:
    entry = join(world, 4)
    tend(world)
    quote_id = now_of(world, entry).quote_id or ""
    gone = world.leases.waitlist.leave(entry.id, CUSTOMER)
    assert gone.state is EntryState.LEFT and world.leases.book(world.pool.id) == []
    with pytest.raises(QuoteExpiredError):
        world.leases.accept(CUSTOMER, quote_id, [KEY])
    assert world.leases.waitlist.leave(entry.id, CUSTOMER).state is EntryState.LEFT
    again = join(world, 4)
    tend(world)
    world.leases.cancel_quote(CUSTOMER, now_of(world, again).quote_id or "")
    world.clock.advance(5)
    tend(world)
    assert now_of(world, again).offers >= 1
    lease = world.leases.accept(CUSTOMER, now_of(world, again).quote_id or "", [KEY])
    with pytest.raises(WaitlistStateError, match=lease.id):
        world.leases.waitlist.leave(again.id, CUSTOMER)


def test_limits_other_organizations_and_times_that_can_t_be(world: World) -> None:
    for _ in range(WaitlistLimits().entries_max):
        entry = join(world)
    with pytest.raises(WaitlistFullError, match="10 requests"):
        join(world)
    join(world, organization=OTHER)
    with pytest.raises(NotFoundError):
        world.leases.waitlist.entry(entry.id, OTHER)
    with pytest.raises(NotFoundError):
        world.leases.waitlist.leave(entry.id, OTHER)
    now = world.clock.now()
    for wrong in (
        {"expires_at": now}, {"expires_at": now + timedelta(days=31)}, {"count": 5}, {"hours": 24 * 400},
    ):  # fmt: skip
        with pytest.raises(InvalidInputError):
            join(world, organization=THIRD, **wrong)
    with pytest.raises(InvalidInputError, match="now"):
        request = QuoteRequest(1, "notice", now + timedelta(hours=1), now, world.pool.name)
        world.leases.waitlist.join(THIRD, NewEntry(request))
    with pytest.raises(NotFoundError):
        world.leases.waitlist.join(THIRD, NewEntry(QuoteRequest(1, "spot", pool="nowhere", duration_s=60)))


def test_a_request_never_waits_longer_than_it_can_be_met(world: World) -> None:
    world.surplus = 0
    now = world.clock.now()
    start = now + timedelta(hours=3)
    wanted = {
        "start": QuoteRequest(1, "notice", start + timedelta(hours=1), start, world.pool.name),
        "end": QuoteRequest(1, "notice", now + timedelta(hours=3, minutes=1), pool=world.pool.name),
        "anytime": QuoteRequest(1, "notice", pool=world.pool.name, duration_s=3600, finish_by=now + timedelta(hours=4)),
        "hours": QuoteRequest(1, "deadline", now + timedelta(hours=4), pool=world.pool.name, service_s=3600),
    }
    entries = [world.leases.waitlist.join(name, NewEntry(request)) for name, request in wanted.items()]
    assert {entry.expires_at for entry in entries} == {start}
    assert [now_of(world, entry).request for entry in entries] == [entry.request for entry in entries]
    assert all(request_of(entry.request.as_dict()) == entry.request for entry in entries)
    world.answer = type(world.answer)(False, 0, "", "no.", 0)
    world.clock.set(start)
    assert tend(world) == []
    assert {now_of(world, entry).state for entry in entries} == {EntryState.LAPSED}
    world.clock.advance(31 * 86_400)
    tend(world)
    with pytest.raises(NotFoundError):
        now_of(world, entries[0])


def test_unmet_demand_is_told_without_names(world: World) -> None:
    world.surplus = 0
    join(world, 2, hours=2, price_max_nano=1_000_000_000)
    join(world, 1, OTHER, price_max_nano=3_000_000_000)
    [found] = world.leases.waitlist.unmet()
    assert found.as_dict() | {"oldest": ""} == {
        "wanted": "metal", "class": "notice", "entries": 2, "organizations": 2, "accelerators": 3,
        "accelerator_hours": 5.0, "oldest": "",
        "price_limits": [{"currency": "USD", "lowest": "1.000000000", "highest": "3.000000000"}],
    }  # fmt: skip


class Killed(BaseException):
    pass


@pytest.mark.parametrize("step", ["insert_fences", "keep", "record_offer", "extend_quote"])
def test_a_round_that_is_killed_at_any_step_leaves_all_of_a_match_or_nothing(
    world: World, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = join(world, 2, ssh_public_keys=(KEY,))

    def die(*args: Any, **more: Any) -> None:
        raise Killed

    places = {
        "insert_fences": "sublet.leases.quotes.calendar.insert_fences",
        "keep": "sublet.leases.waitlist.store.keep",
        "record_offer": "sublet.leases.waitlist.events.record_offer",
        "extend_quote": "sublet.leases.waitlist.store.extend_quote",
    }
    with monkeypatch.context() as patch:
        patch.setattr(places[step], die)
        with pytest.raises(Killed):
            tend(world)
    assert now_of(world, entry).state is EntryState.WAITING
    assert world.leases.book(world.pool.id) == [] and world.leases.leases() == [] and told(world) == []
    world.restart()
    assert tend(world) == [entry.id] and len(world.leases.leases()) == 1


def test_two_processes_that_match_at_once_make_one_offer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = join(world, 3)
    first, second = world.leases.waitlist, world.restart().waitlist
    offer = first._offer

    def meanwhile(*args: Any) -> Any:
        # The other process looks and offers between this one's look and its offer.
        assert len(second.tend()) == 1
        return offer(*args)

    monkeypatch.setattr(first, "_offer", meanwhile)
    assert first.tend() == []
    assert now_of(world, entry).offers == 1 and len(world.leases.open_quotes(CUSTOMER)) == 1


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("join"), st.integers(1, 4), st.sampled_from([CUSTOMER, OTHER, THIRD]), st.booleans()),
        st.tuples(st.just("walk in"), st.integers(1, 4), st.sampled_from([CUSTOMER, OTHER]), st.just(False)),
        st.tuples(st.just("pass"), st.sampled_from([1, 30, 900, 3600]), st.just(""), st.just(False)),
        st.tuples(st.just("surplus"), st.integers(0, 4), st.just(""), st.just(False)),
        st.tuples(st.just("accept"), st.integers(0, 3), st.just(""), st.just(False)),
        st.tuples(st.just("leave"), st.integers(0, 3), st.just(""), st.just(False)),
    ),
    max_size=25,
)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ACTS)
def test_never_two_matches_from_one_free_accelerator(
    fresh_databases: Path, tmp_path: Path, acts: list[tuple[str, int, str, bool]]
) -> None:
    with _sqlite(tmp_path, fresh_databases, SimulatedClock()) as store:
        world = World(store, cast(SimulatedClock, store.clock))
        for kind, number, organization, buys in acts:
            step(world, kind, number, organization, buys)
            tend(world)
            now = world.clock.now()
            book = world.leases.book(world.pool.id)
            assert peak(book, Window.starting(now, 86_400)) <= world.accelerators
            entries = world.leases.waitlist.page(None, PageRequest()).items
            quotes = [entry.quote_id for entry in entries if entry.state in (EntryState.OFFERED, EntryState.LEASED)]
            assert len(set(quotes)) == len(quotes)
            assert all(entry.lease_id is not None for entry in entries if entry.state is EntryState.LEASED)


def step(world: World, kind: str, number: int, organization: str, buys: bool) -> None:
    standing = [item for item in world.leases.waitlist.page(None, PageRequest()).items if not item.state.over]
    try:
        if kind == "join":
            join(world, number, organization, ssh_public_keys=(KEY,) if buys else ())
        elif kind == "walk in":
            world.sell(number, seconds=1800, organization=organization)
        elif kind == "pass":
            world.run(number, max(1, number // 2))
        elif kind == "surplus":
            world.surplus = number
        elif standing and kind == "accept":
            chosen = standing[number % len(standing)]
            world.leases.accept(chosen.organization_id, chosen.quote_id or "none", [KEY])
        elif standing and kind == "leave":
            chosen = standing[number % len(standing)]
            world.leases.waitlist.leave(chosen.id, chosen.organization_id)
    except SubletError:
        pass


def test_matching_holds_on_both_databases(any_store: Any) -> None:
    world = World(any_store, any_store.clock)
    entries = []
    for count, organization, keys in ((2, CUSTOMER, ()), (2, OTHER, (KEY,)), (1, THIRD, ())):
        entries.append(join(world, count, organization, ssh_public_keys=keys))
        world.clock.advance(1)
    assert set(tend(world)) == {entries[0].id, entries[1].id}
    assert peak(world.leases.book(world.pool.id), Window.starting(world.clock.now(), 3600)) == 4
    world.leases.waitlist.leave(entries[0].id, CUSTOMER)
    assert tend(world) == [entries[2].id]


def test_without_room_for_entries_there_is_no_waiting_list(world: World) -> None:
    ports: LeasePorts = world.leases._ports
    closed = module.Waitlist(world.store, replace(ports, waitlist=WaitlistLimits(entries_max=0)))
    with pytest.raises(WaitlistFullError):
        closed.join(CUSTOMER, NewEntry(QuoteRequest(1, "notice", pool=world.pool.name, duration_s=600)))
