"""Credits by usage's own time: what each grant has paid for, what an invoice states of it, and what expires of it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from fractions import Fraction
from functools import partial
from math import ceil

from sqlalchemy import Connection, func, select, text, update

from sublet.ledger import store as sql
from sublet.ledger.budgets.model import LIMIT_NANO_MAX
from sublet.ledger.credits import crediting
from sublet.ledger.credits.burning import Burnt, Moment, burn
from sublet.ledger.credits.concessions import concessions_of, grants_of
from sublet.ledger.credits.crediting import AT_PAYMENT, AT_USE, Credit
from sublet.ledger.invoices.lines import smallest_unit
from sublet.ledger.invoices.profiles import profile_of
from sublet.ledger.invoices.taxes import TaxBasis, Taxes
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Entry, Party, postings_of
from sublet.ledger.periods import month_of
from sublet.ledger.prices.booking import Books
from sublet.ledger.proof.findings import Proof
from sublet.ledger.rating.chains import Chain, Key
from sublet.ledger.rating.charging import LIST
from sublet.ledger.rating.slicing import slice_again
from sublet.ledger.store import RATING
from sublet.store.paging import Page, PageRequest
from sublet.store.tables.ledger import (
    budgets,
    counters,
    credit_burns,
    credit_grants,
    credit_uses,
    fixed_charges,
    invoices,
)
from sublet.values.clock import from_micros, to_micros
from sublet.values.errors import InvalidInputError
from sublet.values.money import NANO, Money

EXPIRE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Part:
    """What an invoice states of a credit for the usage of one month; below zero where it gives back."""

    credit: Credit
    month: datetime
    nano: int


class Wallets:
    """The one place where credits are burnt, stated and expired."""

    def __init__(self, books: Books, taxes: Taxes) -> None:
        self._books = books
        self._taxes = taxes

    def grant(
        self,
        connection: Connection,
        party: Party,
        nano: int,
        kind: str,
        reason: str,
        source_id: str,
        now: datetime,
        expires_at: datetime | None = None,
        tax_mode: str = AT_USE,
    ) -> Credit:
        """Give a credit, once per `source_id`: repeating it returns the first. Money taxed `at_payment` is received with the
        tax of today on top of it. Raises InvalidInputError, ConflictError."""
        tax = self._tax_received(connection, party, nano, kind, tax_mode, now)
        # The rater locks the same head, so that no usage is counted across the start of the grant.
        sql.lock_head(connection, RATING)
        credit = crediting.grant(connection, party, nano, kind, reason, source_id, now, expires_at, tax)
        for moment in (credit.starts_at, credit.expires_at):
            if moment is not None:
                slice_again(connection, self._books, party, to_micros(moment))
        self.refresh_budget(connection, party, now)
        return credit

    def _tax_received(
        self, connection: Connection, party: Party, nano: int, kind: str, tax_mode: str, now: datetime
    ) -> int | None:
        """The tax that comes with money taxed when it is paid; None for every other credit."""
        if tax_mode not in (AT_USE, AT_PAYMENT):
            raise InvalidInputError(f"tax_mode {tax_mode!r} must be {AT_USE} or {AT_PAYMENT}", field="tax_mode")
        if tax_mode == AT_USE:
            return None
        if kind != "prepaid" or nano % smallest_unit(party.currency):
            raise InvalidInputError("only prepaid money in whole units of the currency is taxed at_payment")
        net = Money(nano, party.currency)
        taxes = self._taxes.lines(TaxBasis(party.id, profile_of(connection, party), net, now))
        for line in taxes:
            line.check(net)
        return sum(line.nano for line in taxes)

    def burnt(
        self,
        connection: Connection,
        party: Party,
        now: datetime,
        usage: Mapping[Moment, int] | None = None,
        proposed: Sequence[Credit] = (),
    ) -> tuple[list[Credit], Burnt]:
        """The credits of an organization, and what credit notes took off, with what its usage has burnt of them by its own time.

        `usage` is what the proof derived; without it, what the counters say. `proposed` is what a note would take off besides.
        """
        held = [*crediting.rows_of(connection, party.id), *concessions_of(connection, party), *proposed]
        if not held:
            return [], Burnt()
        if usage is None:
            since = min(to_micros(month_of(credit.starts_at, party.timezone).start) for credit in held)
            usage = usage_by_time(party, self._chains(connection, party, since), _fixed(connection, party, since))
        percent = self.percent(connection, party, now)
        percents = dict.fromkeys((month for month, _ in usage), percent) | _stated_percents(connection, party)
        return held, burn(grants_of(party, held), usage, percents)

    def percent(self, connection: Connection, party: Party, now: datetime) -> Fraction:
        """The taxes that an organization owes now, together, in percent."""
        basis = TaxBasis(party.id, profile_of(connection, party), Money(NANO * 1000, party.currency), now)
        return sum((line.percent for line in self._taxes.lines(basis)), Fraction(0))

    def due(self, connection: Connection, party: Party, until: datetime, now: datetime) -> list[Part]:
        """What the next invoice for everything up to the month that begins at `until` states of each credit: what usage has
        burnt less what standing invoices stated."""
        held, burnt = self.burnt(connection, party, now)
        stated = _stated(connection, party)
        by_id = {credit.id: credit for credit in held}
        parts: list[Part] = []
        for credit_id, month in sorted(stated.keys() | burnt.used.keys()):
            nano = burnt.used.get((credit_id, month), 0) - stated.get((credit_id, month), 0)
            if nano and month <= to_micros(until) and credit_id in by_id:
                parts.append(Part(by_id[credit_id], from_micros(month), nano))
        return in_order(held, parts)

    def effect(self, connection: Connection, party: Party, proposed: Sequence[Credit], now: datetime) -> list[Part]:
        """What taking `proposed` off would change of what is burnt of each credit in each month."""
        held, after = self.burnt(connection, party, now, proposed=proposed)
        _, before = self.burnt(connection, party, now)
        by_id = {credit.id: credit for credit in held}
        parts = []
        for credit_id, month in sorted(before.used.keys() | after.used.keys()):
            nano = after.used.get((credit_id, month), 0) - before.used.get((credit_id, month), 0)
            if nano:
                parts.append(Part(by_id[credit_id], from_micros(month), nano))
        return in_order(held, parts)

    def state(
        self, connection: Connection, parts: Sequence[Part], invoice_id: str, percents: Mapping[datetime, Fraction]
    ) -> None:
        """Note what an invoice or credit note states of credits, each month at its tax in percent."""
        sums: dict[str, int] = defaultdict(int)
        for part in parts:
            sums[part.credit.id] += part.nano
            sql.insert_row(
                connection,
                credit_burns,
                credit_id=part.credit.id,
                invoice_id=invoice_id,
                period_start=part.month,
                organization_id=part.credit.organization_id,
                nano=part.nano,
                percent=str(percents[part.month]),
            )
        for credit_id, nano in sums.items():
            sql.insert_row(connection, credit_uses, credit_id=credit_id, invoice_id=invoice_id, nano=nano)
            change = update(credit_grants).where(credit_grants.c.id == credit_id)
            connection.execute(change.values(remaining_nano=credit_grants.c.remaining_nano - nano))

    def expire(self, connection: Connection, now: datetime, grace: timedelta) -> int:
        """Post as breakage what usage has not burnt of expired credits, `grace` after their end, and correct what was posted
        where usage came later than that; how many credits it moved."""
        sql.lock_head(connection, RATING)
        sql.lock_head(connection, journal.CHAIN)
        columns = credit_grants.c
        statement = (
            select(credit_grants)
            .where(columns.settled.is_(False), columns.expires_at <= now)
            .order_by(columns.id)
            .limit(EXPIRE_MAX)
            .with_for_update()
        )
        due: dict[str, list[Credit]] = defaultdict(list)
        for row in connection.execute(statement).all():
            due[row.organization_id].append(crediting.credit_of(row))
        count = 0
        for organization_id, ended in due.items():
            party = sql.party(connection, organization_id)
            assert party is not None
            _, burnt = self.burnt(connection, party, now)
            for credit in ended:
                if credit.expires_at is not None and credit.expires_at + grace <= now:
                    count += _expire(connection, party, credit, burnt.left[credit.id], now)
            self.refresh_budget(connection, party, now)
        return count

    def refresh_budget(self, connection: Connection, party: Party, now: datetime) -> None:
        """Set the limit of the hard budget that money paid in advance is: what was spent, and the net that live credits still
        cover."""
        identifier = crediting.wallet_id(party)
        row = connection.execute(select(budgets).where(budgets.c.id == identifier).with_for_update()).first()
        if row is None:
            return
        held, burnt = self.burnt(connection, party, now)
        factor = 1 + self.percent(connection, party, now) / 100
        limit = crediting.wallet_spent(connection, party)
        for credit in held:
            if not credit.noted and (credit.expires_at is None or credit.expires_at > now):
                left = burnt.left[credit.id]
                limit += max(0, ceil((left + 1) / factor) - 1) if credit.is_deposit else left
        limit = min(max(0, limit), LIMIT_NANO_MAX)
        connection.execute(update(budgets).where(budgets.c.id == identifier).values(limit_nano=limit))

    def credits(self, connection: Connection, party: Party, now: datetime) -> list[Credit]:
        """The credits of an organization with what is left of each: not burnt by usage and not expired."""
        held, burnt = self.burnt(connection, party, now)
        return [
            replace(credit, remaining_nano=max(0, burnt.left[credit.id] - credit.expired_nano))
            for credit in held
            if not credit.noted
        ]

    def credit_page(self, connection: Connection, party: Party, now: datetime, wanted: PageRequest) -> Page[Credit]:
        """A page of them, the oldest first. What is left of one depends on all, so all are counted for it."""
        rows = crediting.row_page(connection, party.id, wanted)
        left = {credit.id: credit for credit in self.credits(connection, party, now)} if rows.items else {}
        return rows.map(lambda row: left[row.id])

    def prove(
        self, connection: Connection, proof: Proof, party: Party, chains: Mapping[Key, Chain], now: datetime
    ) -> None:
        """Derive what was used of each credit from `chains`, which are the raw events counted again, and compare it with what
        invoices stated and what expired: granted = used + expired + left."""
        held, burnt = self.burnt(connection, party, now, usage_by_time(party, chains, _fixed(connection, party, 0)))
        stated: dict[str, int] = defaultdict(int)
        for (credit_id, _), nano in _stated(connection, party).items():
            stated[credit_id] += nano
        waits = _waits(connection, party)
        for credit in held:
            used, took = burnt.of(credit.id), stated[credit.id]
            whole = credit.nano - credit.taken_nano - credit.refunded_nano
            if not credit.noted and credit.remaining_nano != whole - took - credit.expired_nano:
                sentence = f"credit {credit.id}: {whole} nano-units are not what was stated, expired and is left"
                proof.differs(sentence, whole - took - credit.expired_nano - credit.remaining_nano)
            if not waits and took != used:
                sentence = f"credit {credit.id}: usage takes {used} nano-units by its own time, invoices took {took}"
                proof.differs(sentence, took - used)
            if credit.expiry_no is not None and credit.settled and credit.expired_nano != whole - used:
                sentence = (
                    f"credit {credit.id}: {whole - used} nano-units expired unused, {credit.expired_nano} were posted"
                )
                proof.differs(sentence, whole - used - credit.expired_nano)

    def _chains(self, connection: Connection, party: Party, since: int) -> dict[Key, Chain]:
        columns = counters.c
        statement = select(counters).where(
            columns.organization_id == party.id, columns.period_start >= from_micros(since)
        )
        resolve = partial(self._books.resolve, connection, party)
        return {
            (party.id, row.rate_id, to_micros(row.period_start)): Chain.of(row.nano, row.list_nano, row.slices, resolve)
            for row in connection.execute(statement).all()
        }


def usage_by_time(party: Party, chains: Mapping[Key, Chain], fixed: Mapping[int, int]) -> dict[Moment, int]:
    """What an organization's usage costs by month and moment, from its counters; fees and commitments are owed at the last
    moment of their month."""
    found: dict[Moment, int] = defaultdict(int)
    for (_, name, month), chain in chains.items():
        if name.startswith(LIST) or not chain.slices:
            continue
        parts = chain.parts(())
        for start, nano in parts:
            found[month, start] += nano
        # Prices by day alone, such as a flat price, count with the first usage.
        found[month, parts[0][0]] += chain.nano - sum(nano for _, nano in parts)
    for month, nano in fixed.items():
        end = to_micros(month_of(from_micros(month), party.timezone).end)
        found[month, end - 1] += nano
    return found


def _fixed(connection: Connection, party: Party, since: int) -> dict[int, int]:
    columns = fixed_charges.c
    found: dict[int, int] = defaultdict(int)
    statement = select(fixed_charges).where(
        columns.organization_id == party.id, columns.period_start >= from_micros(since)
    )
    for row in connection.execute(statement):
        found[to_micros(row.period_start)] += row.nano
    return found


def _stated(connection: Connection, party: Party) -> dict[tuple[str, int], int]:
    """What standing invoices state, by credit and month of use."""
    columns = credit_burns.c
    statement = (
        select(columns.credit_id, columns.period_start, func.sum(columns.nano).label("nano"))
        .join(invoices, invoices.c.id == columns.invoice_id)
        .where(columns.organization_id == party.id, invoices.c.status != "void")
        .group_by(columns.credit_id, columns.period_start)
    )
    return {(row.credit_id, to_micros(row.period_start)): int(row.nano) for row in connection.execute(statement)}


def _stated_percents(connection: Connection, party: Party) -> dict[int, Fraction]:
    """The tax at which the usage of a month was stated first, for months of which an invoice states any credit."""
    columns = credit_burns.c
    statement = (
        select(columns.period_start, columns.percent)
        .join(invoices, invoices.c.id == columns.invoice_id)
        .where(columns.organization_id == party.id, invoices.c.status != "void")
        .order_by(invoices.c.transaction_no.desc())
    )
    return {to_micros(row.period_start): Fraction(row.percent) for row in connection.execute(statement)}


def _expire(connection: Connection, party: Party, credit: Credit, target: int, now: datetime) -> bool:
    """Bring what was posted of an expired credit to `target`; whether that moved anything."""
    change = target - credit.expired_nano
    number = credit.expiry_no
    if change:
        first = number is None
        memo = f"{credit.kind} credit {credit.id} expired" + (
            "" if first else f", corrected: {target} nano-units unused"
        )
        chain_no, _ = sql.lock_head(connection, journal.CHAIN)
        entry = Entry(
            party.id,
            party.currency,
            "expiry",
            f"{credit.id} {chain_no + 1}",
            month_of(now, party.timezone).start,
            memo,
            postings_of({credit.liability: change, "breakage": -change}),
            number,
        )
        [posted] = journal.post(connection, [entry], now)
        number = posted.number if first else number
    values = {
        "expired_nano": target,
        "remaining_nano": credit.remaining_nano - change,
        "expiry_no": number,
        "settled": True,
    }
    connection.execute(update(credit_grants).where(credit_grants.c.id == credit.id).values(**values))
    return change != 0


def give_back(connection: Connection, invoice_id: str) -> None:
    """Take back what a voided invoice stated of credits: what its usage burnt stays burnt, and is stated by the next."""
    burns = credit_burns.c
    rows = connection.execute(select(credit_uses).where(credit_uses.c.invoice_id == invoice_id)).all()
    known = set(connection.execute(select(burns.credit_id).where(burns.invoice_id == invoice_id)).scalars())
    for row in rows:
        columns = credit_grants.c
        values: dict[str, object] = {"remaining_nano": columns.remaining_nano + row.nano}
        if row.credit_id not in known:
            # Stated before burn-down went by time: the usage is to be burnt again, by its own.
            values |= {"taken_nano": columns.taken_nano - row.nano, "starts_at": columns.granted_at}
        connection.execute(update(credit_grants).where(columns.id == row.credit_id).values(**values))


def in_order(held: Sequence[Credit], parts: Sequence[Part]) -> list[Part]:
    """Parts as a document lists them: what notes took off, then credits in the order in which they burn."""
    noted = [credit for credit in held if credit.noted]
    ordered = [*noted, *crediting.in_order([credit for credit in held if not credit.noted])]
    place = {credit.id: number for number, credit in enumerate(ordered)}
    return sorted(parts, key=lambda part: (place[part.credit.id], part.month))


def capped(parts: Sequence[Part], limit: int) -> list[Part]:
    """`parts` as far as they stay within `limit` together; what gives back is kept."""
    found: list[Part] = []
    left = limit - sum(part.nano for part in parts if part.nano < 0)
    for part in parts:
        nano = part.nano if part.nano < 0 else min(part.nano, max(0, left))
        left -= max(0, nano)
        if nano:
            found.append(replace(part, nano=nano))
    return found


def _waits(connection: Connection, party: Party) -> bool:
    """Whether an invoice or credit note is still to state some of the usage."""
    statement = text(
        "SELECT 1 FROM ledger_transactions t WHERE t.organization_id = :organization AND t.kind IN "
        "('usage', 'adjustment', 'correction', 'rerating', 'fee', 'commitment') AND NOT EXISTS "
        "(SELECT 1 FROM ledger_invoice_transactions m JOIN ledger_invoices i ON i.id = m.invoice_id "
        "WHERE m.transaction_no = t.transaction_no AND i.status <> 'void') LIMIT 1"
    )
    return connection.execute(statement, {"organization": party.id}).first() is not None
