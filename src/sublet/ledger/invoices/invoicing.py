"""Invoices: what was used and is not invoiced yet, less credits, rounded once, taxed, numbered without gaps."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from sublet.ledger import events
from sublet.ledger import store as sql
from sublet.ledger.credits import crediting, wallets
from sublet.ledger.credits.wallets import Part, Wallets, capped
from sublet.ledger.invoices.lines import Line, Sums, lines_of, percent_text, smallest_unit
from sublet.ledger.invoices.profiles import profile_of
from sublet.ledger.invoices.taxes import Profile, TaxBasis, Taxes, TaxLine
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Entry, Party, amount_text
from sublet.ledger.periods import Period, month_of
from sublet.ledger.prices.booking import Books
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import (
    credit_grants,
    invoice_transactions,
    invoices,
    transactions,
)
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, NotFoundError
from sublet.values.ids import derived_id
from sublet.values.money import Money
from sublet.values.text import checked_line

BILLABLE = ("usage", "adjustment", "correction", "rerating", "fee", "commitment")
INVOICES = Listing("invoices", (invoices.c.number,), descending=True)
NUMBERS = "invoice numbers"
FINAL, PAID, VOID = "final", "paid", "void"
ROUNDING_RULE = (
    "Lines are exact. The net total is rounded once, half to even, to the currency's digits; so is each tax."
)
_WHOLE = 1_000
"""Nano-units: a deposit that falls short by less covers the whole invoice; so much is lost where months are rounded down."""


class DraftChangedError(ConflictError):
    """The invoice has changed since it was reviewed; read the draft again and confirm its new digest."""

    code = "draft_changed"


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who sends the invoices."""

    name: str = "Sublet operator"
    address: str = ""
    tax_number: str = ""


@dataclass(frozen=True, slots=True)
class _Drawn:
    """An invoice that is drawn up: what it says, its arithmetic, whom it bills, and what it states of credits."""

    content: dict[str, Any]
    sums: Sums
    profile: Profile
    parts: tuple[Part, ...]


