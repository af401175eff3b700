"""Fees and commitments: what they come to in each month, and what is posted so that the books say so.

What is posted depends on the published terms and on the month's usage alone, never on when usage came: a month that is closed
is caught up in the first open one, with late usage or without.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction

from sqlalchemy import Connection, select

from sublet.ledger import store as sql
from sublet.ledger.invoices.lines import plain
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Entry, Party, postings_of
from sublet.ledger.periods import Period, anchored, following, month_of
from sublet.ledger.prices.book import PriceBook
from sublet.ledger.prices.fields import FROM_OPEN
from sublet.ledger.prices.terms import Commitment, Fee
from sublet.ledger.rating.charging import LIST
from sublet.ledger.usage.meters import METERS
from sublet.store.tables.ledger import counters, fixed_charges, invoice_transactions, lines, transactions
from sublet.values.clock import from_micros, to_micros
from sublet.values.errors import ConflictError

MONTHS_NAMED_MAX = 12


class BackdatedError(ConflictError):
    """A fee or commitment affects closed months; state in the entry whether they are caught up or left unchanged."""

    code = "backdated"


@dataclass(frozen=True, slots=True)
class Due:
    """What a fee, or the commitments of one product together, come to in a month."""

    charge_id: str
    description: str
    account: str
    nano: int
    from_open: bool = False

    @property
    def kind(self) -> str:
        return "fee" if self.account == "revenue.fees" else "commitment"


def post_fixed(
    connection: Connection, book: PriceBook, party: Party, used: Period, booked: Period, now: datetime
) -> list[Entry]:
    """Post fees and commitments of the period `used` into `booked`: what they come to under `book` less what was posted."""
    entries: list[Entry] = []
    for due, posted, revision in _changes(connection, book, party, used, closed=used.start != booked.start):
        text = f"{due.description}, {used.label}" + (
            f", booked in {booked.label}" if used.start != booked.start else ""
        )
        amounts = postings_of({"unbilled": due.nano - posted, due.account: posted - due.nano})
        source = f"{due.charge_id} {used.label} r{revision + 1}"
        entries.append(Entry(party.id, party.currency, due.kind, source, booked.start, text, amounts))
        sql.bulk_insert(
            connection,
            fixed_charges,
            [(party.id, due.charge_id, to_micros(used.start), str(due.nano), book.version, revision + 1)],
            "ON CONFLICT (organization_id, charge_id, period_start) DO UPDATE SET "
            "nano = excluded.nano, book_version = excluded.book_version, revision = excluded.revision",
        )
    journal.post(connection, entries, now)
    if entries:
        sql.unsettle(connection, party.id, used.start)
    return entries


def _changes(
    connection: Connection, book: PriceBook, party: Party, used: Period, *, closed: bool
) -> Iterator[tuple[Due, int, int]]:
    """Charges that differ from what was posted for a month, with that and its revision. Of a closed month, what begins with the
    first open one only is left out unless it was posted before."""
    columns = fixed_charges.c
    statement = select(fixed_charges).where(columns.organization_id == party.id, columns.period_start == used.start)
    rows = {row.charge_id: row for row in connection.execute(statement)}
    dues = {due.charge_id: due for due in fixed_due(connection, book, party, used)}
    for charge_id in rows.keys() - dues.keys():
        dues[charge_id] = _nothing(book, party.id, charge_id)
    for charge_id, due in sorted(dues.items()):
        row = rows.get(charge_id)
        if row is None and closed and due.from_open:
            continue
        posted = row.nano if row else 0
        if due.nano != posted:
            yield due, posted, row.revision if row else 0


def _nothing(book: PriceBook, owner: str, charge_id: str) -> Due:
    """A charge of which nothing is due any more."""
    for fee in book.fees_of(owner):
        if fee.id == charge_id:
            return Due(charge_id, fee.description, "revenue.fees", 0)
    named = {entry.id: entry.description for entry in book.commitments_of(owner)}
    return Due(charge_id, named.get(charge_id, charge_id), "revenue.commitments", 0)


def catch_up(connection: Connection, book: PriceBook, party: Party, booked: Period, now: datetime) -> list[Entry]:
    """Bring fees and commitments of every closed month before `booked` up to date, in the first open month."""
    entries: list[Entry] = []
    for used, into in _closed_before(connection, party, booked):
        entries += post_fixed(connection, book, party, used, into, now)
    return entries


def behind(connection: Connection, book: PriceBook, party: Party, booked: Period) -> bool:
    """Whether `catch_up` would post anything."""
    return any(
        True
        for used, _ in _closed_before(connection, party, booked)
        for _ in _changes(connection, book, party, used, closed=True)
    )


def _closed_before(connection: Connection, party: Party, booked: Period | None) -> list[tuple[Period, Period]]:
    """Closed months that `booked` comes after, or all, each with the first month after it that is open."""
    closed = {start for _, start in sql.closed_periods(connection, [party.id])}
    found: list[tuple[Period, Period]] = []
    for start in sorted(closed):
        used = month_of(from_micros(start), party.timezone)
        into = used
        while to_micros(into.start) in closed:
            into = following(into, party.timezone)
        if booked is None or into.start <= booked.start:
            found.append((used, into))
    return found


def publish_fixed(connection: Connection, before: PriceBook, after: PriceBook, now: datetime) -> None:
    """Post at once what newly published fees and commitments move in closed months, in the first open one.

    Raises BackdatedError, with the amounts, where an entry that reaches into closed months does not say that it may.
    """
    earlier: list[Fee | Commitment] = [*before.fees, *before.commitments]
    current: list[Fee | Commitment] = [*after.fees, *after.commitments]
    changed: dict[str, list[Fee | Commitment]] = defaultdict(list)
    for entry in _changed(earlier, current):
        changed[entry.organization].append(entry)
    for organization_id, entries in changed.items():
        party = sql.party(connection, organization_id)
        if party is not None:
            _publish(connection, party, entries, after, now)


def publish_card_fixed(
    connection: Connection, party: Party, before: PriceBook, after: PriceBook, now: datetime
) -> None:
    """The same for the fees and commitments of one customer's rate card."""
    earlier: list[Fee | Commitment] = [*before.fees_of(party.id), *before.commitments_of(party.id)]
    current: list[Fee | Commitment] = [*after.fees_of(party.id), *after.commitments_of(party.id)]
    entries = _changed(earlier, current)
    if entries:
        _publish(connection, party, entries, after, now)


