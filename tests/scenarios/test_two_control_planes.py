"""Two control planes on one PostgreSQL: each does its part, and when one is killed the other does what is left, once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.scenarios.house import House, Plane, until

from sublet.leases.backends.base import RunState

pytestmark = [pytest.mark.real, pytest.mark.timeout(500)]

MOVES_S_MAX = 10.0


@pytest.fixture
def house(tmp_path: Path, postgres_url: str) -> Iterator[House]:
    made = House(tmp_path, postgres_url)
    try:
        yield made
    finally:
        made.close()


def test_each_acts_on_its_own_pools_and_one_on_what_they_share(house: House) -> None:
    alpha, beta = house.planes.values()
    # The one that is asked sells; whose the pool is starts it.
    leases = [house.rent(plane, pool) for plane in (alpha, beta) for pool in ("of-alpha", "of-beta", "both")]
    for lease_id in leases:
        house.unharmed(lease_id, "active")
    operator = house.operator
    listed = alpha.ask(operator, "/v1/nodes")["nodes"]
    assert [(node["name"], node["state"], len(node["pool_ids"])) for node in listed] == [
        ("alpha", "reachable", 2),
        ("beta", "reachable", 2),
    ]
    loops = [{loop["name"]: loop for loop in plane.ask(operator, "/v1/health")["loops"]} for plane in (alpha, beta)]
    for name in ("rating", "bookkeeping", "months", "outbox", "record"):
        assert [both[name]["leads"] for both in loops].count(True) == 1, name
    pools = beta.ask(house.key, "/v1/pools")["pools"]
    assert [pool["name"] for pool in pools if pool["offline_at"] is None] == ["both", "of-alpha", "of-beta"]


@dataclass(frozen=True)
class Point:
    """Where the leader dies, and what is asked of the other control plane so that it comes there."""

    kind: str
    moment: str
    after: Callable[[House, Plane, str], None]


def nothing(house: House, plane: Plane, lease_id: str) -> None:
    """The lease was rented: its start is under way."""


def take_back(house: House, plane: Plane, lease_id: str) -> None:
    house.unharmed(lease_id, "active")
    order = {"pool": "both", "accelerators": 8, "duration_s": 3600, "reason": "the owner needs it"}
    plane.ask(house.operator, "/v1/reclaims", order)


def end(house: House, plane: Plane, lease_id: str) -> None:
    house.unharmed(lease_id, "active")
    plane.ask(house.key, f"/v1/leases/{lease_id}/end", {})


POINTS = (
    Point("prepare", "before", nothing),
    Point("prepare", "inside", nothing),
    Point("prepare", "after", nothing),
    Point("activate", "before", nothing),
    Point("activate", "inside", nothing),
    Point("notify", "before", take_back),
    Point("notify", "inside", take_back),
    Point("stop", "before", end),
    Point("stop", "inside", end),
    Point("stop", "after", end),
    Point("forget", "before", end),
)


def died(house: House) -> Plane | None:
    return next((plane for plane in house.planes.values() if plane.process and plane.process.poll() is not None), None)


def test_the_leader_is_killed_at_every_step_of_a_plan(tmp_path: Path, postgres_url: str) -> None:
    """It kills itself there, so no moment is missed: before a step, after the first change inside it, and after it."""
    aim = tmp_path / "aim"
    house = House(tmp_path, postgres_url, aim)
    try:
        for point in POINTS:
            leader = until(lambda: house.leader("both"), "somebody to lead", 20)
            (other,) = (plane for plane in house.planes.values() if plane is not leader)
            aim.write_text(f"{point.kind} {point.moment}")
            lease_id = house.rent(other, "both", "notice")
            point.after(house, other, lease_id)
            dead = until(lambda: died(house), f"{leader.name} to die {point.moment} {point.kind}", 20)
            assert dead is leader and not aim.exists()
            killed = time.monotonic()
            until(lambda o=other: house.leader("both") is o, f"{other.name} to lead", 20)  # type: ignore[misc]
            moved_s = time.monotonic() - killed
            print(f"{point.moment} {point.kind}: the lead moved from {leader.name} to {other.name} in {moved_s:.1f} s")
            assert moved_s < MOVES_S_MAX
            came_through(house, other, point, lease_id)
            leader.start()
        pools = house.planes["alpha"].ask(house.key, "/v1/pools")["pools"]
        assert all(pool["offline_at"] is None for pool in pools), "nothing is retired"
    finally:
        house.close()


def came_through(house: House, plane: Plane, point: Point, lease_id: str) -> None:
    """What was asked for is done, once; then the lease is ended, so that the next point finds the pool as this one did."""
    if point.after is take_back:
        until(lambda: house.cluster.told(lease_id), f"{lease_id} to be told", 30)
        found = house.lease(lease_id)
        assert found["state"] == "notice" and found["reclaim_at"] is not None and len(house.cluster.told(lease_id)) == 1
        for reclaim in plane.ask(house.operator, "/v1/reclaims")["reclaims"]:
            if not reclaim["withdrawn"]:
                plane.ask(house.operator, f"/v1/reclaims/{reclaim['id']}/withdraw", {})
        until(lambda: len(house.cluster.told(lease_id)) == 2, "the withdrawal", 30)
        assert house.cluster.told(lease_id)[1] == "withdrawn" and house.lease(lease_id)["reclaim_at"] is None
    elif point.after is nothing:
        house.unharmed(lease_id, "active")
    if point.after is not end:
        assert len(house.cluster.observe(lease_id).deliveries) == 1
        plane.ask(house.key, f"/v1/leases/{lease_id}/end", {})
    until(lambda: house.lease(lease_id)["state"] == "ended", f"{lease_id} to end", 30)
    until(lambda: house.cluster.observe(lease_id).state is RunState.ABSENT, f"{lease_id} to be forgotten", 30)
    assert house.lease(lease_id)["end_reason"] == "released"
