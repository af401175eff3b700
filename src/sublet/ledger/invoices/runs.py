"""What one run of billing covers: months that come to more go on an invoice, months that come to less on a credit note.

A month is billed by what it comes to after credits, less what documents stated of it before, so that neither document is below
zero and nothing is carried over.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection, func, select, text

from sublet.ledger import store as sql
from sublet.ledger.credits.wallets import Part
from sublet.ledger.invoices.lines import FIXED, SPLIT, Line
from sublet.ledger.invoices.open_items import VOID
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import Period, month_of
from sublet.store.tables.ledger import invoice_transactions, invoices, transactions
from sublet.store.tables.ledger import lines as rated_lines
from sublet.values.clock import format_time
from sublet.values.ids import derived_id
from sublet.values.money import nano_from_decimal

BILLABLE = ("usage", "adjustment", "correction", "rerating", "fee", "commitment")
"""Kinds of transactions that stand on an invoice."""


@dataclass(frozen=True, slots=True)
class Credited:
    """What a credit note is to say: the months that come to less, with their transactions, lines and credits, and by how much
    the exact net of each invoice falls."""

    months: frozenset[str]
    exact: dict[str, int]
    """Nano-units by the id of the invoice."""
    invoices: dict[str, str]
    """The invoice whose taxes a month has, by the month's label."""
    parts: tuple[Part, ...]
    numbers: tuple[int, ...] = ()
    lines: tuple[Line, ...] = ()
    taken_off: frozenset[str] = frozenset()
    """What the note itself takes off, by the ids under which it burns: its lines say it."""
    gross: int | None = None
    """What the note comes to in all, where that was asked for: one invoice then."""
    deferred: int = 0
    """What the note takes off money that was paid, and taxed, in advance."""


@dataclass(frozen=True, slots=True)
class Run:
    """Transactions, lines and credits of an invoice, and what a credit note is to say beside it."""

    numbers: tuple[int, ...]
    lines: tuple[Line, ...]
    parts: tuple[Part, ...]
    credited: Credited | None = None


def months_of_less(party: Party, lines: Sequence[Line], due: Sequence[Part]) -> dict[str, int]:
    """Months that come to less than was invoiced, by label, and how much less their exact net is; 0 where credits are given
    back for all of it, or where only a deposit pays more of what was invoiced."""
    change: dict[str, int] = defaultdict(int)
    usage: dict[str, int] = defaultdict(int)
    for line in lines:
        usage[line.used] += line.nano
        change[line.used] += line.nano
    for part in due:
        label = label_of(party, part)
        change[label] -= 0 if part.credit.is_deposit else part.nano
    less = {label: -nano for label, nano in change.items() if nano < 0 or (not nano and usage.get(label, 0) < 0)}
    if less or not lines:
        # Months that nothing was charged in, where a deposit that is free again pays for what was invoiced.
        less |= {label: 0 for label, nano in change.items() if not nano and label not in usage}
    return less


def label_of(party: Party, part: Part) -> str:
    """The month of use that a part of a credit is for."""
    return month_of(part.month, party.timezone).label


def numbers_by_month(connection: Connection, party: Party, numbers: Sequence[int]) -> dict[str, list[int]]:
    """Transactions by the month of use that they charge; each charges just one."""
    found: dict[str, list[int]] = defaultdict(list)
    late: list[int] = []
    for part in sql.chunks(list(numbers)):
        columns = transactions.c
        statement = select(columns.transaction_no, columns.kind, columns.source_id, columns.period_start)
        for row in connection.execute(statement.where(columns.transaction_no.in_(part))):
            if row.kind in FIXED:
                found[row.source_id.rsplit(" ", 2)[1]].append(row.transaction_no)
            elif row.kind == "adjustment":
                late.append(row.transaction_no)
            else:
                found[month_of(row.period_start, party.timezone).label].append(row.transaction_no)
    used = func.min(rated_lines.c.period_start, type_=rated_lines.c.period_start.type).label("used")
    for part in sql.chunks(late):
        charged = select(rated_lines.c.transaction_no, used).where(rated_lines.c.transaction_no.in_(part))
        for number, month in connection.execute(charged.group_by(rated_lines.c.transaction_no)):
            found[month_of(month, party.timezone).label].append(number)
    return found


