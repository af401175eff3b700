"""The owner takes capacity back: whom, when, for what credit, and that it is back in time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.leases.world import CUSTOMER, PRICE_NANO, World

from sublet.leases.backends.simulated import Faults
from sublet.leases.model import (
    FirmLeaseError,
    Lease,
    LeaseState,
    NoCapacityError,
    credit_nano,
)
from sublet.leases.reclaim.orders import ReclaimOrder
from sublet.leases.reclaim.victims import ReplicaVictim, Victim, plan_reclaim
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError, NotFoundError
from sublet.values.plan import diff
from sublet.values.service_classes import SHIPPED
from sublet.values.windows import Window

NOW = datetime(2026, 1, 5, tzinfo=UTC)
CLASSES = SHIPPED


def leases_of(victims: Sequence[Victim | ReplicaVictim]) -> list[Victim]:
    """The victims that are leases: all of them, where a plan knows no replicas."""
    assert all(isinstance(victim, Victim) for victim in victims)
    return [victim for victim in victims if isinstance(victim, Victim)]


def order(world: World, count: int, *, ahead_s: int = 0, hours: int = 6, force: bool = False) -> ReclaimOrder:
    start = world.clock.now() + timedelta(seconds=ahead_s)
    return ReclaimOrder(world.pool.name, count, Window.starting(start, hours * 3600), "training run 7", force)


def test_notice_reaches_the_tenant_and_the_capacity_is_back_on_time(world: World) -> None:
    lease = world.sell(count=4, seconds=3600)
    world.run(60)
    plan = world.leases.reclaim(order(world, 3), "team research")
    assert [victim["lease_id"] for victim in plan["victims"]] == [lease.id]
    noticed = world.lease(lease)
    assert noticed.state is LeaseState.NOTICE
    assert noticed.reclaim_at == world.clock.now() + timedelta(seconds=300)
    world.run(1)
    assert "NOTICE" in world.backend.told(lease.id)[0]
    world.run(300)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "reclaimed")
    assert world.billed_s(lease) == 4 * 359
    rest_s = 3600 - 360
    assert [note.amount_nano for note in world.credits] == [4 * rest_s * PRICE_NANO // 3600 // 10]
    with pytest.raises(NoCapacityError):
        world.sell(count=2, seconds=600)
    assert world.sell(count=1, seconds=600).accelerators == 1, "what the asker does not need is on sale"


def test_the_reclaim_is_planned_before_it_is_made(world: World) -> None:
    lease = world.sell(count=2, seconds=3600)
    world.run(5)
    plan = world.leases.preview_reclaim(order(world, 3))
    assert (plan.needed, plan.freed, plan.short) == (1, 2, 0)
    assert world.lease(lease).state is LeaseState.ACTIVE
    assert plan.back_at == world.clock.now() + timedelta(seconds=305)


def test_nothing_is_asked_back_where_enough_is_free(world: World) -> None:
    world.sell(count=1, seconds=3600)
    world.run(5)
    assert world.leases.reclaim(order(world, 3), "team")["victims"] == []
    with pytest.raises(NoCapacityError):
        world.sell()


def test_a_repeated_reclaim_is_one(world: World) -> None:
    world.sell(count=2, seconds=3600)
    world.run(5)
    wanted = order(world, 4)
    first = world.leases.reclaim(wanted, "team", "key")
    assert world.leases.reclaim(wanted, "team", "key")["id"] == first["id"]
    assert len(world.leases.reclaims().items) == 1


def test_two_operators_reclaiming_the_same_pool_both_get_theirs(world: World) -> None:
    leases = [world.sell(count=2, seconds=3600), world.sell(count=2, seconds=3600)]
    world.run(5)
    first = world.leases.reclaim(order(world, 2), "ann")
    second = world.leases.reclaim(order(world, 2), "bob")
    asked = {victim["lease_id"] for plan in (first, second) for victim in plan["victims"]}
    assert asked == {lease.id for lease in leases}
    with pytest.raises(FirmLeaseError):
        world.leases.reclaim(order(world, 1), "eve")


def test_firm_is_not_touched_unless_broken_by_force(world: World) -> None:
    lease = world.sell(count=4, class_name="firm", seconds=7200)
    world.run(5)
    with pytest.raises(FirmLeaseError):
        world.leases.reclaim(order(world, 1), "team")
    assert world.lease(lease).state is LeaseState.ACTIVE and world.leases.reclaims().items == []
    world.leases.reclaim(order(world, 1, force=True), "operator")
    broken = world.lease(lease)
    assert broken.state is LeaseState.NOTICE and broken.reclaim_at is not None
    rest_s = int((lease.window.end - broken.reclaim_at).total_seconds())
    assert broken.credit_nano == round(Fraction(4 * rest_s * PRICE_NANO * 5, 4 * 3600))
    world.run(400, step_s=5)
    assert [note.lease_id for note in world.credits] == [lease.id]


def test_a_reclaim_ahead_leaves_the_lease_until_then(world: World) -> None:
    lease = world.sell(count=4, seconds=7200)
    world.run(5)
    plan = world.leases.reclaim(order(world, 4, ahead_s=3600), "team")
    due = world.clock.now() + timedelta(seconds=3595)
    assert world.lease(lease).reclaim_at == due and plan["back_at"] is not None
    world.run(3540, step_s=60)
    assert world.lease(lease).state is LeaseState.NOTICE
    world.run(60, step_s=5)
    assert world.lease(lease).state is LeaseState.ENDED


def test_a_scheduled_lease_is_bumped_before_it_begins(world: World) -> None:
    lease = world.sell(count=4, seconds=3600, ahead_s=7200)
    world.leases.reclaim(order(world, 4), "team")
    bumped = world.lease(lease)
    assert (bumped.state, bumped.end_reason) == (LeaseState.CANCELED, "reclaimed")
    assert len(world.credits) == 1 and world.billed == {}


def test_a_withdrawn_reclaim_gives_the_lease_back(world: World) -> None:
    lease = world.sell(count=4, seconds=3600)
    world.run(5)
    plan = world.leases.reclaim(order(world, 4), "team")
    world.run(2)
    world.leases.withdraw_reclaim(plan["id"], "team")
    world.run(2)
    back = world.lease(lease)
    assert (back.state, back.reclaim_at, back.credit_nano) == (LeaseState.ACTIVE, None, 0)
    assert world.backend.told(lease.id)[-1] == "withdrawn"
    world.run(400, step_s=10)
    assert world.lease(lease).state is LeaseState.ACTIVE and world.credits == []
    with pytest.raises(NotFoundError):
        world.leases.withdraw_reclaim("clm_unknown", "team")


def test_rising_demand_asks_spot_first_and_no_more_than_needed(world: World) -> None:
    spot, notice = world.sell(class_name="spot", seconds=3600), world.sell(count=2, seconds=3600)
    world.run(5)
    world.stay = 2
    world.run(1)
    assert world.lease(spot).state is LeaseState.NOTICE
    assert world.lease(notice).state is LeaseState.ACTIVE
    assert "owner needs" in (world.lease(spot).reclaim_reason or "")
    world.run(125)
    assert world.lease(spot).state is LeaseState.ENDED
    assert world.lease(notice).state is LeaseState.ACTIVE
    world.stay = 0
    world.run(310)
    assert world.lease(notice).state is LeaseState.ENDED
    assert [note.lease_id for note in world.credits] == [spot.id, notice.id]


def test_a_spot_lease_reclaimed_in_its_free_minutes_costs_nothing(world: World) -> None:
    spot = world.sell(class_name="spot", seconds=3600)
    world.run(5)
    world.stay = 0
    world.run(130)
    used_nano = round(PRICE_NANO * world.billed_s(spot) / 3600)
    assert 0 <= world.credits[0].amount_nano - used_nano <= 2 * PRICE_NANO // 3600


def test_given_back_during_notice_still_earns_the_credit_once(world: World) -> None:
    lease = world.sell(seconds=3600)
    world.run(5)
    world.leases.reclaim(order(world, 4), "team")
    world.run(10)
    world.leases.end(lease.id, CUSTOMER)
    world.run(400, step_s=20)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "released")
    assert len(world.credits) == 1 and world.credits[0].amount_nano == ended.credit_nano


def test_f20_notice_is_told_again_until_the_backend_has_it(store: Store, clock: SimulatedClock) -> None:
    world = World(store, clock)
    lease = world.sell(count=4, seconds=3600)
    world.run(5)
    world.leases.reclaim(order(world, 4), "team")
    world.backend._faults = Faults(deaf=1.0)
    world.run(20)
    assert world.backend.told(lease.id) == []
    world.backend._faults = Faults()
    world.run(1)
    assert len(world.backend.told(lease.id)) == 1


@pytest.mark.parametrize("bad", [{"accelerators": 0}, {"reason": "  "}, {"reason": "x" * 501}])
def test_a_bad_order_is_refused(world: World, bad: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError):
        world.leases.reclaim(replace(order(world, 1), **bad), "team")  # type: ignore[arg-type]
    with pytest.raises(NotFoundError):
        world.leases.reclaim(replace(order(world, 1), pool="nowhere"), "team")


def a_lease(number: int, class_name: str, count: int, *, ends_s: int = 7200, age_s: int = 0) -> Lease:
    terms = CLASSES[class_name]
    return Lease(
        id=f"lse_{number:024}",
        organization_id=CUSTOMER,
        pool_id="pool_1",
        quote_id=f"quo_{number}",
        class_name=class_name,
        notice_s=terms.notice_s,
        credit_ratio=terms.credit_ratio,
        free_s=terms.free_s,
        accelerators=count,
        unit_ids=(),
        devices=(),
        window=Window(NOW - timedelta(hours=1), NOW + timedelta(seconds=ends_s)),
        price_nano=PRICE_NANO,
        currency="USD",
        state=LeaseState.ACTIVE,
        ssh_public_keys=(),
        created_at=NOW - timedelta(hours=1, seconds=age_s),
        active_at=NOW - timedelta(hours=1),
    )


leases_strategy = st.lists(
    st.tuples(
        st.sampled_from(["spot", "notice", "firm"]), st.integers(1, 16), st.integers(600, 90_000), st.integers(0, 9)
    ),
    max_size=12,
).map(
    lambda rows: [
        a_lease(number, name, count, ends_s=ends_s, age_s=age_s)
        for number, (name, count, ends_s, age_s) in enumerate(rows)
    ]
)


@given(leases_strategy, st.integers(0, 60), st.booleans())
def test_a_plan_frees_enough_keeps_the_order_and_asks_nobody_in_vain(
    leases: list[Lease], needed: int, force: bool
) -> None:
    plan = plan_reclaim("pool_1", needed, NOW, leases, NOW, why="w", force=force)
    names = [victim.lease.class_name for victim in leases_of(plan.victims)]
    askable = sum(lease.accelerators for lease in leases if force or lease.class_name != "firm")
    assert plan.freed + plan.short >= needed
    assert plan.short == max(0, needed - askable)
    assert force or "firm" not in names
    assert len({victim.lease.id for victim in leases_of(plan.victims)}) == len(plan.victims)
    for victim in leases_of(plan.victims):
        assert plan.freed - victim.lease.accelerators < needed, "somebody was asked in vain"
        notice_s = 300 if victim.lease.notice_s is None else victim.lease.notice_s
        assert victim.reclaim_at == min(victim.lease.window.end, NOW + timedelta(seconds=notice_s))
    if "firm" in names:
        assert needed > sum(lease.accelerators for lease in leases if lease.class_name != "firm")


@given(leases_strategy.filter(lambda leases: 0 < len(leases) <= 7), st.integers(1, 40))
def test_within_a_class_the_least_value_is_destroyed(leases: list[Lease], needed: int) -> None:
    notice = [replace(lease, class_name="notice", notice_s=300) for lease in leases]
    plan = plan_reclaim("pool_1", needed, NOW, notice, NOW, why="w")
    alone = {
        lease.id: plan_reclaim("pool_1", lease.accelerators, NOW, [lease], NOW, why="w").destroyed_nano
        for lease in notice
    }
    enough = [
        sum(alone[lease.id] for lease in some)
        for many in range(len(notice) + 1)
        for some in combinations(notice, many)
        if sum(lease.accelerators for lease in some) >= needed
    ]
    assert plan.destroyed_nano == min(enough, default=sum(alone.values()))


def test_between_equals_the_cheaper_then_the_younger_is_asked() -> None:
    dear, cheap = a_lease(1, "notice", 2, ends_s=90_000), a_lease(2, "notice", 2)
    assert [v.lease for v in leases_of(plan_reclaim("p", 2, NOW, [dear, cheap], NOW, why="w").victims)] == [cheap]
    old, young = replace(a_lease(3, "spot", 2), active_at=NOW - timedelta(days=3)), a_lease(4, "spot", 2)
    assert [v.lease for v in leases_of(plan_reclaim("p", 2, NOW, [old, young], NOW, why="w").victims)] == [young]
    # Half an hour more of work lost weighs less than a day more of income forgone and credited.
    long, worked = a_lease(5, "notice", 2, ends_s=90_000), a_lease(6, "notice", 2)
    worked = replace(worked, active_at=NOW - timedelta(minutes=90))
    assert [v.lease for v in leases_of(plan_reclaim("p", 2, NOW, [long, worked], NOW, why="w").victims)] == [worked]


def test_a_class_is_a_place_in_the_order_whatever_it_costs() -> None:
    """Spot that worked for a month goes before notice that began a minute ago: that is what the two were sold as."""
    spot = replace(a_lease(1, "spot", 2), active_at=NOW - timedelta(days=30))
    notice = replace(a_lease(2, "notice", 2), active_at=NOW - timedelta(minutes=1))
    plan = plan_reclaim("p", 2, NOW, [spot, notice], NOW, why="w")
    assert [victim.lease for victim in leases_of(plan.victims)] == [spot]
    assert plan.destroyed_nano > plan_reclaim("p", 2, NOW, [notice], NOW, why="w").destroyed_nano


def test_the_plan_says_of_each_what_is_destroyed() -> None:
    plan = plan_reclaim("p", 1, NOW, [a_lease(1, "notice", 2)], NOW, why="training run 7")
    told = plan.victims[0].as_dict()
    # 115 minutes at 2.00 an hour for two are left, 65 minutes of work are lost, a tenth of the rest is credited.
    assert told["income_forgone"].startswith("7.66666666") and told["work_lost"].startswith("4.33333333")
    assert told["credit"] == "0.766666667" and told["work_lost_s"] == 65 * 60
    assert plan.victims[0].sentence == (
        "training run 7; frees 2 in 5 min and destroys 12.77: credit 0.7667, 115 min of income 7.67, 65 min of work 4.33 USD"
    )
    assert told["reason"] == "training run 7", "the tenant is told the owner's reason alone"


def test_two_plans_of_rising_need_can_be_compared(world: World) -> None:
    world.sell(class_name="spot", seconds=3600)
    world.sell(class_name="spot", count=2, seconds=3600)
    world.run(5)
    world.stay = 2
    before = world.leases.plan()
    world.stay = 1
    after = world.leases.plan()
    lines = diff(before, after)
    assert [line.split()[:2] for line in lines] == [["-", "reclaim"], ["+", "reclaim"]]
    assert all("destroys" in line and "of work" in line for line in lines)


def test_credit_is_the_share_of_the_undelivered_rest_exactly() -> None:
    lease = replace(a_lease(1, "notice", 3, ends_s=1000), price_nano=1_000_000_001, credit_ratio=Decimal("0.10"))
    # 3 accelerators, 700 s, a tenth: 1000000001 * 3 * 700 / 3600 / 10 = 58333333.391…, rounded half to even.
    assert credit_nano(lease, NOW + timedelta(seconds=300)) == 58_333_333
    assert credit_nano(lease, NOW + timedelta(hours=2)) == 0


def test_a_thousand_leases_are_planned() -> None:
    leases = [a_lease(n, "spot" if n % 2 else "notice", 1 + n % 8, ends_s=3600 + n, age_s=n % 77) for n in range(1000)]
    plan = plan_reclaim("p", 3000, NOW, leases, NOW, why="w")
    assert 3000 <= plan.freed < 3008
    assert {victim.lease.class_name for victim in leases_of(plan.victims)} == {"spot", "notice"}


def test_the_credit_of_a_lease_has_one_id_whenever_it_is_posted(world: World) -> None:
    from sublet.values.ids import derived_id

    lease = world.sell(count=4, seconds=3600)
    world.run(5)
    world.leases.reclaim(order(world, 4), "team")
    world.run(310, step_s=5)
    assert [note.id for note in world.credits] == [derived_id("crd", lease.id, "reclaim")]
