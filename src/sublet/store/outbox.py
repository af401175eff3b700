"""The outbox: an append-only list of events, each written in the transaction of the change that it tells of.

A reader keeps its position. Ids given by the database would not do as positions: on PostgreSQL a transaction that took a lower
one may commit later, and a reader that has gone past it would never see it. So events are numbered after they are committed,
one numbering at a time, and readers see numbered events alone.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, bindparam, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from sublet.store.engine import Store
from sublet.store.tables.outbox import outbox_consumers as consumers
from sublet.store.tables.outbox import outbox_events as events
from sublet.values.clock import format_time

NUMBERED_MAX = 1_000
READ_MAX = 1_000
PRUNED_MAX = 5_000
NUMBERING = "numbering"
LOCK = "outbox"
LATEST_FACTOR = 2
"""Events older than so many retentions go even though a reader stands still."""


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event as its domain hands it in."""

    id: str
    kind: str
    organization_id: str | None
    subject: str
    at: datetime
    schema_version: int
    payload: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Event:
    """A numbered event. `position` grows in the order in which events became visible."""

    position: int
    id: str
    kind: str
    organization_id: str | None
    subject: str
    at: datetime
    schema_version: int
    payload: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The event as receivers get it, whatever the channel."""
        return {
            "id": self.id,
            "type": self.kind,
            "timestamp": format_time(self.at),
            "sequence": self.position,
            "schema": self.schema_version,
            "organization": self.organization_id,
            "subject": self.subject,
            "data": self.payload,
        }


@dataclass(frozen=True, slots=True)
class Selection:
    """Which events to read: None stands for all. `organization_id` leaves out the operator's events, too."""

    organization_id: str | None = None
    subject: str | None = None
    kinds: Collection[str] | None = None


# Built once: to build a statement costs more than to execute it.
_APPEND = {
    "postgresql": postgresql.insert(events).on_conflict_do_nothing(index_elements=["id"]),
    "sqlite": sqlite.insert(events).on_conflict_do_nothing(index_elements=["id"]),
}


def append(connection: Connection, event: NewEvent) -> None:
    """Write an event in the caller's transaction. One whose id is there already is not written again."""
    values = {
        "id": event.id,
        "kind": event.kind,
        "organization_id": event.organization_id,
        "subject": event.subject,
        "at": event.at,
        "schema_version": event.schema_version,
        "payload": event.payload,
    }
    connection.execute(_APPEND[connection.dialect.name], values)


def number(store: Store) -> int:
    """Give numbers to committed events, at most NUMBERED_MAX; how many there were. Any process may call it at any time."""
    waiting = select(events.c.seq).where(events.c.position.is_(None)).order_by(events.c.seq).limit(NUMBERED_MAX)
    with store.read() as connection:
        if connection.execute(waiting.limit(1)).first() is None:
            return 0

    def write(connection: Connection) -> int:
        store.lock(connection, LOCK)
        found = connection.execute(waiting).scalars().all()
        if not found:
            return 0
        last = position_of(connection, NUMBERING)
        connection.execute(
            update(events).where(events.c.seq == bindparam("event_seq")).values(position=bindparam("number")),
            [{"event_seq": seq, "number": last + place} for place, seq in enumerate(found, 1)],
        )
        advance(connection, NUMBERING, last + len(found))
        return len(found)

    return store.write(write)


def read_after(
    connection: Connection, position: int, limit: int = READ_MAX, selection: Selection | None = None
) -> list[Event]:
    """Numbered events after `position`, oldest first, at most `limit`."""
    wanted = select(events).where(events.c.position > position)
    chosen = selection or Selection()
    if chosen.organization_id is not None:
        wanted = wanted.where(events.c.organization_id == chosen.organization_id)
    if chosen.subject is not None:
        wanted = wanted.where(events.c.subject == chosen.subject)
    if chosen.kinds is not None:
        wanted = wanted.where(events.c.kind.in_(list(chosen.kinds)))
    rows = connection.execute(wanted.order_by(events.c.position).limit(min(limit, READ_MAX)))
    return [_event(row) for row in rows]


