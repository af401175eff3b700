"""Whatever comes in whatever order, with a crash between any two steps: nothing is held twice, and what is delivered is billed."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.leases.world import CUSTOMER, World

from sublet.leases.backends.simulated import Faults
from sublet.leases.model import Lease, LeaseState
from sublet.leases.quotes import calendar
from sublet.store import Store
from sublet.store.schema import migrate
from sublet.values.clock import SimulatedClock
from sublet.values.errors import SubletError

_NUMBERS = itertools.count()
DOINGS = st.one_of(
    st.tuples(st.just("order"), st.integers(1, 4), st.sampled_from([0.25, 0.5, 1.0]), st.sampled_from([1.5, 3.0, 6.0])),
    st.tuples(st.just("window"), st.integers(1, 3), st.sampled_from(["firm", "notice", "spot"]), st.integers(0, 3600)),
    st.tuples(st.just("stay"), st.integers(0, 4)),
    st.tuples(st.just("end"), st.integers(0, 5)),
    st.tuples(st.just("crash")),
    st.tuples(st.just("dies"), st.integers(0, 5)),
    st.tuples(st.just("pass"), st.sampled_from([60, 600, 1800])),
)


def _check(world: World) -> None:
    """No accelerator has two holders, and no lease that waits runs."""
    with world.store.read() as connection:
        fences = calendar.all_fences(connection)
    for one, other in itertools.combinations(fences, 2):
        assert one.unit_id != other.unit_id or not one.fenced.overlaps(other.fenced)
    running: list[str] = []
    for lease in world.leases.live_leases():
        seen = world.backend.observe(lease.id)
        if lease.waits:
            assert not seen.state.live, f"{lease.id} is {lease.state} and runs"
        elif seen.state.live:
            running += lease.unit_ids
    assert len(running) == len(set(running)), "two leases run on one accelerator"


def _do(world: World, doing: tuple[object, ...], leases: list[Lease]) -> None:
    kind, *rest = doing
    if kind == "order":
        leases.append(world.order(rest[1], rest[2], rest[0]))  # type: ignore[arg-type]
    elif kind == "window":
        leases.append(world.sell(rest[0], rest[1], seconds=1200, ahead_s=rest[2]))  # type: ignore[arg-type]
    elif kind == "stay":
        world.stay = int(str(rest[0]))
    elif kind == "crash":
        world.restart()
    elif kind == "pass":
        world.run(int(str(rest[0])), 60)
    elif leases:
        lease = leases[int(str(rest[0])) % len(leases)]
        if kind == "end":
            world.leases.end(lease.id, CUSTOMER)
        else:
            world.backend.crash(lease.id)


@given(doings=st.lists(DOINGS, min_size=3, max_size=8))
@settings(max_examples=4, deadline=None)
def test_nothing_is_held_twice_and_delivered_metered_and_billed_are_one(
    tmp_path_factory: pytest.TempPathFactory, doings: list[tuple[object, ...]]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    clock = SimulatedClock()
    store = Store(f"sqlite:///{folder}/{next(_NUMBERS)}.db", clock)
    migrate(store)
    world = World(store, clock, faults=Faults(start_s=5))
    leases: list[Lease] = []
    try:
        for doing in doings:
            with contextlib.suppress(SubletError):
                _do(world, doing, leases)
            world.run(60, 30)
            _check(world)
        world.stay = 4
        world.run(7 * 3600, 900)
        for lease in leases:
            _check_over(world, lease)
    finally:
        store.close()


def _check_over(world: World, lease: Lease) -> None:
    over = world.lease(lease)
    assert over.state.terminal, over.state
    assert world.billed_s(lease) == over.metered_s
    notes = [note for note in world.credits if note.lease_id == lease.id]
    if over.service_s is None:
        return
    whole = over.service_s * over.accelerators
    assert over.metered_s <= whole
    assert (over.end_reason == "completed") == (over.metered_s == whole)
    assert len(notes) == (1 if over.end_reason == "late" else 0)
    assert over.state is not LeaseState.FAILED
    for note in notes:
        assert note.amount_nano == over.credit_nano > 0
