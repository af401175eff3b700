"""Credit notes: what is due less on invoices, by invoice and tax, numbered in a series of their own.

The rate of tax is the invoice's, whatever holds today, and rounding is cumulative: notes for all parts of an invoice add up to
it, to the cent. A note first lowers what is open on its invoices; what was paid is owed back to the customer.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Row, insert, select

from sublet.ledger import events
from sublet.ledger import store as sql
from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.credits.wallets import Part, Wallets
from sublet.ledger.invoices.lines import WHOLE, Line, covers, percent_text, smallest_unit
from sublet.ledger.invoices.open_items import ISSUED, VOID, change_open, open_nano
from sublet.ledger.invoices.runs import (
    Credited,
    as_stated,
    by_credit,
    label_of,
    nano_of,
    next_number,
    period_of_document,
    total_of,
)
from sublet.ledger.invoices.write_offs import recover
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Entry, Party, amount_text
from sublet.ledger.periods import Period, month_of
from sublet.store.tables.ledger import invoice_transactions, invoices, note_allocations
from sublet.values.clock import format_time
from sublet.values.money import Money

NOTE_NUMBERS = "credit note numbers"
NOTE_PREFIX = "CN-"
NOTE = "credit note"
"""The kind of the transaction that a credit note posts."""
ROUNDING_RULE = (
    "Amounts are in your favor. Net and taxes are rounded so that all credit notes of an invoice together come to it, "
    "at the rates of the invoice."
)


@dataclass(frozen=True, slots=True)
class Allocation:
    """What a note takes off one invoice: its exact net, and net and taxes as they are stated; and what of it was still open."""

    row: Row[Any]
    exact: int
    net: int
    taxes: tuple[int, ...]
    back: int = 0
    """What of it goes back to deposits; below zero where they pay more of what was invoiced."""
    receivable: int = 0

    @property
    def gross(self) -> int:
        return self.net + sum(self.taxes)


@dataclass(frozen=True, slots=True)
class Note:
    """A credit note that is drawn up: what it says, what it takes off each invoice, and what it states of credits."""

    content: dict[str, Any]
    allocations: tuple[Allocation, ...]
    parts: tuple[Part, ...]
    percents: Mapping[datetime, Fraction]
    balance: int

    @property
    def total(self) -> int:
        return sum(part.gross for part in self.allocations)


@dataclass(frozen=True, slots=True)
class Prior:
    """What notes took off an invoice before: exact net, net and taxes."""

    exact: int = 0
    net: int = 0
    taxes: tuple[int, ...] = ()


def split(
    document: Mapping[str, Any], currency: str, prior: Prior, exact: int, gross: int | None = None
) -> tuple[int, tuple[int, ...]]:
    """The net and the taxes of the next note that takes `exact` (nano-units) off an invoice: the rounded sum of all notes less
    the rounded sum of those before. A note of an amount, `gross`, comes to just that."""
    whole = as_stated(dict(document))
    sum_exact = prior.exact + exact
    most = nano_of(document["net"])
    # An invoice that counts what another rounded up may say less than its lines round to.
    net = most if sum_exact == whole else min(most, Money(sum_exact, currency).rounded().nano)
    step = smallest_unit(currency)
    before = prior.taxes or (0,) * len(document["taxes"])
    taxes = []
    for tax, taken in zip(document["taxes"], before, strict=True):
        due = round(Fraction(net) * Fraction(tax["percent"]) / (100 * step)) * step
        taxes.append((nano_of(tax["amount"]) if sum_exact == whole else due) - taken)
    if gross is not None and taxes:
        taxes[-1] += gross - (net - prior.net) - sum(taxes)
    return net - prior.net, tuple(taxes)


class Notes:
    """Plans, draws up and posts credit notes."""

    def __init__(self, wallets: Wallets) -> None:
        self._wallets = wallets

    def plan(
        self,
        connection: Connection,
        party: Party,
        less: Mapping[str, int],
        due: Sequence[Part],
        besides: Mapping[str, int] | None = None,
    ) -> Credited | None:
        """Which invoices the months `less` (label and nano-units of net) are credited on: those that charge the month, the newest
        first. Months that do not fit wait; `besides` is what else is taken off invoices, by id. None where nothing is credited."""
        rows = standing_invoices(connection, party.id)
        prior = prior_of(connection, [row.id for row in rows])
        left = {row.id: max(0, as_stated(row.document) - prior[row.id].exact) for row in rows}
        for invoice_id, nano in (besides or {}).items():
            left[invoice_id] -= nano
        exact: dict[str, int] = {}
        named: dict[str, str] = {}
        for label in sorted(less):
            taken = _taken(label, less[label], rows, left)
            if taken is None:
                continue
            named[label] = next(iter(taken))
            for invoice_id, nano in taken.items():
                exact[invoice_id] = exact.get(invoice_id, 0) + nano
                left[invoice_id] -= nano
        if not named:
            return None
        parts = tuple(part for part in due if label_of(party, part) in named)
        return Credited(frozenset(named), exact, named, parts)

    def draw(self, connection: Connection, party: Party, plan: Credited, period: Period, now: datetime) -> Note | None:
        """The note of a plan; None where it would take off, and give back, nothing that can be stated."""
        found = _invoices_of(connection, plan.exact)
        prior = prior_of(connection, list(found))
        shares = []
        for invoice_id, exact in plan.exact.items():
            row = found[invoice_id]
            net, taxes = split(row.document, party.currency, prior[invoice_id], exact, plan.gross)
            shares.append(Allocation(row, exact, net, taxes))
        deposits = [part for part in plan.parts if part.credit.is_deposit]
        given = [part for part in plan.parts if not part.credit.is_deposit]
        returned: dict[str, int] = defaultdict(int)
        for part in deposits:
            returned[plan.invoices[label_of(party, part)]] -= part.nano
        allocations, balance = settle(party, shares, returned)
        percents = {part.month: percent_of(found[plan.invoices[label_of(party, part)]].document) for part in plan.parts}
        content = self._content(party, plan, period, allocations, given, deposits, now)
        content |= {"balance": amount_text(balance)}
        content["digest"] = digest_of_note(content)
        note = Note(content, allocations, plan.parts, percents, balance)
        return note if note.total or plan.parts else None

    def make(
        self,
        connection: Connection,
        party: Party,
        plan: Credited,
        period: Period,
        kind: str,
        now: datetime,
        **said: str,
    ) -> dict[str, Any] | None:
        """Number, post and keep the note of a plan; `said` goes into it. None as for `draw`."""
        note = self.draw(connection, party, plan, period, now)
        if note is None:
            return None
        note = replace(note, allocations=tuple(_reopened(connection, part, now) for part in note.allocations))
        number, note_id = next_number(connection, NOTE_NUMBERS, NOTE_PREFIX, "crn")
        self._wallets.state(connection, note.parts, note_id, note.percents)
        [posted] = journal.post(connection, [note_entry(party, number, note_id, note, plan, now)], now)
        document = note.content | {
            "id": note_id,
            "number": number,
            "status": ISSUED,
            "made": kind,
            "issued_at": format_time(now),
            "transaction": posted.number,
            **said,
        }
        connection.execute(
            insert(invoices).values(
                id=note_id,
                organization_id=party.id,
                kind=CREDIT_NOTE,
                status=ISSUED,
                number=number,
                currency=party.currency,
                period_start=period.start,
                period_end=period.end,
                created_at=now,
                finalized_at=now,
                due_at=None,
                settled_at=now,
                transaction_no=posted.number,
                total_nano=note.total,
                due_nano=0,
                paid_nano=0,
                document=document,
            )
        )
        self._keep(connection, note_id, note, now)
        sql.bulk_insert(connection, invoice_transactions, [(found, note_id) for found in plan.numbers])
        events.record_note(connection, party.id, document, now)
        return document

    def _keep(self, connection: Connection, note_id: str, note: Note, now: datetime) -> None:
        for part in note.allocations:
            sql.insert_row(
                connection,
                note_allocations,
                note_id=note_id,
                invoice_id=part.row.id,
                exact_nano=part.exact,
                net_nano=part.net,
                taxes_nano=[str(tax) for tax in part.taxes],
                receivable_nano=part.receivable,
            )
            if part.receivable:
                change_open(connection, part.row, now, credited_nano=part.row.credited_nano + part.receivable)

    def _content(
        self,
        party: Party,
        plan: Credited,
        period: Period,
        allocations: Sequence[Allocation],
        given: Sequence[Part],
        deposits: Sequence[Part],
        now: datetime,
    ) -> dict[str, Any]:
        first = allocations[0].row.document
        net = sum(part.net for part in allocations)
        exact = sum(part.exact for part in allocations)
        taxes = _taxes(allocations)
        lines = [line_of_note(line).as_dict(position) for position, line in enumerate(plan.lines, 1)]
        given = [part for part in given if part.credit.id not in plan.taken_off]
        return {
            "id": "",
            "number": "",
            "status": "draft",
            "kind": CREDIT_NOTE,
            "made": "",
            "reason": "",
            "corrects": [_corrected(part) for part in allocations],
            "issuer": first["issuer"],
            "customer": first["customer"],
            "currency": party.currency,
            "period": period_of_document(party, period),
            "issued_at": format_time(now),
            "lines": lines,
            "subtotal": amount_text(exact - total_of(given)),
            "credits": by_credit(given, 1),
            "rounding": amount_text(net - exact),
            "net": amount_text(net),
            "taxes": taxes,
            "total": amount_text(sum(part.gross for part in allocations)),
            "prepaid": by_credit(deposits, 1),
            "receivable": amount_text(sum(part.receivable for part in allocations)),
            "rounding_rule": ROUNDING_RULE,
        }


def _taken(label: str, nano: int, rows: Sequence[Row[Any]], left: Mapping[str, int]) -> dict[str, int] | None:
    """What of `nano` each invoice takes; None where they can't take all of it. An invoice is named even where it takes nothing."""
    charging = [row for row in rows if any(line["used"] == label for line in row.document["lines"])]
    others = [row for row in rows if row not in charging]
    taken: dict[str, int] = {}
    for row in [*charging, *others]:
        part = min(nano, left[row.id])
        if part:
            taken[row.id] = part
            nano -= part
        if not nano:
            break
    if nano:
        return None
    return taken or ({charging[0].id: 0} if charging else None)


