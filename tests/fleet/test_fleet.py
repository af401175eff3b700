"""The books of what is owned follow the settings and the machine, and an accelerator never vanishes from them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.fleet.specs import spec
from tests.store.notes import WAIT_S, spawn

from sublet.fleet.service import Fleet
from sublet.store import Store
from sublet.values.clock import SimulatedClock
from sublet.values.errors import InvalidInputError, NotFoundError


@pytest.fixture
def fleet(any_store: Store) -> Fleet:
    return Fleet(any_store)


def test_a_pool_is_what_its_spec_says(fleet: Fleet, clock: SimulatedClock) -> None:
    (pool,) = fleet.sync([spec("main", 3, watts=Decimal("700.125"), tenure="leased_in")])
    assert fleet.pool("main") == fleet.pool(pool.id) == pool
    assert (pool.accelerators, pool.watts, pool.tenure) == (3, Decimal("700.125"), "leased_in")
    assert pool.online_at == clock.now()
    assert pool.as_dict()["price_per_accelerator_hour"] == "0.050000000"


def test_syncing_twice_changes_nothing(fleet: Fleet, clock: SimulatedClock) -> None:
    first = fleet.sync([spec("a"), spec("b", 2)])
    clock.advance(3600)
    assert fleet.sync([spec("b", 2), spec("a")]) == first == fleet.pools()


def test_two_control_planes_that_start_at_once_see_one_fleet(fleet: Fleet) -> None:
    pools = [done.result(WAIT_S) for done in [spawn(lambda: fleet.sync([spec("a", 8)])) for _ in range(4)]]
    assert all(found == pools[0] for found in pools)
    assert fleet.pool("a").accelerators == 8


def test_a_smaller_pool_keeps_its_accelerators_out_of_service_and_gets_them_back(fleet: Fleet) -> None:
    (pool,) = fleet.sync([spec("a", 4)])
    before = fleet.units(pool.id)
    (smaller,) = fleet.sync([spec("a", 2)])
    assert (smaller.accelerators, smaller.in_service) == (4, 2)
    kept = fleet.units(pool.id)
    assert [unit.id for unit in kept] == [unit.id for unit in before]
    assert [unit.in_service for unit in kept] == [True, True, False, False]
    assert kept[3].out_reason == "no longer in the settings or on the machine"
    assert fleet.sync([spec("a", 4)]) == [pool]
    assert fleet.units(pool.id) == before


def test_an_accelerator_that_the_operator_took_out_stays_out(fleet: Fleet) -> None:
    (pool,) = fleet.sync([spec("a", 2)])
    first = fleet.units(pool.id)[0]
    fleet.set_service(first.id, False, "fan broken")
    (after,) = fleet.sync([spec("a", 2)])
    assert (after.accelerators, after.in_service) == (2, 1)
    drained = fleet.units(pool.id)[0]
    assert (drained.in_service, drained.out_reason) == (False, "fan broken")
    fleet.set_service(first.id, True)
    assert fleet.pool("a") == pool
    with pytest.raises(NotFoundError, match="no accelerator"):
        fleet.set_service("unit_nobody", True)


def test_an_accelerator_keeps_its_id_when_its_device_changes(fleet: Fleet) -> None:
    (pool,) = fleet.sync([spec("a", 1)])
    (before,) = fleet.units(pool.id)
    fleet.sync([spec("a", devices=("nvidia:3",))])
    (after,) = fleet.units(pool.id)
    assert (after.id, after.device) == (before.id, "nvidia:3")


def test_a_pool_that_leaves_the_settings_goes_offline_and_may_return(fleet: Fleet, clock: SimulatedClock) -> None:
    (before,) = fleet.sync([spec("a", 2)])
    left_at = clock.advance(60)
    (gone,) = fleet.sync([])
    assert (gone.offline_at, gone.accelerators) == (left_at, 2)
    assert gone.capacity(left_at) == 0
    assert gone.capacity(before.online_at) == 2
    clock.advance(60)
    assert fleet.sync([])[0].offline_at == left_at, "it went once"
    assert fleet.sync([spec("a", 2)]) == [before]


def test_capacity_counts_what_exists_and_works_at_the_moment(fleet: Fleet, clock: SimulatedClock) -> None:
    (pool,) = fleet.sync([spec("a", 3)])
    fleet.set_service(fleet.units(pool.id)[1].id, False, "fan broken")
    pool = fleet.pool("a")
    now = clock.now()
    assert pool.capacity(now) == 2
    clock.advance(-1)
    assert pool.capacity(clock.now()) == 0


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([spec("a"), spec("a")], "there are two pools named 'a'"),
        ([spec("a", 0)], "pool 'a' must have 1 to"),
    ],
)
def test_a_fleet_that_makes_no_sense_is_refused_before_anything_changes(
    fleet: Fleet, specs: list[object], message: str
) -> None:
    before = fleet.sync([spec("kept")])
    with pytest.raises(InvalidInputError, match=message):
        fleet.sync(specs)  # type: ignore[arg-type]
    assert fleet.pools() == before


def test_an_unknown_pool_is_not_found(fleet: Fleet) -> None:
    with pytest.raises(NotFoundError, match="`sublet pool ls` lists them"):
        fleet.pool("nothing")


sizes = st.dictionaries(st.sampled_from("abc"), st.integers(min_value=1, max_value=5), max_size=3)


@given(st.lists(sizes, min_size=1, max_size=5))
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_the_settings_become_no_accelerator_vanishes(store: Store, history: list[dict[str, int]]) -> None:
    fleet = Fleet(store)
    seen = {unit.id for pool in fleet.pools() for unit in fleet.units(pool.id)}
    for wanted in history:
        pools = fleet.sync([spec(name, count) for name, count in wanted.items()])
        units = {unit.id for pool in pools for unit in fleet.units(pool.id)}
        assert seen <= units
        seen = units
        now = store.clock.now()
        assert {pool.name: pool.capacity(now) for pool in pools if pool.capacity(now)} == wanted