class Invoicing:
    """Drafts, final invoices and voids."""

    def __init__(self, books: Books, taxes: Taxes, wallets: Wallets, issuer: Issuer) -> None:
        self._books = books
        self._taxes = taxes
        self._wallets = wallets
        self.issuer = issuer

    def draft(self, connection: Connection, party: Party, period: Period, now: datetime) -> dict[str, Any]:
        """The invoice that would be made now for everything booked up to the end of `period`. Nothing is written."""
        numbers = billable(connection, party.id, period)
        return self._document(connection, party, period, numbers, now).content

    def finalize(
        self, connection: Connection, party: Party, period: Period, kind: str, now: datetime, digest: str = ""
    ) -> dict[str, Any] | None:
        """Make the invoice: number it, post it, state the credits. None where there is nothing to pay and nothing credited.

        With `digest`, that of a draft, it is made only if it is still the same: raises DraftChangedError.
        """
        sql.lock_head(connection, journal.CHAIN)
        numbers = billable(connection, party.id, period)
        if not numbers:
            return None
        drawn = self._document(connection, party, period, numbers, now)
        document, sums = drawn.content, drawn.sums
        if digest and digest != document["digest"]:
            raise DraftChangedError()
        if not (sums.total or drawn.parts or sums.carried):
            # Nothing to pay, tax or credit: no number. Lines that cancel, and what is less than the smallest unit together, wait
            # for the next invoice.
            return None
        serial, _ = sql.lock_head(connection, NUMBERS)
        number = f"INV-{serial + 1:06d}"
        invoice_id = derived_id("inv", number)
        sql.move_head(connection, NUMBERS, serial + 1)
        due_at = now + timedelta(days=drawn.profile.payment_days)
        self._wallets.state(connection, drawn.parts, invoice_id, sum((tax.percent for tax in sums.taxes), Fraction(0)))
        if sums.carried:
            crediting.carry(connection, party, sums.carried, invoice_id, now)
        [posted] = journal.post(
            connection, [_entry(party, month_of(now, party.timezone), number, invoice_id, drawn)], now
        )
        document |= {
            "id": invoice_id,
            "number": number,
            "status": FINAL,
            "kind": kind,
            "issued_at": format_time(now),
            "due_at": format_time(due_at),
            "transaction": posted.number,
        }
        paid = sums.due == 0
        connection.execute(
            insert(invoices).values(
                id=invoice_id,
                organization_id=party.id,
                kind=kind,
                status=PAID if paid else FINAL,
                number=number,
                currency=party.currency,
                period_start=period.start,
                period_end=period.end,
                created_at=now,
                finalized_at=now,
                due_at=due_at,
                settled_at=now if paid else None,
                transaction_no=posted.number,
                total_nano=sums.total,
                due_nano=sums.due,
                paid_nano=0,
                document=document,
            )
        )
        sql.bulk_insert(connection, invoice_transactions, [(number, invoice_id) for number in numbers])
        events.record_invoice(connection, events.INVOICE_ISSUED, invoice_row(connection, invoice_id), now)
        if paid:
            events.record_invoice(
                connection, events.INVOICE_PAID, invoice_row(connection, invoice_id), now, format_time(now)
            )
        return invoice(connection, invoice_id)

    def _document(
        self, connection: Connection, party: Party, period: Period, numbers: Sequence[int], now: datetime
    ) -> _Drawn:
        lines = lines_of(connection, self._books, party, numbers)
        profile = profile_of(connection, party)
        due = self._wallets.due(connection, party, period.start, now)
        given, deposits = _within(due, sum(line.nano for line in lines), self._wallets.percent(connection, party, now))
        sums = self.sums(party, profile, lines, _nano(given), _nano(deposits), now)
        document = {
            "id": "",
            "number": "",
            "status": "draft",
            "kind": "on_demand",
            "issuer": {
                "name": self.issuer.name,
                "address": self.issuer.address,
                "tax_number": self.issuer.tax_number,
            },
            "customer": {
                "organization_id": party.id,
                "name": profile.legal_name or party.name,
                "address": profile.address,
                "tax_number": profile.tax_number,
                "country": profile.country,
            },
            "currency": party.currency,
            "period": {
                "label": period.label,
                "start": format_time(period.start),
                "end": format_time(period.end),
                "timezone": party.timezone,
            },
            "issued_at": format_time(now),
            "lines": [line.as_dict(position) for position, line in enumerate(lines, 1)],
            "subtotal": amount_text(sums.subtotal),
            "credits": _by_credit(given),
            "rounding": amount_text(sums.rounding),
            "net": amount_text(sums.net),
            "taxes": [
                {"name": tax.name, "percent": percent_text(tax.percent), "amount": amount_text(tax.nano)}
                for tax in sums.taxes
            ],
            "total": amount_text(sums.total),
            "prepaid": _by_credit(deposits),
            "due": amount_text(sums.due),
            "carried": amount_text(sums.carried),
            "rounding_rule": ROUNDING_RULE,
        }
        document["digest"] = digest_of(document)
        return _Drawn(document, sums, profile, (*given, *deposits))

    def sums(
        self,
        party: Party,
        profile: Profile,
        lines: Iterable[Line],
        credit_nano: int,
        deposit_nano: int,
        now: datetime,
        taxes: Sequence[TaxLine] | None = None,
    ) -> Sums:
        """The arithmetic: credits before rounding, rounding before tax, deposits after it. `taxes` are those that an invoice
        states; without them the calculator is asked. Raises InvalidInputError for a tax that is not its percentage
        of the net amount.
        """
        subtotal = sum(line.nano for line in lines)
        if subtotal < 0:
            carried = -subtotal + credit_nano + deposit_nano
            return Sums(subtotal, credit_nano, 0, 0, (), 0, 0, carried, deposit_nano)
        used = credit_nano
        net = Money(subtotal - used, party.currency).rounded()
        if taxes is None:
            taxes = self._taxes.lines(TaxBasis(party.id, profile, net, now))
        for tax in taxes:
            tax.check(net)
        total = net.nano + sum(tax.nano for tax in taxes)
        factor = 1 + sum((tax.percent for tax in taxes), Fraction(0)) / 100
        if deposit_nano and (subtotal - used) * factor - deposit_nano < _WHOLE:
            prepaid = total
        else:
            step = smallest_unit(party.currency)
            prepaid = min(total, round(Fraction(deposit_nano, step)) * step)
        rounding = net.nano - (subtotal - used)
        return Sums(subtotal, used, rounding, net.nano, tuple(taxes), total, prepaid, 0, deposit_nano)

    def void(self, connection: Connection, invoice_id: str, reason: str, now: datetime) -> dict[str, Any]:
        """Take a final invoice back by a linked reversal; its number stays used, its charges are invoiced again.

        Raises ConflictError where money was paid on it or a credit that it carried over was used.
        """
        sql.lock_head(connection, journal.CHAIN)
        row = invoice_row(connection, invoice_id)
        if row.status == VOID:
            return invoice(connection, row.id)
        if row.paid_nano:
            raise ConflictError(
                f"invoice {row.number} has payments; grant a goodwill credit instead of voiding it, or reverse them"
            )
        reason = checked_line(reason, "the reason why the invoice is void", 500, 1)
        carried_id = derived_id("crd", row.organization_id, row.id)
        carried = connection.execute(select(credit_grants).where(credit_grants.c.id == carried_id)).first()
        if carried is not None and carried.remaining_nano != carried.nano:
            raise ConflictError(f"the credit that {row.number} carried over was used; it can't be voided any more")
        if carried is not None:
            # Nothing of it may burn any more.
            values = {"remaining_nano": 0, "taken_nano": carried.nano}
            connection.execute(update(credit_grants).where(credit_grants.c.id == carried_id).values(**values))
        party = sql.party(connection, row.organization_id)
        assert party is not None
        original = journal.transaction(connection, row.transaction_no)
        period = month_of(now, party.timezone).start
        journal.post(connection, [journal.reversal(original, "void", period, f"{row.number} void: {reason}")], now)
        wallets.give_back(connection, row.id)
        connection.execute(update(invoices).where(invoices.c.id == row.id).values(status=VOID, settled_at=now))
        events.record_invoice(connection, events.INVOICE_VOIDED, row, now)
        return invoice(connection, row.id)


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