def _changed(earlier: list[Fee | Commitment], current: list[Fee | Commitment]) -> list[Fee | Commitment]:
    known = {entry.id: entry for entry in earlier}
    return [entry for entry in current if entry.id not in known or known[entry.id].valid_until != entry.valid_until]


def _publish(
    connection: Connection,
    party: Party,
    entries: list[Fee | Commitment],
    after: PriceBook,
    now: datetime,
) -> None:
    months: list[str] = []
    closed = _closed_before(connection, party, None)
    for used, _ in closed:
        for due, posted, _ in _changes(connection, after, party, used, closed=True):
            months.append(f"{used.label} by {plain(due.nano - posted)} {party.currency} ({due.charge_id})")
    silent = [entry.id for entry in entries if not entry.backdated]
    if months and silent:
        more = f" and {len(months) - MONTHS_NAMED_MAX} more" if len(months) > MONTHS_NAMED_MAX else ""
        raise BackdatedError(
            f"{silent[0]} would change closed months of {party.name}: {', '.join(months[:MONTHS_NAMED_MAX])}{more}; "
            'give the entry backdated = "catch_up" to book that in the first open month, '
            'or backdated = "from_open" to begin with the first open month'
        )
    for used, into in closed:
        post_fixed(connection, after, party, used, into, now)


def fixed_due(
    connection: Connection, book: PriceBook, party: Party, used: Period, usage: Mapping[str, int] | None = None
) -> list[Due]:
    """What each fee, and the commitments of each product together, come to in a month; with `usage` by product (nano-units) if it
    were that, else as it is in the books."""
    fees = [entry for entry in book.fees_of(party.id) if entry.currency == party.currency]
    own = [entry for entry in book.commitments_of(party.id) if entry.currency == party.currency]
    found: list[Due] = []
    for fee in fees:
        nano = fee_of(fee, used)
        if nano:
            found.append(Due(fee.id, fee.description, "revenue.fees", nano, fee.backdated == FROM_OPEN))
    charged = sum(due.nano for due in found)
    terms = [entry for entry in own if entry.term_end is not None]
    own = [entry for entry in own if entry.term_end is None]
    found += _terms_ended(connection, terms, party, used, usage)
    by_product = (used_by_product(connection, party, used) if usage is None else usage) if own else {}
    for product in sorted({entry.product for entry in own}):
        group = [entry for entry in own if entry.product == product]
        due = _committed(group, used, by_product, charged)
        if due is not None:
            found.append(due)
    return found


def fee_of(fee: Fee, used: Period) -> int:
    """What a fee comes to in a month. One for a term, or for periods of its own, is what its days up to the end of the month come
    to, less those before: the months of a term or period sum to its amount."""
    if fee.every:
        return _part_of_periods(fee, used)
    if fee.term_end is None:
        covered, whole = used.share(fee.valid_from, fee.valid_until)
        return fee.nano * covered // whole
    last = fee.term_end if fee.valid_until is None else fee.valid_until
    return _part_of_term(fee, min(last, used.end), used) - _part_of_term(fee, min(last, used.start), used)


