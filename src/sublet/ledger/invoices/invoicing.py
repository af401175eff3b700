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
from sublet.ledger.credits import wallets
from sublet.ledger.credits.crediting import Credit
from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.credits.wallets import Part, Wallets, capped
from sublet.ledger.invoices.details import AcceleratorsOf, details_of, numbers_of
from sublet.ledger.invoices.lines import Line, Sums, covers, lines_of, percent_text, smallest_unit
from sublet.ledger.invoices.notes import Notes, Prior, prior_of
from sublet.ledger.invoices.open_items import FINAL, PAID, VOID, open_nano
from sublet.ledger.invoices.parties import Issuer as Issuer
from sublet.ledger.invoices.parties import customer_of_document, issuer_of_document, with_all_fields
from sublet.ledger.invoices.prepayments import NUMBERS, ensure_no_prepayment, invoice_prepayment
from sublet.ledger.invoices.profiles import profile_of
from sublet.ledger.invoices.runs import (
    Credited,
    Run,
    billable,
    billable_later,
    by_credit,
    label_of,
    months_of_less,
    next_number,
    numbers_by_month,
    period_of_document,
    remainder,
    total_of,
)
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
)
from sublet.values.clock import format_time, to_micros
from sublet.values.errors import ConflictError, NotFoundError
from sublet.values.ids import derived_id
from sublet.values.money import Money
from sublet.values.text import checked_line

INVOICES = Listing("invoices", (invoices.c.number,), descending=True)
NOTES = Listing("credit notes", (invoices.c.number,), descending=True)
ROUNDING_RULE = (
    "Lines are exact. The net total is rounded once, half to even, to the currency's digits; so is each tax. "
    "What that rounds off or up counts in the next invoice."
)


class DraftChangedError(ConflictError):
    """The invoice has changed since it was reviewed; read the draft again and confirm its new digest."""

    code = "draft_changed"


@dataclass(frozen=True, slots=True)
class _Drawn:
    """An invoice that is drawn up: what it says, its arithmetic, whom it bills, and what it states of credits."""

    content: dict[str, Any]
    sums: Sums
    profile: Profile
    parts: tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """What one run of billing made: an invoice of what is due, a credit note of what is due less, either or none."""

    invoice: dict[str, Any] | None = None
    note: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        return {"invoice": self.invoice, "credit_note": self.note}


