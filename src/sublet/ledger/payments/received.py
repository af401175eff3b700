"""Money that a customer paid, whatever it was for: it pays the invoices that are named, or the oldest first, and what is more than
they come to is prepaid money."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from sublet.ledger import store as sql
from sublet.ledger.credits.wallets import Wallets
from sublet.ledger.invoices.invoicing import invoice_row
from sublet.ledger.invoices.open_items import FINAL, open_nano
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Party, amount_text
from sublet.ledger.payments.receipts import ensure_payable, pay
from sublet.ledger.store import RATING
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import invoices
from sublet.store.tables.ledger_sales import receipts
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError

INVOICES_MAX = 1_000
"""Invoices that one payment can pay; what is left after them is prepaid money."""
_RECEIPTS = Listing("receipts", (receipts.c.received_at, receipts.c.source_id), descending=True)


@dataclass(frozen=True, slots=True)
class Received:
    """A payment of `nano` by a customer, for the invoices that it names, or for the oldest ones."""

    organization_id: str
    nano: int
    source_id: str
    invoices: tuple[str, ...] = ()


def receive(
    connection: Connection, wallets: Wallets, party: Party, received: Received, now: datetime
) -> dict[str, Any]:
    """Record a payment once per `source_id`, and return what it paid. Raises ConflictError for the same source with another amount,
    InvalidInputError, and NotFoundError for an invoice that is not the customer's."""
    # Granting locks the rating's head first; in this order nobody waits for another in a circle.
    sql.lock_head(connection, RATING)
    sql.lock_head(connection, journal.CHAIN)
    mine = (receipts.c.organization_id == party.id, receipts.c.source_id == received.source_id)
    known = connection.execute(select(receipts).where(*mine)).first()
    if known is not None:
        if known.nano != received.nano:
            raise ConflictError(f"payment {received.source_id!r} was recorded with another amount")
        return _shown(known, party.currency)
    if type(received.nano) is not int or received.nano <= 0:
        raise InvalidInputError("the amount must be above 0", field="amount")
    ensure_payable(received.nano, party.currency)
    left, parts = received.nano, []
    for row in _payable(connection, party, received.invoices):
        nano = min(left, open_nano(row))
        if nano:
            pay(connection, row.id, nano, f"{received.source_id} {row.number}", now)
            parts.append({"invoice": row.number, "amount": amount_text(nano)})
            left -= nano
    if left:
        reason = f"more than was due, of {received.source_id}"
        wallets.grant(connection, party, left, "prepaid", reason, f"{received.source_id} rest", now)
    sql.insert_row(
        connection,
        receipts,
        organization_id=party.id,
        source_id=received.source_id,
        nano=received.nano,
        received_at=now,
        parts={"invoices": parts, "prepaid": amount_text(left)},
    )
    return _shown(connection.execute(select(receipts).where(*mine)).one(), party.currency)


def _payable(connection: Connection, party: Party, named: tuple[str, ...]) -> list[Row[Any]]:
    """The named invoices, or those with something open, by due date."""
    if not named:
        columns = invoices.c
        mine = select(invoices).where(columns.organization_id == party.id, columns.status == FINAL)
        return list(connection.execute(mine.order_by(columns.due_at, columns.id).limit(INVOICES_MAX)))
    found = []
    for name in dict.fromkeys(named):
        row = invoice_row(connection, name)
        if row.organization_id != party.id:
            raise NotFoundError(f"{party.name} has no invoice {name!r}")
        if row.status != FINAL:
            raise ConflictError(f"invoice {row.number} is {row.status}; it has no amount due")
        found.append(row)
    return found


def receipts_page(connection: Connection, party: Party, wanted: PageRequest) -> Page[dict[str, Any]]:
    """The payments of an organization, newest first. Raises InvalidCursorError."""
    query = select(receipts).where(receipts.c.organization_id == party.id)
    return _RECEIPTS.read(connection, query, wanted).map(lambda row: _shown(row, party.currency))


def _shown(row: Row[Any], currency: str) -> dict[str, Any]:
    return {
        "organization_id": row.organization_id,
        "source_id": row.source_id,
        "amount": amount_text(row.nano),
        "currency": currency,
        "received_at": format_time(row.received_at),
        **row.parts,
    }
