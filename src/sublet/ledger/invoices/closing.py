"""Close a period: post its fixed charges, mark it closed, make its invoice; one transaction, so it is done once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sublet.ledger import store as sql
from sublet.ledger.invoices.invoicing import Invoicing, Made, invoice, note_row
from sublet.ledger.invoices.previews import rehearsed
from sublet.ledger.model import Party
from sublet.ledger.periods import Period
from sublet.ledger.prices.booking import Books
from sublet.ledger.rating.fixed import behind, catch_up, post_fixed
from sublet.ledger.store import RATING
from sublet.store import Store
from sublet.store.tables.ledger import periods
from sublet.values.errors import ConflictError


class PeriodOpenError(ConflictError):
    """The period is not over yet; close it after it ends, or make an invoice on demand."""

    code = "period_open"


@dataclass(frozen=True, slots=True)
class Closed:
    """A closed period, whether this call closed it, its invoice where there was anything to invoice, and the credit note that was
    made with it where months came to less than was invoiced."""

    period: Period
    by_this_call: bool
    invoice: dict[str, Any] | None
    note: dict[str, Any] | None = None


def close(
    connection: Connection, books: Books, invoicing: Invoicing, party: Party, period: Period, now: datetime
) -> Closed:
    """Close `period`. A second call, also from another process at the same time, finds it closed and changes nothing.

    Raises PeriodOpenError before the period is over.
    """
    if now < period.end:
        raise PeriodOpenError(
            f"the period {period.label} of {party.name} ends at {period.end.isoformat()}; try again after that"
        )
    # The rater holds the same head, so nothing is booked into the period while it closes.
    sql.lock_head(connection, RATING)
    row = connection.execute(
        select(periods).where(periods.c.organization_id == party.id, periods.c.period_start == period.start)
    ).first()
    if row is not None:
        note = note_row(connection, row.note_id).document if row.note_id else None
        return Closed(period, False, invoice(connection, row.invoice_id) if row.invoice_id else None, note)
    post_fixed(connection, books.current(connection), party, period, period, now)
    made = make_invoice(connection, books, invoicing, party, period, "monthly", now)
    connection.execute(
        insert(periods).values(
            organization_id=party.id,
            period_start=period.start,
            period_end=period.end,
            closed_at=now,
            invoice_id=made.invoice["id"] if made.invoice else None,
            note_id=made.note["id"] if made.note else None,
        )
    )
    return Closed(period, True, made.invoice, made.note)


def make_invoice(
    connection: Connection,
    books: Books,
    invoicing: Invoicing,
    party: Party,
    period: Period,
    kind: str,
    now: datetime,
    digest: str = "",
) -> Made:
    """A final invoice, and a credit note of what is due less, for everything booked up to the end of `period`, fees and
    commitments of closed periods brought up to date first."""
    _adjust_fixed(connection, books, party, period, now)
    return invoicing.finalize(connection, party, period, kind, now, digest)


def draft(store: Store, books: Books, invoicing: Invoicing, party: Party, period: Period) -> dict[str, Any]:
    """The invoice that `make_invoice` would make now. Where fees and commitments of earlier periods would be brought up to date
    first, they are, in a transaction that is then undone; else nothing but reading is done."""
    with store.read() as connection:
        if not behind(connection, books.current(connection), party, period):
            return invoicing.draft(connection, party, period, store.clock.now())

    def caught_up(connection: Connection) -> dict[str, Any]:
        now = store.clock.now()
        _adjust_fixed(connection, books, party, period, now)
        return invoicing.draft(connection, party, period, now)

    return rehearsed(store, caught_up)


def _adjust_fixed(connection: Connection, books: Books, party: Party, period: Period, now: datetime) -> None:
    sql.lock_head(connection, RATING)
    catch_up(connection, books.current(connection), party, period, now)