class Invoicing:
    """Drafts, final invoices and voids."""

    def __init__(
        self, books: Books, taxes: Taxes, wallets: Wallets, issuer: Issuer, accelerators_of: AcceleratorsOf
    ) -> None:
        self._books = books
        self._accelerators_of = accelerators_of
        self._taxes = taxes
        self._wallets = wallets
        self._notes = Notes(wallets)
        self.issuer = issuer

    def draft(self, connection: Connection, party: Party, period: Period, now: datetime) -> dict[str, Any]:
        """The invoice that would be made now for everything booked up to the end of `period`, and under `credit_note` the credit
        note that would be made with it. Nothing is written."""
        run = self._run(connection, party, period, now)
        drawn = self._document(connection, party, period, run, now)
        note = self._notes.draw(connection, party, run.credited, period, now) if run.credited else None
        details = details_of(connection, party, run.numbers, self._accelerators_of)
        return drawn.content | {"details": details, "credit_note": note.content if note else None}

    def detailed(self, connection: Connection, invoice_id: str) -> dict[str, Any]:
        """A final invoice by id or number, with what each of its lines is for. Raises NotFoundError."""
        row = invoice_row(connection, invoice_id)
        party = sql.party(connection, row.organization_id)
        assert party is not None
        numbers = numbers_of(connection, row.id)
        return stated(row) | {"details": details_of(connection, party, numbers, self._accelerators_of)}

    def finalize(
        self, connection: Connection, party: Party, period: Period, kind: str, now: datetime, digest: str = ""
    ) -> Made:
        """Make the invoice: number it, post it, state the credits; and where a month comes to less than was invoiced, a credit
        note. Neither where there is nothing to pay and nothing credited.

        With `digest`, that of a draft, only if the draft is still the same: raises DraftChangedError.
        """
        sql.lock_head(connection, journal.CHAIN)
        run = self._run(connection, party, period, now)
        if not run.numbers and not run.parts and not run.credited:
            return Made()
        drawn = self._document(connection, party, period, run, now)
        if digest and digest != drawn.content["digest"]:
            raise DraftChangedError()
        note = None
        if run.credited:
            note = self._notes.make(connection, party, run.credited, period, kind, now)
        # Nothing to pay, tax or credit: no number. Lines that cancel, and what is less than the smallest unit together, wait
        # for the next invoice.
        made = self._finalize(connection, party, period, drawn, run, kind, now) if _says_anything(drawn) else None
        return Made(made, note)

    def invoice_prepayment(self, connection: Connection, party: Party, credit: Credit) -> None:
        """Issue the invoice of prepaid money that was just received with its tax, as it is today."""
        profile = profile_of(connection, party)
        basis = TaxBasis(party.id, profile, Money(credit.nano, party.currency), credit.granted_at)
        invoice_prepayment(connection, party, profile, self.issuer, credit, self._taxes.lines(basis))

    def _run(self, connection: Connection, party: Party, period: Period, now: datetime) -> Run:
        """What there is to bill: months that come to more on an invoice, months that come to less on a credit note."""
        numbers = billable(connection, party.id, period)
        lines = lines_of(connection, self._books, party, numbers)
        due = self._wallets.due(connection, party, period.start, now)
        less = months_of_less(party, lines, due)
        if not less:
            return Run(tuple(numbers), tuple(lines), tuple(due))
        by_month = numbers_by_month(connection, party, numbers)
        # A month whose late usage is booked after the period waits for that.
        waits = numbers_by_month(connection, party, billable_later(connection, party.id, period))
        plan = self._notes.plan(
            connection, party, {label: nano for label, nano in less.items() if label not in waits}, due
        )
        if plan is not None:
            credited = sorted(number for label in plan.months for number in by_month.get(label, []))
            plan = replace(
                plan, numbers=tuple(credited), lines=tuple(lines_of(connection, self._books, party, credited))
            )
        mine = sorted(number for label, found in by_month.items() if label not in less for number in found)
        parts = tuple(part for part in due if label_of(party, part) not in less)
        return Run(tuple(mine), tuple(lines_of(connection, self._books, party, mine)), parts, plan)

    def _finalize(
        self,
        connection: Connection,
        party: Party,
        period: Period,
        drawn: _Drawn,
        run: Run,
        kind: str,
        now: datetime,
    ) -> dict[str, Any]:
        document, sums = drawn.content, drawn.sums
        number, invoice_id = next_number(connection, NUMBERS, "INV-", "inv")
        due_at = now + timedelta(days=drawn.profile.payment_days)
        percent = sum((tax.percent for tax in sums.taxes), Fraction(0))
        self._wallets.state(connection, drawn.parts, invoice_id, {part.month: percent for part in drawn.parts})
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
        sql.bulk_insert(connection, invoice_transactions, [(number, invoice_id) for number in run.numbers])
        events.record_invoice(connection, events.INVOICE_ISSUED, invoice_row(connection, invoice_id), now)
        if paid:
            events.record_invoice(
                connection, events.INVOICE_PAID, invoice_row(connection, invoice_id), now, format_time(now)
            )
        return invoice(connection, invoice_id)

    def _document(self, connection: Connection, party: Party, period: Period, run: Run, now: datetime) -> _Drawn:
        lines = run.lines
        profile = profile_of(connection, party)
        given = [part for part in run.parts if not part.credit.is_deposit]
        subtotal = sum(line.nano for line in lines)
        factor = 1 + self._wallets.percent(connection, party, now) / 100
        most = floor((subtotal - total_of(given)) * factor)
        deposits = capped([part for part in run.parts if part.credit.is_deposit], most)
        brought = remainder(connection, party.id)
        sums = self.sums(party, profile, lines, total_of(given), total_of(deposits), now, brought)
        document = {
            "id": "",
            "number": "",
            "status": "draft",
            "kind": "on_demand",
            "issuer": issuer_of_document(self.issuer),
            "customer": customer_of_document(party.id, party.name, profile),
            "currency": party.currency,
            "period": period_of_document(party, period),
            "issued_at": format_time(now),
            "lines": [line.as_dict(position) for position, line in enumerate(lines, 1)],
            "subtotal": amount_text(sums.subtotal),
            "credits": by_credit(given),
            "brought_forward": amount_text(sums.brought),
            "rounding": amount_text(sums.rounding),
            "net": amount_text(sums.net),
            "taxes": [
                {
                    "name": tax.name,
                    "percent": percent_text(tax.percent),
                    "amount": amount_text(tax.nano),
                    **({"category": tax.category, "reason": tax.reason} if tax.category else {}),
                }
                for tax in sums.taxes
            ],
            "total": amount_text(sums.total),
            "prepaid": by_credit(deposits),
            "due": amount_text(sums.due),
            "carried": amount_text(sums.carried),
            "rounding_rule": ROUNDING_RULE,
        }
        document["digest"] = digest_of(document, run.credited)
        return _Drawn(document, sums, profile, (*given, *deposits))

    def sums(
        self,
        party: Party,
        profile: Profile,
        lines: Iterable[Line],
        credit_nano: int,
        deposit_nano: int,
        now: datetime,
        brought: int | None = None,
        taxes: Sequence[TaxLine] | None = None,
    ) -> Sums:
        """The arithmetic: credits before rounding, rounding before tax, deposits after it. `brought` is what earlier documents
        rounded off (or, below zero, up), None on an invoice from before that was counted. `taxes` are those that an invoice
        states; without them the calculator is asked. Raises InvalidInputError for a tax that is not its percentage of the net
        amount.
        """
        subtotal = sum(line.nano for line in lines)
        exact = subtotal - credit_nano
        if exact < 0:
            # Only invoices from before credit notes come to less than nothing.
            return Sums(subtotal, credit_nano, 0, 0, (), 0, 0, deposit_nano - exact, deposit_nano)

        def summed(counted: int) -> Sums:
            net = max(Money(0, party.currency), Money(exact + counted, party.currency).rounded())
            stated = self._taxes.lines(TaxBasis(party.id, profile, net, now)) if taxes is None else taxes
            for tax in stated:
                tax.check(net)
            total = net.nano + sum(tax.nano for tax in stated)
            whole = deposit_nano and covers(deposit_nano, exact, sum((tax.percent for tax in stated), Fraction(0)))
            step = smallest_unit(party.currency)
            prepaid = total if whole else min(total, round(Fraction(deposit_nano, step)) * step)
            rounding = net.nano - exact
            return Sums(
                subtotal,
                credit_nano,
                rounding,
                net.nano,
                tuple(stated),
                total,
                prepaid,
                0,
                deposit_nano,
                counted,
                not whole,
            )

        if brought is None:
            return replace(summed(0), kept=False)
        # What a deposit pays whole is settled exactly: nothing of it is left to count.
        alone = taxes is None and not summed(0).kept
        return summed(0 if alone else brought)

    def void(self, connection: Connection, invoice_id: str, reason: str, now: datetime) -> dict[str, Any]:
        """Take a final invoice back by a linked reversal; its number stays used, its charges are invoiced again.

        Raises ConflictError where money was paid on it or a credit that it carried over was used.
        """
        sql.lock_head(connection, journal.CHAIN)
        row = invoice_row(connection, invoice_id)
        if row.status == VOID:
            return invoice(connection, row.id)
        party = sql.party(connection, row.organization_id)
        assert party is not None
        _ensure_voidable(connection, party, row)
        reason = checked_line(reason, "the reason why the invoice is void", 500, 1)
        carried_id = derived_id("crd", row.organization_id, row.id)
        carried = connection.execute(select(credit_grants).where(credit_grants.c.id == carried_id)).first()
        if carried is not None and carried.remaining_nano != carried.nano:
            raise ConflictError(f"{row.number} can't be voided, because the credit that it carried over has been used")
        if carried is not None:
            # Nothing of it may burn any more.
            values = {"remaining_nano": 0, "taken_nano": carried.nano}
            connection.execute(update(credit_grants).where(credit_grants.c.id == carried_id).values(**values))
        original = journal.transaction(connection, row.transaction_no)
        period = month_of(now, party.timezone).start
        journal.post(connection, [journal.reversal(original, "void", period, f"{row.number} void: {reason}")], now)
        wallets.give_back(connection, row.id)
        connection.execute(update(invoices).where(invoices.c.id == row.id).values(status=VOID, settled_at=now))
        events.record_invoice(connection, events.INVOICE_VOIDED, row, now)
        return invoice(connection, row.id)


