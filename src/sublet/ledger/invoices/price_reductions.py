"""Credit notes that lower the price of what was invoiced while its usage stands: whole invoices, lines, or an amount of money."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Row

from sublet.ledger import store as sql
from sublet.ledger.credits.burning import BY_AMOUNT, BY_LINE
from sublet.ledger.credits.concessions import insert_concessions, taken_off_lines
from sublet.ledger.credits.crediting import NOTED, Credit
from sublet.ledger.credits.wallets import Part, Wallets
from sublet.ledger.invoices.invoicing import invoice_row
from sublet.ledger.invoices.lines import Line, plain, smallest_unit
from sublet.ledger.invoices.notes import NOTE_NUMBERS, Notes, prior_of
from sublet.ledger.invoices.open_items import VOID
from sublet.ledger.invoices.prepayments import ensure_no_prepayment
from sublet.ledger.invoices.runs import Credited, as_stated, billable, label_of, nano_of, numbers_by_month
from sublet.ledger.journal.double_entry import CHAIN
from sublet.ledger.model import PRODUCT_ACCOUNTS, Party
from sublet.ledger.periods import Period, month_labeled, month_of
from sublet.ledger.store import RATING
from sublet.ledger.usage.meters import METERS
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.ids import derived_id
from sublet.values.money import Money
from sublet.values.text import checked_line

LINES_MAX = 1_000
_FAR = datetime(9999, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What to take off an invoice: named lines (their ids, each with an amount in nano-units or None for what is left of it), or a
    gross amount, or neither: all that is left."""

    lines: Mapping[str, int | None] | None = None
    gross_nano: int | None = None


