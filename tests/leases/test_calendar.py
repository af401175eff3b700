"""No oversell: whatever is quoted, accepted, canceled and reclaimed, checked against a model that cannot be clever."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from sqlalchemy import Connection
from tests.leases.world import KEY, World, peak

from sublet.leases.model import NoCapacityError, SoldWindow, Timing
from sublet.leases.quotes.admission import QuoteRequest
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.store.tables.leases import fences
from sublet.values.clock import SimulatedClock
from sublet.values.errors import ConflictError, LimitExceededError
from sublet.values.windows import Window

CLEAN_S = 5


def rows(connection: Connection, now: datetime) -> list[tuple[str, str, datetime, datetime]]:
    """(unit, holder, fence start, fence end) of every hold that counts."""
    return [
        (row.unit_id, row.holder_id, row.fence_start, row.fence_end)
        for row in connection.execute(fences.select())
        if row.expires_at is None or row.expires_at > now
    ]


def assert_no_overlap(store: Store, now: datetime) -> None:
    with store.read() as connection:
        held = sorted(rows(connection, now), key=lambda row: (row[0], row[2]))
    for before, after in pairwise(held):
        if before[0] == after[0]:
            assert before[3] <= after[2], f"{before} and {after} hold the same accelerator"


class Naive:
    """The book as a list, and the rule as a loop over every second that matters."""

    def __init__(self, accelerators: int) -> None:
        self.accelerators = accelerators
        self.held: dict[str, tuple[int, Window, datetime | None]] = {}

    def fits(self, count: int, window: Window, now: datetime, surplus: int) -> bool:
        live = [item for item in self.held.values() if item[2] is None or item[2] > now]
        moments = [window.start, *(item[1].start for item in live if window.contains(item[1].start))]
        most = max(sum(item[0] for item in live if item[1].contains(moment)) for moment in moments)
        return most + count <= surplus


class Book(RuleBasedStateMachine):
    """One pool of three, windows on a grid of minutes so that edges meet, holds that expire."""

    quotes = Bundle("quotes")
    leases = Bundle("leases")

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.mkdtemp()
        self.clock = SimulatedClock()
        self.store = Store(f"sqlite:///{self.directory}/x.db", self.clock)
        metadata.create_all(self.store.engine)
        self.world = World(self.store, self.clock, accelerators=3, timing=Timing(clean_s=0))
        self.naive = Naive(3)
        self.names = 0

    def teardown(self) -> None:
        self.store.close()
        shutil.rmtree(self.directory)

    @rule(target=quotes, count=st.integers(1, 3), start=st.integers(0, 8), minutes=st.integers(1, 6))
    def ask(self, count: int, start: int, minutes: int) -> str:
        now = self.clock.now()
        window = Window.starting(now + timedelta(minutes=start), 60 * minutes)
        self.names += 1
        request = QuoteRequest(count, "notice", window.end, window.start, self.world.pool.name)
        expected = self.naive.fits(count, window, now, self.world.surplus)
        try:
            quote = self.world.leases.quote(f"org_{self.names}", request)
        except NoCapacityError:
            # Windows that each fit the count may still leave no single accelerator free throughout.
            assert not expected or self._fragmented(count, window)
            return ""
        assert expected, "sold more than the surplus"
        self.naive.held[quote.id] = (count, window, quote.expires_at)
        return f"{quote.id} org_{self.names}"

    def _fragmented(self, count: int, window: Window) -> bool:
        now = self.clock.now()
        with self.store.read() as connection:
            busy = {unit for unit, _, start, end in rows(connection, now) if start < window.end and end > window.start}
        return 3 - len(busy) < count

    @rule(target=leases, quote=quotes)
    def take(self, quote: str) -> str:
        if not quote:
            return ""
        quote_id, organization = quote.split()
        if quote_id not in self.naive.held:
            return ""
        count, window, expires_at = self.naive.held[quote_id]
        now = self.clock.now()
        live = expires_at is None or (expires_at > now and window.end > now)
        others = Naive(3)
        others.held = {key: value for key, value in self.naive.held.items() if key != quote_id}
        fits = expires_at is None or others.fits(count, window, now, self.world.surplus)
        try:
            lease = self.world.leases.accept(organization, quote_id, [KEY])
        except ConflictError:
            assert not (live and fits)
            return ""
        assert live and fits
        self.naive.held[quote_id] = (count, window, None)
        return f"{lease.id} {quote_id}"

    @rule(lease=leases)
    def cancel(self, lease: str) -> None:
        if lease:
            lease_id, quote_id = lease.split()
            if self.world.leases.end(lease_id).state.terminal:
                self.naive.held.pop(quote_id, None)

    @rule(seconds=st.sampled_from([10, 59, 60, 61]))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)

    @rule(surplus=st.integers(0, 3))
    def owner_changes_his_need(self, surplus: int) -> None:
        self.world.surplus = surplus

    @invariant()
    def no_accelerator_is_held_twice(self) -> None:
        assert_no_overlap(self.store, self.clock.now())


Book.TestCase.settings = settings(
    max_examples=25, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
TestBook = Book.TestCase


def test_f1_twenty_at_once_for_the_last_three(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock, accelerators=3)
    assert race(world, 20) == 3
    assert_no_overlap(store, clock.now())


@pytest.mark.real
def test_f1_twenty_at_once_on_postgresql(postgres_store: Store, clock: SimulatedClock) -> None:
    world = World(postgres_store, clock, accelerators=3)
    assert race(world, 20) == 3
    assert_no_overlap(postgres_store, clock.now())


@pytest.mark.real
def test_four_control_planes_on_postgresql_never_oversell(postgres_store: Store, clock: SimulatedClock) -> None:
    """Each with its own connections; windows overlap in every way; the surplus is less than the capacity."""
    worlds = [World(postgres_store, clock, accelerators=6)]
    for _ in range(3):
        other = Store(postgres_store.url.render_as_string(hide_password=False), clock)
        worlds.append(World(other, clock, accelerators=6))
    for world in worlds:
        world.surplus = 4
    sold = []

    def buy(number: int) -> None:
        world = worlds[number % 4]
        for turn in range(5):
            start = (number * 7 + turn * 13) % 50
            request = QuoteRequest(
                1 + number % 2,
                "notice",
                clock.now() + timedelta(minutes=start + 20),
                clock.now() + timedelta(minutes=start),
                world.pool.name,
            )
            try:
                quote = world.leases.quote(f"org_{number}", request)
                sold.append(world.leases.accept(f"org_{number}", quote.id, [KEY]))
            except (NoCapacityError, LimitExceededError):
                continue

    with threads([lambda number=number: buy(number) for number in range(16)]):
        pass
    assert sold
    book = [SoldWindow(lease.accelerators, lease.class_name, lease.window) for lease in sold]
    for lease in sold:
        assert peak(book, lease.window) <= 4
    assert_no_overlap(postgres_store, clock.now())
    for world in worlds[1:]:
        world.store.close()


def race(world: World, count: int) -> int:
    """How many of `count` customers who ask at once get the one accelerator they ask for."""
    barrier, got = threading.Barrier(count), []

    def buy(number: int) -> None:
        barrier.wait()
        try:
            quote = world.leases.quote(f"org_{number}", world.request())
            got.append(world.leases.accept(f"org_{number}", quote.id, [KEY]))
        except NoCapacityError:
            return

    with threads([lambda number=number: buy(number) for number in range(count)]):
        pass
    return len(got)


@contextmanager
def threads(calls: list[object]) -> Iterator[None]:
    errors: list[BaseException] = []

    def guarded(call: object) -> None:
        try:
            call()  # type: ignore[operator]
        except BaseException as error:
            errors.append(error)

    running = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in running:
        thread.start()
    yield
    for thread in running:
        thread.join(60)
    assert not errors, errors


def test_a_generation_is_met_by_any_of_its_pools(store: Store, clock: SimulatedClock, tmp_path: Path) -> None:
    from tests.leases.world import pool_spec

    world = World(store, clock, accelerators=1)
    world.fleet.sync([pool_spec("metal", 1), pool_spec("metal-2", 1)])
    end = clock.now() + timedelta(hours=1)
    pools = {world.leases.quote("org_a", QuoteRequest(1, "spot", end, None, None, "cpu")).pool_id for _ in range(2)}
    assert len(pools) == 2
    with pytest.raises(NoCapacityError):
        world.leases.quote("org_a", QuoteRequest(1, "spot", end, None, None, "cpu"))


def test_f13_a_pool_that_closes_before_the_end_is_not_sold(world: World) -> None:
    world.fleet.sync([])
    with pytest.raises(NoCapacityError, match="goes offline"):
        world.sell()


@pytest.mark.real
def test_the_life_of_a_lease_on_postgresql(postgres_store: Store, clock: SimulatedClock) -> None:
    from sublet.leases.reclaim.orders import ReclaimOrder

    world = World(postgres_store, clock)
    lease = world.sell(count=4, seconds=3600)
    world.run(65, step_s=5)
    window = Window.starting(clock.now(), 600)
    first = world.leases.reclaim(ReclaimOrder(world.pool.name, 2, window, "run"), "team", "key")
    assert world.leases.reclaim(ReclaimOrder(world.pool.name, 2, window, "run"), "team", "key")["id"] == first["id"]
    world.run(330, step_s=15)
    ended = world.lease(lease)
    assert (ended.state.value, ended.end_reason) == ("ended", "reclaimed")
    assert world.billed_s(lease) == ended.metered_s > 0 and len(world.credits) == 1
    assert world.leases.book(world.pool.id) == [] and world.leases.leases(live_only=True) == []
    assert [item.id for item in world.leases.leases()] == [lease.id]
