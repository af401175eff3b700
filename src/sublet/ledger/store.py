"""The SQL that every part of the ledger shares: bulk rows, heads, parties, and the raw form of events and lines."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Connection,
    Integer,
    String,
    Table,
    Text,
    TypeDecorator,
    insert,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert as postgres_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

from sublet.accounts.directory import organizations
from sublet.ledger.model import GENESIS, Party
from sublet.store.tables.ledger import budget_states, counters, credit_grants, heads, periods
from sublet.store.types import Instant
from sublet.values.clock import from_micros, to_micros

CHUNK = 500
RATING, LINES = "rating", "lines"
INTAKE_LOCK = 0x5AB1E7
"""Shared by every intake, exclusive for the moment in which a rater reads how far the events go (PostgreSQL)."""


class EventRow(NamedTuple):
    """A usage event in its database form: times in microseconds, quantity in steps."""

    seq: int
    source: str
    event_id: str
    kind: str
    organization_id: str
    meter: str
    quantity: int
    at: int
    received_at: int
    resource: str
    project: str
    key_id: str
    dimensions: str
    corrects_source: str | None
    corrects_id: str | None
    hold_id: str | None


class LineRow(NamedTuple):
    """A rated line in its database form."""

    line_no: int
    transaction_no: int
    event_seq: int
    kind: str
    organization_id: str
    rate_id: str
    list_rate_id: str
    book_version: int
    period_start: int
    quantity: int
    nano: int
    list_nano: int
    reverses: int | None


EVENT_COLUMNS = ", ".join(EventRow._fields)
LINE_COLUMNS = ", ".join(LineRow._fields)


def is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def upsert(connection: Connection, table: Table) -> Any:
    """An INSERT with ON CONFLICT, for either database."""
    return sqlite_insert(table) if is_sqlite(connection) else postgres_insert(table)


def bulk_insert(connection: Connection, table: Table, rows: Sequence[Sequence[Any]], conflict: str = "") -> int:
    """Insert rows of raw values in the table's column order. `conflict` is an ON CONFLICT clause. Returns the number of rows
    written.

    Columns that the database numbers itself (`ledger_events.seq`) are left out.
    """
    if not rows:
        return 0
    columns = [column for column in table.columns if column.autoincrement is not True]
    names = ", ".join(column.name for column in columns)
    if is_sqlite(connection):
        marks = ", ".join("?" * len(columns))
        statement = f"INSERT INTO {table.name} ({names}) VALUES ({marks}) {conflict}"
        return connection.exec_driver_sql(statement, [tuple(row) for row in rows]).rowcount
    arrays = ", ".join(f"%s::{_postgres_type(column.type)}[]" for column in columns)
    statement = f"INSERT INTO {table.name} ({names}) SELECT * FROM unnest({arrays}) {conflict}"
    return connection.exec_driver_sql(statement, tuple(list(values) for values in zip(*rows, strict=True))).rowcount


def _postgres_type(kind: Any) -> str:
    if isinstance(kind, Instant):
        return "bigint"
    if isinstance(kind, TypeDecorator):
        kind = kind.impl_instance
    if isinstance(kind, BigInteger):
        return "bigint"
    if isinstance(kind, Boolean):
        return "boolean"
    if isinstance(kind, Integer):
        return "integer"
    assert isinstance(kind, String | Text)
    return "text"


def ensure_heads(connection: Connection, *names: str) -> None:
    """Create missing counters at zero."""
    rows = [{"name": name, "position": 0, "hash": GENESIS} for name in names]
    connection.execute(upsert(connection, heads).on_conflict_do_nothing(), rows)


def lock_head(connection: Connection, name: str) -> tuple[int, str]:
    """Lock the counter `name` until the transaction ends, and return its position and hash."""
    row = connection.execute(select(heads).where(heads.c.name == name).with_for_update()).first()
    if row is None:
        ensure_heads(connection, name)
        row = connection.execute(select(heads).where(heads.c.name == name).with_for_update()).one()
    return row.position, row.hash


def read_head(connection: Connection, name: str) -> tuple[int, str]:
    """The counter `name`, without a lock."""
    row = connection.execute(select(heads).where(heads.c.name == name)).first()
    return (row.position, row.hash) if row else (0, GENESIS)


def move_head(connection: Connection, name: str, position: int, digest: str = GENESIS) -> None:
    connection.execute(update(heads).where(heads.c.name == name).values(position=position, hash=digest))


def party(connection: Connection, organization_id: str) -> Party | None:
    row = connection.execute(select(organizations).where(organizations.c.id == organization_id)).first()
    return Party(row.id, row.name, row.currency, row.timezone) if row else None


def events_between(connection: Connection, after: int, through: int, limit: int) -> list[EventRow]:
    """Events in their order of arrival, `after` exclusive, `through` inclusive."""
    statement = text(
        f"SELECT {EVENT_COLUMNS} FROM ledger_events WHERE seq > :after AND seq <= :through ORDER BY seq LIMIT :limit"
    )
    rows = connection.execute(statement, {"after": after, "through": through, "limit": limit})
    return [EventRow._make(row) for row in rows]


def events_by_seq(connection: Connection, seqs: Sequence[int]) -> dict[int, EventRow]:
    found: dict[int, EventRow] = {}
    for part in chunks(sorted(set(seqs))):
        statement = text(f"SELECT {EVENT_COLUMNS} FROM ledger_events WHERE seq IN ({', '.join(map(str, part))})")
        found.update((row.seq, EventRow._make(row)) for row in connection.execute(statement))
    return found


def event_named(connection: Connection, source: str, event_id: str) -> EventRow | None:
    statement = text(f"SELECT {EVENT_COLUMNS} FROM ledger_events WHERE source = :source AND event_id = :id")
    row = connection.execute(statement, {"source": source, "id": event_id}).first()
    return EventRow._make(row) if row else None


def events_named(connection: Connection, keys: Sequence[tuple[str, str]]) -> dict[tuple[str, str], EventRow]:
    """Existing events by (source, id)."""
    found: dict[tuple[str, str], EventRow] = {}
    columns = ", ".join(f"e.{name}" for name in EventRow._fields)
    for part in chunks(keys):
        flat = tuple(value for key in part for value in key)
        if is_sqlite(connection):
            given = f"(VALUES {', '.join(['(?, ?)'] * len(part))})"
        else:
            given = "(SELECT * FROM unnest(%s::text[], %s::text[]))"
            flat = tuple(list(values) for values in zip(*part, strict=True))
        statement = (
            f"WITH k(s, i) AS {given} SELECT {columns} FROM k CROSS JOIN ledger_events e "
            "WHERE e.source = k.s AND e.event_id = k.i"
        )
        for row in connection.exec_driver_sql(statement, flat):
            event = EventRow._make(row)
            found[event.source, event.event_id] = event
    return found


def corrections_of(connection: Connection, source: str, event_id: str) -> list[EventRow]:
    statement = text(
        f"SELECT {EVENT_COLUMNS} FROM ledger_events "
        "WHERE corrects_id IS NOT NULL AND corrects_source = :source AND corrects_id = :id ORDER BY seq"
    )
    rows = connection.execute(statement, {"source": source, "id": event_id})
    return [EventRow._make(row) for row in rows]


def lines_of_events(connection: Connection, seqs: Sequence[int]) -> list[LineRow]:
    found: list[LineRow] = []
    for part in chunks(sorted(set(seqs))):
        statement = text(f"SELECT {LINE_COLUMNS} FROM ledger_lines WHERE event_seq IN ({', '.join(map(str, part))})")
        found += [LineRow._make(row) for row in connection.execute(statement)]
    return sorted(found)


# What can reverse a line belongs to its own event (a rerating), to a correction of that event, or, where the line is itself a
# correction's, to another correction of the same event.
_STANDS = (
    "l.kind NOT IN ('reversal', 'superseded') AND NOT EXISTS "
    "(SELECT 1 FROM ledger_lines r WHERE r.event_seq = l.event_seq AND r.reverses = l.line_no) "
    "AND NOT EXISTS (SELECT 1 FROM ledger_lines r JOIN ledger_events f ON f.seq = r.event_seq "
    "JOIN ledger_events e ON f.corrects_source = e.source AND f.corrects_id = e.event_id "
    "WHERE f.corrects_id IS NOT NULL AND e.seq = l.event_seq AND r.reverses = l.line_no) "
    "AND NOT EXISTS (SELECT 1 FROM ledger_events e JOIN ledger_events f ON f.corrects_source = e.corrects_source "
    "AND f.corrects_id = e.corrects_id JOIN ledger_lines r ON r.event_seq = f.seq "
    "WHERE e.seq = l.event_seq AND e.corrects_id IS NOT NULL AND f.corrects_id IS NOT NULL AND r.reverses = l.line_no)"
)


def standing_lines(
    connection: Connection, organization_id: str, period_start: int, after: int, limit: int
) -> list[LineRow]:
    """Lines of a period, with a number above `after`, that charge something and that nothing has reversed."""
    statement = text(
        f"SELECT {LINE_COLUMNS} FROM ledger_lines l WHERE l.line_no > :after AND l.organization_id = :organization "
        f"AND l.period_start = :start AND {_STANDS} ORDER BY l.line_no LIMIT :limit"
    )
    given = {"after": after, "organization": organization_id, "start": period_start, "limit": limit}
    return [LineRow._make(row) for row in connection.execute(statement, given)]


def newest_standing_line(
    connection: Connection, organization_id: str, period_start: int, rate_id: str
) -> LineRow | None:
    """The newest line of a rate in an open period that charges something and that nothing has reversed."""
    columns = ", ".join(f"l.{name}" for name in LineRow._fields)
    # In this order the database reads the organization's transactions of the period, and no other line.
    statement = text(
        f"SELECT {columns} FROM ledger_transactions t CROSS JOIN ledger_lines l WHERE t.organization_id = :organization "
        "AND t.period_start = :start AND l.transaction_no = t.transaction_no AND l.period_start = :start "
        f"AND l.rate_id = :rate AND {_STANDS} ORDER BY l.line_no DESC LIMIT 1"
    )
    given = {"organization": organization_id, "start": period_start, "rate": rate_id}
    row = connection.execute(statement, given).first()
    return None if row is None else LineRow._make(row)


def counters_of(connection: Connection, organization_id: str, period_start: int) -> list[tuple[str, int, int, str]]:
    """The counters of an organization in a period: chain, nano-units posted, the same by the list, and the slices."""
    columns = counters.c
    statement = (
        select(columns.rate_id, columns.nano, columns.list_nano, columns.slices)
        .where(columns.organization_id == organization_id, columns.period_start == from_micros(period_start))
        .order_by(columns.rate_id)
    )
    return [(row.rate_id, row.nano, row.list_nano, row.slices) for row in connection.execute(statement)]


def cards_since(connection: Connection, version: int, limit: int) -> list[tuple[int, str]]:
    """Rate cards that were published after a version of everything, as (version, organization), in order."""
    statement = text(
        "SELECT version, organization_id FROM ledger_books WHERE version > :version AND organization_id <> '' "
        "ORDER BY version LIMIT :limit"
    )
    return [(row[0], row[1]) for row in connection.execute(statement, {"version": version, "limit": limit})]


def last_event_seq(connection: Connection) -> int:
    last: int = connection.execute(text("SELECT coalesce(max(seq), 0) FROM ledger_events")).scalar_one()
    return last


def counters_for(
    connection: Connection, keys: Sequence[tuple[str, str, int]]
) -> dict[tuple[str, str, int], tuple[int, int, int, str]]:
    """Counters by (organization, chain, start of the period in microseconds): cumulative quantity, nano-units posted, the same
    by the list, and the slices as they are stored."""
    found: dict[tuple[str, str, int], tuple[int, int, int, str]] = {}
    for part in chunks(sorted(keys)):
        flat = tuple(value for key in part for value in key)
        if is_sqlite(connection):
            given = f"(VALUES {', '.join(['(?, ?, ?)'] * len(part))})"
        else:
            given = "(SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[]))"
            flat = tuple(list(values) for values in zip(*part, strict=True))
        statement = (
            f"WITH k(o, r, p) AS {given} SELECT c.organization_id, c.rate_id, c.period_start, c.quantity, c.nano, "
            "c.list_nano, c.slices "
            "FROM k CROSS JOIN ledger_counters c "
            "WHERE c.organization_id = k.o AND c.rate_id = k.r AND c.period_start = k.p"
        )
        for row in connection.exec_driver_sql(statement, flat):
            found[row[0], row[1], row[2]] = (int(row[3]), int(row[4]), int(row[5]), row[6])
    return found


def rated_since(connection: Connection, organization_id: str, scope: str, scope_id: str, since: int) -> int:
    """The rated amount of usage since `since` (microseconds) in a budget's scope, in nano-units."""
    column = {"organization": "", "project": "AND e.project = :scope", "key": "AND e.key_id = :scope"}[scope]
    # A correction belongs to the project and key of the usage that it corrects.
    statement = text(
        "SELECT sum(l.nano / 1000000000), sum(l.nano % 1000000000) FROM ledger_lines l "
        "JOIN ledger_events f ON f.seq = l.event_seq "
        "JOIN ledger_events e ON e.source = coalesce(f.corrects_source, f.source) "
        "AND e.event_id = coalesce(f.corrects_id, f.event_id) "
        f"WHERE l.organization_id = :organization AND e.at >= :since {column}"
    )
    given: dict[str, Any] = {"organization": organization_id, "since": since}
    row = connection.execute(statement, given | ({"scope": scope_id} if column else {})).one()
    return int(row[0] or 0) * 10**9 + int(row[1] or 0)


