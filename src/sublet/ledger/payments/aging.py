"""What was open on each invoice at a moment, from the postings up to it: each posting on `receivable` belongs to one invoice, or is
split as a credit note is."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from sqlalchemy import Connection, Row, func, select

from sublet.ledger import store as sql
from sublet.store.tables.ledger import (
    invoices,
    nettings,
    note_allocations,
    payments,
    postings,
    transactions,
    write_offs,
)

_SPLIT = 10**9


def open_at(connection: Connection, organization_ids: Sequence[str], moment: datetime) -> dict[str, int]:
    """Nano-units open on each invoice of these organizations at `moment`, by the invoice's id."""
    found: dict[str, int] = defaultdict(int)
    for part in sql.chunks(list(organization_ids)):
        of_transaction: dict[int, dict[str, int]] = {}
        named = _named(connection, part)
        for row, nano in _moved(connection, part, "receivable", moment):
            shares = _shares(row, nano, named, of_transaction)
            of_transaction[row.transaction_no] = shares
            for invoice_id, share in shares.items():
                found[invoice_id] += share
    return found


def owed_back_at(connection: Connection, organization_ids: Sequence[str], moment: datetime) -> dict[str, int]:
    """What was owed to each of these organizations at `moment`, in nano-units."""
    found: dict[str, int] = defaultdict(int)
    for part in sql.chunks(list(organization_ids)):
        for row, nano in _moved(connection, part, "customer_balance", moment):
            found[row.organization_id] -= nano
    return found


def _moved(
    connection: Connection, organization_ids: Sequence[str], account: str, moment: datetime
) -> list[tuple[Row[tuple[int, str, str, str, int | None]], int]]:
    """Transactions that moved an account up to `moment`, in their order, and by how much."""
    columns = transactions.c
    statement = (
        select(
            columns.transaction_no,
            columns.organization_id,
            columns.kind,
            columns.source_id,
            columns.reverses,
            func.sum(postings.c.nano // _SPLIT).label("high"),
            func.sum(postings.c.nano % _SPLIT).label("low"),
        )
        .join(postings, postings.c.transaction_no == columns.transaction_no)
        .where(
            columns.organization_id.in_(organization_ids),
            postings.c.account == account,
            columns.booked_at <= moment,
        )
        .group_by(columns.transaction_no, columns.organization_id, columns.kind, columns.source_id, columns.reverses)
        .order_by(columns.transaction_no)
    )
    return [(row, int(row.high) * _SPLIT + int(row.low)) for row in connection.execute(statement)]  # type: ignore[misc]


def _named(connection: Connection, organization_ids: Sequence[str]) -> dict[tuple[str, str, str], dict[str, int]]:
    """Invoices by organization, kind and source of transactions; of a note with what it lowered of each."""
    found: dict[tuple[str, str, str], dict[str, int]] = {}
    for table, kind in ((payments, "payment"), (nettings, "netting")):
        for row in connection.execute(select(table).where(table.c.organization_id.in_(organization_ids))):
            found[row.organization_id, kind, row.source_id] = {row.invoice_id: 0}
    for row in connection.execute(select(write_offs).where(write_offs.c.organization_id.in_(organization_ids))):
        found[row.organization_id, "write-off", row.id] = {row.invoice_id: 0}
    notes = (
        select(note_allocations, invoices.c.organization_id)
        .join(invoices, invoices.c.id == note_allocations.c.note_id)
        .where(invoices.c.organization_id.in_(organization_ids))
    )
    for row in connection.execute(notes):
        shares = found.setdefault((row.organization_id, "credit note", row.note_id), {})
        shares[row.invoice_id] = -row.receivable_nano
    return found


def _shares(
    row: Row[tuple[int, str, str, str, int | None]],
    nano: int,
    named: Mapping[tuple[str, str, str], dict[str, int]],
    earlier: Mapping[int, dict[str, int]],
) -> dict[str, int]:
    """What a transaction moved of each invoice."""
    owner, kind, source = row.organization_id, row.kind, row.source_id
    if row.reverses is not None and row.reverses in earlier:
        return {invoice_id: -share for invoice_id, share in earlier[row.reverses].items()}
    if kind == "invoice":
        return {source: nano}
    if kind == "credit note":
        return named.get((owner, kind, source), {})
    if kind == "recovery":
        kind, source = "write-off", source.partition(" ")[0]
    return dict.fromkeys(named.get((owner, kind, source), {}), nano)
