"""Whatever happens in whatever order: no accelerator is held twice, and a lease is kept, moved, or broken with its credit."""

from __future__ import annotations

import contextlib
import itertools
from datetime import timedelta

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.leases.moves.pools import TwoPools

from sublet.leases.model import Lease, LeaseState, credit_nano
from sublet.leases.quotes import calendar
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.values.clock import SimulatedClock
from sublet.values.errors import SubletError
from sublet.values.windows import Window

DOINGS = st.one_of(
    st.tuples(st.just("movable"), st.integers(1, 3), st.sampled_from([0, 900])),
    st.tuples(st.just("plain"), st.integers(1, 3), st.sampled_from([0, 900])),
    st.tuples(st.just("elsewhere"), st.integers(1, 3), st.sampled_from([0, 900])),
    st.tuples(st.just("need"), st.integers(0, 4), st.booleans()),
    st.tuples(st.just("reclaim"), st.integers(1, 4), st.sampled_from([0, 900])),
    st.tuples(st.just("fails"), st.integers(0, 3), st.booleans()),
    st.tuples(st.just("end"), st.integers(0, 5), st.just(0)),
    st.tuples(st.just("crash"), st.just(0), st.just(0)),
    st.tuples(st.just("pass"), st.sampled_from([30, 300, 900]), st.just(0)),
)


def _check(world: TwoPools) -> None:
    with world.store.read() as connection:
        fences = calendar.all_fences(connection)
    now = world.clock.now()
    standing = [fence for fence in fences if fence.expires_at is None or fence.expires_at > now]
    for one, other in itertools.combinations(standing, 2):
        assert one.unit_id != other.unit_id or not one.fenced.overlaps(other.fenced)
    live = {lease.id: lease for lease in world.leases.live_leases()}
    planned = {f"mov_{lease_id[4:]}" for lease_id, lease in live.items() if lease.move is not None}
    assert {fence.holder_id for fence in standing} <= {*live, *planned, *_quotes(world)}
    running = [unit for lease in live.values() if world.backend.observe(lease.id).state.live for unit in lease.unit_ids]
    assert len(running) == len(set(running)), "two leases run on one accelerator"


def _quotes(world: TwoPools) -> set[str]:
    return {quote.id for org in ("org_customer", "org_other") for quote in world.leases.open_quotes(org)}


def _do(world: TwoPools, kind: str, count: int, more: int, leases: list[Lease]) -> None:
    if kind == "movable":
        leases.append(world.sell_movable(count, seconds=2400, ahead_s=more))
    elif kind == "plain":
        leases.append(world.sell(count, seconds=2400, ahead_s=more))
    elif kind == "elsewhere":
        request = world.request(count, "notice", 2400, more)
        pool, world.pool = world.pool, world.other
        try:
            leases.append(world.sell(count, seconds=2400, ahead_s=more, organization="org_other"))
        finally:
            world.pool = pool
        assert request.accelerators == count
    elif kind == "need":
        world.need(count, world.other if more else world.pool)
    elif kind == "reclaim":
        start = world.clock.now() + timedelta(seconds=more)
        world.leases.reclaim(ReclaimOrder("metal", count, Window.starting(start, 1800), "needed", True), "operator")
    elif kind == "fails":
        units = world.fleet.units((world.other if more else world.pool).id)
        world.fleet.set_service(units[count].id, False, "fell off the bus")
    elif kind == "end" and leases:
        world.leases.end(leases[count % len(leases)].id)
    elif kind == "crash":
        world.restart()
    elif kind == "pass":
        world.run(count, 30)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(doings=st.lists(DOINGS, min_size=3, max_size=10))
def test_a_lease_is_kept_or_moved_or_broken_with_its_credit(store: Store, doings: list[tuple[str, int, int]]) -> None:
    with store.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    clock = store.clock
    assert isinstance(clock, SimulatedClock)
    world = TwoPools(store, clock)
    leases: list[Lease] = []
    for kind, count, more in doings:
        with contextlib.suppress(SubletError):
            _do(world, kind, count, int(more), leases)
        world.run(30, 30)
        _check(world)
    world.run(4500, 180)
    _check(world)
    credited = {note.lease_id: note.amount_nano for note in world.credits}
    for lease in leases:
        found = world.lease(lease)
        assert found.state.terminal and found.move is None
        assert found.price_nano == lease.price_nano and found.window.end == lease.window.end
        assert world.billed_s(lease) == found.metered_s
        if found.end_reason == "reclaimed" and found.reclaim_at is not None:
            assert found.state in (LeaseState.ENDED, LeaseState.CANCELED, LeaseState.FAILED)
            owed = credit_nano(found, found.reclaim_at)
            assert credited.get(lease.id, 0) == found.credit_nano and (owed == 0) == (found.credit_nano == 0)
        elif found.end_reason == "window_over":
            assert lease.id not in credited
    with store.read() as connection:
        assert calendar.all_fences(connection) == []
