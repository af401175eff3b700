"""The SQL of charge-back: what was on sale, and the books of past hours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select

from sublet.allocation.chargeback.book import Book, Use
from sublet.allocation.chargeback.model import BookedHour
from sublet.allocation.report.hours import HourWorth
from sublet.store.tables.allocation import allocation_books as books
from sublet.store.tables.allocation import allocation_on_sale as on_sale

ROWS_PER_READ = 2_000


def note_on_sale(connection: Connection, at: datetime, counts: Mapping[str, int]) -> None:
    connection.execute(delete(on_sale).where(on_sale.c.at == at))
    for pool_id, count in sorted(counts.items()):
        connection.execute(insert(on_sale).values(pool_id=pool_id, at=at, accelerators=count))


def on_sale_between(connection: Connection, since: datetime, until: datetime) -> dict[str, list[tuple[datetime, int]]]:
    """What was on sale of each pool, by moment, the earliest first."""
    rows = connection.execute(select(on_sale).where(on_sale.c.at >= since, on_sale.c.at < until).order_by(on_sale.c.at))
    found: dict[str, list[tuple[datetime, int]]] = {}
    for row in rows:
        found.setdefault(row.pool_id, []).append((row.at, row.accelerators))
    return found


def last_hour(connection: Connection) -> datetime | None:
    """The newest hour that has books."""
    found: datetime | None = connection.execute(select(func.max(books.c.hour))).scalar()
    return found


def save_books(connection: Connection, hour: datetime, rows: Sequence[BookedHour]) -> None:
    """Store the books of one hour; where there are some already, they stay as they are."""
    if connection.execute(select(books.c.hour).where(books.c.hour == hour).limit(1)).first() is not None:
        return
    for row in rows:
        row.book.check()
        connection.execute(
            insert(books).values(
                hour=hour,
                pool_id=row.pool_id,
                currency=row.currency,
                capacity_s=row.book.capacity_s,
                excess_s=row.book.excess_s,
                states=[[use.value, team, product, count] for (use, team, product), count in row.book.seconds.items()],
                cost_nano=row.cost_nano,
                market_nano=row.market_nano,
                displaced_nano=row.displaced_nano,
                worth=[round(each, 9) for each in astuple(row.worth)] if row.worth is not None else None,
            )
        )


def books_between(connection: Connection, since: datetime, until: datetime) -> Iterator[BookedHour]:
    """Stored hours in `[since, until)`, the oldest first. Each is checked again as it is read."""
    query = select(books).where(books.c.hour >= since, books.c.hour < until).order_by(books.c.hour, books.c.pool_id)
    for row in connection.execute(query.execution_options(yield_per=ROWS_PER_READ)):
        seconds = {(Use(use), team, product): count for use, team, product, count in row.states}
        found = Book(row.capacity_s, seconds, row.excess_s)
        found.check()
        worth = HourWorth(*row.worth) if row.worth is not None else None
        nanos = row.cost_nano, row.market_nano, row.displaced_nano
        yield BookedHour(row.hour, row.pool_id, row.currency, found, *nanos, worth)


def forget_before(connection: Connection, noted: datetime, kept: datetime) -> None:
    """Delete what was on sale before `noted`, and books before `kept`."""
    connection.execute(delete(on_sale).where(on_sale.c.at < noted))
    connection.execute(delete(books).where(books.c.hour < kept))
