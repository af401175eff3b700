"""A deployment on several pools: where replicas start and stay, what follows a reclaim, and what a dead node leaves."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from sublet.models.catalog import BUILT_IN
from sublet.models.model import DRAIN_S, Deployment, Replica
from sublet.models.placement import floor_places
from sublet.models.planner import DRAIN, END_LOST, START, World, plan
from sublet.models.service import planned_pools

NOW = datetime(2026, 1, 5, tzinfo=UTC)
ENTRY = replace(BUILT_IN, name="m")
POOLS = ("a", "b")


def deployment(**fields: object) -> Deployment:
    base = Deployment("dep_m", "m", POOLS, 0, 8, 2, "active", NOW, NOW)
    return replace(base, **fields)  # type: ignore[arg-type]


def replica(number: int, pool_id: str, state: str = "ready", **fields: object) -> Replica:
    made = NOW + timedelta(seconds=number)
    base = Replica(f"rep_{number}", "dep_m", "m", pool_id, 1, state, 4, "", made)
    return replace(base, **fields)  # type: ignore[arg-type]


def world(
    offered: Deployment, replicas: list[Replica], room: dict[str, int], limit: dict[str, int] | None = None
) -> World:
    ever = Counter(item.deployment_id for item in replicas)
    return World(NOW, [offered], replicas, {"m": ENTRY}, room, ever, limit or {})


def steps(planned: World) -> list[tuple[str, str]]:
    """What is done, and on which pool or to which replica."""
    return [(step.kind, step.details.get("pool", step.subject)) for step in plan(planned).steps]


def test_the_preferred_pool_comes_first_and_the_next_takes_what_it_has_no_room_for() -> None:
    assert steps(world(deployment(), [], {"a": 5, "b": 5})) == [(START, "a"), (START, "a")]
    assert steps(world(deployment(), [], {"a": 1, "b": 5})) == [(START, "a"), (START, "b")]
    assert steps(world(deployment(), [], {"a": 0, "b": 1})) == [(START, "b")]
    assert len({step.subject for step in plan(world(deployment(), [], {"a": 1, "b": 1})).steps}) == 2


def test_a_replica_stays_where_it_serves() -> None:
    there = [replica(1, "b"), replica(2, "b")]
    assert steps(world(deployment(), there, {"a": 5, "b": 5})) == []
    assert steps(world(deployment(scale=1), [replica(1, "a"), replica(2, "b")], {"a": 5, "b": 5})) == [(DRAIN, "rep_2")]


def test_growth_goes_elsewhere_when_one_pool_shrinks() -> None:
    there = [replica(1, "a"), replica(2, "a")]
    assert steps(world(deployment(), there, {"a": 1, "b": 5})) == [(DRAIN, "rep_2"), (START, "b")]


def test_under_notice_a_successor_starts_on_the_other_pool_and_goes_if_the_notice_is_withdrawn() -> None:
    due = NOW + timedelta(seconds=DRAIN_S + 30)
    noticed = [replica(1, "a", reclaim_at=due), replica(2, "b")]
    assert steps(world(deployment(), noticed, {"a": 1, "b": 5})) == [(START, "b")]
    followed = [*noticed, replica(3, "b")]
    assert steps(world(deployment(), followed, {"a": 1, "b": 5})) == []
    leaving = [replace(followed[0], reclaim_at=NOW), *followed[1:]]
    assert steps(world(deployment(), leaving, {"a": 1, "b": 5})) == [(DRAIN, "rep_1")]
    stays = [replace(followed[0], reclaim_at=None), *followed[1:]]
    assert steps(world(deployment(), stays, {"a": 1, "b": 5})) == [(DRAIN, "rep_3")]
    alone = replace(deployment(scale=1), pool_ids=("a",))
    assert steps(world(alone, noticed[:1], {"a": 1})) == []


def test_a_floor_is_kept_where_it_stands_and_moves_when_its_pool_can_have_none() -> None:
    floor = deployment(floor=1, scale=1)
    assert steps(world(floor, [], {"a": 0, "b": 0}, {"a": 4, "b": 4})) == [(START, "a")]
    assert steps(world(floor, [], {"a": 0, "b": 0}, {"a": 0, "b": 4})) == [(START, "b")]
    assert steps(world(floor, [replica(1, "b")], {"a": 0, "b": 0}, {"a": 4, "b": 4})) == []
    kept = floor_places([deployment(floor=3)], [replica(1, "b")], {"m": ENTRY}, {"a": 1, "b": 2})
    assert kept == {("dep_m", "a"): 1, ("dep_m", "b"): 2}
    nowhere = floor_places([deployment(floor=3)], [], {"m": ENTRY}, {"a": 0, "b": 0})
    assert +nowhere == {("dep_m", "a"): 3}, "the preferred pool keeps what none can have"


def test_a_pool_where_a_replica_failed_is_tried_last() -> None:
    failed = replica(1, "a", "failed", stopped_at=NOW)
    assert steps(world(deployment(scale=1), [failed], {"a": 5, "b": 5})) == [(START, "b")]


def test_a_pool_that_is_no_longer_named_serves_until_others_do() -> None:
    moved = deployment(pool_ids=("b",), scale=1)
    there = replica(1, "a")
    assert steps(world(moved, [there], {"a": 5, "b": 5})) == [(START, "b")]
    assert steps(world(moved, [there, replica(2, "b", "starting")], {"a": 5, "b": 5})) == []
    assert steps(world(moved, [there, replica(2, "b")], {"a": 5, "b": 5})) == [(DRAIN, "rep_1")]


def test_what_is_lost_is_replaced_elsewhere_and_ended_where_nobody_waits_for_it() -> None:
    lost = replica(1, "a")

    def of(offered: Deployment, gone: bool = False, **fields: object) -> list[tuple[str, str]]:
        seen = world(offered, [], {"a": 0, "b": 5}, {"a": 0, "b": 5})
        away = replace(lost, **fields)  # type: ignore[arg-type]
        return steps(replace(seen, lost=[away], gone=frozenset({lost.id} if gone else ())))

    assert of(deployment(scale=1, floor=1)) == [(START, "b")]
    assert of(deployment(scale=1), state="draining") == [(START, "b"), (END_LOST, "rep_1")]
    assert of(deployment(scale=1), gone=True) == [(START, "b"), (END_LOST, "rep_1")]
    assert of(deployment(state="retired")) == [(END_LOST, "rep_1")]
    assert of(deployment(scale=0)) == []


def test_control_planes_that_disagree_on_a_pool_fill_a_gap_once() -> None:
    """Each would start the missing replica on another pool: under the same id, of which one row can be made."""
    one, other = (plan(world(deployment(scale=1), [], room)).steps for room in ({"a": 1, "b": 1}, {"a": 0, "b": 1}))
    assert [step.subject for step in one] == [step.subject for step in other]
    assert one[0].details["pool"] != other[0].details["pool"]


def test_a_control_plane_of_one_of_several_pools_plans_for_all() -> None:
    single = replace(deployment(), id="dep_n", model="n", pool_ids=("c",))
    assert planned_pools([deployment(), single], [], frozenset("a")) == {"a", "b", "c"}
    assert planned_pools([deployment(), single], [], frozenset("c")) == {"c"}
    assert planned_pools([single], [replica(1, "a", deployment_id="dep_n")], frozenset("a")) == {"a", "c"}


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["starting", "ready", "draining"])), max_size=8),
    st.integers(0, 6),
    st.integers(0, 6),
    st.tuples(st.integers(0, 5), st.integers(0, 5)),
)
def test_over_all_pools_no_more_than_wanted_and_on_none_more_than_its_room(
    there: list[tuple[str, str]], floor: int, more: int, rooms: tuple[int, int]
) -> None:
    replicas = [replica(number, pool_id, state) for number, (pool_id, state) in enumerate(there)]
    room = dict(zip("ab", rooms, strict=True))
    offered = deployment(floor=floor, replicas_max=floor + more, scale=floor + more)
    made = plan(world(offered, replicas, room, dict(room))).steps
    drained = {step.subject for step in made if step.kind == DRAIN}
    after = Counter(item.pool_id for item in replicas if item.id not in drained and item.state != "draining")
    after += Counter(step.details["pool"] for step in made if step.kind == START)
    draining = Counter(item.pool_id for item in replicas if item.state == "draining")
    assert after.total() <= floor + more
    for pool_id in POOLS:
        assert after[pool_id] <= room[pool_id]
        placed = min(floor, sum(room.values()))
        assert after.total() >= placed or draining.total()
