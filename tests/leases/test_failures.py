"""A dead accelerator: out of the sale and out of the lease, by plan, as its tenant chose, billed and credited exactly."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.leases.test_reclaim import NOW, a_lease
from tests.leases.world import CUSTOMER, KEY, PRICE_NANO, World

from sublet.leases.backends.base import BackendFailedError, Delivery, RunState
from sublet.leases.backends.simulated import Faults
from sublet.leases.lifecycle.metering import read_meter
from sublet.leases.model import Lease, LeaseState, NoCapacityError, OnFailure, Outage, Timing
from sublet.leases.plan.failures import FailedUnit, Failure, failure_steps
from sublet.store import Store
from sublet.values.clock import SimulatedClock

WHY = "XID 79, fell off the bus"


def sell(world: World, count: int, on_failure: str, seconds: int = 3600, ahead_s: int = 0) -> Lease:
    request = replace(world.request(count, "notice", seconds, ahead_s), on_failure=OnFailure(on_failure))
    return world.leases.accept(CUSTOMER, world.leases.quote(CUSTOMER, request).id, [KEY])


def drain(world: World, *positions: int) -> None:
    units = world.fleet.units(world.pool.id)
    for position in positions:
        world.fleet.set_service(units[position].id, False, WHY)


def devices_running(world: World, lease: Lease) -> tuple[str, ...]:
    return world.backend._leases[lease.id].order.devices


@pytest.mark.parametrize("on_failure", ["shrink", "replace"])
def test_a_running_lease_moves_to_a_free_accelerator(world: World, on_failure: str) -> None:
    lease = sell(world, 2, on_failure)
    world.run(120)
    drain(world, 0)
    plan = world.leases.plan()
    [step] = [step for step in plan.steps if step.subject == lease.id and step.kind != "meter"]
    assert step.kind == "replace" and WHY in step.reason and "an equal one is free" in step.reason
    world.run(5)
    moved = world.lease(lease)
    assert (moved.state, moved.accelerators, moved.shrunk_by) == (LeaseState.ACTIVE, 2, 0)
    assert set(moved.devices) == {"cpu:1", "cpu:2"} == set(devices_running(world, lease))
    assert any(WHY in item.reason for item in world.leases.history(lease.id))
    world.run(3600, 60)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason, world.credits) == (LeaseState.ENDED, "window_over", [])
    # It began one second after it was sold; the round after the drain moved it, and one second was lost on the way.
    assert world.billed_s(lease) == ended.metered_s
    assert 2 * (3600 - 5) <= ended.metered_s < 2 * 3600 - 1
    assert sorted(item.device for item in world.fleet.units(world.pool.id) if not item.in_service) == ["cpu:0"]


def test_what_is_taken_as_a_spare_is_not_sold_and_what_failed_is_not_either(world: World) -> None:
    lease = sell(world, 3, "replace")
    world.run(3)
    drain(world, 1)
    world.run(3)
    assert set(world.lease(lease).devices) == {"cpu:0", "cpu:3", "cpu:2"}
    with pytest.raises(NoCapacityError):
        world.sell(1, organization="org_other")
    world.leases.end(lease.id)
    world.run(10)
    assert world.sell(3, organization="org_other").accelerators == 3
    with pytest.raises(NoCapacityError):
        world.sell(1, organization="org_other")


def test_without_a_spare_it_goes_on_smaller_at_a_smaller_price(world: World) -> None:
    lease = sell(world, 4, "shrink", seconds=1200)
    world.run(1)
    world.run(600, 60)
    drain(world, 3)
    world.clock.advance(0.5)
    steps = [step for step in world.leases.plan().steps if step.kind == "shrink"]
    assert len(steps) == 1 and "goes on with 3" in steps[0].reason
    world.run(2)
    assert world.lease(lease).state is LeaseState.ACTIVE
    world.run(700, 20)
    ended = world.lease(lease)
    assert (ended.accelerators, ended.shrunk_by, ended.state) == (3, 1, LeaseState.ENDED)
    assert world.credits == []
    # [1, 601) with four; the second in which one failed and it was moved is lost or partial; three to the end.
    assert 4 * 600 + 3 * 594 <= ended.metered_s == world.billed_s(lease) <= 4 * 600 + 3 * 599


def test_without_a_spare_it_ends_with_the_credit_of_its_class(world: World) -> None:
    lease = sell(world, 4, "replace", seconds=3601)
    world.run(1)
    world.run(1800, 60)
    drain(world, 0)
    world.run(10)
    ended = world.lease(lease)
    assert (ended.state, ended.end_reason) == (LeaseState.ENDED, "accelerator_failed")
    [note] = world.credits
    rest_s = (lease.window.end - world.clock.now()).total_seconds() + 9
    assert note.amount_nano == ended.credit_nano == round(PRICE_NANO * 4 * rest_s / 3600 / 10)
    assert "an accelerator failed" in note.reason
    assert ended.metered_s == world.billed_s(lease) == 4 * 1800 + 3 * 2, "three of it worked for two seconds more"


def test_a_tenant_who_chose_to_end_is_not_moved(world: World) -> None:
    lease = sell(world, 1, "end")
    world.run(60)
    drain(world, 0)
    world.run(5)
    ended = world.lease(lease)
    assert (ended.end_reason, ended.devices, len(world.credits)) == ("accelerator_failed", ("cpu:0",), 1)


@pytest.mark.parametrize("on_failure", list(OnFailure))
def test_f16_a_lease_whose_accelerator_fails_before_it_begins_never_starts_on_it(
    world: World, on_failure: OnFailure
) -> None:
    lease = sell(world, 1, on_failure, ahead_s=600)
    drain(world, 0)
    world.run(1)
    assert world.lease(lease).devices == ("cpu:1",), "at once, and with no loss to its tenant"
    world.run(700, 10)
    assert devices_running(world, lease) == ("cpu:1",)


@pytest.mark.parametrize(
    ("on_failure", "state", "count"), [("shrink", "active", 3), ("replace", "failed", 4), ("end", "failed", 4)]
)
def test_before_it_begins_it_waits_for_a_spare_until_its_start(
    world: World, on_failure: str, state: str, count: int
) -> None:
    lease = sell(world, 4, on_failure, ahead_s=600)
    drain(world, 2)
    world.run(500, 10)
    assert (world.lease(lease).state, world.credits) == ("scheduled", [])
    [waits] = [step for step in world.leases.plan().pending if step.subject == lease.id]
    assert waits.kind in ("shrink", "fail") and WHY in waits.reason and waits.at == lease.window.start
    world.run(130, 10)
    found = world.lease(lease)
    assert (found.state, found.accelerators) == (state, count)
    assert "cpu:2" not in world.backend._leases[lease.id].order.devices if state == "active" else found.metered_s == 0
    assert [note.amount_nano for note in world.credits] == ([] if state == "active" else [PRICE_NANO * 4 // 10])


def test_back_in_service_before_its_start_it_begins_whole(world: World) -> None:
    lease = sell(world, 4, "replace", ahead_s=600)
    drain(world, 2)
    world.run(500, 10)
    world.fleet.set_service(world.fleet.units(world.pool.id)[2].id, True)
    world.run(110, 10)
    assert (world.lease(lease).state, world.lease(lease).accelerators) == ("active", 4)


def test_an_accelerator_that_the_last_tenant_left_unclean_is_none_to_begin_on(
    store: Store, clock: SimulatedClock
) -> None:
    world = World(store, clock, faults=Faults(unclean=1.0))
    first = sell(world, 1, "shrink", seconds=300)
    second = sell(world, 1, "shrink", ahead_s=400)
    assert first.devices == second.devices == ("cpu:0",)
    world.run(450, 5)
    assert world.lease(first).state is LeaseState.ENDED and world.leases.quarantined()
    assert world.lease(second).state is LeaseState.ACTIVE
    assert devices_running(world, second) == ("cpu:1",)


def test_two_leases_are_not_given_the_same_spare(world: World) -> None:
    one, two = sell(world, 2, "replace"), sell(world, 1, "replace")
    world.run(2)
    drain(world, 0, 2)
    world.run(10)
    found = {lease.id: world.lease(lease) for lease in (one, two)}
    running = [device for lease in found.values() if lease.state is LeaseState.ACTIVE for device in lease.devices]
    assert len(running) == len(set(running)) and not {"cpu:0", "cpu:2"} & set(running)
    assert sorted(lease.end_reason or "" for lease in found.values()) == ["", "accelerator_failed"]


def test_nobody_else_is_asked_back_for_an_accelerator_that_failed(world: World) -> None:
    failing, other = sell(world, 2, "shrink"), world.sell(2, "spot", 3600, organization="org_other")
    world.run(2)
    drain(world, 0)
    world.stay = 3
    world.run(10)
    assert world.lease(failing).accelerators == 1
    assert (world.lease(other).state, world.lease(other).reclaim_at) == ("active", None)


def test_what_a_reclaim_keeps_for_the_owner_is_no_spare(world: World) -> None:
    from tests.leases.test_reclaim import order

    lease = sell(world, 2, "shrink")
    world.run(2)
    world.leases.reclaim(order(world, 2), "owner")
    drain(world, 0)
    world.run(5)
    assert world.lease(lease).accelerators == 1


def test_while_the_backend_is_silent_the_dead_one_is_not_billed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    lease = sell(world, 4, "shrink", seconds=1200)
    world.run(1)
    world.run(300, 60)
    drain(world, 0)

    def silent() -> dict[str, object]:
        raise BackendFailedError("no answer")

    with monkeypatch.context() as patch:
        patch.setattr(world.backend, "observe_all", silent)
        world.run(300, 30)
    world.run(5)
    world.run(700, 20)
    ended = world.lease(lease)
    assert ended.accelerators == 3 and ended.metered_s == world.billed_s(lease)
    # Four until it failed at 301, then three: of the five minutes of silence too.
    assert 4 * 300 + 3 * 894 <= ended.metered_s <= 4 * 300 + 3 * 899


@pytest.mark.parametrize("seed", range(4))
def test_crashes_between_any_two_steps_lose_and_double_nothing(store: Store, clock: SimulatedClock, seed: int) -> None:
    """Calls fail before and after they have done their work, and the control plane restarts all the time."""
    world = World(store, clock, accelerators=6, faults=Faults(deaf=0.15, deaf_after=0.15), seed=seed)
    leases = [sell(world, 2, choice, seconds=300) for choice in ("shrink", "replace", "end")][: 2 + seed % 2]
    for second in range(380):
        if second in (60, 61, 180):
            drain(world, (seed + second) % 6)
        if second % 7 == seed % 7:
            world.restart()
        world.run(1)
        out = {unit.device for unit in world.fleet.units(world.pool.id) if not unit.in_service}
        for lease in leases:
            found = world.lease(lease)
            assert len(found.devices) == found.accelerators == len(set(found.devices))
            started = world.backend._leases.get(lease.id)
            if second > 220 and found.state.served and started is not None and started.state is RunState.RUNNING:
                assert not out & set(started.order.devices), f"seed {seed}: it runs on what failed"
    for lease in leases:
        found = world.lease(lease)
        assert found.state.terminal and found.metered_s == world.billed_s(lease), f"seed {seed}"
        assert len([note for note in world.credits if note.lease_id == lease.id]) == int(
            found.end_reason == "accelerator_failed"
        )
    assert world.leases.book(world.pool.id) == []


@given(st.integers(1, 4), st.integers(0, 3), st.lists(st.tuples(st.integers(0, 900), st.integers(1, 900)), max_size=4))
@settings(max_examples=60)
def test_billed_is_what_was_delivered_on_what_worked(count: int, shrunk: int, outages: list[tuple[int, int]]) -> None:
    """Second by second, against the meter in one piece and minute by minute."""
    lost = tuple(
        Outage(f"unit_{index}", NOW + timedelta(seconds=start), NOW + timedelta(seconds=start + length))
        for index, (start, length) in enumerate(outages)
    )
    base = a_lease(1, "notice", count)
    lease = replace(base, shrunk_by=shrunk, outages=lost, metered_until=None)
    delivered = (Delivery(NOW, NOW + timedelta(seconds=600), count + shrunk),)
    expected = 0
    for second in range(600):
        out = sum(start <= second < start + length for start, length in outages)
        expected += max(0, min(count + shrunk, count + shrunk - out))
    reading = read_meter(lease, delivered, final=True)
    assert (sum(item.accelerator_s for item in reading.intervals) if reading else 0) == expected


def test_the_choice_is_a_pure_function() -> None:
    unit = FailedUnit("unit_1", "nvidia:3", WHY, NOW)
    lease = replace(a_lease(1, "notice", 2), on_failure=OnFailure.SHRINK)
    none, one = Failure(lease.id, (unit,)), Failure(lease.id, (unit,), ("unit_9",))

    def kind(lease: Lease, failure: Failure) -> list[str]:
        return [step.kind for step in failure_steps(lease, failure, NOW, Timing())]

    assert kind(lease, one) == ["replace"] and kind(lease, none) == ["shrink"]
    assert kind(replace(lease, on_failure=OnFailure.REPLACE), none) == ["fail"]
    assert kind(replace(lease, on_failure=OnFailure.END), one) == ["fail"]
    assert kind(replace(lease, accelerators=1), none) == ["fail"], "nothing would be left of it"
    two = Failure(lease.id, (unit, replace(unit, unit_id="unit_2")), ("unit_9",))
    [step] = failure_steps(replace(lease, accelerators=4), two, NOW, Timing())
    assert (step.kind, step.details) == ("shrink", {"out": ["unit_1", "unit_2"], "in": ["unit_9"]})