def total_of(parts: Sequence[Part]) -> int:
    """The sum of parts of credits in nano-units."""
    return sum(part.nano for part in parts)


def by_credit(parts: Sequence[Part], sign: int = -1) -> list[dict[str, str]]:
    """What a document says of each credit, with `sign` for how it counts there."""
    sums: dict[str, int] = {}
    for part in parts:
        sums[part.credit.id] = sums.get(part.credit.id, 0) + part.nano
    named = {part.credit.id: part.credit for part in parts}
    return [
        {
            "credit": name,
            "kind": named[name].kind,
            "reason": named[name].reason,
            "amount": amount_text(sign * nano),
        }
        for name, nano in sums.items()
        if nano
    ]


def period_of_document(party: Party, period: Period) -> dict[str, str]:
    """The month of a document, as it says it."""
    return {
        "label": period.label,
        "start": format_time(period.start),
        "end": format_time(period.end),
        "timezone": party.timezone,
    }


def next_number(connection: Connection, series: str, prefix: str, kind: str) -> tuple[str, str]:
    """Draw the next number of a series, without a gap, and the id of the document that it makes."""
    serial, _ = sql.lock_head(connection, series)
    number = f"{prefix}{serial + 1:06d}"
    sql.move_head(connection, series, serial + 1)
    return number, derived_id(kind, number)


def nano_of(text: str) -> int:
    """An amount of a stored document in nano-units."""
    return nano_from_decimal(text)


def as_stated(document: dict[str, Any]) -> int:
    """The exact net of an invoice before rounding: its lines less the credits that lower them."""
    return nano_of(document["subtotal"]) + sum(nano_of(used["amount"]) for used in document["credits"])


def billable(
    connection: Connection, organization_id: str, period: Period, kinds: Sequence[str] = BILLABLE
) -> list[int]:
    """Transactions booked up to the end of `period` that stand on no invoice, or only on a void one."""
    mapped = (
        select(invoice_transactions.c.transaction_no)
        .join(invoices, invoices.c.id == invoice_transactions.c.invoice_id)
        .where(invoices.c.status != VOID, invoice_transactions.c.transaction_no == transactions.c.transaction_no)
    )
    statement = (
        select(transactions.c.transaction_no)
        .where(
            transactions.c.organization_id == organization_id,
            transactions.c.period_start <= period.start,
            transactions.c.kind.in_(kinds),
            ~mapped.exists(),
        )
        .order_by(transactions.c.transaction_no)
    )
    return list(connection.execute(statement).scalars())


def remainder(connection: Connection, organization_id: str) -> int:
    """What standing documents rounded off, or below zero up, and none has counted yet: what is unbilled and belongs to no usage, fee
    or commitment that waits for an invoice."""
    statement = text(
        f"SELECT sum(p.nano / {SPLIT}), sum(p.nano % {SPLIT}) FROM ledger_transactions t JOIN ledger_postings p "
        "ON p.transaction_no = t.transaction_no AND p.account = 'unbilled' WHERE t.organization_id = :organization AND "
        f"t.kind IN ({', '.join(map(repr, BILLABLE))}) AND NOT EXISTS (SELECT 1 FROM ledger_invoice_transactions m "
        "JOIN ledger_invoices i ON i.id = m.invoice_id WHERE m.transaction_no = t.transaction_no AND i.status <> 'void')"
    )
    high, low = connection.execute(statement, {"organization": organization_id}).one()
    return journal.balance(connection, organization_id, "unbilled") - (int(high or 0) * SPLIT + int(low or 0))


def billable_later(connection: Connection, organization_id: str, period: Period) -> list[int]:
    """Late usage that is booked after `period` and stands on no invoice yet."""
    before = set(billable(connection, organization_id, period, ("adjustment",)))
    columns = transactions.c
    newest = select(func.max(columns.period_start, type_=columns.period_start.type)).where(
        columns.organization_id == organization_id
    )
    last = connection.execute(newest).scalar()
    if last is None or last <= period.start:
        return []
    every = billable(connection, organization_id, replace(period, start=last), ("adjustment",))
    return [number for number in every if number not in before]
