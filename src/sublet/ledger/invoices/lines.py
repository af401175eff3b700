"""The lines of an invoice, from rated lines and fixed charges, and its arithmetic."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, func, select, text

from sublet.ledger import store as sql
from sublet.ledger.invoices.taxes import TaxLine
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import month_of
from sublet.ledger.prices.booking import Books
from sublet.ledger.usage.meters import METERS
from sublet.store.tables.ledger import agreed_prices, postings, transactions
from sublet.values.clock import from_micros
from sublet.values.ids import derived_id
from sublet.values.money import NANO, currency_digits

FIXED = ("fee", "commitment")
"""Kinds of transactions that charge without usage."""
SPLIT = 10**9
"""Sums over many rows are taken of quotients and rests, since a database adds no further than 2**63."""

WHOLE = 1_000
"""Nano-units: a deposit that falls short by less covers the whole invoice; so much is lost where months are rounded down."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of an invoice: a rate in the month in which it was used, or a fixed charge.

    `used` is the month of the service; `booked` the one that it was posted to, where it is one line with one.
    """

    kind: str
    description: str
    product: str
    meter: str
    rate_id: str
    used: str
    steps: int
    nano: int
    list_nano: int
    events: int
    unit_price: str = ""
    booked: str = ""

    @property
    def key(self) -> str:
        """What names the line in the FOCUS export, together with its invoice."""
        return line_id(self.kind, self.rate_id, self.used)

    def as_dict(self, position: int) -> dict[str, Any]:
        meter = METERS.get(self.meter)
        return {
            "position": position,
            "id": self.key,
            "kind": self.kind,
            "description": self.description,
            "product": self.product,
            "meter": self.meter,
            "rate": self.rate_id,
            "used": self.used,
            "booked": self.booked or self.used,
            "quantity": str(meter.units(self.steps)) if meter else "1",
            "unit": meter.unit if meter else "",
            "unit_price": self.unit_price,
            "amount": amount_text(self.nano),
            "list_amount": amount_text(self.list_nano),
            "events": self.events,
        }


@dataclass(frozen=True, slots=True)
class Sums:
    """The arithmetic of an invoice, every figure in nano-units."""

    subtotal: int
    credit: int
    rounding: int
    net: int
    taxes: tuple[TaxLine, ...]
    total: int
    prepaid: int
    carried: int
    deposit: int = 0
    """What is taken from deposits, exactly; `prepaid` is that in the currency's digits."""
    brought: int = 0
    """What earlier documents rounded off or up, which this one counts."""
    kept: bool = False
    """Whether what is rounded stays unbilled, so that the next invoice counts it."""

    @property
    def unbilled(self) -> int:
        """What the invoice takes from what was used and not invoiced."""
        return self.subtotal + (self.rounding if self.kept else 0)

    @property
    def tax(self) -> int:
        return sum(line.nano for line in self.taxes)

    @property
    def due(self) -> int:
        return self.total - self.prepaid