def line_of_note(line: Line) -> Line:
    """A line of what is due less, as a credit note says it: in the customer's favor."""
    return replace(line, steps=-line.steps, nano=-line.nano, list_nano=-line.list_nano)


def percent_of(document: Mapping[str, Any]) -> Fraction:
    """All taxes of an invoice together, in percent."""
    return sum((Fraction(tax["percent"]) for tax in document["taxes"]), Fraction(0))


def _with_back(party: Party, share: Allocation, deposit: int) -> tuple[Allocation, int]:
    """A share with what goes back to deposits of it, in whole units of the currency: all of it where they paid for all; below zero
    where a deposit that is free again pays more of what was invoiced. And what does not fit, which another invoice has."""
    gross = share.exact * (1 + percent_of(share.row.document) / 100)
    if deposit > 0 and gross and abs(gross - deposit) < WHOLE:
        return replace(share, back=share.gross), 0
    step = smallest_unit(party.currency)
    back = min(share.gross, round(Fraction(deposit, step)) * step)
    return replace(share, back=back), max(0, deposit - back) if deposit > share.gross else 0


def settle(
    party: Party, shares: Sequence[Allocation], deposits: Mapping[str, int]
) -> tuple[tuple[Allocation, ...], int]:
    """What of each share goes back to deposits (nano-units, by invoice) and what lowers what is open on its invoice; the rest is owed
    to the customer."""
    found = []
    balance = over = 0
    for share in shares:
        share, over = _with_back(party, share, deposits.get(share.row.id, 0) + over)
        rest = share.gross - share.back
        # What was written off is opened again before the note takes it off.
        receivable = max(0, min(open_nano(share.row) + share.row.written_off_nano, rest))
        balance += rest - receivable
        found.append(replace(share, receivable=receivable))
    return tuple(found), balance


