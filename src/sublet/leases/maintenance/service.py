"""Plan maintenance, show what it takes back, and cancel it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.fleet import events
from sublet.leases import store as sql
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.maintenance import store as window_sql
from sublet.leases.maintenance.model import (
    Away,
    Maintenance,
    MaintenancePlan,
    MaintenanceState,
    checked_count,
    checked_window,
    plan_maintenance,
    refuse_overlap,
)
from sublet.leases.model import FirmLeaseError, WrongStateError
from sublet.leases.plan.elsewhere import Elsewhere
from sublet.leases.ports import LeasePorts
from sublet.leases.reclaim.orders import ReclaimOrder, Reclaims
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.surplus.model import PoolFacts
from sublet.values.errors import InvalidInputError, LimitExceededError, NotFoundError
from sublet.values.ids import new_id
from sublet.values.text import checked_line
from sublet.values.windows import Window

REASON_MAX = 200
WINDOWS_PER_POOL_MAX = 100

Facts = Callable[[str, Connection], PoolFacts]
"""(pool's id or name, connection) to what the surplus counts with of it. Raises NotFoundError."""


@dataclass(frozen=True, slots=True)
class MaintenanceRequest:
    """`accelerators` of `pool` (id or name), 0 for all of it, are away from `start` (now if None) to `end`. `force` breaks firm
    leases, at the stated penalty."""

    pool: str
    end: datetime
    accelerators: int = 0
    start: datetime | None = None
    reason: str = "maintenance"
    force: bool = False


@dataclass(frozen=True, slots=True)
class MaintenancePlanned:
    """A window that stands, with what it takes back."""

    plan: MaintenancePlan
    now: datetime

    def as_dict(self) -> dict[str, Any]:
        return self.plan.as_dict(self.now)


class MaintenanceWindows:
    """The use cases of maintenance. Everything that decides is read inside the write transaction, under the pool's lock."""

    def __init__(self, store: Store, facts: Facts, ports: LeasePorts) -> None:
        self._store = store
        self._facts = facts
        self._ports = ports
        self._reclaims = Reclaims(store, ports, Transitions(store, ports))

    def now(self) -> datetime:
        return self._store.clock.now()

    def preview(self, request: MaintenanceRequest, actor: str) -> MaintenancePlanned:
        """What such a window would take back. Changes nothing; raises as `add`, but for firm leases, which it names."""
        now = self.now()
        with self._store.read() as connection:
            elsewhere = self._reclaims.elsewhere(connection, now)
            return MaintenancePlanned(self._plan(connection, request, actor, now, elsewhere), now)

    def add(self, request: MaintenanceRequest, actor: str) -> MaintenancePlanned:
        """Plan the window. What is in the way gets notice, and its credit, by the ordinary reclaim path in the same transaction. From
        now on nothing is sold across it that can't be taken back in time; what can is asked by the planner when its notice is due.

        Raises NotFoundError, InvalidInputError, MaintenanceOverlapError, LimitExceededError, and FirmLeaseError with the plan where
        firm leases are in the way and `force` is not set; nothing has then changed.
        """

        def write(connection: Connection) -> MaintenancePlanned:
            now = self.now()
            within = self._reclaims.lock(connection, self._facts(request.pool, connection).pool_id)
            plan = self._plan(connection, request, actor, now, self._reclaims.elsewhere(connection, now, within))
            if plan.takes.short:
                raise FirmLeaseError(
                    f"{plan.sentence}; choose another time, or break firm leases, at the penalty that a preview with force "
                    "shows, by force",
                    plan=plan.as_dict(now),
                )
            made = plan.maintenance
            if plan.takes.victims:
                order = ReclaimOrder(
                    made.pool_id, plan.takes.freed, made.window, f"maintenance: {made.reason}", request.force
                )
                # Nothing is kept for an asker: the window itself keeps the accelerators from being sold.
                done = self._reclaims.carry_out(connection, plan.takes, order, actor, 0)
                made = replace(made, reclaim_id=str(done["id"]))
            window_sql.insert_window(connection, made)
            self._tell(connection, events.MAINTENANCE_ANNOUNCED, made, now)
            return MaintenancePlanned(replace(plan, maintenance=made), now)

        return self._store.write(write)

    def cancel(self, window_id: str, actor: str) -> Maintenance:
        """The accelerators stay, or are back early; notices that are not due yet are withdrawn. Repeating it changes nothing. Raises
        NotFoundError, and WrongStateError for a window that is over."""

        def write(connection: Connection) -> tuple[Maintenance, bool]:
            now = self.now()
            found = self._named(connection, window_id)
            if found.state(now) is MaintenanceState.OVER:
                raise WrongStateError(f"maintenance {window_id} is over; there is nothing to cancel")
            ended = window_sql.cancel_window(connection, window_id, now)
            if ended:
                self._tell(connection, events.MAINTENANCE_CANCELED, found, now)
            return self._named(connection, window_id), ended

        canceled, _ = self._store.write(write)
        if canceled.reclaim_id is not None:
            # Again after a crash, too: to withdraw a withdrawn order is harmless.
            self._reclaims.withdraw(canceled.reclaim_id, actor)
        return canceled

    def page(
        self, pool: str | None = None, wanted: PageRequest = PageRequest(), *, live: bool = False
    ) -> Page[Maintenance]:
        """A page of windows, the newest first, of one pool where it is named."""
        with self._store.read() as connection:
            pool_id = self._facts(pool, connection).pool_id if pool is not None else None
            return window_sql.window_page(connection, pool_id, self.now(), wanted, live=live)

    def _plan(
        self, connection: Connection, request: MaintenanceRequest, actor: str, now: datetime, elsewhere: Elsewhere
    ) -> MaintenancePlan:
        reason = checked_line(request.reason, "reason", REASON_MAX, 1)
        window = checked_window(request.start or now, request.end, now)
        facts = self._facts(request.pool, connection)
        pool = sql.pool_named(connection, facts.pool_id)
        if pool is None or (pool.offline_at is not None and pool.offline_at <= window.start):
            raise InvalidInputError(f"pool {facts.name} is offline by then; nothing is sold of it", field="start")
        capacity = sql.capacity(connection, facts.pool_id)
        count = checked_count(request.accelerators, capacity, facts.name)
        if len(window_sql.standing(connection, facts.pool_id, now)) >= WINDOWS_PER_POOL_MAX:
            raise LimitExceededError(f"{WINDOWS_PER_POOL_MAX} windows of {facts.name} stand; cancel some first")
        others = [Away(item.count, item.window, item.reason) for item in facts.absences]
        refuse_overlap(count, window, others, capacity, facts.name)
        made = Maintenance(
            new_id("mnt"), facts.pool_id, count, Window(window.start, window.end), reason, actor[:80], now
        )
        takes = plan_maintenance(
            made,
            capacity,
            others,
            sql.live_leases(connection, facts.pool_id),
            now,
            clean_s=self._ports.timing_of(connection, facts.pool_id).clean_s,
            classes=self._ports.classes,
            force=request.force,
            elsewhere=elsewhere,
        )
        return MaintenancePlan(made, takes)

    def _named(self, connection: Connection, window_id: str) -> Maintenance:
        found = window_sql.window_named(connection, window_id)
        if found is None:
            raise NotFoundError(f"there is no maintenance {window_id!r}; `sublet maintenance ls` lists it")
        return found

    def _tell(self, connection: Connection, kind: Any, item: Maintenance, now: datetime) -> None:
        pool = sql.pool_named(connection, item.pool_id)
        name = str(pool.name) if pool is not None else item.pool_id
        fact = events.MaintenanceAnnounced(
            item.pool_id, name, item.accelerators, item.window.start, item.window.end, item.reason
        )
        kind.record(connection, fact, now, key=(item.id,))
