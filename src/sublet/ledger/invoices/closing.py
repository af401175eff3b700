"""Close a period: post its fixed charges, mark it closed, make its invoice; one transaction, so it is done once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sublet.ledger import store as sql
from sublet.ledger.invoices.invoicing import Invoicing, invoice
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
    """A closed period, whether this call closed it, and its invoice where there was anything to invoice."""

    period: Period
    by_this_call: bool
    invoice: dict[str, Any] | None


def close(
    connection: Connection, books: Books, invoicing: Invoicing, party: Party, period: Period, now: datetime
) -> Closed:
    """Close `period`. A second call, also from another process at the same time, finds it closed and changes nothing.

    Raises PeriodOpenError before the period is over.
    """
    if now < period.end:
        raise PeriodOpenError(
            f"the period {period.label} of {party.name} ends at {period.end.isoformat()}; wait for it"
        )
    # The rater holds the same head, so nothing is booked into the period while it closes.
    sql.lock_head(connection, RATING)
    row = connection.execute(
        select(periods).where(periods.c.organization_id == party.id, periods.c.period_start == period.start)
    ).first()
    if row is not None:
        return Closed(period, False, invoice(connection, row.invoice_id) if row.invoice_id else None)
    post_fixed(connection, books.current(connection), party, period, period, now)
    made = make_invoice(connection, books, invoicing, party, period, "monthly", now)
    connection.execute(
        insert(periods).values(
            organization_id=party.id,
            period_start=period.start,
            period_end=period.end,
            closed_at=now,
            invoice_id=made["id"] if made else None,
        )
    )
    return Closed(period, True, made)


def make_invoice(
    connection: Connection,
    books: Books,
    invoicing: Invoicing,
    party: Party,
    period: Period,
    kind: str,
    now: datetime,
    digest: str = "",
) -> dict[str, Any] | None:
    """A final invoice for everything booked up to the end of `period`, fees and commitments of closed periods brought up to
    date first."""
    _adjust_fixed(connection, books, party, period, now)
    return invoicing.finalize(connection, party, period, kind, now, digest)


class _RehearsedError(Exception):
    """Carries a draft out of a transaction that is undone."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document


def draft(store: Store, books: Books, invoicing: Invoicing, party: Party, period: Period) -> dict[str, Any]:
    """The invoice that `make_invoice` would make now. Where fees and commitments of earlier periods would be brought up to date
    first, they are, in a transaction that is then undone; else nothing but reading is done."""
    with store.read() as connection:
        if not behind(connection, books.current(connection), party, period):
            return invoicing.draft(connection, party, period, store.clock.now())

    def rehearse(connection: Connection) -> None:
        now = store.clock.now()
        _adjust_fixed(connection, books, party, period, now)
        raise _RehearsedError(invoicing.draft(connection, party, period, now))

    try:
        store.write(rehearse)
    except _RehearsedError as rehearsed:
        return rehearsed.document
    raise AssertionError("a rehearsal never commits")


def _adjust_fixed(connection: Connection, books: Books, party: Party, period: Period, now: datetime) -> None:
    sql.lock_head(connection, RATING)
    catch_up(connection, books.current(connection), party, period, now)