def _ensure_voidable(connection: Connection, party: Party, row: Row[Any]) -> None:
    """Raises ConflictError where an invoice is to be credited and not voided: something was settled on it, or the month in which it
    was issued is closed."""
    ensure_no_prepayment(row)
    settled = row.paid_nano or row.netted_nano or row.written_off_nano
    if settled or prior_of(connection, [row.id])[row.id] != Prior():
        raise ConflictError(
            f"invoice {row.number} has payments, credit notes, netting or a write-off; credit it with "
            f"`sublet ledger note {row.number}` instead of voiding it"
        )
    issued = month_of(row.finalized_at, party.timezone)
    if (party.id, to_micros(issued.start)) in sql.closed_periods(connection, [party.id]):
        raise ConflictError(
            f"invoice {row.number} was issued in {issued.label}, which is closed; credit it with "
            f"`sublet ledger note {row.number}` instead of voiding it"
        )


def _says_anything(drawn: _Drawn) -> bool:
    """What is less than the smallest unit waits, and so does what a deposit pays of it."""
    return bool(drawn.sums.total) or any(not part.credit.is_deposit or part.nano < 0 for part in drawn.parts)


def _entry(party: Party, period: Period, number: str, invoice_id: str, drawn: _Drawn) -> Entry:
    sums = drawn.sums
    amounts = {"unbilled": -sums.unbilled}
    for part in drawn.parts:
        account = part.credit.liability
        amounts[account] = amounts.get(account, 0) + part.nano
    amounts["taxes_payable"] = -sums.tax
    amounts["receivable"] = sums.total - sums.prepaid
    amounts["rounding"] = -sum(amounts.values())
    return journal.entry_of(party.id, party.currency, "invoice", invoice_id, period.start, f"invoice {number}", amounts)