def lines_of(connection: Connection, books: Books, party: Party, numbers: Sequence[int]) -> list[Line]:
    """Lines from rated lines and fixed charges, in a stable order."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    late_in: set[datetime] = set()
    for part in sql.chunks(list(numbers)):
        columns = transactions.c
        statement = select(columns.transaction_no, columns.kind, columns.period_start)
        for row in connection.execute(statement.where(transactions.c.transaction_no.in_(part))):
            by_kind[row.kind].append(row.transaction_no)
            if row.kind == "adjustment":
                late_in.add(row.period_start)
    fixed = [number for kind in FIXED for number in by_kind.pop(kind, [])]
    late = by_kind.pop("adjustment", [])
    booked = month_of(max(late_in), party.timezone).label if late_in else ""
    found = _rated(connection, books, party, "adjustment", late, booked) if late else []
    found += _rated(connection, books, party, "usage", sorted(number for rest in by_kind.values() for number in rest))
    found += _fixed(connection, party, fixed) if fixed else []
    return sorted(
        found,
        key=lambda line: (line.used, line.kind in FIXED, line.product, line.kind, line.rate_id, line.description),
    )


def _rated(
    connection: Connection, books: Books, party: Party, kind: str, numbers: Sequence[int], booked: str = ""
) -> list[Line]:
    """Rated lines of the transactions `numbers` summed up by rate and month, from the lines alone: a server asked for their
    transactions or events beside them reads a thousand rows for each invoice."""
    sums: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
    for part in sql.chunks(list(numbers)):
        statement = text(
            "SELECT rate_id, period_start, max(book_version), "
            f"sum(quantity / {SPLIT}), sum(quantity % {SPLIT}), sum(nano / {SPLIT}), sum(nano % {SPLIT}), "
            f"sum(list_nano / {SPLIT}), sum(list_nano % {SPLIT}), sum(CASE WHEN kind = 'usage' THEN 1 ELSE 0 END) "
            f"FROM ledger_lines WHERE transaction_no IN ({', '.join(map(str, part))}) GROUP BY 1, 2"
        )
        for row in connection.execute(statement):
            into = sums[row[0], row[1]]
            into[0] = max(into[0], row[2])
            for index in range(3):
                into[index + 1] += int(row[3 + 2 * index]) * SPLIT + int(row[4 + 2 * index])
            into[4] += int(row[9])
    lines = []
    for (rate_id, start), (version, steps, nano, list_nano, events) in sums.items():
        meter, described, unit_price = _described(connection, books, party, rate_id, version)
        used = month_of(from_micros(start), party.timezone).label
        if kind == "adjustment":
            described = f"{described} ({kind} for {used})"
        lines.append(
            Line(
                kind,
                described,
                METERS[meter].product,
                meter,
                rate_id,
                used,
                steps,
                nano,
                list_nano,
                events,
                unit_price,
                booked,
            )
        )
    return lines


def _described(connection: Connection, books: Books, party: Party, rate_id: str, version: int) -> tuple[str, str, str]:
    """The meter of a rate, what it is called, and its unit price where it has just one."""
    price_id, _, discount_id = rate_id.partition("~")
    book = books.version(connection, version)
    discount = book.discount_named(discount_id, party.id) if discount_id else None
    less = f" less {fraction_text(discount.percent)} %" if discount else ""
    if price_id.startswith("agreed:"):
        _, resource, meter = price_id.split(":", 2)
        columns = agreed_prices.c
        row = connection.execute(
            select(agreed_prices).where(columns.resource == resource, columns.meter == meter)
        ).one()
        price_text = f"{plain(row.amount_nano)} {row.currency} per {row.per_units} {METERS[meter].unit}"
        return meter, f"{resource}, as agreed", price_text + less
    price = book.price_named(price_id, party.id)
    assert price is not None
    unit = price.tariff.unit_price()
    price_text = ""
    if unit is not None:
        per_nano = unit * price.per * METERS[price.meter].steps_per_unit
        price_text = f"{fraction_text(per_nano / NANO)} {price.currency} per {price.per} {METERS[price.meter].unit}"
    return price.meter, price.description, price_text + less


def _fixed(connection: Connection, party: Party, numbers: Sequence[int]) -> list[Line]:
    found: list[Line] = []
    for part in sql.chunks(list(numbers)):
        statement = (
            select(
                transactions,
                func.sum(postings.c.nano // SPLIT).label("high"),
                func.sum(postings.c.nano % SPLIT).label("low"),
            )
            .join(postings, postings.c.transaction_no == transactions.c.transaction_no)
            .where(
                transactions.c.transaction_no.in_(part),
                transactions.c.kind.in_(FIXED),
                postings.c.account == "unbilled",
            )
            .group_by(*transactions.c)
        )
        for row in connection.execute(statement):
            nano = int(row.high) * SPLIT + int(row.low)
            _, used, _ = row.source_id.rsplit(" ", 2)
            booked = month_of(row.period_start, party.timezone).label
            product = row.kind + "s"
            found.append(Line(row.kind, row.memo, product, "", row.source_id, used, 1, nano, nano, 0, booked=booked))
    return found


def covers(deposit: int, exact: int, percent: Fraction) -> bool:
    """Whether a deposit pays all of an exact net (nano-units) with its taxes of `percent` together."""
    return exact * (1 + percent / 100) - deposit < WHOLE


def smallest_unit(currency: str) -> int:
    """The nano-units in one smallest unit of `currency` (one cent is ten million)."""
    step: int = NANO // 10 ** currency_digits(currency)
    return step


def plain(nano: int) -> str:
    """An amount without trailing zeros."""
    return fraction_text(Fraction(nano, NANO))


def percent_text(percent: Fraction) -> str:
    return fraction_text(percent)


def fraction_text(value: Fraction) -> str:
    """A fraction as a decimal where it is one, else as numerator/denominator."""
    rest, digits = value.denominator, 0
    while rest % 10 == 0 or rest % 5 == 0 or rest % 2 == 0:
        rest, digits = (rest // 10 if rest % 10 == 0 else rest // 5 if rest % 5 == 0 else rest // 2), digits + 1
    if rest != 1:
        return f"{value.numerator}/{value.denominator}"
    scaled = value.numerator * 10**digits // value.denominator
    sign, scaled = ("-" if scaled < 0 else ""), abs(scaled)
    whole, fraction = divmod(scaled, 10**digits)
    return f"{sign}{whole}" + (f".{fraction:0{digits}d}".rstrip("0").rstrip(".") if digits else "")


def line_id(kind: str, rate_id: str, used: str) -> str:
    """What names a line within its invoice, also in the exports."""
    return derived_id("pst", kind, rate_id, used)
