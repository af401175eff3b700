"""Months that are over are closed and invoiced by themselves, once late usage has had its time to come."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from sublet.accounts import directory
from sublet.ledger.invoices.closing import Closed
from sublet.ledger.periods import Period, following, month_of
from sublet.ledger.prices.terms import Commitment, Fee
from sublet.ledger.service import Ledger
from sublet.store.tables.ledger import periods, transactions

MONTHS_MAX = 24
"""Months of one organization closed in one round; the next round goes on."""


def close_due(ledger: Ledger, grace: timedelta) -> list[Closed]:
    """Close every month of every organization that ended `grace` ago or longer, the oldest first; those closed now.

    What was closed already is left alone, so this may be killed anywhere, and two may do it at once. A month in which an
    organization has nothing to pay is closed without an invoice.
    """
    with ledger.store.read() as connection:
        waiting = months_due(connection, ledger, ledger.store.clock.now() - grace)
    found = [ledger.close(organization, period.label) for organization, period in waiting]
    return [closed for closed in found if closed.by_this_call]


def months_due(connection: Connection, ledger: Ledger, ended_before: datetime) -> list[tuple[str, Period]]:
    """Open months that ended at or before `ended_before`, from each organization's first month in the books on."""
    closed = {
        (row.organization_id, row.period_start)
        for row in connection.execute(select(periods.c.organization_id, periods.c.period_start))
    }
    waiting: list[tuple[str, Period]] = []
    for organization, first in sorted(_begins(connection, ledger).items()):
        timezone = ledger.party(connection, organization).timezone
        period = month_of(first, timezone)
        mine: list[tuple[str, Period]] = []
        while period.end <= ended_before and len(mine) < MONTHS_MAX:
            if (organization, period.start) not in closed:
                mine.append((organization, period))
            period = following(period, timezone)
        waiting += mine
    return waiting


def _begins(connection: Connection, ledger: Ledger) -> dict[str, datetime]:
    """When each organization's books begin: with its first booking, or with the first fee or minimum agreed with it."""
    earliest = func.min(transactions.c.period_start, type_=transactions.c.period_start.type)
    query = select(transactions.c.organization_id, earliest.label("first")).group_by(transactions.c.organization_id)
    begins: dict[str, datetime] = {row.organization_id: row.first for row in connection.execute(query)}
    book = ledger.books.current(connection)
    for organization_id in sorted(set(book.committed())):
        known = directory.organization(connection, organization_id)
        if known is not None:
            agreed: list[Fee | Commitment] = [*book.fees_of(known.id), *book.commitments_of(known.id)]
            first = max(min(entry.valid_from for entry in agreed), known.created_at)
            begins[known.id] = min(begins.get(known.id, first), first)
    return begins
