"""The pure half of serving: from deployments, replicas and room to the replicas to start and to drain."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from sublet.models.model import DRAIN_S, CatalogEntry, Deployment, Replica
from sublet.models.placement import Claims, Place, floor_places, granted
from sublet.models.replacement import Standing, is_outdated, replacement, replicas_max_of
from sublet.values.ids import derived_id
from sublet.values.plan import Plan, Step

START = "start_replica"
DRAIN = "drain_replica"
END_LOST = "end_lost_replica"
"""To write down that a replica has ended whose node can't be asked; the node ends its engine when it is back."""

FAILED_PAUSE_S = 30.0
"""Seconds for which a replica that failed keeps its place, so that a model that can't start is not tried all the time."""


@dataclass(frozen=True, slots=True)
class World:
    """What the planner looks at.

    `room` is, per pool, the accelerators that replicas may occupy in all, those that they occupy now included.
    `replicas` are the live ones and those that failed lately; `ever` is how many each deployment ever had, counted before the
    replicas were read. `limit` is, per pool, what even floors may not exceed: what works there and is not taken back by force.
    `lost` are live replicas whose node does not answer; they are not among `replicas`. `gone` are those of them whose node is
    forgotten.
    """

    now: datetime
    deployments: Sequence[Deployment]
    replicas: Sequence[Replica]
    catalog: Mapping[str, CatalogEntry]
    room: Mapping[str, int]
    ever: Mapping[str, int]
    limit: Mapping[str, int] = field(default_factory=dict)
    lost: Sequence[Replica] = ()
    gone: frozenset[str] = frozenset()


def plan(world: World) -> Plan:
    """The steps that bring replicas to what is wanted and what there is room for.

    Floors come first: the operator pays for them whatever the surplus. What is left of a pool's room goes to deployments
    in the order in which they were made. Replicas that drain still occupy their accelerators; one whose notice runs out
    drains so that it is gone when the owner takes it back. A replica stays on its pool as long as there is room for it; others
    start on the first of the deployment's pools that has room.

    Every control plane makes the whole plan of deployments that span several, and carries out its own part. Replicas are numbered
    by how many there ever were, so two that fill the same gap on different pools have the same id, and one of them is made.
    """
    steps: list[Step] = []
    room = dict(world.room)
    pools_of = {deployment.id: deployment.pool_ids for deployment in world.deployments}
    for replica in world.replicas:
        leaving = replica.state == "draining" or _is_due(replica, world.now)
        if replica.live and (leaving or replica.pool_id not in pools_of.get(replica.deployment_id, ())):
            room[replica.pool_id] = room.get(replica.pool_id, 0) - replica.accelerators
    floors = floor_places(world.deployments, world.replicas, world.catalog, world.limit)
    found = granted([_claims(world, item) for item in world.deployments], floors, room, world.limit)
    for deployment in world.deployments:
        steps.extend(_towards(world, deployment, found, room))
    steps.extend(
        _drain(world, replica, "its deployment is gone")
        for replica in world.replicas
        if replica.state in ("starting", "ready") and replica.deployment_id not in pools_of
    )
    steps.extend(
        Step(END_LOST, replica.id, f"{replica.model}: {why}", world.now)
        for replica in world.lost
        if (why := _ends_lost(world, replica))
    )
    return Plan(world.now, tuple(steps))


def _claims(world: World, deployment: Deployment) -> Claims:
    entry = world.catalog.get(deployment.model)
    own = [replica for replica in world.replicas if replica.deployment_id == deployment.id]
    serving = [item for item in own if item.state in ("starting", "ready") and not _is_due(item, world.now)]
    return Claims(
        deployment,
        entry.accelerators if entry else 0,
        _wanted(world, deployment),
        Counter(item.pool_id for item in serving),
        Counter(item.pool_id for item in serving if item.reclaim_at is not None),
        Counter(item.pool_id for item in own if _pauses(item, world.now)),
        entry is not None and len(deployment.pool_ids) > 1 and replicas_max_of(entry) is None,
    )


def _ends_lost(world: World, replica: Replica) -> str:
    """Why a lost replica is ended although its node can't be asked; empty where the node may still bring it back."""
    deployment = next((item for item in world.deployments if item.id == replica.deployment_id), None)
    if deployment is None or deployment.state != "active":
        return "its node does not answer, and the model is no longer deployed"
    if replica.id in world.gone:
        return "its node is forgotten"
    if replica.state == "draining":
        return "its node does not answer, and it was draining"
    return "" if replica.pool_id in deployment.pool_ids else "its node does not answer, and its pool is no longer used"


