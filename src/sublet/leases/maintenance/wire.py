"""Wire types of maintenance."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.leases.reclaim.wire import Victim
from sublet.values.moments import Moment
from sublet.values.wire import LINE, Flag, Whole, answer, body


@body
class NewMaintenance:
    """A maintenance window: `accelerators` of a pool (by default, all of them) are unavailable from `start` (now by default) to
    `end`.

    Affected leases get notice and the credit of their class. With `force`, firm leases can be broken.
    """

    pool: Annotated[str, MinLen(1), MaxLen(60), LINE]
    end: Moment
    start: Moment | None = None
    accelerators: Annotated[Whole, Interval(ge=1, le=1_000_000)] | None = None
    reason: Annotated[str, MinLen(1), MaxLen(200), LINE] = "maintenance"
    force: Flag = False


@answer
class Maintenance:
    """A maintenance window. `state` is `planned`, `active`, `over` or `canceled`. `reclaim_id` is the reclaim that ended
    leases for it."""

    id: str
    pool_id: str
    state: str
    accelerators: int
    start: Moment
    end: Moment
    reason: str
    actor: str
    created_at: Moment
    canceled_at: Moment | None
    reclaim_id: str | None


@answer
class MaintenanceCredit:
    """The credits owed to tenants in one currency, as an exact decimal."""

    currency: str
    amount: str


@answer
class MaintenancePlan:
    """A maintenance window, the leases that it ends early, and the credits owed for them. `short` is the number of
    accelerators that firm leases keep."""

    maintenance: Maintenance
    takes_back: list[Victim]
    short: int
    credits: list[MaintenanceCredit]
    sentence: str


@answer
class StatedMaintenance:
    """A maintenance window from the settings of a pool. It can be changed only there."""

    pool_id: str
    accelerators: int
    start: Moment
    end: Moment
    reason: str


@answer
class StatedMaintenances:
    """All maintenance windows in the settings of the selected pools."""

    windows: list[StatedMaintenance]


@answer
class MaintenancePage:
    """A page of maintenance windows, newest first. Every page includes the windows from the settings."""

    maintenance: list[Maintenance]
    stated: StatedMaintenances
    next: str | None
