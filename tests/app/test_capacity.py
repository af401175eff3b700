"""One truth about capacity: what a reclaim takes back, what may grow, and that everybody says the same."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import count as count_from
from pathlib import Path

import pytest
from sqlalchemy import update

from sublet.demand.model import Sample
from sublet.leases.model import FirmLeaseError, Lease, LeaseState, NoCapacityError
from sublet.leases.quotes.admission import QuoteRequest
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.models.model import CatalogEntry
from sublet.reporting.overview import Overviews
from sublet.simulation.world import SSH_KEY, World
from sublet.store.tables.models import replicas
from sublet.values.windows import Window

NUMBERS = count_from(1)
MODEL = "smollm2-135m-instruct"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "w", accelerators=8)
    made.remember(days=10, need=0.0, spread=0.0)
    made.in_use = 0.0
    made.observe()
    yield made
    made.close()


def serve(world: World, count: int, floor: int = 0) -> None:
    """Deploy the model and let `count` replicas come up."""
    world.system.models.deploy(MODEL, world.pool.id, floor=floor, scale=count)
    go(world, 4)


def go(world: World, seconds: int, step_s: int = 2) -> None:
    """Time passes: leases, models, and a host that starts and stops engines at once."""
    for _ in range(0, seconds, step_s):
        world.clock.advance(step_s)
        world.observe()
        world.system.leases.tick()
        world.system.models.carry_out(world.system.models.plan(*world.system.room()), world.system.capacity.model_spare)
        now = world.clock.now()
        for state, values in (
            ("starting", {"state": "ready", "ready_at": now}),
            ("draining", {"state": "stopped", "stopped_at": now}),
        ):
            world.system.store.write(
                lambda connection, state=state, values=values: connection.execute(
                    update(replicas).where(replicas.c.state == state).values(**values)
                )
            )


def order(world: World, count: int, hours: float = 4, ahead_s: float = 0, force: bool = False) -> ReclaimOrder:
    start = world.clock.now() + timedelta(seconds=ahead_s)
    return ReclaimOrder(world.pool.id, count, Window.starting(start, hours * 3600), "training run", force)


def serving(world: World) -> int:
    return len(world.system.models.replicas())


def take(world: World, count: int, class_name: str = "spot", seconds: int = 4 * 3600) -> Lease:
    customer = world.system.accounts.create_organization(f"customer {next(NUMBERS)}").id
    end = world.clock.now() + timedelta(seconds=seconds)
    quote = world.system.leases.quote(customer, QuoteRequest(count, class_name, end, pool=world.pool.id))
    return world.system.leases.accept(customer, quote.id, [SSH_KEY])


def state(world: World, lease: Lease) -> LeaseState:
    return world.system.leases.lease(lease.id).state


def test_a_reclaim_takes_back_what_replicas_hold_and_nothing_grows_into_it(world: World) -> None:
    serve(world, 4)
    assert serving(world) == 4
    found = world.system.leases.reclaim(order(world, 7), "team")
    assert (found["needed"], found["freed"], found["short"]) == (3, 3, 0)
    assert [victim["kind"] for victim in found["victims"]] == ["replica"] * 3
    assert {float(victim["destroyed"]) for victim in found["victims"]} == {0.8}, "an hour at the price of spot"
    go(world, 100)
    assert serving(world) == 1
    go(world, 600, step_s=20)
    assert serving(world) == 1, "a replica grew into what was taken back"
    assert world.system.surplus.ladder(world.pool.id).total == 0
    with pytest.raises(NoCapacityError):
        take(world, 1)


def test_what_is_taken_back_comes_back_when_it_is_withdrawn(world: World) -> None:
    serve(world, 4)
    found = world.system.leases.reclaim(order(world, 7, ahead_s=600), "team")
    assert len(found["victims"]) == 3
    go(world, 300, step_s=20)
    assert serving(world) == 4, "notice is not due yet"
    world.system.leases.withdraw_reclaim(found["id"], "team")
    go(world, 900, step_s=20)
    assert serving(world) == 4
    assert all(item.reclaim_at is None for item in world.system.models.replicas())


def test_replicas_and_leases_are_weighed_in_one_plan(world: World) -> None:
    serve(world, 3)
    dear, cheap = take(world, 2), take(world, 1, seconds=900)
    go(world, 10)
    found = world.system.leases.preview_reclaim(order(world, 4))
    # 15 minutes of one are cheaper than an hour of a replica, four hours of two are dearer.
    assert found.needed == 2
    assert found.victims[0].id == cheap.id and len(found.victims) == 2
    assert dear.id not in [victim.id for victim in found.victims]


def test_floors_are_the_operators_and_go_by_force_alone(world: World) -> None:
    serve(world, 2, floor=1)
    assert len(world.system.leases.preview_reclaim(order(world, 7)).victims) == 1
    with pytest.raises(FirmLeaseError, match="model floors"):
        world.system.leases.reclaim(order(world, 8), "team")
    found = world.system.leases.reclaim(order(world, 8, force=True), "team")
    assert len(found["victims"]) == 2 and any(victim["forced"] for victim in found["victims"])
    go(world, 300, step_s=10)
    assert serving(world) == 0, "a floor grew into what was taken back by force"


@pytest.mark.parametrize("cause", ["claim", "maintenance", "capacity lost", "units out of service"])
def test_replicas_go_whatever_takes_the_capacity(world: World, cause: str) -> None:
    serve(world, 4)
    now = world.clock.now()
    day = Window(now, now + timedelta(days=1))
    if cause == "claim":
        world.system.demand.add_claim(world.pool.id, 7, day, "training")
    elif cause == "maintenance":
        stated = world.settings.pools[0]
        planned = stated.model_validate(
            {**stated.model_dump(), "maintenance": [{"start": day.start, "end": day.end, "accelerators": 7}]}
        )
        world.system.settings = world.settings.model_copy(update={"pools": (planned,)})
        world.system.sync_fleet()
    elif cause == "capacity lost":
        world.observe = lambda: _lose(world, 7)  # type: ignore[method-assign]
    else:
        for unit in world.system.fleet.units(world.pool.id)[:7]:
            world.system.fleet.set_service(unit.id, False, "broken")
    go(world, 300, step_s=5)
    assert serving(world) == 1
    assert world.system.surplus.ladder(world.pool.id).total == 0


def _lose(world: World, count: int) -> None:
    world.system.demand.record_samples(world.pool.id, [Sample(world.clock.now(), 8 - count, 0.0)])


def test_a_spike_of_twenty_seconds_takes_nothing_back(world: World) -> None:
    serve(world, 2)
    leases = [take(world, 2), take(world, 2, "notice")]
    go(world, 60)
    world.in_use = 8.0
    go(world, 20)
    world.in_use = 0.0
    go(world, 120)
    assert [state(world, lease) for lease in leases] == [LeaseState.ACTIVE] * 2
    assert serving(world) == 2
    assert all(len(world.backend.told(lease.id)) == 0 for lease in leases)


def test_notices_are_withdrawn_when_the_need_is_gone_and_each_time_later(world: World) -> None:
    notice = take(world, 4, "notice", seconds=8 * 3600)
    go(world, 10)

    def spike(seconds: int) -> int:
        """Demand rises for so long; for how many seconds notice stands after it fell."""
        world.in_use = 8.0
        go(world, seconds)
        assert state(world, notice) is LeaseState.NOTICE
        world.in_use = 0.0
        for passed in range(0, 400, 5):
            if state(world, notice) is not LeaseState.NOTICE:
                return passed
            go(world, 5, step_s=5)
        return 400

    first = spike(60)
    go(world, 4)
    assert world.backend.told(notice.id)[-1] == "withdrawn"
    second = spike(60)
    go(world, 4)
    assert world.backend.told(notice.id)[-1] == "withdrawn"
    assert 60 <= first <= 70 and 120 <= second <= 130
    assert world.system.leases.lease(notice.id).credit_nano == 0
    go(world, 240, step_s=20)
    assert state(world, notice) is LeaseState.ACTIVE


def test_what_demand_took_back_is_sold_again_after_a_while_alone(world: World) -> None:
    spot = take(world, 4, seconds=8 * 3600)
    go(world, 10)
    world.in_use = 6.0
    go(world, 300, step_s=10)
    assert state(world, spot) is LeaseState.ENDED
    world.in_use = 0.0
    go(world, 120, step_s=10)
    [rung] = [item for item in world.system.surplus.ladder(world.pool.id).alone if item.class_name == "spot"][:1]
    assert (rung.count, {item.reason_code: item.count for item in rung.withheld}) == (2, {"back_off": 6})
    go(world, 600, step_s=20)
    later = world.system.surplus.sellable(world.pool.id, "spot", rung_window(world))
    assert later.count > 2 and "back_off" not in {item.reason_code for item in later.withheld}


def rung_window(world: World, seconds: int = 3600) -> Window:
    return Window.starting(world.clock.now(), seconds)


def test_surplus_console_and_admission_say_the_same_after_a_reclaim(world: World) -> None:
    world.system.leases.reclaim(order(world, 5, hours=2), "team")
    ladder = world.system.surplus.ladder(world.pool.id)
    assert ladder.count("spot") == 3
    reasons = {item.reason_code: item.count for item in ladder.alone[-1].withheld}
    assert reasons["reclaimed"] == 5
    shown = Overviews(world.system, lambda: {"ok": True, "failing": []}).now()
    [pool] = shown.pools
    assert dict(pool.on_sale)["spot"] == 3
    take(world, 3)
    with pytest.raises(NoCapacityError):
        take(world, 1)
    assert world.system.surplus.ladder(world.pool.id).total == 0


def test_capacity_that_is_free_in_pieces_is_not_offered_as_one(world: World) -> None:
    customer = world.system.accounts.create_organization("one").id
    now = world.clock.now()

    def hold(start_s: int, end_s: int) -> Lease:
        start, end = (now + timedelta(seconds=second) for second in (start_s, end_s))
        quote = world.system.leases.quote(customer, QuoteRequest(4, "spot", end, start=start, pool=world.pool.id))
        return world.system.leases.accept(customer, quote.id, [SSH_KEY])

    first, _, later = hold(0, 1800), hold(0, 1800), hold(7200, 9000)
    assert set(first.unit_ids) == set(later.unit_ids)
    world.system.leases.end(first.id)
    window = rung_window(world, 9000)
    found = world.system.surplus.sellable(world.pool.id, "spot", window)
    # At each moment four are free, but nobody is free throughout.
    assert found.count == 0 and {item.reason_code: item.count for item in found.withheld}["fragmented"] == 4
    with pytest.raises(NoCapacityError):
        take(world, 1, seconds=9000)
    take(world, 4, seconds=3600)


def test_an_engine_elsewhere_holds_nothing(world: World) -> None:
    entry = CatalogEntry("far", "openai_url", {"url": "http://127.0.0.1:9", "model": "m"}, accelerators=0)
    from sublet.models import store as sql

    world.system.store.write(lambda connection: sql.save_entry(connection, entry, world.clock.now()))
    world.system.models.deploy("far", world.pool.id, scale=1)
    go(world, 4)
    assert world.system.leases.reclaim(order(world, 8), "team")["victims"] == []


def test_the_plan_lists_every_change_that_waits(world: World) -> None:
    system = world.system
    assert system.plan().pending == ()
    serve(world, 2)
    noticed, later = take(world, 2, "notice", 7200), take(world, 1)
    go(world, 10)
    found = system.leases.reclaim(order(world, 5), "team")
    [victim] = [item["lease_id"] for item in found["victims"] if item["kind"] == "lease"] or [None]
    system.models.scale(MODEL, 6)
    now = world.clock.now()
    claim = system.demand.add_claim(
        world.pool.id, 1, Window(now + timedelta(hours=5), now + timedelta(hours=6)), "eval"
    )
    plan = system.plan()
    waiting = {(step.kind, step.subject) for step in plan.pending}
    assert {("end", noticed.id), ("end", later.id), ("release", found["id"])} <= waiting
    assert {("claim_begins", claim.id), ("claim_ends", claim.id)} <= waiting
    deployment = system.models.rows()[0].deployment
    assert deployment is not None
    short = next(step for step in plan.pending if step.subject == deployment.id)
    assert "of 6 replicas wait for spare capacity" in short.reason
    if victim:
        assert "under notice" in next(step.reason for step in plan.pending if step.subject == victim)
    times = [step.at for step in plan.pending if step.at is not None]
    assert times == sorted(times)
    from sublet.values.plan import plan_from_dict

    assert plan_from_dict(plan.as_dict()).as_dict() == plan.as_dict()


def test_a_replica_that_failed_waits_to_be_tried_again(world: World) -> None:
    serve(world, 1)
    now = world.clock.now()
    world.system.store.write(
        lambda connection: connection.execute(
            update(replicas).values(state="failed", stopped_at=now, reason="the engine ended 5 times")
        )
    )
    world.clock.advance(1)
    [step] = world.system.plan().pending
    assert step.reason.endswith("it failed and is tried again: the engine ended 5 times")
    assert step.at == now + timedelta(seconds=30)
