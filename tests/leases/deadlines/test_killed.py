"""The control plane dies at every step in the life of leases with a deadline, on both databases; the books stay right."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.leases.test_calendar import assert_no_overlap
from tests.leases.test_recovery import Deadly, Killed
from tests.leases.world import CUSTOMER, KEY, World

from sublet.leases.backends.base import RunState
from sublet.leases.model import Lease, LeaseState
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.values.clock import SimulatedClock

ROUND_S = 60
HOURS = 0.25
Make = Callable[[], World]


def insist(world: World, act: Callable[[], Any]) -> Any:
    """What `act` gives, however often the control plane dies meanwhile."""
    while True:
        try:
            return act()
        except Killed:
            world.restart()


def play(world: World) -> dict[str, Any]:
    """Quoted, held, accepted, started, asked to pause, kept, paused, resumed and completed; and another one that is late."""

    def run(rounds: int) -> None:
        for _ in range(rounds):
            world.clock.advance(ROUND_S)
            insist(world, lambda: world.leases.tick())
            check(world)

    def order(name: str, by_hours: float, count: int) -> Lease:
        request = world.order_request(HOURS, by_hours, count)
        quote = insist(world, lambda: world.leases.quote(CUSTOMER, request, f"quote {name}"))
        assert quote.held_until is not None
        lease: Lease = insist(world, lambda: world.leases.accept(CUSTOMER, quote.id, [KEY], f"lease {name}"))
        return lease

    kept = order("kept", 6, 3)
    run(4)
    world.stay = 1
    run(1)
    world.stay = 4
    run(2)
    world.stay = 0
    run(6)
    late = order("late", 0.5, 1)
    run(35)
    world.stay = 4
    run(25)
    leases = [world.lease(kept), world.lease(late)]
    return {
        "leases": [(item.state, item.end_reason, item.metered_s, item.credit_nano) for item in leases],
        "billed": [world.billed_s(item) for item in leases],
        "credits": [(len({note.id for note in world.credits}), sum({n.id: n.amount_nano for n in world.credits}.values()))],
        "sold": len(world.leases.leases()),
        "left": sorted(world.backend.observe_all()),
        "book": world.leases.book(world.pool.id),
    }  # fmt: skip


def check(world: World) -> None:
    """At any moment: nothing is held twice, and what runs has the accelerators that the books say."""
    assert_no_overlap(world.store, world.clock.now())
    running = [
        lease
        for lease in world.leases.leases(live_only=True)
        if world.backend.observe(lease.id).state is RunState.RUNNING
    ]
    devices = [device for lease in running for device in lease.devices]
    assert len(devices) == len(set(devices)), "two sandboxes on one accelerator"


def _kill_everywhere(make: Make, stride: int) -> None:
    calm = make()
    counter = Deadly(calm)
    expected = play(calm)
    steps = counter.reached
    (kept, late) = expected["leases"]
    assert kept == (LeaseState.ENDED, "completed", round(3 * HOURS * 3600), 0)
    assert late[:3] == (LeaseState.ENDED, "late", 0) and late[3] > 0
    assert expected["billed"] == [kept[2], 0] and expected["left"] == [] and expected["book"] == []
    assert expected["credits"] == [(1, late[3])]
    assert steps > 30
    for step in range(0, steps, stride):
        for after in (False, True):
            world = make()
            deadly = Deadly(world)
            deadly.left, deadly.after = step, after
            assert play(world) == expected, f"killed {'after' if after else 'before'} step {step} of {steps}"


def _rows_gone(store: Store) -> None:
    with store.engine.begin() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())


@pytest.fixture
def stores(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Callable[[SimulatedClock], Store]]:
    """Empty databases, one after the other."""
    url = request.param or f"sqlite:///{tmp_path}/x.db"
    url = request.getfixturevalue("postgres_url") if url == "postgres" else url
    opened: list[Store] = []

    def fresh(clock: SimulatedClock) -> Store:
        for store in opened:
            store.close()
        store = Store(url, clock)
        if opened:
            _rows_gone(store)
        else:
            metadata.create_all(store.engine)
        opened.append(store)
        return store

    yield fresh
    opened[-1].close()


@pytest.mark.parametrize(
    ("stores", "stride"),
    [
        pytest.param("", 53, id="sqlite"),
        pytest.param("", 9, id="whole", marks=pytest.mark.real),
        pytest.param("postgres", 23, id="postgres", marks=pytest.mark.real),
    ],
    indirect=["stores"],
)
def test_killed_at_every_step_of_a_deadline(stores: Callable[[SimulatedClock], Store], stride: int) -> None:
    def make() -> World:
        clock = SimulatedClock()
        return World(stores(clock), clock)

    _kill_everywhere(make, stride)
