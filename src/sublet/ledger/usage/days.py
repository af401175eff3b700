"""Usage by day: what rated lines add up to, by organization, day of its time zone, item, meter, project and key.

The rows are written in the transaction that writes the lines, so that they are the sum of the lines at any moment: late usage counts
on the day of use, and what corrects usage on the day of that usage. `head` DAYS says through which line they go; where lines are
from a version without these rows, `catch_up` adds them in order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import ColumnElement, Connection, Row, and_, func, select

from sublet.ledger import store as sql
from sublet.ledger.rating.figures import DIMENSIONS, ORIGINAL, USED_AT, used_lines
from sublet.ledger.store import LINES, RATING, EventRow
from sublet.ledger.usage.intake import Parties
from sublet.ledger.usage.meters import METERS
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import events, lines
from sublet.store.tables.ledger import usage_days as table
from sublet.values.clock import from_micros, to_micros
from sublet.values.money import NANO

DAYS = "usage_days"
CATCH_UP_MAX = 5_000
BY = ("day", "item", "meter", "project", "key_id")
ROWS_MAX = 1_000
_QUARTER_US = 15 * 60 * 1_000_000
"""Time zones differ from UTC by whole quarters of an hour, so all of one is on the same day."""
_ADDED = ("quantity_wholes", "quantity_rests", "wholes", "rests")
_CONFLICT = "ON CONFLICT (organization_id, day, item, meter, project, key_id) DO UPDATE SET " + ", ".join(
    f"{name} = ledger_usage_days.{name} + excluded.{name}" for name in _ADDED
)
RECORDS = Listing("usage", (events.c.at, events.c.seq), descending=True)

Key = tuple[str, str, str, str, str, str]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whose usage, of which days (both inclusive); an empty filter is none."""

    organization_id: str
    since: date
    until: date
    item: str = ""
    meter: str = ""
    project: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class Used:
    """What was used of a meter and what it was rated at, before credits; `of` is the value of what it is grouped by."""

    of: str
    meter: str
    steps: int
    nano: int


@dataclass(frozen=True, slots=True)
class UsageRecord:
    """A usage event as its owner sees it. `lines` has what it was rated at, empty while it waits."""

    seq: int
    at: datetime
    kind: str
    meter: str
    steps: int
    item: str
    project: str
    key_id: str
    resource: str
    event_id: str
    dimensions: Mapping[str, str]
    lines: tuple[tuple[str, str, int, int], ...] = ()
    """Of each: kind, rate, steps, nano."""


@lru_cache(maxsize=50_000)
def day_of(quarter: int, timezone: str) -> str:
    """The day, in that time zone, of a quarter of an hour since the epoch."""
    return from_micros(quarter * _QUARTER_US).astimezone(ZoneInfo(timezone)).date().isoformat()


@lru_cache(maxsize=10_000)
def item_of(dimensions: str) -> str:
    """What was used, by the dimensions of an event: the model, else the class of a lease, else the pool."""
    found = json.loads(dimensions or "{}")
    return str(found.get("model") or found.get("class") or found.get("pool") or "")


