"""Counts how the owner's work waits instead of reclaiming leases, while its patience lasts."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy import Connection

from sublet.leases import store as leases_sql
from sublet.leases.reclaim import waits as sql
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.surplus.rule.patience import Begun
from sublet.values.clock import parse_time
from sublet.values.errors import NotFoundError
from sublet.values.plan import Step


class Waits:
    """Counts the waits of the owner's work. Each step is one transaction and idempotent."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def count(self, step: Step) -> None:
        """Carry out a step `wait`: add the time since the last count, and set what waits from now on."""
        pool_id, claim_id = str(step.details["pool_id"]), str(step.details["claim_id"] or "")
        team, accelerators = str(step.details["team"] or ""), int(step.details["accelerators"])
        until = parse_time(str(step.details["until"]))

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"pool:{pool_id}")
            now = self._store.clock.now()
            known = sql.begun_for(connection, pool_id, claim_id)
            if known is None:
                sql.begin(connection, Begun(pool_id, claim_id, team, now, now, until, accelerators), now)
                return
            sql.count(connection, known, now)
            sql.save(connection, replace(known, counted_until=now, until=until, accelerators=accelerators))

        self._store.write(write)

    def stop(self, step: Step) -> None:
        """Carry out a step `wait_over`: add the rest of the wait. If the wait is kept, nothing waits any more, but the
        patience stays spent."""
        pool_id, claim_id = str(step.details["pool_id"]), str(step.details["claim_id"] or "")

        def write(connection: Connection) -> None:
            self._store.lock(connection, f"pool:{pool_id}")
            now = self._store.clock.now()
            known = sql.begun_for(connection, pool_id, claim_id)
            if known is None:
                return
            sql.count(connection, known, now)
            if step.details["kept"]:
                sql.save(connection, replace(known, counted_until=now, accelerators=0))
            else:
                sql.remove(connection, known)

        self._store.write(write)

    def page(self, pool: str | None, wanted: PageRequest) -> Page[sql.DayOfWaiting]:
        """A page of waits by day and team, newest day first, of one pool if `pool` is given. Raises NotFoundError."""
        with self._store.read() as connection:
            if pool is None:
                return sql.day_page(connection, None, wanted)
            found = leases_sql.pool_named(connection, pool)
            if found is None:
                raise NotFoundError(f"there is no pool {pool!r}; `sublet pool ls` lists them")
            return sql.day_page(connection, found.id, wanted)
