"""Maintenance as it crosses the API."""

from __future__ import annotations

from typing import Annotated

from annotated_types import Interval, MaxLen, MinLen

from sublet.leases.reclaim.wire import Victim
from sublet.values.moments import Moment
from sublet.values.wire import LINE, Flag, Whole, answer, body


@body
class NewMaintenance:
    """Accelerators of a pool that are away from `start` (now if left out) to `end`; all of the pool where `accelerators` is left out.

    Leases in the way get notice and the credit of their class. `force` breaks firm leases, too.
    """

    pool: Annotated[str, MinLen(1), MaxLen(60), LINE]
    end: Moment
    start: Moment | None = None
    accelerators: Annotated[Whole, Interval(ge=1, le=1_000_000)] | None = None
    reason: Annotated[str, MinLen(1), MaxLen(200), LINE] = "maintenance"
    force: Flag = False


@answer
class Maintenance:
    """A window of maintenance; `state` is planned, active, over or canceled. `reclaim_id` is the order that took back leases."""

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
    """What is owed to tenants in one currency. An exact decimal as text."""

    currency: str
    amount: str


@answer
class MaintenancePlan:
    """A window, the leases that end early for it, and what is owed for them; `short` is what firm leases hold."""

    maintenance: Maintenance
    takes_back: list[Victim]
    short: int
    credits: list[MaintenanceCredit]
    sentence: str


@answer
class StatedMaintenance:
    """Maintenance that the settings of a pool state; it is changed there."""

    pool_id: str
    accelerators: int
    start: Moment
    end: Moment
    reason: str


@answer
class StatedMaintenances:
    """All that the settings of the asked pools state."""

    windows: list[StatedMaintenance]


@answer
class MaintenancePage:
    """A page of windows, the newest first, and those that the settings state, on every page."""

    maintenance: list[Maintenance]
    stated: StatedMaintenances
    next: str | None
