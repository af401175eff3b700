"""Reclaims as they cross the API."""

from __future__ import annotations

from sublet.values.moments import Moment
from sublet.values.wire import answer


@answer
class MoveOfLease:
    """A lease under notice goes on in the pool `pool_id` from `at` on, where its accelerators are held for it."""

    pool_id: str
    at: Moment


@answer
class MoveMade:
    """A lease went on in another pool."""

    from_pool_id: str
    to_pool_id: str
    at: Moment


@answer
class Victim:
    """Who gives capacity back, when, and what it costs: a lease (`lease_id`) or a replica (`replica_id`, `model`). With `move_to`, the
    id of a pool, the lease goes on there instead of ending."""

    kind: str
    class_: str
    accelerators: int
    reclaim_at: Moment
    credit: str
    income_forgone: str
    work_lost: str
    work_lost_s: int
    destroyed: str
    currency: str
    forced: bool
    reason: str
    sentence: str
    lease_id: str = ""
    organization_id: str = ""
    replica_id: str = ""
    model: str = ""
    move_to: str = ""


@answer
class ReclaimPreview:
    """Whom a reclaim would take capacity from; `short` is what can't be freed in time. Amounts are exact decimals as text."""

    pool_id: str
    needed: int
    freed: int
    short: int
    back_at: Moment | None
    destroyed: str
    victims: list[Victim]


@answer
class ReclaimCarriedOut(ReclaimPreview):
    """The plan of a reclaim that stands; `id` withdraws it."""

    id: str


@answer
class Reclaim:
    """What the owner took back, and the plan by which it was freed."""

    id: str
    pool_id: str
    accelerators: int
    start: Moment
    end: Moment
    actor: str
    reason: str
    forced: bool
    withdrawn: bool
    plan: ReclaimPreview


@answer
class OwnerWaits:
    """What a team waited for on a pool on one day of UTC, or, without a team, the pool's own demand: how many waits began, the
    seconds of all of them, and accelerators times seconds."""

    pool_id: str
    day: str
    team: str | None
    waits: int
    waited_s: float
    accelerator_s: float


@answer
class OwnerWaitsPage:
    """A page of days on which the owner's own work waited, the newest day first."""

    owner_waits: list[OwnerWaits]
    next: str | None


@answer
class ReclaimList:
    """A page of reclaims, the newest first."""

    reclaims: list[Reclaim]
    next: str | None