def insert_state(connection: Connection, budget_id: str, period_start: int, spent_nano: int) -> None:
    bulk_insert(connection, budget_states, [(budget_id, period_start, spent_nano, 0)])


def json_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def grant_moments(connection: Connection, organizations_wanted: Sequence[str]) -> dict[str, list[int]]:
    """The moments at which credits of these organizations begin and end, in microseconds, in order."""
    found: dict[str, set[int]] = {}
    columns = credit_grants.c
    for part in chunks(sorted(set(organizations_wanted))):
        statement = select(columns.organization_id, columns.starts_at, columns.expires_at)
        for row in connection.execute(statement.where(columns.organization_id.in_(part))):
            ends = [] if row.expires_at is None else [to_micros(row.expires_at)]
            found.setdefault(row.organization_id, set()).update((to_micros(row.starts_at), *ends))
    return {organization: sorted(moments) for organization, moments in found.items()}


def unsettle(connection: Connection, organization_id: str, since: datetime) -> None:
    """Mark an organization's credits so that their expiry is computed again: usage since `since` has changed."""
    columns = credit_grants.c
    late = (columns.organization_id == organization_id) & (columns.expires_at > since) & columns.settled.is_(True)
    connection.execute(update(credit_grants).where(late).values(settled=False))


def organizations_with_transactions(connection: Connection) -> list[str]:
    """Every organization that has an account here, in a stable order."""
    rows = connection.execute(text("SELECT DISTINCT organization_id FROM ledger_balances ORDER BY organization_id"))
    return list(rows.scalars())


def closed_periods(connection: Connection, organizations_wanted: Sequence[str]) -> set[tuple[str, int]]:
    """The closed periods of these organizations, as (organization, start in microseconds)."""
    found: set[tuple[str, int]] = set()
    for part in chunks(sorted(set(organizations_wanted))):
        rows = connection.execute(
            select(periods.c.organization_id, periods.c.period_start).where(periods.c.organization_id.in_(part))
        )
        found |= {(row.organization_id, to_micros(row.period_start)) for row in rows}
    return found


def insert_row(connection: Connection, table: Table, **values: Any) -> None:
    connection.execute(insert(table).values(**values))


def chunks(items: Sequence[Any], size: int = CHUNK) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
