"""The control plane dies at every step of every transition, and again, and again; the books and the world stay right."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection
from tests.leases.test_calendar import assert_no_overlap
from tests.leases.world import CUSTOMER, KEY, PRICE_NANO, World

from sublet.leases.backends.base import RunState
from sublet.leases.backends.simulated import Faults, SimulatedBackend
from sublet.leases.model import FirmLeaseError, Lease, LeaseState, NoCapacityError
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.store import Store
from sublet.store.metadata import metadata
from sublet.values.clock import SimulatedClock
from sublet.values.errors import LimitExceededError, SubletError
from sublet.values.windows import Window

ROUND_S = 20


class Killed(BaseException):
    """SIGKILL: no handler may catch it."""


class Deadly:
    """Counts down over every write and every call to the backend, and kills before or after the one it reaches."""

    def __init__(self, world: World) -> None:
        self.left: int | None = None
        self.after = False
        self.reached = 0
        store, backend = world.store, world.backend
        store.write = self.guarded(store.write)  # type: ignore[method-assign]
        for name in ("start", "notice", "withdraw_notice", "extend", "stop", "pause", "forget", "reap"):
            setattr(backend, name, self.guarded(getattr(backend, name)))

    def guarded(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def guard(*args: Any, **options: Any) -> Any:
            self.reached += 1
            dying = self.left == 0
            if self.left is not None:
                self.left -= 1
            if dying and not self.after:
                raise Killed
            result = call(*args, **options)
            if dying:
                raise Killed
            return result

        return guard


def play(world: World) -> Lease:
    """One lease through start, reclaim and end, surviving every kill by starting the control plane again."""

    def insist(act: Callable[[], Any]) -> Any:
        while True:
            try:
                return act()
            except Killed:
                world.restart()

    request = world.request(count=2, seconds=900)
    quote = insist(lambda: world.leases.quote(CUSTOMER, request, "q"))
    lease: Lease = insist(lambda: world.leases.accept(CUSTOMER, quote.id, [KEY], "l"))

    def run(seconds: int) -> None:
        for _ in range(0, seconds, ROUND_S):
            world.clock.advance(ROUND_S)
            insist(lambda: world.leases.tick())

    run(4 * ROUND_S)
    window = Window.starting(world.clock.now(), 3600)
    insist(lambda: world.leases.reclaim(ReclaimOrder(world.pool.name, 4, window, "training"), "team", "r"))
    run(330 + 3 * ROUND_S)
    return lease


def fresh(path: Path) -> World:
    clock = SimulatedClock()
    store = Store(f"sqlite:///{path}/x.db", clock)
    metadata.create_all(store.engine)
    return World(store, clock)


def outcome(world: World, lease: Lease) -> dict[str, Any]:
    ended = world.lease(lease)
    return {
        "state": ended.state,
        "reason": ended.end_reason,
        "billed": world.billed_s(lease),
        "metered": ended.metered_s,
        "credits": sorted({(note.id, note.amount_nano) for note in world.credits}),
        "leases": len(world.leases.leases()),
        "reclaims": len(world.leases.reclaims().items),
        "left": sorted(world.backend.observe_all()),
        "book": world.leases.book(world.pool.id),
    }


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_every_step(tmp_path: Path, after: bool) -> None:
    (tmp_path / "calm").mkdir()
    calm = fresh(tmp_path / "calm")
    counter = Deadly(calm)
    expected = outcome(calm, play(calm))
    calm.store.close()
    assert (
        expected["state"] is LeaseState.ENDED and expected["left"] == [] and expected["billed"] == expected["metered"]
    )
    steps = counter.reached
    assert steps > 15
    for step in range(steps):
        directory = tmp_path / f"{step}"
        directory.mkdir()
        world = fresh(directory)
        deadly = Deadly(world)
        deadly.left, deadly.after = step, after
        found = outcome(world, play(world))
        world.store.close()
        # A kill can cost the tenant at most the round in which it happened, and never bills more than was delivered.
        assert abs(found.pop("billed") - expected["billed"]) <= 2 * ROUND_S, step
        assert abs(found.pop("metered") - expected["metered"]) <= 2 * ROUND_S, step
        credited = found.pop("credits")
        assert (
            len(credited) == 1 and abs(credited[0][1] - expected["credits"][0][1]) <= 2 * ROUND_S * PRICE_NANO // 3600
        ), step
        assert found == {name: expected[name] for name in found}, step


def test_a_write_that_fails_halfway_bills_nothing_and_the_next_round_bills_it(world: World) -> None:
    lease = world.sell(seconds=300)
    world.run(55)
    good, failures = world.emit, []

    def failing(connection: Connection, interval: Any) -> None:
        failures.append(interval.id)
        raise SubletError("the ledger is not there")

    world.emit = failing  # type: ignore[method-assign]
    world.restart()
    world.run(10)
    assert failures and world.lease(lease).metered_s == 0
    world.emit = good  # type: ignore[method-assign]
    world.restart()
    world.run(300, step_s=5)
    assert world.billed_s(lease) == world.lease(lease).metered_s == 299


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.real) for seed in range(2, 20))])
def test_seeded_days_keep_every_promise(tmp_path: Path, seed: int) -> None:
    """Customers, an owner whose need moves, faults and crashes; then everything is settled and counted."""
    rng = random.Random(seed)
    clock = SimulatedClock()
    store = Store(f"sqlite:///{tmp_path}/x.db", clock)
    metadata.create_all(store.engine)
    faults = Faults(start_fails=0.05, deaf=0.02, deaf_after=0.02, dies=0.0005, unclean=0.05, start_s=7)
    world = World(store, clock, accelerators=6, faults=faults, seed=seed)
    leases: list[Lease] = []
    for _ in range(160):
        clock.advance(rng.choice([5, 20, 60]))
        world.leases.tick()
        act = rng.random()
        if act < 0.35:
            leases += buy(world, rng)
        elif act < 0.40:
            world.stay = world.surplus = rng.randint(0, 6)
        elif act < 0.44:
            ask_back(world, rng)
        elif act < 0.48 and leases:
            world.leases.end(rng.choice(leases).id)
        elif act < 0.52:
            world.restart()
        elif act < 0.54 and leases:
            world.backend.crash(rng.choice(leases).id)
        assert_no_overlap(store, clock.now())
        check_world(world)
    world.backend._faults = Faults()
    for lease in world.leases.leases(live_only=True):
        world.leases.end(lease.id)
    world.run(1000, step_s=20)
    assert world.leases.leases(live_only=True) == [] and world.backend.observe_all() == {}
    assert world.leases.book(world.pool.id) == []
    # Where the proof itself was lost with an answer, nobody knows whether the accelerator is clean: the operator says so.
    for unit in world.leases.quarantined():
        assert "the backend knows nothing of it" in (unit.reason or ""), unit
        world.leases.release_unit(unit.unit_id, "operator", "looked at")
    assert world.leases.quarantined() == []
    for lease in map(world.lease, leases):
        assert world.billed_s(lease) == lease.metered_s
        if lease.state in (LeaseState.FAILED, LeaseState.CANCELED):
            assert lease.metered_s == 0
        longest_s = (lease.deadline - (lease.active_at or lease.deadline)).total_seconds()
        assert lease.metered_s <= lease.accelerators * max(0, longest_s)
        credited = {note.amount_nano for note in world.credits if note.lease_id == lease.id}
        owed = {lease.credit_nano} if lease.reclaim_at is not None and lease.credit_nano else set()
        assert credited == owed, "a promise was broken without its credit"
    store.close()


def buy(world: World, rng: random.Random) -> list[Lease]:
    start = world.clock.now() + timedelta(seconds=rng.choice([0, 0, 300]))
    name = rng.choice(["spot", "notice", "firm"])
    request = QuoteRequest(
        rng.randint(1, 3), name, start + timedelta(seconds=rng.randint(60, 2400)), start, world.pool.name
    )
    try:
        quote = world.leases.quote(f"org_{rng.randint(1, 9)}", request)
        return [world.leases.accept(quote.organization_id, quote.id, [KEY])] if rng.random() < 0.8 else []
    except (NoCapacityError, LimitExceededError):
        return []


def ask_back(world: World, rng: random.Random) -> None:
    window = Window.starting(world.clock.now() + timedelta(seconds=rng.choice([0, 600])), rng.randint(300, 1200))
    order = ReclaimOrder(world.pool.name, rng.randint(1, 4), window, "work", force=rng.random() < 0.3)
    try:
        world.leases.reclaim(order, "team")
    except FirmLeaseError as refused:
        assert "plan" in refused.details


def check_world(world: World) -> None:
    """Nothing runs past its deadline, and no two leases run on one accelerator."""
    busy: dict[str, str] = {}
    backend: SimulatedBackend = world.backend
    now = world.clock.now()
    for lease in world.leases.leases(live_only=True):
        found = backend._leases.get(lease.id)
        if found is None:
            continue
        backend._age(found)
        if found.state is RunState.RUNNING:
            assert now < found.deadline
            for unit in lease.unit_ids:
                assert busy.setdefault(unit, lease.id) == lease.id
