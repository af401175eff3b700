"""The SQL of the waits of the owner's work: current waits, and totals by day and team."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select, update

from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.leases import owner_wait_days, owner_waits
from sublet.surplus.rule.patience import Begun

DAY = timedelta(days=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
KEPT_DAYS = 3 * 366
"""Days are kept for as long as a block may last."""
_days = owner_wait_days.c
DAYS = Listing("owner_waits", (_days.day, _days.pool_id, _days.team), descending=True)


@dataclass(frozen=True, slots=True)
class DayOfWaiting:
    """The waits of a team on one day (UTC): the number of `waits` that began, their total seconds, and their
    accelerator-seconds. Without a team, it is the pool's own demand."""

    pool_id: str
    day: datetime
    team: str
    waits: int
    waited_s: float
    accelerator_s: float

    def as_dict(self) -> dict[str, Any]:
        return {
            "pool_id": self.pool_id,
            "day": self.day.date().isoformat(),
            "team": self.team or None,
            "waits": self.waits,
            "waited_s": round(self.waited_s, 3),
            "accelerator_s": round(self.accelerator_s, 3),
        }


def begun(connection: Connection, pool_ids: Iterable[str]) -> list[Begun]:
    """The current waits on those pools, as last stored."""
    query = select(owner_waits).where(owner_waits.c.pool_id.in_(list(pool_ids)))
    query = query.order_by(owner_waits.c.pool_id, owner_waits.c.claim_id)
    return [_begun(row) for row in connection.execute(query)]


def begun_for(connection: Connection, pool_id: str, claim_id: str) -> Begun | None:
    """One of the current waits."""
    row = connection.execute(
        select(owner_waits).where(owner_waits.c.pool_id == pool_id, owner_waits.c.claim_id == claim_id)
    ).first()
    return None if row is None else _begun(row)


def waited_s(connection: Connection, pool_id: str, now: datetime) -> dict[str, float]:
    """Seconds waited on the pool on the day of `now`, by team, as last stored."""
    query = select(_days.team, _days.waited_us).where(_days.pool_id == pool_id, _days.day == day_of(now))
    return {row.team: row.waited_us / 1e6 for row in connection.execute(query)}


def waited_between(connection: Connection, since: datetime, until: datetime) -> dict[tuple[str, str], int]:
    """Accelerator-seconds waited on the days of `[since, until)`, by pool and team, in whole seconds."""
    total = func.sum(_days.accelerator_us).label("total")
    query = select(_days.pool_id, _days.team, total).where(_days.day >= day_of(since), _days.day < day_of(until))
    rows = connection.execute(query.group_by(_days.pool_id, _days.team))
    return {(row.pool_id, row.team): round(int(row.total) / 1e6) for row in rows}


def day_page(connection: Connection, pool_id: str | None, wanted: PageRequest) -> Page[DayOfWaiting]:
    """A page of days with waits, newest first, of one pool if it is given."""
    query = select(owner_wait_days)
    if pool_id is not None:
        query = query.where(_days.pool_id == pool_id)
    return DAYS.read(connection, query, wanted).map(_day)


def count(connection: Connection, wait: Begun, now: datetime) -> None:
    """Add the time waited since the last count to its days."""
    end = min(now, wait.until)
    if wait.accelerators == 0 or end <= wait.counted_until:
        return
    for start, stop in _by_day(wait.counted_until, end):
        waited_us = (stop - start) // MICROSECOND
        _add(connection, wait, day_of(start), 0, waited_us)


def begin(connection: Connection, wait: Begun, now: datetime) -> None:
    """Store a new wait, and count it for the team's day."""
    connection.execute(insert(owner_waits).values(**_values(wait)))
    _add(connection, wait, day_of(now), 1, 0)
    connection.execute(
        delete(owner_wait_days).where(_days.pool_id == wait.pool_id, _days.day < day_of(now) - KEPT_DAYS)
    )


def save(connection: Connection, wait: Begun) -> None:
    """Store the state of a wait."""
    where = (owner_waits.c.pool_id == wait.pool_id, owner_waits.c.claim_id == wait.claim_id)
    connection.execute(update(owner_waits).where(*where).values(**_values(wait)))


def remove(connection: Connection, wait: Begun) -> None:
    """Delete a wait that is over."""
    connection.execute(
        delete(owner_waits).where(owner_waits.c.pool_id == wait.pool_id, owner_waits.c.claim_id == wait.claim_id)
    )


def day_of(moment: datetime) -> int:
    """Days since the epoch (UTC)."""
    return (moment - EPOCH) // DAY


def _add(connection: Connection, wait: Begun, day: int, waits: int, waited_us: int) -> None:
    key = {"pool_id": wait.pool_id, "day": day, "team": wait.team}
    done = connection.execute(
        update(owner_wait_days)
        .where(*(_days[name] == value for name, value in key.items()))
        .values(
            waits=_days.waits + waits,
            waited_us=_days.waited_us + waited_us,
            accelerator_us=_days.accelerator_us + waited_us * wait.accelerators,
        )
    )
    if done.rowcount == 0:
        values = {"waits": waits, "waited_us": waited_us, "accelerator_us": waited_us * wait.accelerators}
        connection.execute(insert(owner_wait_days).values(**key, **values))


def _by_day(start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime]]:
    while start < end:
        stop = min(end, EPOCH + (day_of(start) + 1) * DAY)
        yield start, stop
        start = stop


def _begun(row: Row[Any]) -> Begun:
    return Begun(row.pool_id, row.claim_id, row.team, row.since, row.counted_until, row.until, row.accelerators)


def _values(wait: Begun) -> dict[str, Any]:
    return {name: getattr(wait, name) for name in wait.__slots__}


def _day(row: Row[Any]) -> DayOfWaiting:
    day = EPOCH + row.day * DAY
    return DayOfWaiting(row.pool_id, day, row.team, row.waits, row.waited_us / 1e6, row.accelerator_us / 1e6)
