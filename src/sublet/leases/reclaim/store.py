"""The SQL of reclaims: orders, the capacity that they hold, and the back-off after demand reclaimed capacity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from sublet.store.changes import kept
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import back_offs, reclaims
from sublet.surplus.model import BackOff
from sublet.values.windows import Window

RECLAIMS = Listing("reclaims", (reclaims.c.created_at, reclaims.c.id), descending=True)
HOLD_S = 600
HOLD_S_MAX = 4 * 3600
CALM_S = 60
CALM_S_MAX = 3600
FORGOTTEN = timedelta(days=1)
"""A pool that took nothing back for so long begins again with the shortest times."""


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often demand reclaimed and returned a pool's capacity. `level` is the demand at the last reclaim, at `taken_at`.
    `returned` is true if notices have been withdrawn since."""

    level: float
    rounds: int
    taken_at: datetime
    returned: bool

    @property
    def hold_s(self) -> int:
        """Seconds for which demand must stay lower before the reclaimed capacity is sold again. Doubled with each round."""
        return min(HOLD_S_MAX, HOLD_S << min(self.rounds - 1, 10))

    @property
    def calm_s(self) -> int:
        """Seconds for which the need must be gone before notices are withdrawn. Doubled with each round."""
        return min(CALM_S_MAX, CALM_S << min(self.rounds - 1, 10))

    def again(self, level: float, now: datetime) -> Rounds:
        """The rounds after demand reclaims capacity now. A reclaim before the last one is over belongs to the same round."""
        if now - self.taken_at > FORGOTTEN:
            return Rounds(level, 1, now, False)
        over = self.returned or now - self.taken_at > timedelta(seconds=self.hold_s)
        return Rounds(level if over else max(level, self.level), self.rounds + over, now, False)


def insert_reclaim(connection: Connection, **values: Any) -> None:
    connection.execute(insert(reclaims).values(**values))


def reclaim_by_key(connection: Connection, actor: str, key: str) -> Row[Any] | None:
    return connection.execute(
        select(reclaims).where(reclaims.c.actor == actor, reclaims.c.idempotency_key == key)
    ).first()


def reclaim_page(connection: Connection, wanted: PageRequest) -> Page[Row[Any]]:
    """A page of reclaims, newest first."""
    return RECLAIMS.read(connection, select(reclaims), wanted)


def reclaim_named(connection: Connection, reclaim_id: str) -> Row[Any] | None:
    return connection.execute(select(reclaims).where(reclaims.c.id == reclaim_id)).first()


def standing_rows(connection: Connection, pool_id: str, now: datetime) -> list[Row[Any]]:
    """Reclaims of the pool that are neither withdrawn nor over, oldest first."""
    return list(
        connection.execute(
            select(reclaims)
            .where(reclaims.c.pool_id == pool_id, reclaims.c.withdrawn_at.is_(None), reclaims.c.end_at > now)
            .order_by(reclaims.c.created_at, reclaims.c.id)
        )
    )


def begun_since(connection: Connection, since: datetime, now: datetime) -> list[Row[Any]]:
    """Reclaims whose window began within `[since, now]` and that were not withdrawn."""
    return list(
        connection.execute(
            select(reclaims).where(
                reclaims.c.withdrawn_at.is_(None), reclaims.c.start_at >= since, reclaims.c.start_at <= now
            )
        )
    )


def held_for_owner(connection: Connection, pool_id: str, window: Window, *, forced_only: bool = False) -> int:
    """The largest number of accelerators that reclaims hold for the owner at any moment of `window`."""

    def read() -> tuple[datetime, list[Any]]:
        columns = (reclaims.c.held, reclaims.c.start_at, reclaims.c.end_at, reclaims.c.forced)
        mine = (reclaims.c.pool_id == pool_id, reclaims.c.withdrawn_at.is_(None))
        query = select(*columns).where(*mine, reclaims.c.end_at > window.start)
        return window.start, [row for row in connection.execute(query)]

    since, rows = kept(connection, ("reclaims",), ("reclaims held", pool_id), read)
    if window.start < since:
        rows = read()[1]
    found = [
        row
        for row in rows
        if row.end_at > window.start and row.start_at < window.end and (row.forced or not forced_only)
    ]
    moments = {max(window.start, row.start_at) for row in found}
    return max((sum(row.held for row in found if row.start_at <= at < row.end_at) for at in moments), default=0)


def withdraw_reclaim(connection: Connection, reclaim_id: str, now: datetime) -> bool:
    done = connection.execute(
        update(reclaims).where(reclaims.c.id == reclaim_id, reclaims.c.withdrawn_at.is_(None)).values(withdrawn_at=now)
    )
    return done.rowcount == 1


def rounds(connection: Connection, pool_id: str) -> Rounds | None:
    """How often demand reclaimed the pool's capacity, or None if it never did."""
    row = connection.execute(select(back_offs).where(back_offs.c.pool_id == pool_id)).first()
    return None if row is None else Rounds(row.level, row.rounds, row.taken_at, bool(row.returned))


def save_rounds(connection: Connection, pool_id: str, found: Rounds) -> None:
    values: Mapping[str, Any] = {
        "level": found.level,
        "rounds": found.rounds,
        "taken_at": found.taken_at,
        "returned": int(found.returned),
    }
    done = connection.execute(update(back_offs).where(back_offs.c.pool_id == pool_id).values(**values))
    if done.rowcount == 0:
        connection.execute(insert(back_offs).values(pool_id=pool_id, **values))


def back_off(connection: Connection, pool_id: str, now: datetime) -> BackOff | None:
    """The pool's back-off, or None if demand reclaimed nothing lately."""
    found = rounds(connection, pool_id)
    if found is None or now - found.taken_at > FORGOTTEN:
        return None
    return BackOff(found.level, found.hold_s)
