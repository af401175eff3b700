"""The planner is pure: a view in, the steps out, in an order that gives capacity back first."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from tests.leases.test_reclaim import NOW, a_lease
from tests.leases.world import World

from sublet.leases.backends.base import Delivery, Endpoint, Observation, RunState
from sublet.leases.lifecycle.executor import Executor
from sublet.leases.model import Lease, LeaseState, Timing
from sublet.leases.plan.planner import KINDS, Quarantined, View, make_plan
from sublet.values.plan import Plan, Step

DOOR = Endpoint("127.0.0.1", 22000, "tenant", "ssh-ed25519 AAAA", "SHA256:x")


def view(*leases: Lease, seen: tuple[Observation, ...] = (), silent: bool = False, **changes: object) -> View:
    base = View(
        now=NOW,
        leases=leases,
        observations={item.lease_id: item for item in seen},
        ended={},
        backend_of={"pool_1": "local"},
        silent=frozenset({"local"} if silent else set()),
        quarantined=(),
        reclaims=(),
        timing=Timing(),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def kinds(found: View) -> list[str]:
    return [step.kind for step in make_plan(found).steps]


def active(number: int = 1, **changes: object) -> Lease:
    lease = replace(a_lease(number, "notice", 1), endpoint=DOOR.as_dict(), metered_until=NOW, created_at=NOW)
    return replace(lease, **changes)  # type: ignore[arg-type]


def running(lease: Lease, **changes: object) -> Observation:
    seen = Observation(
        lease.id, RunState.RUNNING, DOOR, {}, (Delivery(NOW, NOW, 1, True),), lease.window.end, lease.reclaim_at
    )
    return replace(seen, **changes)  # type: ignore[arg-type]


def test_nothing_to_do_is_an_empty_plan() -> None:
    lease = active()
    assert kinds(view(lease, seen=(running(lease),))) == []


def test_a_lease_at_its_deadline_is_ended_though_its_backend_runs_on() -> None:
    lease = active(reclaim_at=NOW, state=LeaseState.NOTICE)
    steps = make_plan(view(lease, seen=(running(lease),))).steps
    assert [(step.kind, step.details["end_reason"]) for step in steps] == [("end", "reclaimed")]
    over = active(window=replace(lease.window, end=NOW))
    assert make_plan(view(over, seen=(running(over),))).steps[0].details["end_reason"] == "window_over"


@pytest.mark.parametrize(
    ("changes", "seen", "expected"),
    [
        ({"state": LeaseState.SCHEDULED}, None, ["prepare"]),
        ({"state": LeaseState.PREPARING}, None, ["start"]),
        ({"state": LeaseState.PREPARING}, {"state": RunState.STARTING}, []),
        ({"state": LeaseState.PREPARING}, {}, ["activate"]),
        ({"state": LeaseState.PREPARING}, {"state": RunState.FAILED, "error": "no port"}, ["abandon"]),
        ({"state": LeaseState.PREPARING, "end_reason": "canceled"}, {}, ["abandon"]),
        ({}, None, ["restart", "degrade"]),
        ({}, {"state": RunState.PAUSED}, ["restart", "degrade"]),
        ({}, {"state": RunState.STARTING}, ["degrade"]),
        ({"state": LeaseState.DEGRADED}, {}, ["recover"]),
        ({"endpoint": None}, {}, ["recover"]),
        ({}, {"state": RunState.STOPPED, "reason": "window_over"}, ["end"]),
        ({}, {"reclaim_at": NOW + timedelta(hours=1)}, ["notify"]),
        ({"reclaim_at": NOW + timedelta(minutes=5)}, {}, ["announce"]),
        ({"state": LeaseState.NOTICE, "reclaim_at": NOW + timedelta(minutes=5)}, {"reclaim_at": None}, ["notify"]),
        ({}, {"ends_at": NOW + timedelta(minutes=9)}, ["set_terms"]),
        ({}, {"deliveries": (Delivery(NOW, NOW + timedelta(seconds=61), 1, True),)}, ["meter"]),
        ({"state": LeaseState.ENDING}, {}, ["stop"]),
        ({"state": LeaseState.ENDING}, {"state": RunState.STOPPED, "clean": True}, ["finish"]),
        ({"state": LeaseState.ENDING}, {"state": RunState.STOPPED, "clean": False}, ["finish"]),
    ],
)  # fmt: skip
def test_what_follows_from_a_state_and_what_is_seen(
    changes: dict[str, Any], seen: dict[str, Any] | None, expected: list[str]
) -> None:
    lease = active(**changes)
    found = kinds(view(lease, seen=(running(lease, **seen),) if seen is not None else ()))
    assert found == expected


def test_f11_a_silent_backend_gets_no_step_but_the_books_move_on() -> None:
    lease = active()
    assert kinds(view(lease, silent=True)) == []
    late = active(state=LeaseState.ENDING, reclaim_at=NOW - timedelta(minutes=2))
    assert kinds(view(late, silent=True)) == ["quarantine"]
    due = active(reclaim_at=NOW)
    assert kinds(view(due, silent=True)) == ["end"]


def test_strangers_are_reaped_and_what_is_proved_clean_is_forgotten() -> None:
    stranger = running(active(7))
    clean = Observation("lse_clean", RunState.STOPPED, clean=True)
    assert kinds(view(seen=(stranger, clean))) == ["reap", "forget"]


def test_quarantine_ends_on_proof_alone() -> None:
    held = (Quarantined("unit_1", "pool_1", "lse_clean", "x"),)
    clean = Observation("lse_clean", RunState.STOPPED, clean=True)
    dirty = replace(clean, clean=False)
    assert "release_unit" in kinds(view(seen=(clean,), quarantined=held))
    assert "release_unit" not in kinds(view(seen=(dirty,), quarantined=held))
    assert "release_unit" not in kinds(view(quarantined=held))
    assert "release_unit" not in kinds(view(seen=(clean,), quarantined=held, silent=True))


def test_ends_come_before_starts() -> None:
    ending, starting = active(1, reclaim_at=NOW), active(2, state=LeaseState.PREPARING)
    assert kinds(view(starting, ending, seen=(running(ending),))) == ["end", "start"]


def test_every_kind_of_step_has_an_executor() -> None:
    assert all(hasattr(Executor, f"_{kind}") for kind in KINDS)


def test_a_lease_that_was_sold_since_the_plan_was_made_is_no_orphan(world: World) -> None:
    lease = world.sell()
    world.run(3)
    stale = Plan(world.clock.now(), (Step("reap", lease.id, "it was in no book"),))
    world.leases._executor.carry_out(stale)
    assert world.backend.observe(lease.id).state is RunState.RUNNING


def test_what_was_started_is_stopped_before_its_accelerator_is_free(world: World) -> None:
    from sublet.leases.backends.simulated import Faults

    world.backend._faults = Faults(start_s=100)
    lease = world.sell()
    world.run(5)
    world.leases.end(lease.id)
    while not world.lease(lease).state.terminal:
        assert world.leases.book(world.pool.id), "on sale again while it may still run"
        world.leases._executor.carry_out(world.leases.plan())
    assert world.backend.observe(lease.id).state.over


def test_nobody_is_asked_back_for_a_need_that_is_over_before_his_notice(world: World) -> None:
    """The owner needs more for four minutes: spot can help him, a notice of five minutes can't."""
    spot, notice = world.sell(class_name="spot", seconds=3600), world.sell(count=2, seconds=3600)
    world.run(5)
    until = world.clock.now() + timedelta(seconds=240)
    around = world.leases._reclaims._ports
    busy = replace(around, may_stay=lambda connection, pool, window, calm_s: 0 if window.start < until else 4)
    world.leases._reclaims._ports = busy
    world.run(2)
    assert world.lease(spot).state is LeaseState.NOTICE
    assert world.lease(notice).state is LeaseState.ACTIVE


def test_capacity_that_is_lost_is_taken_from_the_lease_that_held_it_alone(world: World) -> None:
    spot, notice = world.sell(class_name="spot", seconds=3600), world.sell(count=3, seconds=3600)
    world.run(5)
    world.fleet.set_service(world.fleet.units(world.pool.id)[3].id, False, "XID 79")
    world.run(2)
    assert world.lease(spot).state is LeaseState.ACTIVE
    assert (world.lease(notice).state, world.lease(notice).accelerators) == (LeaseState.ACTIVE, 2)
