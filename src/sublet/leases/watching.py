"""What only the passing of time shows: quotes that expired, and reclaims that were met or missed."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from sublet.leases import events
from sublet.leases import store as sql
from sublet.leases.model import QUOTE_S
from sublet.leases.ports import LeasePorts
from sublet.leases.reclaim import store as reclaim_store
from sublet.store import Store, outbox
from sublet.values.clock import parse_time

FIRST_LOOK = timedelta(hours=1)
OVERLAP = timedelta(seconds=60)
RECLAIMS_SINCE = timedelta(days=2)
BACK_GRACE = timedelta(seconds=60)
"""What a teardown and its proof may take after access has closed."""
QUOTES_MAX = 1_000


class Watching:
    """Tells of it. Called again and again, by one process or several, it tells each thing once: its events have keys."""

    def __init__(self, store: Store, ports: LeasePorts) -> None:
        self._store = store
        self._ports = ports
        self._quotes_seen: datetime | None = None

    def round(self) -> None:
        """Look once. After a stop, quotes that expired more than FIRST_LOOK ago are not told."""
        now = self._store.clock.now()
        self._quotes(now)
        self._reclaims(now)

    def _quotes(self, now: datetime) -> None:
        since = now - FIRST_LOOK if self._quotes_seen is None else self._quotes_seen - OVERLAP
        with self._store.read() as connection:
            found = sql.expired_quotes(connection, since, now, QUOTES_MAX)
        expired = [
            quote for quote in found if quote.held_until and (quote.expires_at - quote.created_at).seconds >= QUOTE_S
        ]

        def write(connection: Connection) -> None:
            for quote in expired:
                events.record_quote(connection, quote, events.QUOTE_EXPIRED, now)

        if expired:
            self._store.write(write)
        self._quotes_seen = found[-1].expires_at if len(found) == QUOTES_MAX else now

    def _reclaims(self, now: datetime) -> None:
        with self._store.read() as connection:
            rows = reclaim_store.begun_since(connection, now - RECLAIMS_SINCE, now)
            facts = {row.id: _fact(row) for row in rows}
            told = outbox.existing(
                connection,
                [kind.id_of((name,)) for name in facts for kind in (events.RECLAIM_MET, events.RECLAIM_MISSED)],
            )
            outcomes = {
                row.id: met
                for row in rows
                if not {events.RECLAIM_MET.id_of((row.id,)), events.RECLAIM_MISSED.id_of((row.id,))} & told
                and (met := self._met(connection, row, now)) is not None
            }

        def write(connection: Connection) -> None:
            for name, met in outcomes.items():
                kind = events.RECLAIM_MET if met else events.RECLAIM_MISSED
                kind.record(connection, facts[name], now, key=(name,))

        if outcomes:
            self._store.write(write)

    def _met(self, connection: Connection, row: Row[Any], now: datetime) -> bool | None:
        """Whether everything came back in time; None while that is open."""
        replicas = {item.id for item in self._ports.models.occupants(connection, row.pool_id)}
        open_ = False
        for victim in row.plan["victims"]:
            due = parse_time(victim["reclaim_at"]) + BACK_GRACE
            if "replica_id" in victim:
                waits = victim["replica_id"] in replicas
                late = waits and now > due
            else:
                lease = sql.lease(connection, victim["lease_id"])
                left_at = (
                    next((item.at for item in lease.moves if item.from_pool_id == row.pool_id), None) if lease else None
                )
                ended_at = left_at or (lease.ended_at if lease is not None else row.created_at)
                late, waits = (ended_at or now) > due, ended_at is None
            if late:
                return False
            open_ = open_ or waits
        return None if open_ else True


def _fact(row: Row[Any]) -> events.ReclaimChanged:
    return events.ReclaimChanged(
        row.id,
        row.pool_id,
        row.accelerators,
        row.start_at,
        row.end_at,
        len(row.plan["victims"]),
        bool(row.forced),
        row.reason,
    )
