"""Reads what was charged, page by page: rated lines with the usage behind them, and the invoices they stand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, NamedTuple

from sqlalchemy import select, text

from sublet.ledger import store as sql
from sublet.ledger.model import Party
from sublet.ledger.periods import month_labeled
from sublet.ledger.prices.booking import Books
from sublet.store import Store
from sublet.store.tables.ledger import invoices
from sublet.values.clock import to_micros
from sublet.values.errors import InvalidInputError

PAGE = 5_000
ISSUERS_CACHED_MAX = 10_000
_WIDEST_ZONE = timedelta(hours=26)


@dataclass(frozen=True, slots=True)
class Span:
    """Months from `since` to `until`, both inclusive, empty for no bound; each organization's in its own time zone."""

    since: str
    until: str

    @classmethod
    def of(cls, since: str, until: str) -> Span:
        """Raises InvalidInputError for something that is no month, and for an end before the start."""
        for label in (since, until):
            if label:
                month_labeled(label, "UTC")
        if since and until and until < since:
            raise InvalidInputError(f"until {until} is before since {since}; swap them")
        return cls(since, until)

    def has(self, label: str) -> bool:
        return (not self.since or self.since <= label) and (not self.until or label <= self.until)

    def bounds(self) -> tuple[int, int]:
        """Microseconds that enclose the starts of these months in every time zone."""
        start = month_labeled(self.since, "UTC").start - _WIDEST_ZONE if self.since else None
        end = month_labeled(self.until, "UTC").start + _WIDEST_ZONE if self.until else None
        return (to_micros(start) if start else -(2**62), to_micros(end) if end else 2**62)


class Charged(NamedTuple):
    """A rated line with the usage behind it (for a correction: the usage that it corrects)."""

    line_no: int
    transaction_no: int
    kind: str
    transaction_kind: str
    organization_id: str
    booked: int
    used: int
    rate_id: str
    list_rate_id: str
    book_version: int
    quantity: int
    nano: int
    list_nano: int
    meter: str
    at: int
    resource: str
    project: str
    key_id: str
    dimensions: str
    source: str
    event_id: str


_CHARGED = text(
    "SELECT l.line_no, l.transaction_no, l.kind, t.kind, l.organization_id, t.period_start, l.period_start, l.rate_id, "
    "l.list_rate_id, l.book_version, l.quantity, l.nano, l.list_nano, e.meter, coalesce(o.at, e.at), "
    "coalesce(o.resource, e.resource), "
    "coalesce(o.project, e.project), coalesce(o.key_id, e.key_id), coalesce(o.dimensions, e.dimensions), "
    "e.source, e.event_id "
    "FROM ledger_lines l JOIN ledger_transactions t ON t.transaction_no = l.transaction_no "
    "JOIN ledger_events e ON e.seq = l.event_seq "
    "LEFT JOIN ledger_events o ON e.corrects_id IS NOT NULL AND o.source = e.corrects_source "
    "AND o.event_id = e.corrects_id "
    "WHERE l.line_no > :after AND l.line_no <= :through ORDER BY l.line_no"
)


@dataclass(frozen=True, slots=True)
class Seller:
    """Who will invoice what no invoice has yet, the operator's own codes of accounts, and its numbers at a tax consultant that uses
    DATEV (the consultant's, the client's, and a clearing account)."""

    name: str = ""
    chart: Mapping[str, str] = field(default_factory=dict)
    datev: tuple[int, int, str] = (0, 0, "")


NOBODY = Seller()


class Charges:
    """One consistent view of what was charged to one organization (or all) in some months."""

    def __init__(self, store: Store, books: Books, organization_id: str, span: Span, seller: Seller = NOBODY) -> None:
        self.store = store
        self._issuer = seller.name
        self._chart = seller.chart
        self._issuers: dict[str, str] = {}
        self.books = books
        self.organization_id = organization_id
        self.span = span
        self._parties: dict[str, Party] = {}

    def code(self, account: str) -> str:
        """The operator's own code or name of an account; the account's name here if it has none."""
        return self._chart.get(account, account)

    def pages(self) -> Iterator[list[Charged]]:
        """Rated lines in blocks of line numbers; the blocks do not depend on the organization that is asked for."""
        low, high = self.span.bounds()
        with self.store.read() as connection:
            last, _ = sql.read_head(connection, sql.LINES)
        for after in range(0, last, PAGE):
            with self.store.read() as connection:
                rows = connection.execute(_CHARGED, {"after": after, "through": min(after + PAGE, last)}).all()
            # Told when the connection is given back: anyone who downloads may be slow.
            yield [Charged._make(row) for row in rows if low <= row[5] < high and self.organization_id in ("", row[4])]

    def party(self, organization_id: str) -> Party:
        known = self._parties.get(organization_id)
        if known is None:
            with self.store.read() as connection:
                found = sql.party(connection, organization_id)
            assert found is not None
            known = self._parties[organization_id] = found
        return known

    def invoice_numbers(self, transactions: set[int]) -> dict[int, str]:
        """The invoice on which each transaction stands now."""
        found: dict[int, str] = {}
        with self.store.read() as connection:
            for part in sql.chunks(sorted(transactions)):
                statement = text(
                    "SELECT m.transaction_no, i.number FROM ledger_invoice_transactions m "
                    "JOIN ledger_invoices i ON i.id = m.invoice_id "
                    f"WHERE i.status != 'void' AND m.transaction_no IN ({', '.join(map(str, part))})"
                )
                found.update((row[0], row[1]) for row in connection.execute(statement))
        return found

    def issuer(self, number: str | None) -> str:
        """The legal entity that issued an invoice; for what no invoice has yet (None), the one that will."""
        if number is None:
            return self._issuer
        known = self._issuers.get(number)
        if known is None:
            if len(self._issuers) >= ISSUERS_CACHED_MAX:
                self._issuers.clear()
            with self.store.read() as connection:
                document = connection.execute(
                    select(invoices.c.document).where(invoices.c.number == number)
                ).scalar_one()
            known = self._issuers[number] = document["issuer"]["name"]
        return known

    def documents(self) -> Iterator[tuple[Party, dict[str, Any]]]:
        """Invoices that stand, in the order of their numbers."""
        number = ""
        while True:
            statement = invoices.select().where(invoices.c.number > number, invoices.c.status != "void")
            if self.organization_id:
                statement = statement.where(invoices.c.organization_id == self.organization_id)
            with self.store.read() as connection:
                rows = connection.execute(statement.order_by(invoices.c.number).limit(200)).all()
            for row in rows:
                if self.span.has(row.document["period"]["label"]):
                    yield self.party(row.organization_id), row.document
            if not rows:
                return
            number = rows[-1].number


def hour_of(micros: int) -> int:
    """The start of the hour that a moment falls into, in microseconds."""
    return micros - micros % 3_600_000_000