def _entry(party: Party, period: Period, number: str, invoice_id: str, drawn: _Drawn) -> Entry:
    sums = drawn.sums
    # Money that was taxed when it was paid lowers the net as a credit does, out of what was paid in advance.
    advance = _nano([part for part in drawn.parts if part.credit.is_prepaid and not part.credit.is_deposit])
    amounts = {
        "unbilled": -sums.subtotal,
        "credits": sums.credit - advance - sums.carried,
        "rounding": -sums.rounding + (sums.prepaid - sums.deposit if sums.subtotal >= 0 else 0),
        "taxes_payable": -sums.tax,
        "receivable": sums.total - sums.prepaid,
        "deferred_revenue": sums.deposit + advance,
    }
    return journal.entry_of(party.id, party.currency, "invoice", invoice_id, period.start, f"invoice {number}", amounts)


def invoice(connection: Connection, invoice_id: str) -> dict[str, Any]:
    """A final invoice by id or number, with its present status. Raises NotFoundError."""
    return stated(invoice_row(connection, invoice_id))


def stated(row: Row[Any]) -> dict[str, Any]:
    """The document of a final invoice, with its present status and what was paid on it."""
    return {**row.document, "status": row.status, "paid": amount_text(row.paid_nano)}


def invoices_of(connection: Connection, organization_id: str, limit: int = 1_000) -> list[Row[Any]]:
    statement = select(invoices).where(invoices.c.organization_id == organization_id)
    return list(connection.execute(statement.order_by(invoices.c.number.desc()).limit(limit)))


def overdue(connection: Connection, since: datetime, now: datetime) -> list[Row[Any]]:
    """Final invoices that are not paid and were due in `[since, now)`."""
    wanted = select(invoices).where(invoices.c.status == FINAL, invoices.c.due_at >= since, invoices.c.due_at < now)
    return list(connection.execute(wanted.order_by(invoices.c.due_at, invoices.c.id)))


def invoices_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[Row[Any]]:
    """The invoices of an organization, the newest first."""
    return INVOICES.read(connection, select(invoices).where(invoices.c.organization_id == organization_id), wanted)


def digest_of(document: dict[str, Any]) -> str:
    """SHA-256 over what an invoice charges: lines and sums, not the day on which it was drawn up."""
    parts = (
        "currency",
        "period",
        "lines",
        "subtotal",
        "credits",
        "rounding",
        "net",
        "taxes",
        "total",
        "prepaid",
        "due",
    )
    content = {name: document[name] for name in parts}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _nano(parts: Sequence[Part]) -> int:
    return sum(part.nano for part in parts)


def _within(due: Sequence[Part], subtotal: int, percent: Fraction) -> tuple[list[Part], list[Part]]:
    """What an invoice states of credits that lower its net, and of deposits, neither more than there is to pay or to give back."""
    given = [part for part in due if not part.credit.is_deposit]
    deposits = [part for part in due if part.credit.is_deposit]
    if subtotal < 0:
        given = _given_back(given, -subtotal)
        return given, _given_back(deposits, -subtotal + _nano(given))
    given = capped(given, subtotal)
    return given, capped(deposits, floor((subtotal - _nano(given)) * (1 + percent / 100)))


def _given_back(parts: Sequence[Part], limit: int) -> list[Part]:
    """What of `parts` is given back, `limit` at most: an invoice below zero pays for nothing."""
    found: list[Part] = []
    for part in parts:
        nano = max(part.nano, -limit)
        if nano < 0:
            limit += nano
            found.append(replace(part, nano=nano))
    return found


def _by_credit(parts: Sequence[Part]) -> list[dict[str, str]]:
    sums: dict[str, int] = {}
    for part in parts:
        sums[part.credit.id] = sums.get(part.credit.id, 0) + part.nano
    named = {part.credit.id: part.credit for part in parts}
    return [_used(named[name], nano) for name, nano in sums.items() if nano]


def _used(credit: crediting.Credit, nano: int) -> dict[str, str]:
    return {"credit": credit.id, "kind": credit.kind, "reason": credit.reason, "amount": amount_text(-nano)}


def invoice_row(connection: Connection, invoice_id: str) -> Row[Any]:
    """An invoice's row by id or number. Raises NotFoundError."""
    statement = select(invoices).where((invoices.c.id == invoice_id) | (invoices.c.number == invoice_id))
    row = connection.execute(statement).first()
    if row is None:
        raise NotFoundError(f"there is no invoice {invoice_id!r}; `sublet ledger invoices` lists them")
    return row
