"""Close a period: post its fixed charges, mark it closed, make its invoice; one transaction, so it is done once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, insert, select

from sublet.ledger import journal
from sublet.ledger import store as sql
from sublet.ledger.book import PriceBook
from sublet.ledger.booking import Books
from sublet.ledger.invoices import Invoicing, billable, invoice
from sublet.ledger.meters import METERS
from sublet.ledger.model import Entry, Party, postings_of
from sublet.ledger.periods import Period, month_of
from sublet.ledger.prices import Commitment, Fee
from sublet.ledger.store import RATING
from sublet.store import Store
from sublet.store.tables.ledger import (
    counters,
    fixed_charges,
    invoice_transactions,
    lines,
    periods,
    transactions,
)
from sublet.values.clock import to_micros
from sublet.values.errors import ConflictError


class PeriodOpenError(ConflictError):
    """The period is not over yet; close it once its last moment has passed, or make an invoice on demand."""

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
    post_fixed(connection, books, party, period, period, now)
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
    """A final invoice for everything booked up to the end of `period`, commitments of earlier periods brought up to
    date with their late usage first."""
    _adjust_fixed(connection, books, party, period, now)
    return invoicing.finalize(connection, party, period, kind, now, digest)


class _RehearsedError(Exception):
    """Carries a draft out of a transaction that is undone."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__()
        self.document = document


def draft(store: Store, books: Books, invoicing: Invoicing, party: Party, period: Period) -> dict[str, Any]:
    """The invoice that `make_invoice` would make now. Where commitments of earlier periods would be brought up to date first,
    they are, in a transaction that is then undone; else nothing but reading is done."""
    with store.read() as connection:
        if not periods_adjusted(connection, party, period):
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
    for earlier in periods_adjusted(connection, party, period):
        post_fixed(connection, books, party, earlier, period, now)


def periods_adjusted(connection: Connection, party: Party, period: Period) -> list[Period]:
    """Closed periods for which usage came late that is not invoiced yet."""
    found: set[datetime] = set()
    for part in sql.chunks(billable(connection, party.id, period, kinds=("adjustment",))):
        statement = select(lines.c.period_start).where(lines.c.transaction_no.in_(part)).distinct()
        found |= set(connection.execute(statement).scalars())
    return [month_of(start, party.timezone) for start in sorted(found)]


def post_fixed(
    connection: Connection, books: Books, party: Party, used: Period, booked: Period, now: datetime
) -> list[Entry]:
    """Post fees and commitments of the period `used` into `booked`: what they come to now less what was posted."""
    book = books.current(connection)
    entries: list[Entry] = []
    for charge_id, memo, account, due in fixed_due(connection, book, party, used):
        columns = fixed_charges.c
        row = connection.execute(
            select(fixed_charges).where(
                columns.organization_id == party.id, columns.charge_id == charge_id, columns.period_start == used.start
            )
        ).first()
        change = due - (row.nano if row else 0)
        if not change:
            continue
        revision = row.revision + 1 if row else 1
        kind = "fee" if account == "revenue.fees" else "commitment"
        text = f"{memo}, {used.label}" + (", adjusted for late usage" if row else "")
        amounts = postings_of({"unbilled": change, account: -change})
        source = f"{charge_id} {used.label} r{revision}"
        entries.append(Entry(party.id, party.currency, kind, source, booked.start, text, amounts))
        sql.bulk_insert(
            connection,
            fixed_charges,
            [(party.id, charge_id, to_micros(used.start), str(due), book.version, revision)],
            "ON CONFLICT (organization_id, charge_id, period_start) DO UPDATE SET "
            "nano = excluded.nano, book_version = excluded.book_version, revision = excluded.revision",
        )
    journal.post(connection, entries, now)
    return entries


def fixed_due(connection: Connection, book: PriceBook, party: Party, used: Period) -> list[tuple[str, str, str, int]]:
    """What each fee and commitment of an organization comes to in a period: (id, description, account, nano-units)."""
    found: list[tuple[str, str, str, int]] = []
    everybodys: list[Fee | Commitment] = [*book.fees, *book.commitments]
    own = [entry for entry in everybodys if entry.organization == party.id and entry.currency == party.currency]
    if not own:
        return found
    by_product = used_by_product(connection, party, used)
    for entry in own:
        share = used.share(entry.valid_from, entry.valid_until)
        if not share[0]:
            continue
        if isinstance(entry, Fee):
            found.append((entry.id, entry.description, "revenue.fees", entry.nano * share[0] // share[1]))
            continue
        spent = by_product.get(entry.product, 0) if entry.product else sum(by_product.values())
        found.append((entry.id, entry.description, "revenue.commitments", entry.adjustment(spent, share)))
    return found


def used_by_product(connection: Connection, party: Party, used: Period) -> dict[str, int]:
    """What the usage of a period costs in all, by product, from the counters."""
    statement = select(counters.c.meter, counters.c.rate_id, counters.c.nano).where(
        counters.c.organization_id == party.id, counters.c.period_start == used.start
    )
    found: dict[str, int] = {}
    for row in connection.execute(statement):
        if not row.rate_id.startswith("list:"):
            product = METERS[row.meter].product
            found[product] = found.get(product, 0) + row.nano
    return found


def adjustments_pending(connection: Connection, party: Party, used: Period) -> bool:
    """Whether usage of `used` came late that no invoice has yet: its commitments are brought up to date with the next."""
    statement = (
        select(lines.c.line_no)
        .join(transactions, transactions.c.transaction_no == lines.c.transaction_no)
        .outerjoin(invoice_transactions, invoice_transactions.c.transaction_no == transactions.c.transaction_no)
        .where(
            transactions.c.organization_id == party.id,
            transactions.c.kind == "adjustment",
            lines.c.period_start == used.start,
            invoice_transactions.c.invoice_id.is_(None),
        )
        .limit(1)
    )
    return connection.execute(statement).first() is not None


def is_closed(connection: Connection, party: Party, period: Period) -> bool:
    columns = periods.c
    statement = select(columns.closed_at).where(
        columns.organization_id == party.id, columns.period_start == period.start
    )
    return connection.execute(statement).first() is not None