class PriceReductions:
    """Draws up and makes credit notes on request."""

    def __init__(self, wallets: Wallets) -> None:
        self._wallets = wallets
        self._notes = Notes(wallets)

    def make(
        self, connection: Connection, invoice_id: str, wanted: Wanted, reason: str, now: datetime, digest: str = ""
    ) -> dict[str, Any]:
        """Credit an invoice. Raises NotFoundError, InvalidInputError for more than is left, ConflictError where nothing is left, and
        where the note is not that of `digest` any more."""
        # The rater holds the same head: no usage moves while the credits that the note frees are worked out.
        sql.lock_head(connection, RATING)
        sql.lock_head(connection, CHAIN)
        row = invoice_row(connection, invoice_id)
        ensure_no_prepayment(row)
        if row.status == VOID:
            raise ConflictError(f"invoice {row.number} is void and can't be credited")
        reason = checked_line(reason, "the reason of the credit note", 500, 1)
        party = sql.party(connection, row.organization_id)
        assert party is not None
        # The note draws this number below: what it takes off burns under an id that follows from it.
        serial, _ = sql.lock_head(connection, NOTE_NUMBERS)
        note_id = derived_id("crn", f"CN-{serial + 1:06d}")
        plan, taken, line_ids = self._plan(connection, party, row, wanted, note_id, now)
        period = Period(row.period_start, row.period_end, row.document["period"]["label"], party.timezone)
        note = self._notes.draw(connection, party, plan, period, now)
        if note is None:
            raise ConflictError(f"nothing is left to credit on invoice {row.number}")
        if digest and digest != note.content["digest"]:
            raise ConflictError("the credit note has changed since it was reviewed; preview it again")
        insert_concessions(connection, row.id, taken, line_ids)
        made = self._notes.make(connection, party, plan, period, "on_demand", now, reason=reason)
        assert made is not None and made["id"] == note_id
        sql.unsettle(connection, party.id, min(credit.starts_at for credit in taken))
        self._wallets.refresh_budget(connection, party, now)
        return made

    def _plan(
        self, connection: Connection, party: Party, row: Row[Any], wanted: Wanted, note_id: str, now: datetime
    ) -> tuple[Credited, list[Credit], list[str]]:
        document = row.document
        if wanted.gross_nano is not None:
            lines = self._by_amount(connection, row, wanted.gross_nano)
        else:
            lines = _by_line(document, taken_off_lines(connection, row.id), wanted.lines, row.number)
        if not lines:
            raise ConflictError(f"nothing is left to credit on invoice {row.number}")
        kind = BY_LINE if wanted.gross_nano is None else BY_AMOUNT
        taken = [_credit(party, row, line, nano, note_id, kind, now) for line, nano in lines]
        parts = self._wallets.effect(connection, party, taken, now)
        if wanted.gross_nano is None and not wanted.lines:
            # Usage that was canceled since lowers what is left of the whole.
            used = _used(parts)
            kept = [place for place, credit in enumerate(taken) if used.get(credit.id)]
            taken = [replace(taken[place], nano=used[taken[place].id]) for place in kept]
            lines = [(lines[place][0], credit.nano) for place, credit in zip(kept, taken, strict=True)]
            parts = self._wallets.effect(connection, party, taken, now) if taken else []
        for credit, (line, _) in zip(taken, lines, strict=True):
            left = _used(parts).get(credit.id, 0)
            if left != credit.nano:
                raise InvalidInputError(f"{plain(left)} {party.currency} are left of {line['description']!r}")
        if not taken:
            raise ConflictError(f"nothing is left to credit on invoice {row.number}")
        credited = self._credited(connection, party, row, taken, parts)
        shown = tuple(_shown(place, line, nano) for place, (line, nano) in enumerate(lines, 1))
        if wanted.gross_nano is not None:
            shown = (_allowance(document, sum(nano for _, nano in lines)),)
            credited = replace(credited, gross=wanted.gross_nano if len(credited.exact) == 1 else None)
        return replace(credited, lines=shown), taken, [line["id"] for line, _ in lines]

    def _credited(
        self, connection: Connection, party: Party, row: Row[Any], taken: Sequence[Credit], parts: Sequence[Part]
    ) -> Credited:
        """What the note takes off its invoice, and, where it frees a credit that other invoiced months then use, off theirs."""
        mine = {month_of(credit.starts_at, party.timezone).label for credit in taken}
        change: dict[str, int] = defaultdict(int)
        for part in parts:
            if not part.credit.is_deposit:
                change[label_of(party, part)] += part.nano
        exact = sum(change[label] for label in mine)
        left = as_stated(row.document) - prior_of(connection, [row.id])[row.id].exact
        if taken[0].noted == BY_AMOUNT and exact != sum(credit.nano for credit in taken):
            raise ConflictError(
                f"part of {row.number} was paid with credits, so an amount can't be credited; credit lines instead"
            )
        if not 0 <= exact <= left:
            raise InvalidInputError(
                f"{row.number} has a net of {plain(left)} {row.currency} left, and this would credit {plain(exact)}"
            )
        waits = self._unbilled_months(connection, party)
        others = {label_of(party, part) for part in parts} - mine - waits
        plan = self._notes.plan(connection, party, {label: change[label] for label in others}, parts, {row.id: exact})
        exact_by_invoice = {row.id: exact}
        named = dict.fromkeys(mine, row.id)
        if plan is not None:
            for invoice_id, nano in plan.exact.items():
                exact_by_invoice[invoice_id] = exact_by_invoice.get(invoice_id, 0) + nano
            named |= plan.invoices
        stated = tuple(part for part in parts if label_of(party, part) in named)
        ids = frozenset(credit.id for credit in taken)
        return Credited(frozenset(named), exact_by_invoice, named, stated, taken_off=ids)

    def _unbilled_months(self, connection: Connection, party: Party) -> set[str]:
        """Months of which something waits for an invoice: what is free again there, that invoice states."""
        return set(numbers_by_month(connection, party, billable(connection, party.id, Period(_FAR, _FAR, ""))))

    def _by_amount(self, connection: Connection, row: Row[Any], gross: int) -> list[tuple[dict[str, Any], int]]:
        """The net of a gross amount, at the invoice's own taxes, over its lines by what is left of each."""
        if gross <= 0 or gross % smallest_unit(row.currency):
            raise InvalidInputError(f"credit an amount above 0 in whole units of {row.currency}", field="amount")
        document = row.document
        prior = prior_of(connection, [row.id])[row.id]
        credited = prior.net + sum(prior.taxes)
        left = nano_of(document["total"]) - credited
        if gross > left:
            raise InvalidInputError(f"{row.number} has {plain(left)} {row.currency} left to credit", field="amount")
        net = as_stated(document) - prior.exact
        if gross != left:
            categories = [(nano_of(document["net"]), nano_of(document["total"]))]
            [(sum_net, _)] = shares_of(credited + gross, categories, row.currency)
            net = sum_net - prior.net
        free = left_on_lines(document, taken_off_lines(connection, row.id))
        return spread(net, free)


