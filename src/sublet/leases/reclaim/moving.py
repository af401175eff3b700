"""Finds other pools of the same generation where a lease can continue instead of ending when the owner reclaims its pool."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, Row

from sublet.fleet.reach import beside
from sublet.leases import store as sql
from sublet.leases.jobs import store as jobs_sql
from sublet.leases.model import Lease, LeaseState, OnReclaim, PlannedMove
from sublet.leases.ports import LeasePorts
from sublet.leases.quotes.places import Places
from sublet.leases.terms import MOVES_MAX
from sublet.values.errors import SubletError
from sublet.values.windows import Window

WORTH_S = 60
"""A move for less than this is not worth its interruption."""
_MOVABLE = (LeaseState.SCHEDULED, LeaseState.PREPARING, LeaseState.ACTIVE, LeaseState.DEGRADED)


def may_move(lease: Lease) -> bool:
    """Whether a lease's terms allow a move. A lease with a deadline is paused instead."""
    return (
        lease.on_reclaim is OnReclaim.MOVE
        and lease.state in _MOVABLE
        and lease.service_s is None
        and lease.handing_back is None
        and lease.move is None
        and len(lease.moves) < MOVES_MAX
    )


class Targets:
    """Finds capacity for moves inside the planning transaction, without changing anything. What it finds for one lease is not
    offered to the next.

    A move is sold by the same rule as a new lease of its class over the rest of the window, which a forecast must allow: a lease
    from a block leaves its block for good. A job that has begun would start over, so its lease stays.

    `within` are the pools whose locks the caller holds and in which it may hold capacity.
    """

    def __init__(
        self, connection: Connection, ports: LeasePorts, now: datetime, within: Collection[str] | None = None
    ) -> None:
        self._connection = connection
        self._ports = ports
        self._places = Places(ports)
        self._now = now
        self._within = within
        self._found: dict[str, PlannedMove] = {}
        self._kept: set[str] = set()
        self._pools: dict[str, list[Row[object]]] = {}

    def find(self, lease: Lease, at: datetime) -> PlannedMove | None:
        """Where the lease can continue from `at` on, or None."""
        if lease.id in self._found:
            return self._found[lease.id]
        # A lease that has not begun moves at once, with its whole window.
        begins = max(self._now if lease.state is LeaseState.SCHEDULED else at, lease.window.start)
        left_s = (lease.window.end - begins).total_seconds()
        if not may_move(lease) or left_s < WORTH_S or self._job_has_begun(lease):
            return None
        window = Window(begins, lease.window.end)
        given: dict[str, set[str]] = defaultdict(set)
        for move in self._found.values():
            given[move.pool_id].update(move.unit_ids)
        best: tuple[int, str, list[str]] | None = None
        for pool in self._candidates(lease):
            if pool.offline_at is not None and pool.offline_at < window.end:
                continue
            open_ = [unit for unit in self._open(pool.id, lease, window) if unit not in given[pool.id]]
            if len(open_) >= lease.accelerators and (best is None or len(open_) > best[0]):
                best = (len(open_), pool.id, open_[: lease.accelerators])
        if best is None:
            return None
        self._found[lease.id] = PlannedMove(best[1], tuple(best[2]), begins)
        return self._found[lease.id]

    def keep(self, lease_ids: Iterable[str]) -> None:
        """Keep only the targets of these leases. What was found for other leases is available again."""
        self._kept.update(lease_ids)
        self._found = {lease_id: move for lease_id, move in self._found.items() if lease_id in self._kept}

    def _open(self, pool_id: str, lease: Lease, window: Window) -> list[str]:
        try:
            sold = (lease.class_name, lease.notice_s)
            if not self._ports.keeps_notice(self._connection, pool_id, sold, window, lease.accelerators):
                return []
            return self._places.available(
                self._connection, pool_id, lease.class_name, window, lease.organization_id, self._now
            )
        except SubletError:
            # A window beyond the forecast's horizon is not on sale there.
            return []

    def _candidates(self, lease: Lease) -> list[Row[object]]:
        if lease.pool_id not in self._pools:
            found = targets_of(self._connection, self._ports, lease.pool_id)
            self._pools[lease.pool_id] = [pool for pool in found if self._within is None or pool.id in self._within]
        return self._pools[lease.pool_id]

    def _job_has_begun(self, lease: Lease) -> bool:
        begun = lease.state is not LeaseState.SCHEDULED
        return begun and jobs_sql.order_of(self._connection, lease.id) is not None


def targets_of(connection: Connection, ports: LeasePorts, pool_id: str) -> list[Row[object]]:
    """The other pools to which leases of this pool can take their home directories: of the same generation, currency and
    backend, and on the same nodes."""
    home = sql.pool_named(connection, pool_id)
    if home is None or "moves" not in ports.features(home.backend):
        return []
    near = beside(connection, home.id)
    return [
        pool
        for pool in sql.pools_of(connection, home.generation)
        if pool.id in near and (pool.backend, pool.currency) == (home.backend, home.currency)
    ]
