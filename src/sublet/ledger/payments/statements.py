"""Statements of account and aged receivables, from the postings alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, func, select

from sublet.accounts.directory import organizations
from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.invoices.open_items import FINAL, open_nano
from sublet.ledger.model import Party, amount_text
from sublet.ledger.payments.aging import open_at, owed_back_at
from sublet.ledger.periods import Period
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import balances, invoices, postings, transactions
from sublet.values.clock import format_time

AGES = (("current", None), ("1-30", 0), ("31-60", 30), ("61-90", 60), ("over 90", 90))
ROWS_MAX = 10_000
RECEIVABLES = Listing("receivables", (organizations.c.created_at, organizations.c.id))


def statement(connection: Connection, party: Party, period: Period) -> dict[str, Any]:
    """What the customer owed at the start of a month, less what was owed to the customer, every movement, and what was owed at
    its end."""
    opening = _account(connection, party, "receivable", period.start)
    opening += _account(connection, party, "customer_balance", period.start)
    columns = transactions.c
    changed = func.sum(postings.c.nano).label("nano")
    rows = connection.execute(
        select(columns.transaction_no, columns.booked_at, columns.kind, columns.memo, changed)
        .join(postings, postings.c.transaction_no == columns.transaction_no)
        .where(
            columns.organization_id == party.id,
            postings.c.account.in_(("receivable", "customer_balance")),
            columns.booked_at >= period.start,
            columns.booked_at < period.end,
        )
        .group_by(columns.transaction_no, columns.booked_at, columns.kind, columns.memo)
        .order_by(columns.transaction_no)
        .limit(ROWS_MAX)
    ).all()
    balance = opening
    movements = []
    for row in rows:
        balance += int(row.nano)
        movements.append(
            {
                "transaction": row.transaction_no,
                "booked_at": format_time(row.booked_at),
                "kind": row.kind,
                "text": row.memo,
                "amount": amount_text(int(row.nano)),
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
        "owed_back": amount_text(-_account(connection, party, "customer_balance", period.end)),
    }


def _account(connection: Connection, party: Party, account: str, until: datetime) -> int:
    statement = (
        select(postings.c.nano)
        .join(transactions, postings.c.transaction_no == transactions.c.transaction_no)
        .where(
            transactions.c.organization_id == party.id,
            postings.c.account == account,
            transactions.c.booked_at < until,
        )
    )
    return sum(connection.execute(statement).scalars())


def aged_receivables(
    connection: Connection, now: datetime, wanted: PageRequest, as_of: datetime | None = None
) -> Page[dict[str, Any]]:
    """What is open by organization, the oldest first, in buckets of days past due, and what is owed back and pays no invoice yet;
    as it was at `as_of`, from the postings up to then. Each row foots to receivable less what is owed back."""
    moment = as_of or now
    account = balances.c.account.in_(("receivable", "customer_balance"))
    mine = balances.c.organization_id == organizations.c.id
    if as_of is None:
        mine &= balances.c.nano != "0"
    moved = select(balances.c.account).where(mine, account).exists()
    owners = RECEIVABLES.read(connection, select(organizations).where(moved), wanted)
    ids = [row.id for row in owners.items]
    ages: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    left = open_at(connection, ids, moment) if as_of else {}
    statement = select(invoices).where(invoices.c.organization_id.in_(ids), invoices.c.kind != CREDIT_NOTE)
    if as_of is None:
        statement = statement.where(invoices.c.status == FINAL)
    for row in connection.execute(statement):
        nano = left.get(row.id, 0) if as_of else open_nano(row)
        if nano:
            ages[row.organization_id][bucket(moment - row.due_at)] += nano
    back = owed_back_at(connection, ids, moment)
    return owners.map(lambda row: _receivable_of(row, ages[row.id], -back.get(row.id, 0)))


def _receivable_of(row: Row[Any], ages: Mapping[str, int], unapplied: int) -> dict[str, Any]:
    entry = {"organization_id": row.id, "name": row.name, "currency": row.currency}
    entry |= {name: amount_text(ages.get(name, 0)) for name, _ in AGES}
    return entry | {"unapplied": amount_text(unapplied), "total": amount_text(sum(ages.values()) + unapplied)}


def bucket(overdue: timedelta) -> str:
    """The column of an invoice that has been due for `overdue`."""
    chosen = AGES[0][0]
    for name, days in AGES[1:]:
        assert days is not None
        if overdue > timedelta(days=days):
            chosen = name
    return chosen
