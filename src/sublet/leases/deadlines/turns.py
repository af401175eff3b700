"""Leases with a deadline are resumed, kept and paused: each change in one transaction, each harmless when repeated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from sqlalchemy import Connection

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases import unit_store as unit_sql
from sublet.leases.backends.base import Observation
from sublet.leases.deadlines import store as deadline_sql
from sublet.leases.deadlines.schedule import MIN_RUN_S, SPARE_S, Pool, schedule
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import TURN, Fence, Lease, LeaseState, Outage, UnitState
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes import calendar
from sublet.store import Store
from sublet.values.clock import format_time, parse_time
from sublet.values.plan import Step
from sublet.values.windows import Window

HOLDING = (LeaseState.PREPARING, LeaseState.ACTIVE, LeaseState.DEGRADED, LeaseState.NOTICE)
WAITING = (LeaseState.SCHEDULED, LeaseState.PAUSED)
Room = Callable[[Connection, str, Window], int]


@dataclass(frozen=True, slots=True)
class Cause:
    """Who plans a pause, and why; `origin` is TURN where that is for others than the owner."""

    actor: str
    reason: str
    origin: str | None = None


class Turns:
    """Who runs, and who waits. `room` says how many accelerators tenants may hold of a pool over a window, once the owner's need
    has been calm for a while."""

    def __init__(self, store: Store, ports: LeasePorts, transitions: Transitions, room: Room) -> None:
        self._store = store
        self._ports = ports
        self._transitions = transitions
        self._room = room

    def due(
        self, connection: Connection, pool_ids: Sequence[str], leases: Sequence[Lease], now: datetime
    ) -> list[Step]:
        """Pool by pool, the steps that are due for its leases with a deadline."""
        steps: list[Step] = []
        for pool_id in pool_ids:
            here = [
                lease
                for lease in leases
                if lease.pool_id == pool_id and lease.service_s is not None and lease.state in (*HOLDING, *WAITING)
            ]
            if here:
                steps += schedule(self._pool(connection, pool_id, here, now), here)
        return steps

    def _pool(self, connection: Connection, pool_id: str, leases: Sequence[Lease], now: datetime) -> Pool:
        soon = Window.starting(now, MIN_RUN_S)
        rented = [item for item in self._ports.models.occupants(connection, pool_id) if not item.protected]
        held = calendar.most_at_once(calendar.book(connection, pool_id, now, soon), soon)
        held += sum(item.accelerators for item in rented)
        clean_s = self._ports.timing_of(connection, pool_id).clean_s
        begins = deadline_sql.next_bookings(connection, pool_id, now)
        until, bookable = {}, {}
        for lease in leases:
            fences = calendar.fences_of(connection, lease.id) if lease.unit_ids else []
            if fences:
                until[lease.id] = min(fence.window.end for fence in fences)
                first = min((begins[unit] for unit in lease.unit_ids if unit in begins), default=None)
                bookable[lease.id] = None if first is None else first - timedelta(seconds=clean_s)
        return Pool(
            pool_id,
            now,
            self._room(connection, pool_id, soon) - held,
            deadline_sql.free_until(connection, pool_id, now, clean_s),
            until,
            bookable,
        )

    def resume(self, step: Step, actor: str) -> bool:
        """A waiting lease gets accelerators and is about to start; False where that no longer holds, and nothing changes."""
        units, until = [str(unit) for unit in step.details["units"]], parse_time(str(step.details["until"]))

        def write(connection: Connection) -> bool:
            now = self._store.clock.now()
            lease = self._transitions.locked(connection, step.subject)
            if lease.state not in WAITING or not lease.waits or until <= now:
                return False
            run = Window(now, until)
            fenced = Window(now, until + timedelta(seconds=self._clean_s(connection, lease)))
            free = {unit.id for unit in calendar.free_units(connection, lease.pool_id, fenced, now)}
            others = not self._ports.shareable(connection, lease.pool_id) and calendar.other_tenants(
                connection, lease.pool_id, lease.organization_id, fenced, now
            )
            if not set(units) <= free or len(units) != lease.accelerators or others:
                return False
            calendar.release(connection, lease.id)
            calendar.insert_fences(
                connection,
                [
                    Fence(lease.id, unit, lease.pool_id, lease.class_name, lease.organization_id, run, fenced)
                    for unit in units
                ],
            )
            devices = calendar.devices_of(connection, units)
            limited = step.details.get("pauses_at") is not None
            sql.update_lease(
                connection,
                lease.id,
                unit_ids=units,
                devices=[devices[unit] for unit in units],
                turned_at=now,
                reclaim_at=until if limited else None,
                reclaim_reason="its accelerators are booked from then on" if limited else None,
                reclaim_origin=TURN if limited else None,
            )
            changed = replace(lease, unit_ids=tuple(units))
            self._transitions.change(connection, changed, LeaseState.PREPARING, actor, step.reason, now)
            return True

        return self._store.write(write)

    def prolong(self, step: Step, actor: str) -> bool:
        """A running lease keeps its accelerators for longer; False where somebody has booked one of them since."""
        until = parse_time(str(step.details["until"]))

        def write(connection: Connection) -> bool:
            now = self._store.clock.now()
            lease = self._transitions.locked(connection, step.subject)
            fenced = Window(now, until + timedelta(seconds=self._clean_s(connection, lease)))
            taken = calendar.overlapping(connection, lease.pool_id, fenced, now, without=lease.id)
            if lease.state not in HOLDING or lease.reclaim_at is not None or taken & set(lease.unit_ids):
                return False
            calendar.lengthen(connection, lease.id, until, self._clean_s(connection, lease))
            return True

        return self._store.write(write)

    def ask(self, lease_id: str, at: datetime, actor: str, reason: str) -> Lease:
        """A running lease is to be paused at `at`, and its tenant is told."""
        return self._store.write(
            lambda connection: self.ask_within(
                connection,
                self._transitions.locked(connection, lease_id),
                at,
                Cause(actor, reason, TURN),
                self._store.clock.now(),
            )
        )

    def ask_within(self, connection: Connection, lease: Lease, at: datetime, cause: Cause, now: datetime) -> Lease:
        """The same inside the caller's transaction, which has the pool's lock. A pause that is planned already is only moved to
        an earlier time."""
        if lease.state not in HOLDING or (lease.reclaim_at is not None and lease.reclaim_at <= at):
            return lease
        reason = cause.reason
        sql.update_lease(connection, lease.id, reclaim_at=at, reclaim_reason=reason[:500], reclaim_origin=cause.origin)
        calendar.shorten(connection, lease.id, at, self._clean_s(connection, lease))
        lease = replace(lease, reclaim_at=at, reclaim_reason=reason)
        events.record_pause_planned(connection, lease, now)
        if lease.state in (LeaseState.ACTIVE, LeaseState.DEGRADED):
            why = f"it is paused at {format_time(at)}: {reason}"
            self._transitions.change(connection, lease, LeaseState.NOTICE, cause.actor, why, now)
        return sql.lease(connection, lease.id) or lease

    def withdraw(self, lease_id: str, actor: str, reason: str) -> Lease:
        """A pause that is planned is not needed after all: the lease keeps its accelerators for as long as it needs them. Nothing
        changes where they are booked by then, or where its engine takes it back."""

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            lease = self._transitions.locked(connection, lease_id)
            if lease.state not in HOLDING or lease.reclaim_at is None or lease.reclaim_at <= now:
                return lease
            if lease.reclaim_origin not in (None, TURN):
                return lease
            until = min(lease.window.end, now + timedelta(seconds=lease.left_s + SPARE_S))
            clean_s = self._clean_s(connection, lease)
            fenced = Window(now, until + timedelta(seconds=clean_s))
            if calendar.overlapping(connection, lease.pool_id, fenced, now, without=lease.id) & set(lease.unit_ids):
                return lease
            sql.update_lease(connection, lease.id, reclaim_at=None, reclaim_reason=None, reclaim_origin=None)
            calendar.lengthen(connection, lease.id, until, clean_s)
            events.record_withdrawal(connection, lease, reason, now)
            if lease.state is LeaseState.NOTICE:
                self._transitions.change(connection, lease, LeaseState.ACTIVE, actor, reason, now)
            return sql.lease(connection, lease.id) or lease

        return self._store.write(write)

    def pause(self, lease_id: str, seen: Observation, actor: str, reason: str, out: Sequence[Outage] = ()) -> Lease:
        """Nothing of it runs any more: its accelerators are free, its home directory waits. `out` are those that failed."""
        self._transitions.meter(lease_id, seen.deliveries)

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            lease = self._transitions.locked(connection, lease_id)
            if lease.state not in HOLDING:
                return lease
            calendar.shorten(connection, lease.id, now, self._clean_s(connection, lease))
            unit_sql.set_unit_states(connection, lease.pool_id, lease.unit_ids, UnitState.FREE, None, None, now)
            self._transitions.change(connection, lease, LeaseState.PAUSED, actor, reason, now)
            sql.update_lease(
                connection,
                lease.id,
                unit_ids=[],
                devices=[],
                reclaim_at=None,
                reclaim_reason=None,
                reclaim_origin=None,
                endpoint=None,
                pauses=lease.pauses + 1,
                turned_at=now,
                outages=[item.as_dict() for item in (*lease.outages, *out)],
            )
            return sql.lease(connection, lease.id) or lease

        return self._store.write(write)

    def _clean_s(self, connection: Connection, lease: Lease) -> int:
        return self._ports.timing_of(connection, lease.pool_id).clean_s

    def note_risk(self, lease_id: str) -> None:
        """Tell once that a lease which waits may be late."""

        def write(connection: Connection) -> None:
            lease = self._transitions.locked(connection, lease_id)
            if not lease.state.terminal and lease.at_risk_at is None:
                sql.update_lease(connection, lease_id, at_risk_at=self._store.clock.now())
                events.record_at_risk(connection, lease, self._store.clock.now())

        self._store.write(write)
