"""The SQL of the shadow's record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, delete, insert, select, update

from sublet.store.tables.surplus import promise_standings, shadow_days, shadows
from sublet.surplus.budget import Standing
from sublet.surplus.kept import pace_of, rule_name
from sublet.surplus.model import HOUR_S, Stood
from sublet.surplus.record.calibration import Day
from sublet.surplus.record.shadow_book import ShadowBook, hour_of, moment_of
from sublet.values.service_classes import ServiceClass


def shadow(connection: Connection, pool_id: str) -> ShadowBook | None:
    row = connection.execute(select(shadows).where(shadows.c.pool_id == pool_id)).first()
    if row is None:
        return None
    return ShadowBook.of_state(hour_of(row.since_at), hour_of(row.next_at), row.hours, row.unseen, row.state)


def learned(connection: Connection, pool_id: str) -> Mapping[str, Any] | None:
    """What the sellers of the pool's record had learned when it was last saved."""
    state = connection.execute(select(shadows.c.state).where(shadows.c.pool_id == pool_id)).scalar_one_or_none()
    found: Mapping[str, Any] | None = None if state is None else state.get("learned")
    return found


def standings(
    connection: Connection, pool_id: str, policies: Iterable[ServiceClass], patience_hours: int
) -> dict[tuple[str, int, int], Stood]:
    """What each kind of promise of the policies has earned, as far as its record is of this rule, risk and patience."""
    by_name = {policy.name: policy for policy in policies}
    table = promise_standings
    found = {}
    for row in connection.execute(select(table).where(table.c.pool_id == pool_id)):
        policy = by_name.get(row.class_name)
        if policy is not None and row.rule == rule_name(policy, patience_hours):
            key = (row.class_name, row.hours, row.within)
            found[key] = Stood(*key, row.hour, pace_of(policy, *key[1:]), Standing.of_state(row.state))
    return found


def save_standings(
    connection: Connection,
    pool_id: str,
    stood: Sequence[Stood],
    policies: Mapping[str, ServiceClass],
    patience_hours: int,
) -> None:
    """Put these in the place of all that is stored of the pool."""
    table = promise_standings
    connection.execute(delete(table).where(table.c.pool_id == pool_id))
    rows = [
        {
            "pool_id": pool_id,
            "class_name": item.class_name,
            "hours": item.hours,
            "within": item.within,
            "rule": rule_name(policies[item.class_name], patience_hours),
            "hour": item.hour,
            "state": item.standing.as_state(),
        }
        for item in stood
        if item.class_name in policies
    ]
    if rows:
        connection.execute(insert(table), rows)


def save(
    connection: Connection,
    pool_id: str,
    before: datetime | None,
    book: ShadowBook,
    days: Sequence[tuple[str, int, Day]],
    keep_from: int,
) -> bool:
    """Move the pool's shadow on from `before` (None: it is new) with what `days` add; False where it stood elsewhere.

    Days before `keep_from` are forgotten.
    """
    found = connection.execute(select(shadows.c.next_at).where(shadows.c.pool_id == pool_id)).scalar_one_or_none()
    if found != before:
        return False
    values = {
        "since_at": moment_of(book.since_hour),
        "next_at": moment_of(book.next_hour),
        "hours": book.hours,
        "unseen": book.unseen,
        "state": book.as_state(),
    }
    if before is None:
        connection.execute(insert(shadows).values(pool_id=pool_id, **values))
    else:
        connection.execute(update(shadows).where(shadows.c.pool_id == pool_id).values(**values))
    touched = {day.day for _, _, day in days}
    table = shadow_days
    if touched:
        span = (table.c.pool_id == pool_id, table.c.day >= min(touched), table.c.day <= max(touched))
        known = {(name, length, day.day): day for name, length, day in _days(connection, *span)}
        merged = {
            (name, length, day.day): _added(known.get((name, length, day.day)), day) for name, length, day in days
        }
        for name, length, number in merged:
            same = (table.c.class_name == name, table.c.window_s == length, table.c.day == number)
            connection.execute(delete(table).where(table.c.pool_id == pool_id, *same))
        connection.execute(
            insert(table), [_row(pool_id, name, length, day) for (name, length, _), day in merged.items()]
        )
    connection.execute(delete(table).where(table.c.pool_id == pool_id, table.c.day < keep_from))
    return True


def forget(connection: Connection, pool_id: str) -> None:
    """Reset the pool's record."""
    connection.execute(delete(shadows).where(shadows.c.pool_id == pool_id))
    connection.execute(delete(shadow_days).where(shadow_days.c.pool_id == pool_id))
    connection.execute(delete(promise_standings).where(promise_standings.c.pool_id == pool_id))


def days_since(connection: Connection, pool_id: str, day: int) -> list[tuple[str, int, Day]]:
    """Class, window length in seconds and figures of each day from `day` on, oldest first."""
    return list(_days(connection, shadow_days.c.pool_id == pool_id, shadow_days.c.day >= day))


def _days(connection: Connection, *where: object) -> Iterable[tuple[str, int, Day]]:
    query = select(shadow_days).where(*where).order_by(shadow_days.c.day)  # type: ignore[arg-type]
    for row in connection.execute(query):
        hours = row.window_s // HOUR_S
        broken_after = {int(after): count for after, count in row.broken_after.items()}
        lost = sum(count * (hours - after) for after, count in broken_after.items())
        yield (
            row.class_name,
            row.window_s,
            Day(
                row.day,
                row.started,
                row.kept,
                row.broken,
                row.accepted,
                row.bound_hours,
                hours_sold=(row.kept + row.broken) * hours,
                hours_lost=lost,
                broken_after=broken_after,
            ),
        )


def _added(one: Day | None, other: Day) -> Day:
    if one is None:
        return other
    after = dict(one.broken_after)
    for part, count in other.broken_after.items():
        after[part] = after.get(part, 0) + count
    return Day(
        one.day,
        one.started + other.started,
        one.kept + other.kept,
        one.broken + other.broken,
        one.accepted + other.accepted,
        one.bound_hours + other.bound_hours,
        broken_after=after,
    )


def _row(pool_id: str, class_name: str, window_s: int, day: Day) -> dict[str, object]:
    return {
        "pool_id": pool_id,
        "day": day.day,
        "class_name": class_name,
        "window_s": window_s,
        "started": day.started,
        "kept": day.kept,
        "broken": day.broken,
        "accepted": day.accepted,
        "bound_hours": day.bound_hours,
        "broken_after": {str(after): count for after, count in day.broken_after.items()},
    }
