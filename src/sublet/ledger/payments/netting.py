"""Netting: pays an invoice from what is owed to its customer, explicitly. It can be reversed."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from sublet.ledger import store as sql
from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.invoices.invoicing import invoice_row
from sublet.ledger.invoices.lines import plain
from sublet.ledger.invoices.open_items import FINAL, change_open, open_nano
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import amount_text
from sublet.ledger.payments.receipts import ensure_payable
from sublet.ledger.periods import month_of
from sublet.store.tables.ledger import invoices, nettings
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.text import checked_line, refuse_unsafe

NETTING, REVERSAL = "netting", "netting reversal"


def net(
    connection: Connection, invoice_id: str, nano: int | None, source_id: str, reason: str, now: datetime
) -> dict[str, Any]:
    """Pay `nano` of an invoice, or as much as possible, from what is owed to its customer, once per `source_id`. Raises
    ConflictError, InvalidInputError, NotFoundError."""
    sql.lock_head(connection, journal.CHAIN)
    row = invoice_row(connection, invoice_id)
    known = _row(connection, row.organization_id, source_id)
    if known is not None:
        if known.reversed_at is not None or known.invoice_id != row.id or nano not in (None, known.nano):
            raise ConflictError(
                f"netting {source_id!r} was already used with other values or undone; use a new source_id"
            )
        return netting_as_dict(known, row.number)
    reason = checked_line(reason, "the reason of the netting", 500, 1)
    if not 0 < len(source_id) <= 200:
        raise InvalidInputError("netting needs a source_id of at most 200 characters", field="source_id")
    refuse_unsafe(source_id, "source_id")
    if row.status != FINAL:
        raise ConflictError(f"invoice {row.number} is {row.status}; it has no open amount")
    party = sql.party(connection, row.organization_id)
    assert party is not None
    _ensure_one_issuer(connection, row)
    most = min(open_nano(row), -journal.balance(connection, party.id, "customer_balance"))
    amount = most if nano is None else nano
    if type(amount) is not int or not 0 < amount <= most:
        raise InvalidInputError(
            f"the amount must be above 0 and at most {plain(max(0, most))} {row.currency}", field="amount"
        )
    ensure_payable(amount, row.currency)
    entry = journal.entry_of(
        party.id,
        party.currency,
        NETTING,
        source_id,
        month_of(now, party.timezone).start,
        f"{row.number} netted: {reason}",
        {"customer_balance": amount, "receivable": -amount},
    )
    [posted] = journal.post(connection, [entry], now)
    sql.insert_row(
        connection,
        nettings,
        organization_id=party.id,
        source_id=source_id,
        invoice_id=row.id,
        nano=amount,
        reason=reason,
        transaction_no=posted.number,
        netted_at=now,
        reversed_at=None,
    )
    change_open(connection, row, now, netted_nano=row.netted_nano + amount)
    made = _row(connection, party.id, source_id)
    assert made is not None
    return netting_as_dict(made, row.number)


def undo(connection: Connection, invoice_id: str, source_id: str, reason: str, now: datetime) -> dict[str, Any]:
    """Reverse netting once, by a reversal that names it. The invoice is open again, and the customer is owed the amount again."""
    sql.lock_head(connection, journal.CHAIN)
    row = invoice_row(connection, invoice_id)
    reason = checked_line(reason, "the reason why the netting is undone", 500, 1)
    known = _row(connection, row.organization_id, source_id)
    if known is None or known.invoice_id != row.id:
        raise NotFoundError(f"invoice {row.number} has no netting {source_id!r}")
    if known.reversed_at is not None:
        raise ConflictError(f"netting {source_id!r} of {row.number} was already undone")
    party = sql.party(connection, row.organization_id)
    assert party is not None
    original = journal.transaction(connection, known.transaction_no)
    period = month_of(now, party.timezone).start
    memo = f"netting {source_id} of {row.number} undone: {reason}"
    journal.post(connection, [journal.reversal(original, REVERSAL, period, memo)], now)
    columns = nettings.c
    mine = (columns.organization_id == row.organization_id) & (columns.source_id == source_id)
    connection.execute(update(nettings).where(mine).values(reversed_at=now))
    change_open(connection, row, now, netted_nano=row.netted_nano - known.nano)
    undone = _row(connection, row.organization_id, source_id)
    assert undone is not None
    return netting_as_dict(undone, row.number)


def _ensure_one_issuer(connection: Connection, row: Row[Any]) -> None:
    """Raises ConflictError if another legal entity issued a credit note of this customer: what one entity owes can't pay a
    debt to another."""
    columns = invoices.c
    statement = select(columns.number, columns.document).where(
        columns.organization_id == row.organization_id, columns.kind == CREDIT_NOTE
    )
    mine = row.document["issuer"]["name"]
    for note in connection.execute(statement):
        other = note.document["issuer"]["name"]
        if other != mine and note.document["balance"].strip("-0."):
            raise ConflictError(
                f"{other} issued {note.number} and {mine} issued {row.number}; refund the credit note instead"
            )


def _row(connection: Connection, organization_id: str, source_id: str) -> Row[Any] | None:
    columns = nettings.c
    statement = select(nettings).where(columns.organization_id == organization_id, columns.source_id == source_id)
    return connection.execute(statement).first()


def netting_as_dict(row: Row[Any], number: str) -> dict[str, Any]:
    """Netting in the form of the API."""
    return {
        "organization_id": row.organization_id,
        "source_id": row.source_id,
        "invoice": number,
        "amount": amount_text(row.nano),
        "reason": row.reason,
        "netted_at": format_time(row.netted_at),
        "undone_at": format_time(row.reversed_at) if row.reversed_at else None,
        "transaction": row.transaction_no,
    }


def netted_nano(connection: Connection, invoice_id: str) -> int:
    """The amount of an invoice that was paid by netting and not reversed."""
    columns = nettings.c
    statement = select(columns.nano).where(columns.invoice_id == invoice_id, columns.reversed_at.is_(None))
    return sum(int(nano) for nano in connection.execute(statement).scalars())