def shares_of(gross: int, categories: Sequence[tuple[int, int]], currency: str) -> list[tuple[int, int]]:
    """A gross amount split over tax categories, given as (net, gross), in proportion: the net and the tax of each. Parts add up to
    `gross`; all amounts are in whole units of the currency."""
    whole = sum(total for _, total in categories)
    done_gross, done, found = 0, 0, []
    for net, total in categories:
        done += total
        mine = Money(round(Fraction(gross * done, whole)), currency).rounded().nano - done_gross
        done_gross += mine
        part = Money(round(Fraction(mine * net, total)), currency).rounded().nano if total else 0
        found.append((part, mine - part))
    return found


def spread(nano: int, lines: Sequence[tuple[dict[str, Any], int]]) -> list[tuple[dict[str, Any], int]]:
    """`nano` over lines in proportion to what is left of each."""
    whole = sum(left for _, left in lines)
    found, done, given = [], 0, 0
    for line, left in lines:
        done += left
        part = nano * done // whole - given
        given += part
        if part:
            found.append((line, part))
    return found


def left_on_lines(document: Mapping[str, Any], taken: Mapping[str, int]) -> list[tuple[dict[str, Any], int]]:
    """What is left of each line. A line below zero, as a correction in the same month is, lowers what is left of its month's."""
    below: dict[str, int] = defaultdict(int)
    for line in document["lines"]:
        below[line["used"]] += min(0, nano_of(line["amount"]))
    found = []
    for line in reversed(document["lines"]):
        left = nano_of(line["amount"]) - taken.get(line["id"], 0)
        if left > 0:
            less = min(left, -below[line["used"]])
            below[line["used"]] += less
            left -= less
        if left > 0:
            found.append((line, left))
    return found[::-1]


def _by_line(
    document: Mapping[str, Any], taken: Mapping[str, int], wanted: Mapping[str, int | None] | None, number: str
) -> list[tuple[dict[str, Any], int]]:
    left = left_on_lines(document, taken)
    if not wanted:
        return left
    by_id = {line["id"]: (line, nano) for line, nano in left}
    known = {line["id"] for line in document["lines"]} | {str(line["position"]) for line in document["lines"]}
    places = {str(line["position"]): line["id"] for line in document["lines"]}
    found = []
    for name, nano in wanted.items():
        if name not in known:
            raise NotFoundError(f"{number} has no line {name!r}; identify lines by position or id")
        line, most = by_id.get(places.get(name, name), ({}, 0))
        asked = most if nano is None else nano
        if asked <= 0 or asked > most:
            currency = document["currency"]
            raise InvalidInputError(
                f"line {name} of {number} has {plain(most)} {currency} left to credit", field="lines"
            )
        found.append((line, asked))
    return found


def _used(parts: Sequence[Part]) -> dict[str, int]:
    found: dict[str, int] = defaultdict(int)
    for part in parts:
        found[part.credit.id] += part.nano
    return found


def _credit(
    party: Party, row: Row[Any], line: Mapping[str, Any], nano: int, note_id: str, how: str, now: datetime
) -> Credit:
    start = month_labeled(line["used"], party.timezone).start
    identifier = derived_id("con", note_id, line["id"])
    return Credit(
        identifier,
        party.id,
        NOTED,
        note_id,
        "",
        nano,
        nano,
        now,
        None,
        start,
        account=account_of(line),
        noted=how,
    )


def account_of(line: Mapping[str, Any]) -> str:
    """Where a line of an invoice was earned."""
    account = f"revenue.{line['product']}"
    assert account in PRODUCT_ACCOUNTS, account
    return account


def _shown(position: int, line: Mapping[str, Any], nano: int) -> Line:
    """A line of the note, below zero as what is due less is; its quantity where all of it is credited."""
    meter = METERS.get(line["meter"])
    whole = nano == nano_of(line["amount"])
    steps = 0
    if meter and whole:
        steps = int(Decimal(line["quantity"]) * meter.steps_per_unit)
    return Line(
        line["kind"],
        line["description"],
        line["product"],
        line["meter"] if whole else "",
        line["rate"],
        line["used"],
        -steps if meter and whole else -1,
        -nano,
        -nano,
        line["events"] if whole else 0,
        line["unit_price"] if whole else "",
        line["booked"] if "booked" in line else line["used"],
    )


def _allowance(document: Mapping[str, Any], nano: int) -> Line:
    used = document["period"]["label"]
    return Line("allowance", "Allowance on the invoice", "", "", "", used, -1, -nano, -nano, 0, "", used)
