"""Proof: derive everything again from the raw events and compare it with what stands in the books."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, select, text

from sublet.ledger import store as sql
from sublet.ledger.credits.crediting import AT_USE, RETURNED
from sublet.ledger.credits.wallets import Wallets
from sublet.ledger.invoices.invoicing import Invoicing, invoice_row
from sublet.ledger.invoices.lines import FIXED, lines_of
from sublet.ledger.invoices.notes import CHARGING
from sublet.ledger.invoices.open_items import VOID
from sublet.ledger.invoices.taxes import Profile, TaxLine
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import USAGE, Party, amount_text
from sublet.ledger.payments.receipts import derived_paid
from sublet.ledger.periods import Period, month_of
from sublet.ledger.prices.book import PriceBook, Rate
from sublet.ledger.prices.booking import Books
from sublet.ledger.proof.budgets import BudgetProof
from sublet.ledger.proof.findings import Proof
from sublet.ledger.proof.notes import prove_notes, prove_open_items, prove_prepayments
from sublet.ledger.rating.batches import period_of
from sublet.ledger.rating.chains import CHAINS, Chain, Key
from sublet.ledger.rating.charging import keys_of, line_digest_part
from sublet.ledger.rating.fixed import adjustments_pending, fixed_due
from sublet.ledger.rating.slicing import start_after
from sublet.ledger.store import EVENT_COLUMNS, LINE_COLUMNS, RATING, EventRow, LineRow
from sublet.ledger.usage import dismissals
from sublet.ledger.usage.intake import Parties
from sublet.ledger.usage.meters import METERS
from sublet.store.tables.ledger import (
    balances,
    credit_grants,
    credit_uses,
    fixed_charges,
    invoice_transactions,
    invoices,
    postings,
    transactions,
)
from sublet.values.clock import from_micros, parse_time, to_micros
from sublet.values.errors import InvalidInputError
from sublet.values.money import nano_from_decimal

PAGE = 5_000


@dataclass(slots=True)
class _Booked:
    """What the lines of one transaction add up to."""

    digest: Any
    revenue: dict[str, int]


class Prover:
    """Proves an invoice, an organization, or everything."""

    def __init__(self, parties: Parties, books: Books, invoicing: Invoicing, wallets: Wallets) -> None:
        self._wallets = wallets
        self._parties = parties
        self._books = books
        self._invoicing = invoicing

    def prove(self, connection: Connection, now: datetime, organization_id: str = "", invoice_id: str = "") -> Proof:
        """Compare; nothing is written. Raises NotFoundError for an unknown invoice or organization."""
        if invoice_id:
            row = invoice_row(connection, invoice_id)
            organization_id, invoice_id = row.organization_id, row.id
        if organization_id:
            self._parties.get(connection, organization_id)
        proof = Proof(invoice_id or organization_id or "everything")
        broken = journal.broken_link(connection)
        if broken:
            proof.differs(broken)
        replay = _Replay(connection, self._parties, self._books, proof, organization_id)
        replay.run()
        self._credits(connection, proof, organization_id, replay.chains, now)
        _unrated(connection, proof, organization_id)
        dismissals.prove(connection, proof, organization_id)
        _balances(connection, proof, organization_id)
        if not invoice_id:
            self._fixed(connection, proof, organization_id)
            for owner in [organization_id] if organization_id else sql.organizations_with_transactions(connection):
                party = self._parties.get(connection, owner)
                prove_notes(connection, self._books, proof, party)
                prove_prepayments(connection, proof, party)
                prove_open_items(connection, proof, party)
        self._invoices(connection, proof, organization_id, invoice_id)
        return proof

    def _credits(
        self, connection: Connection, proof: Proof, organization_id: str, chains: dict[Key, Chain], now: datetime
    ) -> None:
        owners = (
            {organization_id}
            if organization_id
            else set(connection.execute(select(credit_grants.c.organization_id).distinct()).scalars())
        )
        mine: dict[str, dict[Key, Chain]] = {owner: {} for owner in owners}
        for key, chain in chains.items():
            if key[0] in mine:
                mine[key[0]][key] = chain
        for owner in sorted(owners):
            party = self._parties.get(connection, owner)
            self._wallets.prove(connection, proof, party, mine[owner], now)

    def _fixed(self, connection: Connection, proof: Proof, organization_id: str) -> None:
        statement = select(fixed_charges)
        if organization_id:
            statement = statement.where(fixed_charges.c.organization_id == organization_id)
        for row in connection.execute(statement).all():
            party = self._parties.get(connection, row.organization_id)
            used = month_of(row.period_start, party.timezone)
            posted = _posted_fixed(connection, row, used.label)
            derived = self._derived_fixed(connection, row, party, used)
            if derived is not None and derived != row.nano:
                sentence = f"{row.charge_id} of {used.label} derives as {derived} and stands as {row.nano} nano-units"
                proof.differs(sentence, derived - row.nano)
            if posted != row.nano:
                proof.differs(f"{row.charge_id}: posted {posted}, noted {row.nano} nano-units", posted - row.nano)

    def _derived_fixed(self, connection: Connection, row: Any, party: Party, used: Period) -> int | None:
        """What a fee or commitment comes to; None where usage came since that the next invoice brings it up to date with."""
        book = self._books.version(connection, row.book_version)
        if adjustments_pending(connection, book, party, used):
            return None
        found = {due.charge_id: due.nano for due in fixed_due(connection, book, party, used)}
        return found.get(row.charge_id, 0)

    def _invoices(self, connection: Connection, proof: Proof, organization_id: str, invoice_id: str) -> None:
        statement = select(invoices).where(invoices.c.status != VOID, invoices.c.kind.in_(CHARGING))
        if organization_id:
            statement = statement.where(invoices.c.organization_id == organization_id)
        if invoice_id:
            statement = statement.where(invoices.c.id == invoice_id)
        for row in connection.execute(statement.order_by(invoices.c.number)).all():
            proof.invoices += 1
            self._invoice(connection, proof, row)

    def _invoice(self, connection: Connection, proof: Proof, row: Any) -> None:
        """An invoice is the sum of its transactions, and its own transaction posts just that."""
        party = self._parties.get(connection, row.organization_id)
        numbers = list(
            connection.execute(
                select(invoice_transactions.c.transaction_no)
                .where(invoice_transactions.c.invoice_id == row.id)
                .order_by(invoice_transactions.c.transaction_no)
            ).scalars()
        )
        lines = lines_of(connection, self._books, party, numbers)
        shown = [line.as_dict(position) for position, line in enumerate(lines, 1)]
        document = row.document
        for line, stored in zip(*_in_one_order(shown, document["lines"]), strict=False):
            if _as_stored(line, stored) != stored:
                proof.differs(f"{row.number}: line {stored['position']} ({stored['description']}) derives otherwise")
        if len(shown) != len(document["lines"]):
            proof.differs(f"{row.number} has {len(document['lines'])} lines and {len(shown)} derive from its events")
        used = {True: 0, False: 0}
        statement = (
            select(credit_uses.c.nano, credit_grants.c.kind, credit_grants.c.tax_mode)
            .outerjoin(credit_grants, credit_grants.c.id == credit_uses.c.credit_id)
            .where(credit_uses.c.invoice_id == row.id)
        )
        for use in connection.execute(statement):
            used[use.kind in ("prepaid", RETURNED) and use.tax_mode == AT_USE] += use.nano
        customer = document["customer"]
        # As it was on that day: the customer's details and the taxes that are set may have changed since.
        profile = Profile(customer["name"], customer["address"], customer["country"], customer["tax_number"])
        issued = parse_time(document["issued_at"])
        taxes = [
            TaxLine(tax["name"], Fraction(tax["percent"]), nano_from_decimal(tax["amount"]))
            for tax in document["taxes"]
        ]
        try:
            brought = document.get("brought_forward")
            counted = None if brought is None else nano_from_decimal(brought)
            sums = self._invoicing.sums(party, profile, lines, used[False], used[True], issued, counted, taxes)
        except InvalidInputError as error:
            proof.differs(f"{row.number}: {error.message}", 1)
            return
        for name, value in (
            ("subtotal", sums.subtotal),
            ("rounding", sums.rounding),
            ("net", sums.net),
            ("total", sums.total),
            ("due", sums.due),
        ):
            if document[name] != amount_text(value):
                proof.differs(f"{row.number}: {name} is {document[name]} and derives as {amount_text(value)}", 1)
        self._posted(connection, proof, row, numbers, sums)
        paid = derived_paid(connection, row)
        if paid != row.paid_nano:
            sentence = f"{row.number}: {amount_text(row.paid_nano)} stand as paid and {amount_text(paid)} were posted"
            proof.differs(sentence, paid - row.paid_nano)

    def _posted(self, connection: Connection, proof: Proof, row: Any, numbers: list[int], sums: Any) -> None:
        posted: dict[str, int] = defaultdict(int)
        for posting in journal.transaction(connection, row.transaction_no).entry.postings:
            posted[posting.account] += posting.nano
        # What a deposit paid but for a part of the smallest unit was once taken as settled exactly.
        unbilled = {sums.unbilled, sums.subtotal} if sums.deposit and not sums.due else {sums.unbilled}
        stated = (sums.due, -sums.tax)
        if -posted["unbilled"] not in unbilled or (posted["receivable"], posted["taxes_payable"]) != stated:
            proof.differs(
                f"{row.number}: transaction {row.transaction_no} posts other amounts than the invoice",
                posted["unbilled"] + sums.unbilled,
            )
        total = 0
        for part in sql.chunks(numbers):
            found = connection.execute(
                select(postings.c.nano).where(postings.c.transaction_no.in_(part), postings.c.account == "unbilled")
            )
            total += sum(found.scalars())
        if total != sums.subtotal:
            proof.differs(
                f"{row.number}: its transactions come to {total}, its lines to {sums.subtotal}", total - sums.subtotal
            )


class _Replay:
    """Reads the rated lines in their order next to their events and derives each again."""

    def __init__(
        self, connection: Connection, parties: Parties, books: Books, proof: Proof, organization_id: str
    ) -> None:
        self._connection = connection
        self._parties = parties
        self._books = books
        self._proof = proof
        self._organization_id = organization_id
        self.chains: dict[Key, Chain] = {}
        """The counters, counted again."""
        owners = [organization_id] if organization_id else sql.organizations_with_transactions(connection)
        self._moments = sql.grant_moments(connection, owners)
        self._counters: dict[Key, list[int]] = {}
        self._since, _ = sql.read_head(connection, CHAINS)
        self._booked: dict[int, _Booked] = {}
        self._budgets = BudgetProof(connection, parties, organization_id)

    def run(self) -> None:
        for page in self._pages():
            self._prepare(page)
            for line, event in page:
                self._line(line, event)
            self._settle(before=page[-1][0].transaction_no)
        self._settle(before=None)
        self._compare_counters()
        self._budgets.compare(self._connection, self._proof)

    def _pages(self) -> Iterator[list[tuple[LineRow, EventRow | None]]]:
        position = 0
        line_columns = ", ".join(f"l.{name}" for name in LineRow._fields)
        event_columns = ", ".join(f"e.{name}" for name in EventRow._fields)
        mine = "AND l.organization_id = :organization" if self._organization_id else ""
        statement = text(
            f"SELECT {line_columns}, {event_columns} FROM ledger_lines l LEFT JOIN ledger_events e ON e.seq = l.event_seq "
            f"WHERE l.line_no > :after {mine} ORDER BY l.line_no LIMIT :limit"
        )
        width = len(LineRow._fields)
        while True:
            given: dict[str, Any] = {"after": position, "limit": PAGE}
            if self._organization_id:
                given["organization"] = self._organization_id
            rows = self._connection.execute(statement, given).all()
            if not rows:
                return
            yield [
                (LineRow._make(row[:width]), EventRow._make(row[width:]) if row[width] is not None else None)
                for row in rows
            ]
            position = rows[-1][0]

    def _prepare(self, page: list[tuple[LineRow, EventRow | None]]) -> None:
        resources = {event.resource for _, event in page if event is not None and event.resource}
        parties = {line.organization_id: self._parties.get(self._connection, line.organization_id) for line, _ in page}
        self._books.load_agreed(self._connection, resources, parties)

    def _line(self, line: LineRow, event: EventRow | None) -> None:
        proof = self._proof
        proof.lines += 1
        if event is None:
            proof.differs(f"line {line.line_no} has no event: event {line.event_seq} was removed", line.nano)
            return
        proof.events += line.kind != "reversal"
        named = f"event {event.event_id!r} of {event.source!r} (line {line.line_no})"
        origin = event if event.kind == USAGE else self._origin(event)
        if origin is None:
            proof.differs(f"{named} corrects an event that is not there", line.nano)
            return
        party = self._parties.get(self._connection, line.organization_id)
        book = self._books.version(self._connection, line.book_version)
        rate = self._books.rate(book, party, origin.meter, origin.dimensions, origin.at, origin.resource)
        if rate is None or (rate.id, rate.list_id) != (line.rate_id, line.list_rate_id):
            proof.differs(
                f"{named} was rated by {line.rate_id}, but {rate.id if rate else 'no price'} holds", line.nano
            )
            return
        if to_micros(period_of(origin.at, party.timezone).start) != line.period_start:
            proof.differs(f"{named} stands in the period of another month", line.nano)
        steps = self._steps(line, event)
        if steps != line.quantity:
            proof.differs(f"{named} has the quantity {steps} and was rated as {line.quantity}")
        nano, list_nano = self._advance(party, book, rate, origin, line, steps)
        if nano != line.nano or list_nano != line.list_nano:
            proof.differs(f"{named} derives as {nano} nano-units and stands as {line.nano}", nano - line.nano)
        self._collect(line, event, origin.meter)
        self._budgets.add(line, origin, party)

    def _origin(self, event: EventRow) -> EventRow | None:
        return sql.event_named(self._connection, event.corrects_source or "", event.corrects_id or "")

    def _steps(self, line: LineRow, event: EventRow) -> int:
        if line.kind == "superseded":
            return 0
        if line.reverses is None:
            return event.quantity
        statement = text(f"SELECT {LINE_COLUMNS} FROM ledger_lines WHERE line_no = :line")
        row = self._connection.execute(statement, {"line": line.reverses}).first()
        return -row.quantity if row else 0

    def _advance(
        self, party: Party, book: PriceBook, rate: Rate, origin: EventRow, line: LineRow, steps: int
    ) -> tuple[int, int]:
        """What a line comes to. Go on from what was recorded: a difference is told once, where it is, not in every line after."""
        keys = keys_of(party.id, rate, line.period_start)
        found = [self.chains.setdefault(key, Chain()) for key in keys]
        usage = (origin.meter, origin.dimensions, origin.resource)
        period = month_of(from_micros(line.period_start), party.timezone)
        start, spans = self._books.placed(book, party, usage, rate, origin.at, period)
        start = start_after(start, self._moments.get(party.id, []), origin.at)
        for chain in found:
            chain.add(start, rate, line.book_version, line.quantity, origin.at)
        if line.line_no <= self._since:
            nano, list_nano = self._by_rate(rate, line, steps)
        else:
            for chain in found:
                chain.add(start, rate, line.book_version, steps - line.quantity, origin.at)
            nano = found[0].value(spans) - found[0].nano
            list_nano = found[-1].list_value(spans, rate.list_chain) - found[-1].list_nano
            for chain in found:
                chain.add(start, rate, line.book_version, line.quantity - steps, origin.at)
        found[0].nano += line.nano
        found[-1].list_nano += line.list_nano
        return nano, list_nano

    def _by_rate(self, rate: Rate, line: LineRow, steps: int) -> tuple[int, int]:
        """What a line comes to that was rated when each rate had a counter of its own."""
        costs: list[int] = []
        for rate_id, tariff in ((rate.id, rate.tariff), (rate.list_id, rate.list_price.tariff)):
            if rate_id:
                counter = self._counters.setdefault((line.organization_id, rate_id, line.period_start), [0, 0])
                costs.append(tariff.nano(max(0, counter[0] + steps)) - counter[1])
                counter[0] += line.quantity
                counter[1] = tariff.nano(max(0, counter[0]))
        return costs[0], costs[-1]

    def _collect(self, line: LineRow, event: EventRow, meter: str) -> None:
        booked = self._booked.get(line.transaction_no)
        if booked is None:
            booked = self._booked[line.transaction_no] = _Booked(hashlib.sha256(), defaultdict(int))
        booked.digest.update(line_digest_part(line, event))
        booked.revenue[f"revenue.{METERS[meter].product}"] -= line.nano

    def _settle(self, before: int | None) -> None:
        """Compare the transactions whose lines are all read."""
        ready = sorted(number for number in self._booked if before is None or number < before)
        for part in sql.chunks(ready):
            heads = connection_rows(self._connection, part)
            for number in part:
                self._proof.transactions += 1
                self._transaction(number, self._booked.pop(number), heads.get(number))

    def _transaction(self, number: int, booked: _Booked, found: tuple[str, dict[str, int]] | None) -> None:
        if found is None:
            self._proof.differs(f"transaction {number} is missing")
            return
        digest, posted = found
        if digest != booked.digest.hexdigest():
            self._proof.differs(f"the lines of transaction {number} or their events are not those that were posted")
        expected = dict(booked.revenue) | {"unbilled": -sum(booked.revenue.values())}
        for account, nano in expected.items():
            if posted.get(account, 0) != nano:
                difference = nano - posted.get(account, 0)
                self._proof.differs(
                    f"transaction {number} posts {posted.get(account, 0)} on {account}, not {nano}", difference
                )

    def _compare_counters(self) -> None:
        for part in sql.chunks(sorted(self.chains)):
            stored = sql.counters_for(self._connection, part)
            for key in part:
                chain = self.chains[key]
                if key not in stored or stored[key][:3] != (chain.steps, chain.nano, chain.list_nano):
                    self._proof.differs(f"the counter of {key[1]} of {key[0]} is not the sum of its lines")


def connection_rows(connection: Connection, numbers: Any) -> dict[int, tuple[str, dict[str, int]]]:
    """Lines digest and postings by account of transactions."""
    found: dict[int, tuple[str, dict[str, int]]] = {}
    statement = select(transactions.c.transaction_no, transactions.c.lines_digest)
    for row in connection.execute(statement.where(transactions.c.transaction_no.in_(numbers))):
        found[row.transaction_no] = (row.lines_digest, defaultdict(int))
    for row in connection.execute(select(postings).where(postings.c.transaction_no.in_(numbers))):
        if row.transaction_no in found:
            found[row.transaction_no][1][row.account] += row.nano
    return found


def _unrated(connection: Connection, proof: Proof, organization_id: str) -> None:
    """Every event up to where the rating stands has a line, waits with a reason, or was dismissed with one."""
    position, _ = sql.read_head(connection, RATING)
    mine = "AND e.organization_id = :organization" if organization_id else ""
    given: dict[str, Any] = {"position": position} | ({"organization": organization_id} if organization_id else {})
    statement = text(
        f"SELECT {EVENT_COLUMNS} FROM ledger_events e WHERE e.seq <= :position {mine} "
        "AND NOT EXISTS (SELECT 1 FROM ledger_lines l WHERE l.event_seq = e.seq) "
        "AND NOT EXISTS (SELECT 1 FROM ledger_waiting w WHERE w.event_seq = e.seq) "
        "AND NOT EXISTS (SELECT 1 FROM ledger_transactions t WHERE t.organization_id = e.organization_id "
        f"AND t.kind = '{dismissals.DISMISSAL}' AND t.source_id = 'event ' || CAST(e.seq AS TEXT)) ORDER BY e.seq LIMIT 5"
    )
    for row in connection.execute(statement, given):
        proof.differs(f"event {row.event_id!r} of {row.source!r} was taken and never rated", 1)


def _balances(connection: Connection, proof: Proof, organization_id: str) -> None:
    statement = select(balances)
    if organization_id:
        statement = statement.where(balances.c.organization_id == organization_id)
    running = {(row.organization_id, row.account): row.nano for row in connection.execute(statement)}
    summed = journal.summed_balances(connection, organization_id or None)
    for key in sorted(running.keys() | summed.keys()):
        difference = running.get(key, 0) - summed.get(key, 0)
        if difference:
            proof.differs(f"the balance of {key[1]} of {key[0]} is not the sum of its postings", difference)


def _in_one_order(
    shown: list[dict[str, Any]], stored: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The lines of an invoice from before `booked` stand in another order: both by what they charge then."""
    if all("booked" in line for line in stored):
        return shown, stored

    def charged(line: dict[str, Any]) -> tuple[str, ...]:
        return line["kind"], line["rate"], line["description"]

    return sorted(shown, key=charged), sorted(stored, key=charged)


def _as_stored(line: dict[str, Any], stored: dict[str, Any]) -> dict[str, Any]:
    """A derived line with the fields that a stored one has: invoices from before `booked` named fees by the month of booking."""
    named = {name: line.get(name) for name in stored}
    if "booked" not in stored and line["kind"] in FIXED:
        named |= {name: stored[name] for name in ("id", "used")}
    if "booked" not in stored:
        named["position"] = stored["position"]
    return named


def _posted_fixed(connection: Connection, row: Any, label: str) -> int:
    statement = (
        select(postings.c.nano)
        .join(transactions, transactions.c.transaction_no == postings.c.transaction_no)
        .where(
            transactions.c.organization_id == row.organization_id,
            transactions.c.kind.in_(("fee", "commitment")),
            transactions.c.source_id.startswith(f"{row.charge_id} {label} r", autoescape=True),
            postings.c.account == "unbilled",
        )
    )
    return sum(int(nano) for nano in connection.execute(statement).scalars())