def key_of(origin: EventRow, timezone: str) -> Key:
    """The row that usage counts in."""
    day = day_of(origin.at // _QUARTER_US, timezone)
    return origin.organization_id, day, item_of(origin.dimensions), origin.meter, origin.project, origin.key_id


def add(connection: Connection, counted: Iterable[tuple[Key, int, int]], before: int, through: int) -> None:
    """Count the lines after number `before` through `through`, of each its row, steps and nano. Where earlier lines are not
    counted yet, nothing is done: `catch_up` will come to these. The caller holds the heads RATING and LINES."""
    position, _ = sql.lock_head(connection, DAYS)
    if position != before:
        return
    _write(connection, counted)
    sql.move_head(connection, DAYS, through)


def catch_up(connection: Connection, parties: Parties, limit: int = CATCH_UP_MAX) -> bool:
    """Count some of the lines that are not counted yet; False once all are."""
    sql.lock_head(connection, RATING)
    position, _ = sql.lock_head(connection, DAYS)
    through, _ = sql.read_head(connection, LINES)
    if position >= through:
        return False
    columns = (lines.c.line_no, lines.c.quantity, lines.c.nano, lines.c.organization_id, events.c.meter)
    origin = (
        USED_AT.label("used_at"),
        DIMENSIONS.label("dimensions"),
        func.coalesce(ORIGINAL.c.project, events.c.project).label("project"),
        func.coalesce(ORIGINAL.c.key_id, events.c.key_id).label("key_id"),
    )
    rows = connection.execute(
        select(*columns, *origin)
        .select_from(used_lines())
        .where(lines.c.line_no > position)
        .order_by(lines.c.line_no)
        .limit(limit)
    ).all()
    _write(connection, (_counted(row, parties.get(connection, row.organization_id).timezone) for row in rows))
    sql.move_head(connection, DAYS, rows[-1].line_no)
    return True


def is_behind(connection: Connection) -> bool:
    """Whether there are lines that are not counted yet."""
    return sql.read_head(connection, DAYS)[0] < sql.read_head(connection, LINES)[0]


def used_by(connection: Connection, wanted: Wanted, by: str) -> list[Used]:
    """Usage grouped by one of BY, and by meter; by day in order of time. Exact beyond 64 bits. All days, and at most ROWS_MAX
    groups of anything else."""
    of = table.c[by]
    most = ROWS_MAX if by != "day" else ((wanted.until - wanted.since).days + 1) * len(METERS)
    rows = connection.execute(
        select(of.label("of"), table.c.meter, *(func.sum(table.c[name]).label(name) for name in _ADDED))
        .where(*_conditions(wanted))
        .group_by(of, table.c.meter)
        .order_by(of, table.c.meter)
        .limit(most)
    )
    return [Used(row.of, row.meter, _whole(row, "quantity_"), _whole(row)) for row in rows]


def rows_of_day(connection: Connection, wanted: Wanted, day: date) -> list[tuple[str, str, str, str, int, int]]:
    """Of one day: item, meter, project, key, steps, billionths."""
    columns = (table.c.item, table.c.meter, table.c.project, table.c.key_id)
    only = replace(wanted, since=day, until=day)
    query = select(*columns, *(table.c[name] for name in _ADDED)).where(*_conditions(only)).order_by(*columns)
    return [
        (row.item, row.meter, row.project, row.key_id, _whole(row, "quantity_"), _whole(row))
        for row in connection.execute(query)
    ]


def records(connection: Connection, wanted: Wanted, timezone: str, page: PageRequest) -> Page[UsageRecord]:
    """The usage events of the days, newest first. Raises InvalidCursorError."""
    zone = ZoneInfo(timezone)
    since = datetime.combine(wanted.since, datetime.min.time(), zone)
    until = datetime.combine(wanted.until + timedelta(days=1), datetime.min.time(), zone)
    query = select(events).where(
        events.c.organization_id == wanted.organization_id, events.c.at >= since, events.c.at < until
    )
    for name in ("meter", "project", "key_id"):
        value = getattr(wanted, name)
        if value:
            query = query.where(events.c[name] == value)
    if wanted.item:
        query = query.where(events.c.dimensions.contains(json.dumps(wanted.item, ensure_ascii=False), autoescape=True))
    return RECORDS.read(connection, query, page).map(_record)


def records_of(
    connection: Connection, organization_id: str, resource: str, since: datetime, until: datetime, limit: int
) -> list[UsageRecord]:
    """The usage events of one request or lease, with what they were rated at."""
    found = connection.execute(
        select(events)
        .where(
            events.c.organization_id == organization_id,
            events.c.at >= since,
            events.c.at < until,
            events.c.resource == resource,
        )
        .order_by(events.c.at, events.c.seq)
        .limit(limit)
    ).all()
    rated: dict[int, list[tuple[str, str, int, int]]] = {}
    for line in sql.lines_of_events(connection, [row.seq for row in found]):
        rated.setdefault(line.event_seq, []).append((line.kind, line.rate_id, line.quantity, line.nano))
    return [_record(row, tuple(rated.get(row.seq, ()))) for row in found]


def _record(row: Row[Any], rated: tuple[tuple[str, str, int, int], ...] = ()) -> UsageRecord:
    at = row.at if isinstance(row.at, datetime) else from_micros(row.at)
    return UsageRecord(
        row.seq,
        at,
        row.kind,
        row.meter,
        row.quantity,
        item_of(row.dimensions),
        row.project,
        row.key_id,
        row.resource,
        row.event_id,
        json.loads(row.dimensions or "{}"),
        rated,
    )


def _conditions(wanted: Wanted) -> Sequence[ColumnElement[bool]]:
    chosen = [
        table.c.organization_id == wanted.organization_id,
        and_(table.c.day >= wanted.since.isoformat(), table.c.day <= wanted.until.isoformat()),
    ]
    return chosen + [
        table.c[name] == getattr(wanted, name)
        for name in ("item", "meter", "project", "key_id")
        if getattr(wanted, name)
    ]


def _counted(row: Any, timezone: str) -> tuple[Key, int, int]:
    at = row.used_at if isinstance(row.used_at, int) else to_micros(row.used_at)
    day = day_of(at // _QUARTER_US, timezone)
    key = (row.organization_id, day, item_of(row.dimensions), row.meter, row.project, row.key_id)
    return key, row.quantity, row.nano


def _write(connection: Connection, counted: Iterable[tuple[Key, int, int]]) -> None:
    sums: dict[Key, tuple[int, int]] = {}
    for key, steps, nano in counted:
        known = sums.get(key, (0, 0))
        sums[key] = known[0] + steps, known[1] + nano
    # Each sum in two columns, so that no number of lines passes 64 bits.
    rows = [(*key, *divmod(steps, NANO), *divmod(nano, NANO)) for key, (steps, nano) in sorted(sums.items())]
    for part in sql.chunks(rows):
        sql.bulk_insert(connection, table, part, _CONFLICT)


def _whole(row: Row[Any], prefix: str = "") -> int:
    return int(row._mapping[f"{prefix}wholes"]) * NANO + int(row._mapping[f"{prefix}rests"])
