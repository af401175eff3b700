"""Payments of invoices. Each counts once, and a mistaken payment is reversed by a linked reversal."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from sublet.ledger import store as sql
from sublet.ledger.invoices.invoicing import invoice, invoice_row
from sublet.ledger.invoices.lines import plain, smallest_unit
from sublet.ledger.invoices.open_items import FINAL, VOID, WRITTEN_OFF, change_open, open_nano
from sublet.ledger.invoices.write_offs import recover
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.periods import month_of
from sublet.store.tables.ledger import payments
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.money import currency_digits
from sublet.values.text import checked_line

PAYMENT, REVERSAL = "payment", "payment reversal"
NAMED_MAX = 10


def pay(connection: Connection, invoice_id: str, nano: int, source_id: str, now: datetime) -> dict[str, Any]:
    """Record a payment, once per `source_id`, and return the invoice. Raises ConflictError, InvalidInputError, NotFoundError."""
    sql.lock_head(connection, journal.CHAIN)
    row = invoice_row(connection, invoice_id)
    known = connection.execute(
        select(payments).where(payments.c.organization_id == row.organization_id, payments.c.source_id == source_id)
    ).first()
    if known is not None:
        if is_reversed(connection, known):
            raise ConflictError(
                f"payment {source_id!r} was recorded and reversed; record the corrected payment under a new source"
            )
        if (known.invoice_id, known.nano) != (row.id, nano):
            raise ConflictError(f"payment {source_id!r} was recorded with another invoice or amount")
        return invoice(connection, row.id)
    left = open_nano(row) + row.written_off_nano
    if row.status not in (FINAL, WRITTEN_OFF):
        raise ConflictError(f"invoice {row.number} is {row.status}; it has no amount due")
    if type(nano) is not int or not 0 < nano <= left or not 0 < len(source_id) <= 200:
        raise InvalidInputError(
            f"the amount must be above 0 and at most {plain(left)} {row.currency}; record the excess as prepaid credit"
        )
    ensure_payable(nano, row.currency)
    if nano > open_nano(row):
        row = recover(connection, row, nano - open_nano(row), f"payment {source_id}", now)
    party = sql.party(connection, row.organization_id)
    assert party is not None
    entry = journal.entry_of(
        party.id,
        party.currency,
        PAYMENT,
        source_id,
        month_of(now, party.timezone).start,
        f"payment of {row.number}",
        {"cash": nano, "receivable": -nano},
    )
    journal.post(connection, [entry], now)
    sql.insert_row(
        connection,
        payments,
        organization_id=party.id,
        source_id=source_id,
        invoice_id=row.id,
        nano=nano,
        received_at=now,
    )
    change_open(connection, row, now, paid_nano=row.paid_nano + nano)
    return invoice(connection, row.id)


def ensure_payable(nano: int, currency: str) -> None:
    """Raises InvalidInputError if an amount has more digits than its currency, so that it can't be paid."""
    if nano % smallest_unit(currency):
        raise InvalidInputError(
            f"{plain(nano)} {currency} is finer than the currency; it has {currency_digits(currency)} decimals",
            field="amount",
        )


def reverse(connection: Connection, invoice_id: str, source_id: str, reason: str, now: datetime) -> dict[str, Any]:
    """Reverse the payment `source_id` of an invoice once, by a reversal booked at `now`, and return the invoice, which is open
    again.

    Raises NotFoundError if the invoice has no such payment, ConflictError if it was already reversed or the invoice is void, and
    InvalidInputError without a reason.
    """
    sql.lock_head(connection, journal.CHAIN)
    row = invoice_row(connection, invoice_id)
    if row.status == VOID:
        raise ConflictError(f"invoice {row.number} is void and has no payments")
    reason = checked_line(reason, "the reason why the payment is reversed", 500, 1)
    statement = select(payments).where(payments.c.invoice_id == row.id).order_by(payments.c.received_at)
    found = {payment.source_id: payment for payment in connection.execute(statement).all()}
    payment = found.get(source_id)
    if payment is None:
        named = ", ".join(repr(name) for name in list(found)[:NAMED_MAX])
        raise NotFoundError(f"invoice {row.number} has no payment {source_id!r}; it has {named or 'none'}")
    if is_reversed(connection, payment):
        raise ConflictError(f"payment {source_id!r} of {row.number} was already reversed")
    party = sql.party(connection, row.organization_id)
    assert party is not None
    original = journal.transaction(connection, _number(connection, payment))
    memo = f"payment {source_id} of {row.number} reversed: {reason}"
    entry = journal.reversal(original, REVERSAL, month_of(now, party.timezone).start, memo)
    journal.post(connection, [entry], now)
    change_open(connection, row, now, paid_nano=row.paid_nano - payment.nano)
    return invoice(connection, row.id)


def derived_paid(connection: Connection, row: Row[Any]) -> int:
    """The amount paid of an invoice, from the postings of its payments and their reversals."""
    total = 0
    for payment in connection.execute(select(payments).where(payments.c.invoice_id == row.id)).all():
        for number in (_number(connection, payment), _reversal_number(connection, payment)):
            if number:
                posted = journal.transaction(connection, number).entry.postings
                total += sum(posting.nano for posting in posted if posting.account == "cash")
    return total


def _number(connection: Connection, payment: Row[Any]) -> int:
    """The transaction of a payment, or 0 if there is none."""
    return journal.number_of(connection, payment.organization_id, PAYMENT, payment.source_id) or 0


def _reversal_number(connection: Connection, payment: Row[Any]) -> int:
    source = f"reversal of {_number(connection, payment)}"
    return journal.number_of(connection, payment.organization_id, REVERSAL, source) or 0


def is_reversed(connection: Connection, payment: Row[Any]) -> bool:
    """Whether a payment was reversed."""
    return _reversal_number(connection, payment) != 0
