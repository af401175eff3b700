"""The SQL of yield: rounds, what was asked for by the hour, and the scales that rounds set."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select

from sublet.allocation.model import PoolLimits
from sublet.allocation.ports import AskedHour
from sublet.store.changes import kept
from sublet.store.tables.allocation import allocation_asked as asked
from sublet.store.tables.allocation import allocation_hours as hours
from sublet.store.tables.allocation import allocation_limits as limits
from sublet.store.tables.allocation import allocation_rounds as rounds
from sublet.store.tables.allocation import allocation_scales as scales

ROUNDS_MAX = 10_000


def save_round(connection: Connection, at: datetime, document: dict[str, Any]) -> None:
    connection.execute(delete(rounds).where(rounds.c.at == at))
    connection.execute(insert(rounds).values(at=at, document=document))


def rounds_between(connection: Connection, since: datetime, until: datetime) -> list[tuple[datetime, dict[str, Any]]]:
    """Rounds that were decided in `[since, until)`, the oldest first."""
    rows = connection.execute(
        select(rounds).where(rounds.c.at >= since, rounds.c.at < until).order_by(rounds.c.at).limit(ROUNDS_MAX)
    )
    return [(row.at, row.document) for row in rows]


def last_round(connection: Connection) -> dict[str, Any] | None:
    row = connection.execute(select(rounds.c.document).order_by(rounds.c.at.desc()).limit(1)).first()
    return row.document if row is not None else None


def replace_limits(connection: Connection, rows: Sequence[PoolLimits]) -> None:
    """The limits of one round; pools that are not among them are not limited any more."""
    connection.execute(delete(limits))
    for row in rows:
        connection.execute(insert(limits).values(pool_id=row.pool_id, at=row.at, room=row.room, quotas=row.quotas))


def limits_of(connection: Connection, pool_id: str, since: datetime) -> PoolLimits | None:
    """The limits of a pool, if they are not older than `since`."""

    def read() -> Row[Any] | None:
        return connection.execute(select(limits).where(limits.c.pool_id == pool_id)).first()

    row = kept(connection, ("allocation_limits",), ("allocation limits", pool_id), read)
    return PoolLimits(row.pool_id, row.at, row.room, list(row.quotas)) if row is not None and row.at >= since else None


def rooms(connection: Connection, since: datetime) -> dict[str, int]:
    return {row.pool_id: row.room for row in connection.execute(select(limits).where(limits.c.at >= since))}


def forget_before(connection: Connection, moment: datetime) -> None:
    connection.execute(delete(rounds).where(rounds.c.at < moment))
    connection.execute(delete(asked).where(asked.c.hour < moment))
    connection.execute(delete(hours).where(hours.c.hour < moment))


def last_hour(connection: Connection) -> datetime | None:
    """The newest hour whose quotes are counted."""
    found: datetime | None = connection.execute(select(func.max(hours.c.hour))).scalar()
    return found


def count_hour(connection: Connection, hour: datetime, rows: Sequence[AskedHour]) -> None:
    """Store the quotes of one hour; one that is counted already stays as it is."""
    if connection.execute(select(hours.c.hour).where(hours.c.hour == hour)).first() is not None:
        return
    connection.execute(insert(hours).values(hour=hour))
    for row in rows:
        connection.execute(insert(asked).values(**{name: getattr(row, name) for name in row.__slots__}))


def asked_since(connection: Connection, since: datetime) -> list[AskedHour]:
    found = connection.execute(select(asked).where(asked.c.hour >= since).order_by(asked.c.hour))
    return [AskedHour(**row._mapping) for row in found]


def counted_hours(connection: Connection, since: datetime) -> int:
    query = select(func.count()).select_from(hours).where(hours.c.hour >= since)
    return int(connection.execute(query).scalar() or 0)


def scale_of(connection: Connection) -> dict[str, int]:
    """The replicas that a round requested last, by model."""
    return {row.model: row.replicas for row in connection.execute(select(scales))}


def save_scale(connection: Connection, model: str, replicas: int | None, at: datetime) -> None:
    """Remember what was requested; None: nothing any more."""
    connection.execute(delete(scales).where(scales.c.model == model))
    if replicas is not None:
        connection.execute(insert(scales).values(model=model, replicas=replicas, at=at))
