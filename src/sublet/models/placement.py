"""On which of its pools a deployment's replicas are: where its floor is kept, and how many each pool may have.

Pure, and asked by the planner and by the parts that count what a pool still has to sell, so that the two agree.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sublet.models.model import CatalogEntry, Deployment, Replica

Place = tuple[str, str]
"""A deployment and one of its pools, by their ids."""


@dataclass(slots=True)
class Claims:
    """A deployment's part of a round: `wanted` replicas, each of `needs` accelerators. `serving`, `noticed` and `failing` count
    its replicas by pool: those that are there to stay, those of them under notice, and those that failed lately. With `spreads`,
    another replica may start while one under notice still serves."""

    deployment: Deployment
    needs: int
    wanted: int
    serving: Counter[str] = field(default_factory=Counter)
    noticed: Counter[str] = field(default_factory=Counter)
    failing: Counter[str] = field(default_factory=Counter)
    spreads: bool = False

    def pools(self) -> Sequence[str]:
        """Its pools in the order in which new replicas take them: where none failed lately first, then as preferred."""
        return sorted(self.deployment.pool_ids, key=lambda pool_id: self.failing[pool_id] > 0)


def floor_replicas(deployments: Sequence[Deployment], replicas: Sequence[Replica]) -> set[str]:
    """Which replicas fill the floors: those that answer first, on the preferred pools, then the oldest; none that is leaving."""
    kept: set[str] = set()
    left = {item.id: item.floor for item in deployments if item.state == "active"}
    rank = {(item.id, pool_id): number for item in deployments for number, pool_id in enumerate(item.pool_ids)}

    def order(replica: Replica) -> tuple[object, ...]:
        place = rank.get((replica.deployment_id, replica.pool_id), math.inf)
        return (replica.state != "ready", place, replica.created_at, replica.id)

    for replica in sorted(replicas, key=order):
        staying = replica.state in ("starting", "ready") and replica.reclaim_at is None
        if staying and left.get(replica.deployment_id, 0) > 0:
            left[replica.deployment_id] -= 1
            kept.add(replica.id)
    return kept


def floor_places(
    deployments: Sequence[Deployment],
    replicas: Sequence[Replica],
    catalog: Mapping[str, CatalogEntry],
    limit: Mapping[str, int],
) -> Counter[Place]:
    """How many replicas of each floor are kept on which pool: where they stand already, and for those that are missing on the
    first pool that can have them. What no pool can have is kept on the preferred one.

    `limit` has, by pool, the accelerators that even floors may not exceed; a pool without one has no limit.
    """
    kept, found, left = floor_replicas(deployments, replicas), Counter[Place](), dict(limit)
    for replica in replicas:
        if replica.id in kept:
            found[replica.deployment_id, replica.pool_id] += 1
            if replica.pool_id in left:
                left[replica.pool_id] -= replica.accelerators
    for item in deployments:
        entry = catalog.get(item.model)
        if item.state != "active" or entry is None:
            continue
        missing = item.floor - sum(count for (owner, _), count in found.items() if owner == item.id)
        for pool_id in item.pool_ids:
            room = left.get(pool_id)
            fits = missing if room is None or not entry.accelerators else max(0, room) // entry.accelerators
            placed = min(missing, fits)
            found[item.id, pool_id] += placed
            missing -= placed
            if room is not None:
                left[pool_id] = room - placed * entry.accelerators
        if missing > 0:
            found[item.id, item.pool_id] += missing
    return found


def granted(
    claims: Sequence[Claims], floors: Mapping[Place, int], room: dict[str, int], limit: Mapping[str, int]
) -> Counter[Place]:
    """How many replicas each deployment may have on each of its pools. What is granted is taken from `room`.

    Floors come first, as far as `limit` allows. Then each deployment, in the given order, keeps replicas where they serve, and
    gets others on the first pool with room. Last, a replica under notice gets its successor on a pool that takes none back.
    """
    found, left = Counter[Place](), dict(limit)
    for item in claims:
        missing = min(item.deployment.floor, item.wanted)
        for pool_id in item.deployment.pool_ids:
            count = min(missing, floors.get((item.deployment.id, pool_id), 0))
            if item.needs and pool_id in left:
                count = min(count, max(0, left[pool_id]) // item.needs)
                left[pool_id] -= count * item.needs
            found[item.deployment.id, pool_id] = count
            room[pool_id] = room.get(pool_id, 0) - count * item.needs
            missing -= count
    for item in claims:
        place = item.deployment.id
        for pool_id, most in _chances(item):
            while sum(found[place, one] for one in item.deployment.pool_ids) < item.wanted:
                if room[pool_id] < item.needs or (most is not None and found[place, pool_id] >= most):
                    break
                found[place, pool_id] += 1
                room[pool_id] -= item.needs
    for item in claims:
        _grant_successors(item, found, room)
    return found


def _chances(item: Claims) -> Iterator[tuple[str, int | None]]:
    """Pools in the order in which they are asked, each with how many replicas it may have by then: None for as many as fit."""
    for pool_id in item.deployment.pool_ids:
        yield pool_id, item.serving[pool_id]
    for pool_id in item.pools():
        yield pool_id, None


def _grant_successors(item: Claims, found: Counter[Place], room: dict[str, int]) -> None:
    """A replica under notice serves until it drains; the one that follows it should answer by then."""
    missing = sum(item.noticed.values()) if item.spreads else 0
    for pool_id in item.pools():
        while missing > 0 and not item.noticed[pool_id] and room[pool_id] >= item.needs:
            found[item.deployment.id, pool_id] += 1
            room[pool_id] -= item.needs
            missing -= 1
