"""Invoices for money that is taxed when it is paid in advance, and credit notes that return what is left of it.

The tax is due on receipt (VAT Directive, article 65), so the receipt is an invoice of its own; usage that the money pays for later
is not taxed again. What is returned takes its tax with it, at the rate of that invoice (articles 90 and 219).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from sublet.ledger import events
from sublet.ledger import store as sql
from sublet.ledger.credits.crediting import Credit
from sublet.ledger.invoices.lines import Line, line_id, percent_text
from sublet.ledger.invoices.notes import Notes
from sublet.ledger.invoices.open_items import PAID
from sublet.ledger.invoices.parties import Issuer, Profile, customer_of_document, issuer_of_document
from sublet.ledger.invoices.runs import Credited, next_number, period_of_document
from sublet.ledger.invoices.taxes import TaxLine
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import month_of
from sublet.store.tables.ledger import invoice_transactions, invoices
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError

PREPAYMENT = "prepayment"
"""The kind of such an invoice, and of its line."""
NUMBERS = "invoice numbers"
ROUNDING_RULE = "Each tax is rounded once, half to even, to the currency's digits."


def invoice_prepayment(
    connection: Connection, party: Party, profile: Profile, issuer: Issuer, credit: Credit, taxes: Sequence[TaxLine]
) -> None:
    """Issue the invoice of money that was just received with `taxes` on top: it is paid already."""
    number = journal.number_of(connection, party.id, "credit", credit.source_id)
    assert number is not None
    name, invoice_id = next_number(connection, NUMBERS, "INV-", "inv")
    now, total = credit.granted_at, credit.nano + sum(tax.nano for tax in taxes)
    period = month_of(now, party.timezone)
    received = {"credit": credit.id, "kind": "prepaid", "reason": f"Received with payment {credit.source_id}"}
    document = {
        "id": invoice_id,
        "number": name,
        "status": PAID,
        "kind": PREPAYMENT,
        "issuer": issuer_of_document(issuer),
        "customer": customer_of_document(party.id, party.name, profile),
        "currency": party.currency,
        "period": period_of_document(party, period),
        "issued_at": format_time(now),
        "due_at": format_time(now),
        "transaction": number,
        "lines": [_line(credit, period.label, credit.nano).as_dict(1)],
        "subtotal": amount_text(credit.nano),
        "credits": [],
        "brought_forward": amount_text(0),
        "rounding": amount_text(0),
        "net": amount_text(credit.nano),
        "taxes": [
            {
                "name": tax.name,
                "percent": percent_text(tax.percent),
                "amount": amount_text(tax.nano),
                **({"category": tax.category, "reason": tax.reason} if tax.category else {}),
            }
            for tax in taxes
        ],
        "total": amount_text(total),
        "prepaid": [received | {"amount": amount_text(-total)}],
        "due": amount_text(0),
        "carried": amount_text(0),
        "rounding_rule": ROUNDING_RULE,
        "digest": "",
    }
    connection.execute(
        insert(invoices).values(
            id=invoice_id,
            organization_id=party.id,
            kind=PREPAYMENT,
            status=PAID,
            number=name,
            currency=party.currency,
            period_start=period.start,
            period_end=period.end,
            created_at=now,
            finalized_at=now,
            due_at=now,
            settled_at=now,
            transaction_no=number,
            total_nano=total,
            due_nano=0,
            paid_nano=0,
            document=document,
        )
    )
    sql.insert_row(connection, invoice_transactions, transaction_no=number, invoice_id=invoice_id)
    row = connection.execute(select(invoices).where(invoices.c.id == invoice_id)).one()
    events.record_invoice(connection, events.INVOICE_ISSUED, row, now)
    events.record_invoice(connection, events.INVOICE_PAID, row, now, format_time(now))


def _line(credit: Credit, label: str, nano: int) -> Line:
    text = f"Prepayment: {credit.reason}" if credit.reason else "Prepayment"
    steps = 1 if nano > 0 else -1
    return Line(PREPAYMENT, text, "", "", credit.id, label, steps, nano, nano, 0)


def invoice_of(connection: Connection, credit: Credit) -> Row[Any] | None:
    """The invoice of money that was taxed when it was paid; None where it was received before such money was invoiced."""
    number = journal.number_of(connection, credit.organization_id, "credit", credit.source_id)
    columns = invoices.c
    return connection.execute(
        select(invoices).where(columns.transaction_no == number, columns.kind == PREPAYMENT)
    ).first()


def return_prepayment(
    connection: Connection, notes: Notes, party: Party, credit: Credit, nano: int, reason: str, now: datetime
) -> dict[str, Any]:
    """The credit note that returns `nano` (net) of such money with its tax. Raises ConflictError where it has no invoice."""
    row = invoice_of(connection, credit)
    if row is None:
        raise ConflictError(
            "this prepayment was taxed before prepayments had invoices, so no credit note can return its tax; grant a "
            "goodwill credit instead"
        )
    line = _line(credit, row.document["period"]["label"], -nano)
    assert line.key == line_id(PREPAYMENT, credit.id, line.used)
    plan = Credited(frozenset(), {row.id: nano}, {}, (), lines=(line,), deferred=nano)
    period = month_of(now, party.timezone)
    note = notes.make(connection, party, plan, period, "on_demand", now, reason=reason)
    assert note is not None
    return note


def ensure_no_prepayment(row: Row[Any]) -> None:
    """Raises ConflictError for the invoice of a prepayment: it is neither credited nor voided, what is left is returned."""
    if row.kind == PREPAYMENT:
        credit_id = row.document["lines"][0]["rate"]
        raise ConflictError(
            f"invoice {row.number} is of a prepayment; return what is left of it with `sublet ledger return {credit_id}`"
        )
