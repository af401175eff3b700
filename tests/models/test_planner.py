"""The planner: replicas wanted, floors, room, draining."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sublet.models.catalog import BUILT_IN
from sublet.models.model import CatalogEntry, Deployment, Replica
from sublet.models.planner import DRAIN, FAILED_PAUSE_S, START, World, plan

NOW = datetime(2026, 1, 5, tzinfo=UTC)
ENTRY = replace(BUILT_IN, name="m")


def deployment(name: str = "m", **fields: object) -> Deployment:
    base = Deployment(f"dep_{name}", name, ("pool",), 0, 8, None, "active", NOW, NOW)
    return replace(base, **fields)  # type: ignore[arg-type]


def replica(number: int, state: str = "ready", **fields: object) -> Replica:
    base = Replica(
        f"rep_{number}", "dep_m", "m", "pool", 1, state, 4, "", NOW + timedelta(seconds=number), stopped_at=None
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def world(
    deployments: list[Deployment], replicas: list[Replica], room: int, entries: list[CatalogEntry] | None = None
) -> World:
    catalog = {entry.name: entry for entry in entries or [ENTRY]}
    return World(NOW, deployments, replicas, catalog, {"pool": room}, Counter(item.deployment_id for item in replicas))


def kinds(planned: World) -> Counter[str]:
    return Counter(step.kind for step in plan(planned).steps)


def test_one_replica_is_wanted_where_nobody_says_otherwise() -> None:
    assert kinds(world([deployment()], [], room=5)) == {START: 1}
    assert kinds(world([deployment()], [replica(1)], room=5)) == {}


def test_without_room_nothing_starts_but_the_floor() -> None:
    assert kinds(world([deployment()], [], room=0)) == {}
    assert kinds(world([deployment(floor=2)], [], room=0)) == {START: 2}


def test_scale_is_bounded_by_room_and_maximum() -> None:
    assert kinds(world([deployment(scale=6)], [], room=4)) == {START: 4}
    assert kinds(world([deployment(scale=6, replicas_max=3)], [], room=9)) == {START: 3}


def test_when_the_room_shrinks_the_youngest_drain_first_and_the_starting_before_them() -> None:
    replicas = [replica(1), replica(2), replica(3, "starting")]
    steps = plan(world([deployment(scale=3)], replicas, room=1)).steps
    assert [(step.kind, step.subject) for step in steps] == [(DRAIN, "rep_3"), (DRAIN, "rep_2")]
    assert "room for 1" in steps[0].reason


def test_the_floor_stays_when_the_room_is_gone() -> None:
    assert kinds(world([deployment(floor=1, scale=3)], [replica(1), replica(2)], room=0)) == {DRAIN: 1}


def test_a_draining_replica_still_occupies_its_place() -> None:
    assert kinds(world([deployment(scale=2)], [replica(1), replica(2, "draining")], room=2)) == {}
    assert kinds(world([deployment(scale=2)], [replica(1), replica(2, "draining")], room=3)) == {START: 1}


def test_scaled_to_nothing_or_retired_everything_drains() -> None:
    assert kinds(world([deployment(scale=0)], [replica(1)], room=5)) == {DRAIN: 1}
    assert kinds(world([deployment(state="retired", floor=1)], [replica(1)], room=5)) == {DRAIN: 1}
    assert kinds(world([], [replica(1), replica(2, "draining")], room=5)) == {DRAIN: 1}


def test_a_model_that_left_the_catalog_drains() -> None:
    assert kinds(World(NOW, [deployment(floor=1)], [replica(1)], {}, {"pool": 5}, {})) == {DRAIN: 1}


def test_a_replica_that_failed_keeps_its_place_for_a_while() -> None:
    failed = replica(1, "failed", stopped_at=NOW - timedelta(seconds=FAILED_PAUSE_S - 1))
    assert kinds(world([deployment(floor=1)], [failed], room=5)) == {}
    later = replace(failed, stopped_at=NOW - timedelta(seconds=FAILED_PAUSE_S))
    assert kinds(world([deployment(floor=1)], [later], room=5)) == {START: 1}


def test_a_plan_made_twice_names_the_same_replicas_and_a_later_one_others() -> None:
    first = plan(world([deployment(scale=2)], [], room=2)).steps
    assert first == plan(world([deployment(scale=2)], [], room=2)).steps
    then = plan(
        world([deployment(scale=2)], [replica(1), replica(2, "failed", stopped_at=NOW - timedelta(hours=1))], room=2)
    )
    assert {step.subject for step in then.steps}.isdisjoint(step.subject for step in first)


def test_large_replicas_need_as_many_accelerators() -> None:
    entry = replace(ENTRY, accelerators=4)
    assert kinds(world([deployment(scale=3)], [], room=9, entries=[entry])) == {START: 2}


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5), st.none() | st.integers(0, 6)), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["starting", "ready", "draining"])), max_size=10),
    st.integers(-3, 12),
    st.integers(0, 3),
)
def test_above_the_floors_replicas_never_exceed_the_room_and_the_plan_is_final(
    wanted: list[tuple[int, int, int | None]], there: list[tuple[int, str]], room: int, size: int
) -> None:
    deployments = [
        deployment(f"m{number}", floor=floor, replicas_max=floor + more, scale=scale)
        for number, (floor, more, scale) in enumerate(wanted)
    ]
    entries = [replace(ENTRY, name=item.model, accelerators=size) for item in deployments]
    replicas = [
        replica(number, state, deployment_id=f"dep_m{owner}", model=f"m{owner}", accelerators=size)
        for number, (owner, state) in enumerate(there)
    ]
    found = world(deployments, replicas, room, entries)
    steps = plan(found).steps
    drained = {step.subject for step in steps if step.kind == DRAIN}
    after = [replace(item, state="draining") if item.id in drained else item for item in replicas]
    after += [
        replica(100 + number, "starting", id=step.subject, deployment_id=step.details["deployment"], accelerators=size)
        for number, step in enumerate(steps)
        if step.kind == START
    ]
    serving = Counter(item.deployment_id for item in after if item.state != "draining")
    for item in deployments:
        assert min(item.floor, item.target) <= serving[item.id] <= item.target
    above_floors = sum(max(0, serving[item.id] - min(item.floor, item.target)) for item in deployments)
    if above_floors and size:
        assert sum(count * size for count in serving.values()) <= room
    again = plan(replace(found, replicas=after))
    starts = [step for step in again.steps if step.kind == START]
    assert not starts