def _towards(world: World, deployment: Deployment, found: Mapping[Place, int], room: dict[str, int]) -> list[Step]:
    """`room` is what is left of each pool; what a replacement needs besides is taken from it."""
    own = [replica for replica in world.replicas if replica.deployment_id == deployment.id]
    up = [replica for replica in own if replica.state in ("starting", "ready")]
    steps = [_drain(world, item, f"{deployment.model}: {item.reason}") for item in up if _is_due(item, world.now)]
    ordinals = count()
    for pool_id in deployment.pool_ids:
        here = [replica for replica in own if replica.pool_id == pool_id]
        aim = Aim(deployment, pool_id, found[deployment.id, pool_id], ordinals)
        steps += _towards_granted(world, aim, room, here)
    answering = sum(item.state == "ready" and item.pool_id in deployment.pool_ids for item in up)
    if answering >= min(_wanted(world, deployment), sum(found[deployment.id, one] for one in deployment.pool_ids)):
        # A pool that the deployment no longer names serves until its other pools do.
        foreign = (item for item in up if item.pool_id not in deployment.pool_ids and not _is_due(item, world.now))
        steps += [_drain(world, item, f"{deployment.model}: its pool is no longer used") for item in foreign]
    return steps


@dataclass(frozen=True, slots=True)
class Aim:
    """How many replicas of a deployment one pool is to have; `ordinals` number the new ones of all of its pools."""

    deployment: Deployment
    pool_id: str
    granted: int
    ordinals: Iterator[int]


def _towards_granted(world: World, aim: Aim, room: dict[str, int], own: Sequence[Replica]) -> list[Step]:
    """The steps on one pool, where the deployment's `own` replicas are these."""
    deployment, goal = aim.deployment, aim.granted
    serving = [item for item in own if item.state in ("starting", "ready") and not _is_due(item, world.now)]
    pausing = [replica for replica in own if _pauses(replica, world.now)]
    entry = world.catalog.get(deployment.model)
    outdated = [replica for replica in serving if entry is not None and is_outdated(replica, entry)]
    if outdated and entry is not None and goal:
        current = [replica for replica in serving if replica not in outdated]
        place = goal * entry.accelerators
        draining = sum(replica.state == "draining" for replica in own)
        standing = Standing(current, outdated, len(pausing), draining)
        found = replacement(entry, goal, standing, place + max(0, room[aim.pool_id]))
        occupied = sum(replica.accelerators for replica in serving) + found.starts * entry.accelerators
        room[aim.pool_id] -= max(0, occupied - place)
        return [
            *(_start(world, aim) for _ in range(found.starts)),
            *(_drain(world, replica, f"{deployment.model}: its entry has changed") for replica in found.drains),
        ]
    missing = goal - len(serving) - len(pausing)
    if missing > 0:
        return [_start(world, aim) for _ in range(missing)]
    surplus = len(serving) - goal
    if surplus <= 0:
        return []
    # Replicas that are not ready yet drain first, then the newest ones: the oldest has the warmest cache.
    order = sorted(serving, key=lambda replica: (replica.state == "ready", -replica.created_at.timestamp(), replica.id))
    why = f"{deployment.target} wanted" if goal == deployment.target else f"room for {goal}"
    return [_drain(world, replica, f"{deployment.model}: {why}, {len(serving)} there") for replica in order[:surplus]]


def _start(world: World, aim: Aim) -> Step:
    deployment, ordinal = aim.deployment, next(aim.ordinals)
    entry = world.catalog[deployment.model]
    number = world.ever.get(deployment.id, 0) + ordinal
    return Step(
        START,
        derived_id("rep", deployment.id, str(number)),
        f"{deployment.model}: replica {number + 1} on spare capacity"
        if ordinal >= deployment.floor
        else f"{deployment.model}: replica {number + 1}",
        world.now,
        {
            "deployment": deployment.id,
            "model": deployment.model,
            "pool": aim.pool_id,
            "accelerators": entry.accelerators,
            "slots": entry.slots,
            "entry": entry.as_dict(),
        },
    )


def _is_due(replica: Replica, now: datetime) -> bool:
    """Whether a replica under notice must begin to drain."""
    return (
        replica.state in ("starting", "ready")
        and replica.reclaim_at is not None
        and now >= replica.reclaim_at - timedelta(seconds=DRAIN_S)
    )


def _drain(world: World, replica: Replica, why: str) -> Step:
    deadline = world.now + timedelta(seconds=DRAIN_S)
    return Step(DRAIN, replica.id, why, world.now, {"deadline_s": DRAIN_S, "deadline": deadline.isoformat()})


def _pauses(replica: Replica, now: datetime) -> bool:
    return (
        replica.state == "failed"
        and replica.stopped_at is not None
        and now < replica.stopped_at + timedelta(seconds=FAILED_PAUSE_S)
    )


def _wanted(world: World, deployment: Deployment) -> int:
    entry = world.catalog.get(deployment.model)
    if entry is None:
        return 0
    most = replicas_max_of(entry)
    return deployment.target if most is None else min(deployment.target, most)