def by_ids(connection: Connection, ids: Collection[str]) -> dict[str, Event]:
    """The events of these ids that are still kept."""
    rows = connection.execute(select(events).where(events.c.id.in_(list(ids)), events.c.position.is_not(None)))
    return {row.id: _event(row) for row in rows}


def existing(connection: Connection, ids: Collection[str]) -> set[str]:
    """Which of these events are recorded, numbered or not."""
    return set(connection.execute(select(events.c.id).where(events.c.id.in_(list(ids)))).scalars()) if ids else set()


def count_since(connection: Connection, kind: str, organization_id: str | None, since: datetime) -> int:
    """How many events of that kind and organization (None: the operator's) were recorded since then."""
    wanted = select(func.count()).select_from(events).where(events.c.kind == kind, events.c.at >= since)
    whose = events.c.organization_id
    return connection.execute(wanted.where(whose.is_not_distinct_from(organization_id))).scalar_one()


def position_of(connection: Connection, consumer: str) -> int:
    """How far that reader is; 0 before it began."""
    found = connection.execute(select(consumers.c.position).where(consumers.c.name == consumer)).scalar()
    return found if found is not None else 0


def last_position(connection: Connection) -> int:
    """The number that was given last."""
    return position_of(connection, NUMBERING)


def advance(connection: Connection, consumer: str, position: int) -> None:
    """That reader has dealt with everything up to `position`. To be written with what it made of the events."""
    changed = connection.execute(
        update(consumers)
        .where(consumers.c.name == consumer, consumers.c.position <= position)
        .values(position=position)
    )
    if changed.rowcount == 0 and position_of(connection, consumer) == 0:
        connection.execute(insert(consumers).values(name=consumer, position=position))


def ages(connection: Connection, now: datetime) -> dict[str, timedelta]:
    """By reader, how long the oldest event has waited that it has not dealt with; zero where there is none.

    The numbering is the first of them: what it has not numbered, no reader sees.
    """
    unnumbered = connection.execute(select(func.min(events.c.at)).where(events.c.position.is_(None))).scalar()
    found = {NUMBERING: _age(unnumbered, now)}
    for row in connection.execute(select(consumers).where(consumers.c.name != NUMBERING)).all():
        following = connection.execute(
            select(events.c.at).where(events.c.position > row.position).order_by(events.c.position).limit(1)
        ).scalar()
        found[row.name] = max(_age(following, now), found[NUMBERING])
    return found


def _age(at: datetime | None, now: datetime) -> timedelta:
    return max(now - at, timedelta()) if at is not None else timedelta()


def prune(store: Store, now: datetime, retention: timedelta) -> int:
    """Delete events older than `retention` that every reader has dealt with, at most PRUNED_MAX; how many there were.

    What is older than LATEST_FACTOR retentions goes whatever readers say, so that one that stands still can't fill the disk.
    """
    old = now - retention
    with store.read() as connection:
        if connection.execute(select(events.c.seq).where(events.c.at < old).limit(1)).first() is None:
            return 0

    def write(connection: Connection) -> int:
        slowest = connection.execute(
            select(func.min(consumers.c.position)).where(consumers.c.name != NUMBERING)
        ).scalar()
        read = slowest if slowest is not None else last_position(connection)
        latest = now - LATEST_FACTOR * retention
        done = (events.c.at < old) & (events.c.position <= read)
        found = (
            connection.execute(
                select(events.c.seq).where(done | (events.c.at < latest)).order_by(events.c.seq).limit(PRUNED_MAX)
            )
            .scalars()
            .all()
        )
        if found:
            connection.execute(
                delete(events).where(events.c.seq == bindparam("event_seq")), [{"event_seq": seq} for seq in found]
            )
        return len(found)

    return store.write(write)


def _event(row: Row[Any]) -> Event:
    return Event(
        row.position, row.id, row.kind, row.organization_id, row.subject, row.at, row.schema_version, row.payload
    )
