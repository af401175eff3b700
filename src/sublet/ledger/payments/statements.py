"""Statements of account and aged receivables, from the postings alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, select

from sublet.accounts.directory import organizations
from sublet.ledger.invoices.open_items import open_nano
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import Period
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import invoices, postings, transactions
from sublet.values.clock import format_time

AGES = (("current", None), ("1-30", 0), ("31-60", 30), ("61-90", 60), ("over 90", 90))
ROWS_MAX = 10_000
RECEIVABLES = Listing("receivables", (organizations.c.created_at, organizations.c.id))


def statement(connection: Connection, party: Party, period: Period) -> dict[str, Any]:
    """What the customer owed at the start of a month, what changed that, and what was owed at its end."""
    opening = _receivable(connection, party, None, period.start)
    rows = connection.execute(
        select(transactions, postings.c.nano)
        .join(postings, postings.c.transaction_no == transactions.c.transaction_no)
        .where(
            transactions.c.organization_id == party.id,
            postings.c.account == "receivable",
            transactions.c.booked_at >= period.start,
            transactions.c.booked_at < period.end,
        )
        .order_by(transactions.c.transaction_no)
        .limit(ROWS_MAX)
    ).all()
    balance = opening
    movements = []
    for row in rows:
        balance += row.nano
        movements.append(
            {
                "transaction": row.transaction_no,
                "booked_at": format_time(row.booked_at),
                "kind": row.kind,
                "text": row.memo,
                "amount": amount_text(row.nano),
                "balance": amount_text(balance),
            }
        )
    return {
        "organization_id": party.id,
        "name": party.name,
        "currency": party.currency,
        "period": period.label,
        "opening": amount_text(opening),
        "movements": movements,
        "closing": amount_text(balance),
    }


def _receivable(connection: Connection, party: Party, since: datetime | None, until: datetime) -> int:
    statement = (
        select(postings.c.nano)
        .join(transactions, postings.c.transaction_no == transactions.c.transaction_no)
        .where(
            transactions.c.organization_id == party.id,
            postings.c.account == "receivable",
            transactions.c.booked_at < until,
        )
    )
    if since is not None:
        statement = statement.where(transactions.c.booked_at >= since)
    return sum(connection.execute(statement).scalars())


def aged_receivables(connection: Connection, now: datetime, wanted: PageRequest) -> Page[dict[str, Any]]:
    """What is open by organization, the oldest first, in buckets of days past due."""
    final = invoices.c.status == "final"
    owing = select(invoices.c.id).where(final, invoices.c.organization_id == organizations.c.id).exists()
    owners = RECEIVABLES.read(connection, select(organizations).where(owing), wanted)
    ages: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    of_page = invoices.c.organization_id.in_([row.id for row in owners.items])
    for row in connection.execute(select(invoices).where(final, of_page)):
        ages[row.organization_id][bucket(now - row.due_at)] += open_nano(row)
    return owners.map(lambda row: _receivable_of(row, ages[row.id]))


def _receivable_of(row: Row[Any], ages: Mapping[str, int]) -> dict[str, Any]:
    entry = {"organization_id": row.id, "name": row.name, "currency": row.currency}
    entry |= {name: amount_text(ages.get(name, 0)) for name, _ in AGES}
    return entry | {"total": amount_text(sum(ages.values()))}


def bucket(overdue: timedelta) -> str:
    """The column of an invoice that has been due for `overdue`."""
    chosen = AGES[0][0]
    for name, days in AGES[1:]:
        assert days is not None
        if overdue > timedelta(days=days):
            chosen = name
    return chosen
