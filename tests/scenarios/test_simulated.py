"""The story and random days in simulated time, on the code that runs in production."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from sublet.leases.backends.simulated import Faults
from sublet.leases.model import LeaseState
from sublet.leases.quotes.admission import QuoteRequest
from sublet.simulation.story import play
from sublet.simulation.world import SSH_KEY, World
from sublet.values.errors import SubletError
from sublet.values.windows import Window

SEEDS = (0, 1, *(pytest.param(seed, marks=pytest.mark.real) for seed in (2, 3)))
HOURS = 5


@pytest.fixture
def world_of(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def make(seed: int = 0, **options: object) -> World:
        world = World(tmp_path / f"w{len(made)}", seed, **options)  # type: ignore[arg-type]
        made.append(world)
        return world

    yield make
    for world in made:
        world.close()


def test_the_story_in_simulated_time(world_of: Callable[..., World]) -> None:
    seen = play(world_of())
    assert seen["own"]["accelerators"] == 16
    before = {rung["class"]: rung["alone"] for rung in seen["spare_without_history"]["rungs"]}
    assert before["firm"] == 0 and before["notice"] <= 8, "with no history it withholds more"
    assert max(rung["alone"] for rung in seen["spare"]["rungs"] if rung["class"] == "notice") > 0
    assert seen["active"]["state"] == "active"
    assert [step["kind"] for step in seen["plan"]["steps"]] == ["reclaim"]
    assert seen["notice"]["state"] == "notice"
    assert seen["ended"]["end_reason"] == "reclaimed"
    # 2 accelerators from the start of the lease to the deadline, to the whole second.
    assert seen["ended"]["accelerator_seconds"] % 2 == 0
    assert Decimal(seen["ended"]["credit"]) > 0
    invoice = seen["invoice"]
    lines = sum(Decimal(line["amount"]) for line in invoice["lines"])
    given = sum(Decimal(credit["amount"]) for credit in invoice["credits"])
    assert Decimal(invoice["total"]) == lines + given + Decimal(invoice["rounding"])
    assert abs(Decimal(invoice["rounding"])) <= Decimal("0.005")
    assert seen["proof"]["ok"] and Decimal(seen["proof"]["difference"]) == 0
    assert "per accelerator-hour" in seen["worth"]


def test_the_same_seed_tells_the_same_story(world_of: Callable[..., World]) -> None:
    first, second = play(world_of(3)), play(world_of(3))
    for name in ("need", "worth"):
        assert first[name] == second[name]
    assert first["invoice"]["total"] == second["invoice"]["total"]
    assert first["ended"]["accelerator_seconds"] == second["ended"]["accelerator_seconds"]
    assert [rung["count"] for rung in first["spare"]["rungs"]] == [rung["count"] for rung in second["spare"]["rungs"]]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_days_break_no_promise(seed: int, world_of: Callable[..., World]) -> None:
    """Quotes, claims, faults of the backend and crashes at random: never sold twice, never late, the money right."""
    faults = Faults(start_fails=0.05, deaf=0.05, deaf_after=0.05, dies=0.0002)
    world = world_of(seed, accelerators=8, faults=faults)
    customers = [world.system.accounts.create_organization(name) for name in ("one", "two")]
    world.remember(days=14, need=0.3, spread=0.05)
    sold = 0
    for _ in range(HOURS * 4):
        kind = world.chance.choice(["take", "take", "take", "take", "claim", "crash", "need", "end"])
        if kind == "take":
            sold += _take(world, world.chance.choice(customers).id)
        elif kind == "claim":
            _claim(world)
        elif kind == "crash":
            world.crash()
        elif kind == "need":
            world.in_use = world.chance.uniform(0, 0.7) * world.pool.accelerators
            world.observe()
        elif kind == "end":
            for lease in world.system.leases.leases(live_only=True)[:1]:
                world.system.leases.end(lease.id, lease.organization_id)
        world.pass_time(world.chance.choice([60, 300, 900]))
    world.pass_time(4 * 3600, tick_s=300)
    assert sold > 0, "nothing was sold: the test would prove nothing"
    _check_money(world)
    world.prove()


def _take(world: World, organization_id: str) -> int:
    now = world.clock.now()
    request = QuoteRequest(
        world.chance.randint(1, 3),
        world.chance.choice(["notice", "spot"]),
        now + timedelta(minutes=world.chance.choice([10, 60, 180])),
        pool=world.pool.id,
    )
    try:
        quote = world.system.leases.quote(organization_id, request)
        world.system.leases.accept(organization_id, quote.id, [SSH_KEY])
    except SubletError as error:
        assert error.status < 500, error
        return 0
    return 1


def _claim(world: World) -> None:
    now = world.clock.now()
    world.system.demand.add_claim(
        world.pool.id,
        world.chance.randint(1, world.pool.accelerators // 2),
        Window(now + timedelta(minutes=world.chance.choice([0, 30])), now + timedelta(hours=2)),
        "simulated",
    )


def _check_money(world: World) -> None:
    """Every reclaimed lease has its credit, once; what was metered is what was rated, and no more than was delivered."""
    for organization in world.system.accounts.organizations():
        leases = world.system.leases.leases(organization.id)
        owed = {f"{lease.id}" for lease in leases if lease.credit_nano > 0 and lease.end_reason == "reclaimed"}
        given = [credit.reason for credit in world.system.ledger.credits(organization.id) if credit.kind == "reclaim"]
        assert len(given) == len(owed)
        assert all(any(lease_id in reason for reason in given) for lease_id in owed)
        for lease in leases:
            assert lease.state.terminal, f"{lease.id} is {lease.state} long after its window"
            if lease.state is LeaseState.ENDED and lease.active_at and lease.ended_at:
                window = (min(lease.ended_at, lease.window.end) - lease.window.start).total_seconds()
                assert lease.metered_s <= window * lease.accelerators
