"""The pure half of serving: from deployments, replicas and room to the replicas to start and to drain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sublet.models.model import DRAIN_S, CatalogEntry, Deployment, Replica
from sublet.models.replacement import Standing, is_outdated, replacement, replicas_max_of
from sublet.values.ids import derived_id
from sublet.values.plan import Plan, Step

START = "start_replica"
DRAIN = "drain_replica"

FAILED_PAUSE_S = 30.0
"""Seconds for which a replica that failed keeps its place, so that a model that can't start is not tried all the time."""


@dataclass(frozen=True, slots=True)
class World:
    """What the planner looks at.

    `room` is, per pool, the accelerators that replicas may occupy in all, those that they occupy now included.
    `replicas` are the live ones and those that failed lately; `ever` is how many each deployment ever had. `limit` is, per
    pool, what even floors may not exceed: what works there and is not taken back by force.
    """

    now: datetime
    deployments: Sequence[Deployment]
    replicas: Sequence[Replica]
    catalog: Mapping[str, CatalogEntry]
    room: Mapping[str, int]
    ever: Mapping[str, int]
    limit: Mapping[str, int] = field(default_factory=dict)


def plan(world: World) -> Plan:
    """The steps that bring replicas to what is wanted and what there is room for.

    Floors come first: the operator pays for them whatever the surplus. What is left of a pool's room goes to deployments
    in the order in which they were made. Replicas that drain still occupy their accelerators; one whose notice runs out
    drains so that it is gone when the owner takes it back.
    """
    steps: list[Step] = []
    room, limit = dict(world.room), dict(world.limit)
    known = {deployment.id for deployment in world.deployments}
    for replica in world.replicas:
        leaving = replica.state == "draining" or _is_due(replica, world.now)
        if replica.live and (leaving or replica.deployment_id not in known):
            room[replica.pool_id] = room.get(replica.pool_id, 0) - replica.accelerators
    granted: dict[str, int] = {}
    for deployment in world.deployments:
        needs = _accelerators(world, deployment)
        granted[deployment.id] = min(deployment.floor, _wanted(world, deployment))
        if needs and deployment.pool_id in limit:
            granted[deployment.id] = min(granted[deployment.id], max(0, limit[deployment.pool_id]) // needs)
            limit[deployment.pool_id] -= granted[deployment.id] * needs
        room[deployment.pool_id] = room.get(deployment.pool_id, 0) - granted[deployment.id] * needs
    for deployment in world.deployments:
        wanted = _wanted(world, deployment)
        while granted[deployment.id] < wanted and room[deployment.pool_id] >= _accelerators(world, deployment):
            granted[deployment.id] += 1
            room[deployment.pool_id] -= _accelerators(world, deployment)
    for deployment in world.deployments:
        steps.extend(_towards(world, deployment, granted[deployment.id], room))
    steps.extend(
        _drain(world, replica, "its deployment is gone")
        for replica in world.replicas
        if replica.state in ("starting", "ready") and replica.deployment_id not in known
    )
    return Plan(world.now, tuple(steps))


def _towards(world: World, deployment: Deployment, granted: int, room: dict[str, int]) -> list[Step]:
    """`room` is what is left of each pool; what a replacement needs besides is taken from it."""
    own = [replica for replica in world.replicas if replica.deployment_id == deployment.id]
    up = [replica for replica in own if replica.state in ("starting", "ready")]
    serving = [replica for replica in up if not _is_due(replica, world.now)]
    leaving = [_drain(world, item, f"{deployment.model}: {item.reason}") for item in up if _is_due(item, world.now)]
    return [*leaving, *_towards_granted(world, deployment, granted, room, own, serving)]


def _towards_granted(
    world: World,
    deployment: Deployment,
    granted: int,
    room: dict[str, int],
    own: Sequence[Replica],
    serving: Sequence[Replica],
) -> list[Step]:
    """The same for `serving`, those of its `own` replicas that are there to stay."""
    pausing = [replica for replica in own if _pauses(replica, world.now)]
    entry = world.catalog.get(deployment.model)
    outdated = [replica for replica in serving if entry is not None and is_outdated(replica, entry)]
    if outdated and entry is not None and granted:
        current = [replica for replica in serving if replica not in outdated]
        place = granted * entry.accelerators
        draining = sum(replica.state == "draining" for replica in own)
        standing = Standing(current, outdated, len(pausing), draining)
        found = replacement(entry, granted, standing, place + max(0, room[deployment.pool_id]))
        occupied = sum(replica.accelerators for replica in serving) + found.starts * entry.accelerators
        room[deployment.pool_id] -= max(0, occupied - place)
        return [
            *(_start(world, deployment, ordinal) for ordinal in range(found.starts)),
            *(_drain(world, replica, f"{deployment.model}: its entry has changed") for replica in found.drains),
        ]
    missing = granted - len(serving) - len(pausing)
    if missing > 0:
        return [_start(world, deployment, ordinal) for ordinal in range(missing)]
    surplus = len(serving) - granted
    if surplus <= 0:
        return []
    # Those that do not answer yet go first, then the youngest: the oldest has the warmest cache.
    order = sorted(serving, key=lambda replica: (replica.state == "ready", -replica.created_at.timestamp(), replica.id))
    why = f"{deployment.target} wanted" if granted == deployment.target else f"room for {granted}"
    return [_drain(world, replica, f"{deployment.model}: {why}, {len(serving)} there") for replica in order[:surplus]]


def _start(world: World, deployment: Deployment, ordinal: int) -> Step:
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
            "pool": deployment.pool_id,
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


def _accelerators(world: World, deployment: Deployment) -> int:
    entry = world.catalog.get(deployment.model)
    return entry.accelerators if entry else 0
