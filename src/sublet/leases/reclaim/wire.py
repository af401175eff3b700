"""Wire types of reclaims."""

from __future__ import annotations

from sublet.values.moments import Moment
from sublet.values.wire import answer


@answer
class MoveOfLease:
    """A planned move: at `at`, a lease under notice continues in the pool `pool_id`, which holds accelerators for it."""

    pool_id: str
    at: Moment


@answer
class MoveMade:
    """A move of a lease to another pool."""

    from_pool_id: str
    to_pool_id: str
    at: Moment


@answer
class Victim:
    """A lease (`lease_id`) or a replica (`replica_id`, `model`) that gives capacity back: when, and at what cost. If `move_to`
    names a pool, the lease moves there instead of ending."""

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
    """What a reclaim would end. `short` is the number of accelerators that can't be freed in time. Amounts are exact decimals
    as text."""

    pool_id: str
    needed: int
    freed: int
    short: int
    back_at: Moment | None
    destroyed: str
    victims: list[Victim]


@answer
class ReclaimCarriedOut(ReclaimPreview):
    """The plan of a reclaim in force. `id` is needed to withdraw it."""

    id: str


@answer
class Reclaim:
    """A reclaim and its plan."""

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
    """How long the work of a team waited for a pool on one day (UTC): the number of waits, their total seconds, and their
    accelerator-seconds. Without a team, it is the demand of the pool itself."""

    pool_id: str
    day: str
    team: str | None
    waits: int
    waited_s: float
    accelerator_s: float


@answer
class OwnerWaitsPage:
    """A page of days on which the owner's work waited, newest first."""

    owner_waits: list[OwnerWaits]
    next: str | None


@answer
class ReclaimList:
    """A page of reclaims, newest first."""

    reclaims: list[Reclaim]
    next: str | None