def _reopened(connection: Connection, share: Allocation, now: datetime) -> Allocation:
    short = share.receivable - open_nano(share.row)
    if short <= 0:
        return share
    return replace(share, row=recover(connection, share.row, short, "credited", now))


def note_entry(party: Party, number: str, note_id: str, note: Note, plan: Credited, now: datetime) -> Entry:
    """Revenue or `unbilled`, credits and taxes against what is open, what is owed to the customer, and deposits."""
    rounded = (part.net - part.exact for part in note.allocations if keeps_remainder(part.row.document))
    amounts = {"unbilled": sum(rounded) - (sum(line.nano for line in plan.lines) if plan.numbers else 0)}
    for part in note.parts:
        account = part.credit.liability
        amounts[account] = amounts.get(account, 0) + part.nano
    if plan.deferred:
        amounts["deferred_revenue"] = amounts.get("deferred_revenue", 0) + plan.deferred
    amounts["taxes_payable"] = sum(sum(part.taxes) for part in note.allocations)
    amounts["receivable"] = -sum(part.receivable for part in note.allocations)
    amounts["customer_balance"] = -note.balance
    amounts["rounding"] = -sum(amounts.values())
    period = month_of(now, party.timezone)
    return journal.entry_of(party.id, party.currency, NOTE, note_id, period.start, f"credit note {number}", amounts)