def _part_of_periods(fee: Fee, used: Period) -> int:
    assert fee.anchor is not None
    start = max(used.start, fee.valid_from)
    end = used.end if fee.valid_until is None else min(used.end, fee.valid_until)
    nano = 0
    for period in anchored(fee.anchor, fee.every, start, end, used.timezone) if start < end else ():
        for until, sign in ((end, 1), (start, -1)):
            covered, whole = period.share(fee.valid_from, min(until, period.end))
            nano += sign * (fee.nano * covered // whole)
    return nano


def _part_of_term(fee: Fee, until: datetime, used: Period) -> int:
    assert fee.term_end is not None
    term = Period(fee.valid_from, fee.term_end, "", used.timezone)
    covered, whole = term.share(fee.valid_from, until)
    return fee.nano * covered // whole


def _terms_ended(
    connection: Connection, terms: list[Commitment], party: Party, used: Period, usage: Mapping[str, int] | None
) -> Iterator[Due]:
    """What is left of commitments whose term ends within a month: it was drawn down by the usage of all its months."""
    for entry in terms:
        assert entry.term_end is not None and entry.valid_until is not None
        if not used.start < entry.valid_until <= used.end:
            continue
        term = Period(entry.valid_from, entry.term_end, "", used.timezone)
        covered, whole = term.share(entry.valid_from, entry.valid_until)
        drawn = _drawn(connection, party, entry, used) if usage is not None else 0
        by_product = usage if usage is not None else used_by_product(connection, party, used, entry.valid_from)
        drawn += by_product.get(entry.product, 0) if entry.product else sum(by_product.values())
        nano = entry.adjustment(drawn, entry.minimum_nano * covered // whole, entry.overage)
        yield Due(entry.id, entry.description, "revenue.commitments", nano, entry.backdated == FROM_OPEN)


def _drawn(connection: Connection, party: Party, entry: Commitment, used: Period) -> int:
    """What usage drew down of a commitment for a term before the month in which it ends."""
    every = used_by_product(connection, party, used, entry.valid_from)
    last = used_by_product(connection, party, used)
    return sum(every.get(name, 0) - last.get(name, 0) for name in every if entry.product in ("", name))


def _committed(group: list[Commitment], used: Period, by_product: Mapping[str, int], fees: int) -> Due | None:
    """Commitments that follow each other within the month are one minimum, each for its days; fees count where they say so."""
    shares = {}
    for entry in sorted(group, key=lambda entry: entry.valid_from):
        covered, whole = used.share(entry.valid_from, entry.valid_until)
        if covered:
            shares[entry] = Fraction(covered, whole)
    if not shares:
        return None
    first, last = next(iter(shares)), next(reversed(shares))
    exact = sum((entry.minimum_nano * share for entry, share in shares.items()), Fraction(0))
    overage = sum((entry.overage * share for entry, share in shares.items()), Fraction(0)) / sum(shares.values())
    spent = by_product.get(first.product, 0) if first.product else sum(by_product.values())
    if last.fees_count:
        spent += fees
    nano = last.adjustment(spent, exact.numerator // exact.denominator, overage)
    from_open = all(entry.backdated == FROM_OPEN for entry in shares)
    return Due(first.id, last.description, "revenue.commitments", nano, from_open)


def used_by_product(
    connection: Connection, party: Party, used: Period, since: datetime | None = None
) -> dict[str, int]:
    """What the usage of a period costs in all, by product, from the counters; with `since`, of the months from then on too."""
    months = counters.c.period_start.between(min(since, used.start) if since else used.start, used.start)
    statement = select(counters.c.meter, counters.c.rate_id, counters.c.nano).where(
        counters.c.organization_id == party.id, months
    )
    found: dict[str, int] = {}
    for row in connection.execute(statement):
        if not row.rate_id.startswith(LIST):
            product = METERS[row.meter].product
            found[product] = found.get(product, 0) + row.nano
    return found


def adjustments_pending(connection: Connection, book: PriceBook, party: Party, used: Period) -> bool:
    """Whether usage of `used`, or of an earlier month of a term that ends in it, came late that no invoice has yet: its
    commitments are brought up to date with the next."""
    terms = [entry for entry in book.commitments_of(party.id) if entry.term_end is not None]
    ended = [entry for entry in terms if entry.valid_until and used.start < entry.valid_until <= used.end]
    since = min([used.start, *(entry.valid_from for entry in ended)])
    statement = (
        select(lines.c.line_no)
        .join(transactions, transactions.c.transaction_no == lines.c.transaction_no)
        .outerjoin(invoice_transactions, invoice_transactions.c.transaction_no == transactions.c.transaction_no)
        .where(
            transactions.c.organization_id == party.id,
            transactions.c.kind == "adjustment",
            lines.c.period_start.between(since, used.start),
            invoice_transactions.c.invoice_id.is_(None),
        )
        .limit(1)
    )
    return connection.execute(statement).first() is not None
