"""Moves a reclaimed lease to another pool: planned with its notice, and made once its sandbox has stopped."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.lifecycle import moves
from sublet.leases.lifecycle.transitions import Transitions
from sublet.leases.model import Lease, LeaseState, PlannedMove, credit_nano
from sublet.leases.ports import LeasePorts
from sublet.leases.reclaim.victims import Victim
from sublet.store import Store

MOVES = "the owner needs the accelerators, and the lease goes on in another pool"


class Transfers:
    """Plans and makes moves. Each is one idempotent transaction. `actor` is who or what caused it."""

    def __init__(self, store: Store, ports: LeasePorts, transitions: Transitions) -> None:
        self._store = store
        self._ports = ports
        self._transitions = transitions

    def plan(self, connection: Connection, victim: Victim, actor: str, now: datetime) -> Lease:
        """Decide that a lease moves instead of ending, within the caller's transaction, which holds the locks of both pools. A
        lease that has not begun moves at once."""
        assert victim.move is not None
        lease = self._transitions.locked(connection, victim.id)
        if lease.state.terminal or lease.state is LeaseState.ENDING or lease.reclaim_at is not None:
            return lease
        if lease.state is LeaseState.SCHEDULED:
            instead = replace(victim, move=None, credit_nano=credit_nano(lease, victim.reclaim_at))
            moved = self._go(connection, lease, victim.move, actor, now)
            return moved or self._transitions.give_notice(connection, instead, actor, now)
        moves.hold(connection, lease, victim.move, self._ports.timing_of(connection, victim.move.pool_id))
        return self._transitions.give_notice(connection, victim, actor, now)

    def make(self, lease_id: str, actor: str) -> bool:
        """Make a move that is due. The next plan then starts the lease in its new pool. Returns False if the move can't be
        made, which ends the lease, or no longer exists. The caller has stopped the sandbox."""

        def write(connection: Connection) -> bool:
            now = self._store.clock.now()
            lease = sql.lease(connection, lease_id)
            if lease is None or lease.move is None:
                return False
            planned = lease.move
            for pool_id in sorted((lease.pool_id, planned.pool_id)):
                self._store.lock(connection, f"pool:{pool_id}")
            lease = sql.lease(connection, lease_id) or lease
            if lease.move != planned or planned.at > now or not (lease.state.served or _preparing(lease)):
                return False
            if now < planned.until and self._go(connection, lease, planned, actor, now) is not None:
                return True
            moves.break_after_all(connection, lease)
            return False

        return self._store.write(write)

    def _go(
        self, connection: Connection, lease: Lease, planned: PlannedMove, actor: str, now: datetime
    ) -> Lease | None:
        timing = self._ports.timing_of(connection, planned.pool_id)
        moved = moves.go(connection, lease, planned, timing, now)
        if moved is None:
            return None
        if moved.state.served:
            self._transitions.change(connection, moved, LeaseState.DEGRADED, actor, MOVES, now)
        else:
            sql.record(connection, moved.id, moved.state, moved.state, now, actor, MOVES)
        events.record_transferred(connection, moved, now)
        return sql.lease(connection, moved.id)


def _preparing(lease: Lease) -> bool:
    return lease.state is LeaseState.PREPARING
