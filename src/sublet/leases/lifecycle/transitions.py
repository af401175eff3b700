"""Every change of a lease's state. Each is one idempotent transaction with everything that belongs to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases import unit_store as unit_sql
from sublet.leases.backends.base import Delivery, Observation
from sublet.leases.backends.job import JOB_DONE
from sublet.leases.changes.fees import charge
from sublet.leases.changes.model import given_back
from sublet.leases.jobs import store as jobs_sql
from sublet.leases.lifecycle import moves
from sublet.leases.lifecycle.metering import read_meter
from sublet.leases.model import (
    ACCELERATOR_FAILED,
    COMPLETED,
    LATE,
    OWNER_NEEDS,
    UNIT_STATE_OF,
    Lease,
    LeaseState,
    Timing,
    UnitState,
    checked_transition,
    credit_id,
    credit_nano,
    late_credit_nano,
)
from sublet.leases.ports import CreditNote, LeasePorts
from sublet.leases.quotes import calendar
from sublet.leases.reclaim.victims import Victim
from sublet.leases.volumes.snapshots import detach_volumes
from sublet.store import Store
from sublet.values.clock import format_time
from sublet.values.errors import NotFoundError

METER_ROUNDS_MAX = 64
TAKEN_BY_ENGINE = "the cluster gives it to the owner's own work"
_WITH_DEADLINE = (LeaseState.PAUSED, LeaseState.SCHEDULED, LeaseState.PREPARING)


class Transitions:
    """Moves leases through their states. `actor` is who or what caused it."""

    def __init__(self, store: Store, ports: LeasePorts) -> None:
        self._store = store
        self._ports = ports

    @property
    def timing(self) -> Timing:
        """The gaps around a lease, unless its engine has its own."""
        return self._ports.timing

    def prepare(self, lease_id: str, actor: str) -> Lease:
        """SCHEDULED to PREPARING: the accelerators are about to be handed out."""
        return self._move(lease_id, {LeaseState.SCHEDULED}, LeaseState.PREPARING, actor, "the window opens")

    def activate(self, lease_id: str, observation: Observation, actor: str) -> Lease:
        """PREPARING to ACTIVE, once a login prompt was seen the way the customer connects."""
        began = observation.deliveries[0].start if observation.deliveries else self._store.clock.now()
        return self._move(
            lease_id,
            {LeaseState.PREPARING},
            LeaseState.ACTIVE,
            actor,
            "the SSH server answered at the customer's address",
            active_at=began,
            last_error=None,
            **_seen(observation),
        )

    def degrade(self, lease_id: str, reason: str, actor: str) -> Lease:
        return self._move(lease_id, {LeaseState.ACTIVE}, LeaseState.DEGRADED, actor, reason, last_error=reason)

    def recover(self, lease_id: str, observation: Observation, actor: str) -> Lease:
        return self._move(
            lease_id,
            {LeaseState.DEGRADED},
            LeaseState.ACTIVE,
            actor,
            "SSH answers again",
            last_error=None,
            **_seen(observation),
        )

    def note(self, lease_id: str, error: str) -> None:
        """Store what went wrong, for the customer and the operator."""
        self._store.write(lambda connection: sql.update_lease(connection, lease_id, last_error=error[:500]))

    def give_notice(self, connection: Connection, victim: Victim, actor: str, now: datetime) -> Lease:
        """Decide that a lease is reclaimed, within the caller's transaction. A lease that would not have begun by then is
        canceled. A lease that is being prepared is told once it is active."""
        lease = self._read(connection, victim.lease.id)
        if lease.state.terminal or lease.state is LeaseState.ENDING or lease.reclaim_at is not None:
            return lease
        owed, why = victim.credit_nano if lease.move is None else 0, victim.reason[:500]
        sql.update_lease(connection, lease.id, reclaim_at=victim.reclaim_at, reclaim_reason=why, credit_nano=owed)
        events.record_notice(connection, self._read(connection, lease.id), now)
        then = "access closes" if lease.move is None else f"it moves to pool {lease.move.pool_id}"
        why = f"{OWNER_NEEDS}; {then} at {format_time(victim.reclaim_at)}"
        if lease.state is LeaseState.SCHEDULED and victim.reclaim_at <= lease.window.start:
            self._close(connection, lease, LeaseState.CANCELED, actor, why, "reclaimed", now, clean=True)
            self._credit(connection, self._read(connection, lease.id), now)
        elif lease.state in (LeaseState.ACTIVE, LeaseState.DEGRADED):
            self._change(connection, lease, LeaseState.NOTICE, actor, why, now)
            self._shorten(connection, lease, victim.reclaim_at)
        else:
            self._shorten(connection, lease, victim.reclaim_at)
        return self._read(connection, lease.id)

    def adopt(self, lease_id: str, taken_at: datetime, actor: str) -> Lease:
        """The engine itself preempts the lease at `taken_at`. That becomes its deadline, with the credit of its class. Nothing
        changes if the lease is over by then anyway."""

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            lease = self._locked(connection, lease_id)
            if not lease.state.served or lease.deadline <= taken_at:
                return lease
            moves.drop(connection, lease)
            sql.update_lease(
                connection,
                lease_id,
                reclaim_at=taken_at,
                reclaim_reason=TAKEN_BY_ENGINE,
                reclaim_origin="engine",
                credit_nano=0 if lease.service_s is not None else credit_nano(lease, taken_at),
            )
            told = events.record_notice if lease.service_s is None else events.record_pause_planned
            told(connection, self._read(connection, lease_id), now)
            why = f"{TAKEN_BY_ENGINE}; access closes at {format_time(taken_at)}"
            if lease.state is LeaseState.NOTICE:
                sql.record(connection, lease_id, lease.state, lease.state, now, actor, why)
            else:
                self._change(connection, lease, LeaseState.NOTICE, actor, why, now)
            self._shorten(connection, lease, taken_at)
            return self._read(connection, lease_id)

        return self._store.write(write)

    def keep_facts(self, lease_id: str, facts: dict[str, Any]) -> None:
        """Store what the lease's engine reports (`plan.engines.engine_facts`), for its owner and the operator."""
        self._store.write(lambda connection: sql.update_lease(connection, lease_id, engine=facts))

    def _shorten(self, connection: Connection, lease: Lease, end: datetime) -> None:
        calendar.shorten(connection, lease.id, end, self._ports.timing_of(connection, lease.pool_id).clean_s)

    def announce(self, lease_id: str, actor: str) -> Lease:
        """ACTIVE to NOTICE, for a lease whose notice was decided before it was active."""
        why = "notice was given while the lease was prepared"
        return self._move(lease_id, {LeaseState.ACTIVE, LeaseState.DEGRADED}, LeaseState.NOTICE, actor, why)

    def withdraw_notice(self, lease_id: str, actor: str, reason: str) -> Lease:
        """NOTICE to ACTIVE, before the deadline and if nobody else holds the accelerators until the old end. A lease that has
        not begun yet keeps its window. Otherwise, nothing changes."""

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            lease = self._locked(connection, lease_id)
            if lease.state.terminal or lease.state is LeaseState.ENDING:
                return lease
            if lease.reclaim_at is None or lease.reclaim_at <= now or lease.reclaim_origin is not None:
                return lease
            timing = self._ports.timing_of(connection, lease.pool_id)
            fenced = timing.fence(lease.window)
            taken = calendar.overlapping(connection, lease.pool_id, fenced, now, without=lease.id)
            leaving = set(lease.handing_back.unit_ids) if lease.handing_back else set()
            if taken & (set(lease.unit_ids) - leaving):
                return lease
            moves.drop(connection, lease)
            sql.update_lease(connection, lease_id, reclaim_at=None, reclaim_reason=None, credit_nano=0)
            calendar.lengthen(connection, lease_id, lease.window.end, timing.clean_s, lease.handing_back)
            events.record_withdrawal(connection, lease, reason, now)
            if lease.state is LeaseState.NOTICE:
                self._change(connection, lease, LeaseState.ACTIVE, actor, reason, now)
            return self._read(connection, lease_id)

        return self._store.write(write)

    def begin_end(self, lease_id: str, end_reason: str, actor: str, why: str) -> Lease:
        """To ENDING. The first cause wins. A job that is done before its window is over gives back the rest."""
        before = {LeaseState.ACTIVE, LeaseState.DEGRADED, LeaseState.NOTICE, *_WITH_DEADLINE}

        def write(connection: Connection) -> Lease:
            lease, now = self._locked(connection, lease_id), self._store.clock.now()
            if lease.state not in before:
                return lease
            lease = moves.stay(connection, lease, end_reason)
            if end_reason == JOB_DONE and not jobs_sql.is_canceled(connection, lease_id):
                change = given_back(lease, now)
                if change.fee_nano:
                    charge(connection, self._ports, change, "end", now)
            sql.update_lease(connection, lease_id, end_reason=end_reason)
            self._change(connection, lease, LeaseState.ENDING, actor, why, now)
            return self._read(connection, lease_id)

        return self._store.write(write)

    def change(
        self, connection: Connection, lease: Lease, after: LeaseState, actor: str, reason: str, now: datetime
    ) -> None:
        """Change the state inside the caller's transaction, which holds the pool's lock."""
        self._change(connection, lease, after, actor, reason, now)

    def locked(self, connection: Connection, lease_id: str) -> Lease:
        """The lease under its pool's lock, which is held until the caller's transaction is over. Raises NotFoundError."""
        return self._locked(connection, lease_id)

    def meter(self, lease_id: str, deliveries: Sequence[Delivery], *, final: bool = False) -> int:
        """Bill what the evidence adds. Returns the number of intervals. The intervals and the meter change together or not at
        all."""
        count = 0
        for _ in range(METER_ROUNDS_MAX):
            added, complete = self._store.write(lambda it: self._meter_once(it, lease_id, deliveries, final=final))
            count += added
            if complete:
                break
        return count

    def count_traffic(self, lease: Lease, observation: Observation) -> None:
        """Store the lease's outbound traffic. Counters only increase, so the last report counts."""
        if (told := observation.traffic) is not None and dict(told) != dict(lease.traffic):
            self._store.write(lambda connection: sql.update_lease(connection, lease.id, traffic=dict(told)))

    def finish(self, lease_id: str, observation: Observation, actor: str) -> Lease:
        """ENDING to ENDED: the last seconds are billed, the credit is posted, and the accelerators are free or quarantined."""
        self.meter(lease_id, observation.deliveries, final=True)

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            lease = self._locked(connection, lease_id)
            if lease.state is not LeaseState.ENDING:
                return lease
            self._meter_once(connection, lease_id, observation.deliveries, final=True)
            lease = self._settled(connection, lease)
            clean = observation.clean is True or not lease.unit_ids
            why = (
                "proved clean"
                if clean
                else f"not proved clean: {observation.error or 'the backend knows nothing of it'}"
            )
            self._close(connection, lease, LeaseState.ENDED, actor, why, lease.end_reason or "ended", now, clean=clean)
            lease = self._read(connection, lease_id)
            self._credit(connection, lease, now)
            return lease

        return self._store.write(write)

    def _settled(self, connection: Connection, lease: Lease) -> Lease:
        """The lease, metered to its end. For a lease with a deadline, decides whether it was met and what is owed."""
        if lease.service_s is None or lease.end_reason in ("released", "canceled", JOB_DONE):
            return lease
        lease = self._read(connection, lease.id)
        reason = LATE if lease.undelivered_s else COMPLETED
        credit = late_credit_nano(lease, lease.undelivered_s)
        sql.update_lease(connection, lease.id, end_reason=reason, credit_nano=credit)
        return self._read(connection, lease.id)

    def abandon(self, lease_id: str, observation: Observation, actor: str, why: str) -> Lease:
        """SCHEDULED or PREPARING to FAILED, or to CANCELED if the tenant asked for that. Nothing is billed."""

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            lease = self._locked(connection, lease_id)
            if lease.state not in (LeaseState.SCHEDULED, LeaseState.PREPARING):
                return lease
            canceled = lease.end_reason == "canceled"
            after = LeaseState.CANCELED if canceled else LeaseState.FAILED
            clean = observation.clean is not False
            self._close(
                connection, lease, after, actor, why, "canceled" if canceled else "start_failed", now, clean=clean
            )
            if lease.reclaim_at is not None:
                self._credit(connection, self._read(connection, lease_id), now)
            return self._read(connection, lease_id)

        return self._store.write(write)

    def move(self, lease_id: str, out: Sequence[str], incoming: Sequence[str], actor: str, reason: str) -> bool:
        """Move to `incoming` instead of `out`, or to fewer accelerators. Returns False and changes nothing if that is
        outdated. The caller has stopped the sandbox of a lease that has begun."""

        def write(connection: Connection) -> bool:
            now = self._store.clock.now()
            lease = self._locked(connection, lease_id)
            if lease.state.terminal or lease.state is LeaseState.ENDING:
                return False
            moved = moves.move(connection, lease, out, incoming, reason, now)
            if moved is None:
                return False
            events.record_moved(connection, moved, tuple(out), tuple(incoming), reason, now)
            if lease.state is LeaseState.ACTIVE:
                self._change(connection, moved, LeaseState.DEGRADED, actor, reason, now)
            else:
                sql.record(connection, lease_id, lease.state, lease.state, now, actor, reason)
            return True

        return self._store.write(write)

    def fail(self, lease_id: str, out: Sequence[str], actor: str, reason: str, *, clean: bool = True) -> Lease:
        """End the lease because `out` failed: to FAILED if it has not begun, or else to ENDING. The credit of its class is
        owed in either case. Nothing changes if one of them works again."""

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            lease = self._locked(connection, lease_id)
            stale = not set(out) <= sql.failed_units(connection, list(out)).keys() or not set(out) <= set(
                lease.unit_ids
            )
            if stale or lease.state.terminal or lease.state is LeaseState.ENDING:
                return lease
            lease = moves.stay(connection, lease, ACCELERATOR_FAILED)
            credit = credit_nano(lease, min(now, lease.deadline))
            sql.update_lease(connection, lease_id, credit_nano=credit, last_error=reason[:500])
            if lease.state.served:
                sql.update_lease(connection, lease_id, end_reason=ACCELERATOR_FAILED)
                self._change(connection, lease, LeaseState.ENDING, actor, reason, now)
            else:
                self._close(connection, lease, LeaseState.FAILED, actor, reason, ACCELERATOR_FAILED, now, clean=clean)
                self._credit(connection, self._read(connection, lease_id), now)
            return self._read(connection, lease_id)

        return self._store.write(write)

    def release(
        self, lease_id: str, actor: str, before: Callable[[Connection, Lease, datetime], None] | None = None
    ) -> Lease:
        """The tenant gives back the lease, or cancels it before it begins. `before` runs first, in the same transaction."""

        def write(connection: Connection) -> Lease:
            now = self._store.clock.now()
            lease = self._locked(connection, lease_id)
            if before is not None:
                before(connection, lease, now)
            lease = moves.stay(connection, lease, "released")
            if lease.state is LeaseState.SCHEDULED:
                self._close(
                    connection, lease, LeaseState.CANCELED, actor, "canceled before it began", "canceled", now,
                    clean=True,
                )  # fmt: skip
                if lease.reclaim_at is not None:
                    self._credit(connection, self._read(connection, lease_id), now)
            elif lease.state is LeaseState.PAUSED or (lease.service_s and lease.state is LeaseState.PREPARING):
                sql.update_lease(connection, lease_id, end_reason="released")
                self._change(connection, lease, LeaseState.ENDING, actor, "ended by the tenant", now)
            elif lease.state is LeaseState.PREPARING:
                # The sandbox may be starting: the accelerators stay fenced until it is proved gone.
                sql.update_lease(connection, lease_id, end_reason="canceled")
            elif lease.state.served:
                sql.update_lease(connection, lease_id, end_reason="released")
                self._change(connection, lease, LeaseState.ENDING, actor, "ended by the tenant", now)
            return self._read(connection, lease_id)

        return self._store.write(write)

    def quarantine(self, lease_id: str, reason: str, actor: str) -> None:
        """Put the lease's accelerators in quarantine until they are proved clean."""

        def write(connection: Connection) -> None:
            lease = self._locked(connection, lease_id)
            self._quarantine(connection, lease, reason, actor, self._store.clock.now())

        self._store.write(write)

    def release_unit(self, unit_id: str, actor: str, reason: str) -> bool:
        """Release an accelerator from quarantine, on proof or on the operator's word."""

        def write(connection: Connection) -> bool:
            done = unit_sql.release_unit(connection, unit_id)
            if done:
                now = self._store.clock.now()
                sql.record(connection, unit_id, UnitState.QUARANTINED, UnitState.FREE, now, actor, reason)
            return done

        return self._store.write(write)

    def _move(
        self, lease_id: str, before: set[LeaseState], after: LeaseState, actor: str, reason: str, **values: Any
    ) -> Lease:
        """Change the state if it is one of `before`. Otherwise another process was faster, and nothing changes."""

        def write(connection: Connection) -> Lease:
            lease = self._locked(connection, lease_id)
            if lease.state not in before:
                return lease
            if values:
                sql.update_lease(connection, lease_id, **values)
            self._change(connection, lease, after, actor, reason, self._store.clock.now())
            return self._read(connection, lease_id)

        return self._store.write(write)

    def _change(
        self, connection: Connection, lease: Lease, after: LeaseState, actor: str, reason: str, now: datetime
    ) -> None:
        checked_transition(lease.state, after)
        if after is LeaseState.ENDING or after.terminal:
            moves.break_after_all(connection, lease)
        sql.update_lease(connection, lease.id, state=after.value)
        sql.record(connection, lease.id, lease.state, after, now, actor, reason)
        events.record_change(connection, lease, after, reason, now)
        if after in UNIT_STATE_OF and UNIT_STATE_OF[after] is not UNIT_STATE_OF.get(lease.state):
            state = UNIT_STATE_OF[after]
            unit_sql.set_unit_states(connection, lease.pool_id, lease.unit_ids, state, lease.id, None, now)

    def _close(
        self,
        connection: Connection,
        lease: Lease,
        after: LeaseState,
        actor: str,
        why: str,
        end_reason: str,
        now: datetime,
        *,
        clean: bool,
    ) -> None:
        """Change to a terminal state: the calendar is freed, and each accelerator is free or quarantined."""
        sql.update_lease(connection, lease.id, ended_at=now, end_reason=end_reason)
        self._change(connection, lease, after, actor, why, now)
        events.record_over(connection, self._read(connection, lease.id), after, why, now)
        calendar.release(connection, lease.id)
        self._ports.settle(connection, lease)
        detach_volumes(connection, lease, end_reason, self._ports.volumes.reclaim_snapshot_s, now)
        if clean:
            unit_sql.set_unit_states(connection, lease.pool_id, lease.unit_ids, UnitState.FREE, None, None, now)
        else:
            self._quarantine(connection, lease, why, actor, now)

    def _quarantine(self, connection: Connection, lease: Lease, reason: str, actor: str, now: datetime) -> None:
        held = unit_sql.units_held(connection, lease.pool_id)
        for unit_id in lease.unit_ids:
            before = held.get(unit_id, UnitState.FREE)
            if before is not UnitState.QUARANTINED:
                unit_sql.set_unit_states(
                    connection, lease.pool_id, [unit_id], UnitState.QUARANTINED, lease.id, reason[:500], now
                )
                sql.record(connection, unit_id, before, UnitState.QUARANTINED, now, actor, f"{lease.id}: {reason}")
                events.record_quarantine(connection, unit_id, lease.pool_id, lease.id, reason, now)

    def _credit(self, connection: Connection, lease: Lease, now: datetime) -> None:
        """Post the credit of the class once: its id is derived from the lease."""
        failed, late = lease.end_reason == ACCELERATOR_FAILED, lease.end_reason == LATE
        if (lease.reclaim_at is None and not failed and not late) or lease.credit_nano <= 0:
            return
        why = "ended: an accelerator failed" if failed else f"taken back: {OWNER_NEEDS}"
        why = f"was late by {lease.left_s / 3600:.2f} of {lease.billable_s / 3600:g} hours" if late else why
        self._ports.post_credit(
            connection,
            CreditNote(
                id=credit_id(lease.id),
                lease_id=lease.id,
                organization_id=lease.organization_id,
                amount_nano=lease.credit_nano,
                currency=lease.currency,
                reason=f"{lease.class_name} lease {lease.id} {why}",
                at=now,
            ),
        )

    def _meter_once(
        self, connection: Connection, lease_id: str, deliveries: Sequence[Delivery], *, final: bool
    ) -> tuple[int, bool]:
        lease = self._locked(connection, lease_id)
        lease = moves.with_open_outages(connection, lease)
        reading = None if lease.state.terminal else read_meter(lease, deliveries, final=final)
        if reading is None:
            return 0, True
        added = sum(interval.accelerator_s for interval in reading.intervals)
        if not sql.advance_meter(connection, lease_id, lease.metered_until, reading.metered_until, added):
            return 0, False
        for interval in reading.intervals:
            self._ports.emit(connection, interval)
        return len(reading.intervals), reading.complete

    def _locked(self, connection: Connection, lease_id: str) -> Lease:
        """The lease under its pool's lock, read after the lock is acquired."""
        lease = self._read(connection, lease_id)
        self._store.lock(connection, f"pool:{lease.pool_id}")
        return lease if self._store.is_sqlite else self._read(connection, lease_id)

    def _read(self, connection: Connection, lease_id: str) -> Lease:
        lease = sql.lease(connection, lease_id)
        if lease is None:
            raise NotFoundError(f"there is no lease {lease_id!r}; `sublet lease ls` lists yours")
        return lease


def _seen(observation: Observation) -> dict[str, Any]:
    return {
        "endpoint": observation.endpoint.as_dict() if observation.endpoint else None,
        "guarantees": {name: dict(value) for name, value in observation.guarantees.items()},
    }