def invoice(connection: Connection, invoice_id: str) -> dict[str, Any]:
    """A final invoice by id or number, with its present status. Raises NotFoundError."""
    return stated(invoice_row(connection, invoice_id))


def stated(row: Row[Any]) -> dict[str, Any]:
    """The document of a final invoice, with its present status, what was paid on it and what else lowered it, and what is open."""
    return {
        "details": [],
        "credit_note": None,
        "brought_forward": amount_text(0),
        **row.document,
        **with_all_fields(row.document),
        "status": row.status,
        "paid": amount_text(row.paid_nano),
        "credited": amount_text(row.credited_nano),
        "netted": amount_text(row.netted_nano),
        "written_off": amount_text(row.written_off_nano),
        "open": amount_text(0 if row.status == VOID else open_nano(row)),
    }


def invoices_of(connection: Connection, organization_id: str, limit: int = 1_000) -> list[Row[Any]]:
    columns = invoices.c
    statement = select(invoices).where(columns.organization_id == organization_id, columns.kind != CREDIT_NOTE)
    return list(connection.execute(statement.order_by(columns.number.desc()).limit(limit)))


def overdue(connection: Connection, since: datetime, now: datetime) -> list[Row[Any]]:
    """Final invoices that are not paid and were due in `[since, now)`."""
    wanted = select(invoices).where(invoices.c.status == FINAL, invoices.c.due_at >= since, invoices.c.due_at < now)
    return list(connection.execute(wanted.order_by(invoices.c.due_at, invoices.c.id)))


def invoices_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[Row[Any]]:
    """The invoices of an organization, the newest first."""
    columns = invoices.c
    mine = (columns.organization_id == organization_id) & (columns.kind != CREDIT_NOTE)
    return INVOICES.read(connection, select(invoices).where(mine), wanted)


def notes_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[Row[Any]]:
    """The credit notes of an organization, the newest first."""
    columns = invoices.c
    mine = (columns.organization_id == organization_id) & (columns.kind == CREDIT_NOTE)
    return NOTES.read(connection, select(invoices).where(mine), wanted)


def digest_of(document: dict[str, Any], credited: Credited | None = None) -> str:
    """SHA-256 over what an invoice charges, and what a credit note beside it takes off: lines and sums, not the day on which it
    was drawn up."""
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
    if credited is not None:
        content["credit_note"] = [credited.exact, [[line.key, line.nano] for line in credited.lines]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def invoice_row(connection: Connection, invoice_id: str) -> Row[Any]:
    """An invoice's row by id or number. Raises NotFoundError."""
    row = _document_row(connection, invoice_id)
    if row is None or row.kind == CREDIT_NOTE:
        raise NotFoundError(f"there is no invoice {invoice_id!r}; `sublet ledger invoices` lists them")
    return row


def note_row(connection: Connection, note_id: str) -> Row[Any]:
    """A credit note's row by id or number. Raises NotFoundError."""
    row = _document_row(connection, note_id)
    if row is None or row.kind != CREDIT_NOTE:
        raise NotFoundError(f"there is no credit note {note_id!r}; `sublet ledger notes` lists them")
    return row


def _document_row(connection: Connection, name: str) -> Row[Any] | None:
    statement = select(invoices).where((invoices.c.id == name) | (invoices.c.number == name))
    return connection.execute(statement).first()