def keeps_remainder(document: Mapping[str, Any]) -> bool:
    """Whether what an invoice rounded stayed unbilled for the next to count: not where a deposit paid all of it."""
    deposit = -sum(nano_of(used["amount"]) for used in document["prepaid"])
    if "brought_forward" not in document or not deposit:
        return "brought_forward" in document
    return not covers(deposit, as_stated(dict(document)), percent_of(document))


def _taxes(allocations: Sequence[Allocation]) -> list[dict[str, str]]:
    sums: dict[tuple[str, str], dict[str, str]] = {}
    for part in allocations:
        for tax, nano in zip(part.row.document["taxes"], part.taxes, strict=True):
            key = tax["name"], percent_text(Fraction(tax["percent"]))
            before = nano_of(sums[key]["amount"]) if key in sums else 0
            sums[key] = tax | {"percent": key[1], "amount": amount_text(before + nano)}
    return list(sums.values())


def _corrected(part: Allocation) -> dict[str, str]:
    return {
        "id": part.row.id,
        "invoice": part.row.number,
        "issued_at": part.row.document["issued_at"],
        "net": amount_text(part.net),
        "tax": amount_text(sum(part.taxes)),
        "total": amount_text(part.gross),
        "receivable": amount_text(part.receivable),
    }


def digest_of_note(document: Mapping[str, Any]) -> str:
    """SHA-256 over what a credit note takes off and gives back, not the day on which it was drawn up."""
    parts = ("corrects", "currency", "lines", "subtotal", "credits", "net", "taxes", "total", "prepaid", "balance")
    content = {name: document[name] for name in parts}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def standing_invoices(connection: Connection, organization_id: str) -> list[Row[Any]]:
    """Invoices that charge something and stand, the newest first."""
    columns = invoices.c
    statement = select(invoices).where(
        columns.organization_id == organization_id, columns.status != VOID, columns.kind.in_(CHARGING)
    )
    return list(connection.execute(statement.order_by(columns.number.desc())))


CHARGING = ("monthly", "on_demand")
"""Kinds of documents that charge for usage, fees and commitments."""


def prior_of(connection: Connection, invoice_ids: Collection[str]) -> dict[str, Prior]:
    """What notes took off each of these invoices so far."""
    found = {invoice_id: Prior() for invoice_id in invoice_ids}
    for chunk in sql.chunks(sorted(found)):
        statement = select(note_allocations).where(note_allocations.c.invoice_id.in_(chunk))
        for row in connection.execute(statement):
            before = found[row.invoice_id]
            taxes = [int(tax) for tax in row.taxes_nano]
            earlier = before.taxes or (0,) * len(taxes)
            found[row.invoice_id] = Prior(
                before.exact + row.exact_nano,
                before.net + row.net_nano,
                tuple(one + other for one, other in zip(earlier, taxes, strict=True)),
            )
    return found


def _invoices_of(connection: Connection, invoice_ids: Collection[str]) -> dict[str, Row[Any]]:
    statement = select(invoices).where(invoices.c.id.in_(list(invoice_ids)))
    return {row.id: row for row in connection.execute(statement)}
