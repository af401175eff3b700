"""Rate events and post what they cost: one database transaction per batch, so a crash loses and doubles nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection, delete, select

from sublet.ledger import store as sql
from sublet.ledger.budgets.spending import Spending
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import USAGE, Entry, Party
from sublet.ledger.periods import Period, following, month_of
from sublet.ledger.prices.book import PriceBook, Rate
from sublet.ledger.prices.booking import Books
from sublet.ledger.rating.chains import Chain, Key
from sublet.ledger.rating.charging import LIST, Charge, Group, advance, entry_of, group_kind, line_of, units, waves
from sublet.ledger.rating.slicing import start_after
from sublet.ledger.store import LINES, RATING, EventRow, LineRow
from sublet.ledger.usage import days
from sublet.ledger.usage.intake import Parties
from sublet.store.tables.ledger import counters as counters_table
from sublet.store.tables.ledger import lines as lines_table
from sublet.store.tables.ledger import waiting
from sublet.values.clock import from_micros, to_micros

BATCH_DEFAULT = 5_000
NO_PRICE, NO_ORIGINAL, MISMATCH, BEYOND_LIMITS = "no_price", "no_original", "mismatch", "beyond_limits"
RETRY_MAX = 2_000
LEFT_NAMED_MAX = 10
RECOUNTED = "recounted"
"""The head that says up to which version rate cards were counted again."""
RECOUNT_MAX = 100


@dataclass
class RatingReport:
    """What a run of rating did."""

    rated: int = 0
    waiting: int = 0
    transactions: int = 0

    def add(self, other: RatingReport) -> None:
        self.rated += other.rated
        self.waiting += other.waiting
        self.transactions += other.transactions


@dataclass
class RerateReport(RatingReport):
    """What rating a month again did, and what it left by its old price: `left` counts it, `left_events` names the first."""

    left: int = 0
    left_events: list[dict[str, str]] = field(default_factory=list)

    def leave(self, event: EventRow, code: str, reason: str) -> None:
        """Note usage that stays by its old price."""
        self.left += 1
        if len(self.left_events) < LEFT_NAMED_MAX:
            named = {"code": code, "reason": reason, "source": event.source, "id": event.event_id}
            self.left_events.append(named)

    def add(self, other: RatingReport) -> None:
        super().add(other)
        if isinstance(other, RerateReport):
            self.left += other.left
            self.left_events = (self.left_events + other.left_events)[:LEFT_NAMED_MAX]


class Rating:
    """Turns events into rated lines and postings. One rater works at a time: it holds the head of the rating."""

    def __init__(self, parties: Parties, books: Books, spending: Spending) -> None:
        self._parties = parties
        self._books = books
        self._spending = spending

    def rate_arrived(self, connection: Connection, through: int, limit: int, now: datetime) -> RatingReport:
        """Rate up to `limit` events in order of arrival, none after the number `through`."""
        position, _ = sql.lock_head(connection, RATING)
        rows = sql.events_between(connection, position, through, limit)
        if not rows:
            return RatingReport()
        report = self._rate(connection, rows, now)
        sql.move_head(connection, RATING, rows[-1].seq)
        return report

    def retry_waiting(self, connection: Connection, after: int, now: datetime) -> tuple[RatingReport, int]:
        """Try again what waited for a price or for the event that it corrects; `after` is where the last call ended.

        Returns what was done and where to go on, 0 at the end.
        """
        sql.lock_head(connection, RATING)
        version = self._books.current(connection).version
        ready = ((waiting.c.code == NO_PRICE) & (waiting.c.book_version < version)) | (waiting.c.code == NO_ORIGINAL)
        seqs = (
            connection.execute(
                select(waiting.c.event_seq)
                .where(ready, waiting.c.event_seq > after)
                .order_by(waiting.c.event_seq)
                .limit(RETRY_MAX)
            )
            .scalars()
            .all()
        )
        if not seqs:
            return RatingReport(), 0
        connection.execute(delete(waiting).where(waiting.c.event_seq.in_(seqs)))
        found = sql.events_by_seq(connection, seqs)
        report = self._rate(connection, [found[seq] for seq in sorted(found)], now)
        return report, seqs[-1]

    def _rate(self, connection: Connection, rows: Sequence[EventRow], now: datetime) -> RatingReport:
        book = self._books.current(connection)
        parties = {row.organization_id: self._parties.get(connection, row.organization_id) for row in rows}
        self._books.load_agreed(connection, (row.resource for row in rows if row.resource), parties)
        report = RatingReport()
        held_back: list[tuple[EventRow, str, str]] = []
        charges: list[Charge] = []
        corrections: list[EventRow] = []
        for row in rows:
            if row.kind != USAGE:
                corrections.append(row)
                continue
            party = parties[row.organization_id]
            rate = self._books.rate(book, party, row.meter, row.dimensions, row.at, row.resource)
            if rate is None:
                held_back.append((row, NO_PRICE, _no_price(row, party)))
                continue
            charges.append(self._charge(row, USAGE, party, rate, book, row.quantity, row))
        self._book(connection, charges, held_back, report, now)
        for wave in waves(corrections):
            self._correct(connection, wave, held_back, report, now)
        self._hold_back(connection, held_back, book.version, now)
        report.waiting += len(held_back)
        return report

    def _hold_back(
        self, connection: Connection, held_back: Iterable[tuple[EventRow, str, str]], version: int, now: datetime
    ) -> None:
        rows = [
            (row.seq, row.organization_id, code, reason, version, to_micros(now)) for row, code, reason in held_back
        ]
        sql.bulk_insert(connection, waiting, rows)

    def _correct(
        self,
        connection: Connection,
        wave: Sequence[EventRow],
        held_back: list[tuple[EventRow, str, str]],
        report: RatingReport,
        now: datetime,
    ) -> None:
        """Take back what stands for the corrected event and charge the new quantity, by the same rate."""
        charges: list[Charge] = []
        for row in wave:
            try:
                charges += self._correction(connection, row)
            except _WaitsError as reason:
                held_back.append((row, reason.code, str(reason)))
        self._book(connection, charges, held_back, report, now)

    def _correction(self, connection: Connection, row: EventRow) -> list[Charge]:
        assert row.corrects_source is not None and row.corrects_id is not None
        original = sql.event_named(connection, row.corrects_source, row.corrects_id)
        if original is None:
            raise _WaitsError(NO_ORIGINAL, f"{row.corrects_id!r} of {row.corrects_source!r} has not arrived")
        if (original.organization_id, original.meter) != (row.organization_id, row.meter) or original.kind != USAGE:
            raise _WaitsError(
                MISMATCH, "it refers to an event of another organization or meter, or to one that is not usage"
            )
        others = sql.corrections_of(connection, row.corrects_source, row.corrects_id)
        by_seq = {event.seq: event for event in (original, *others)}
        standing = standing_line(sql.lines_of_events(connection, list(by_seq)))
        if standing is None:
            raise _WaitsError(NO_ORIGINAL, f"{row.corrects_id!r} of {row.corrects_source!r} has not been rated")
        party = self._parties.get(connection, row.organization_id)
        rate = self.rate_of_line(connection, standing, original, party)
        book = self._books.version(connection, standing.book_version)
        if later(by_seq[standing.event_seq], row, original):
            return [self._charge(row, "superseded", party, rate, book, 0, original)]
        back = self._charge(row, "reversal", party, rate, book, -standing.quantity, original)
        again = self._charge(row, row.kind, party, rate, book, row.quantity, original)
        return [replace(back, reverses=standing.line_no), again]

    def _charge(
        self, event: EventRow, kind: str, party: Party, rate: Rate, book: PriceBook, steps: int, origin: EventRow
    ) -> Charge:
        """A change of quantity by `rate` of `book`, where it counts."""
        period = period_of(origin.at, party.timezone)
        usage = (origin.meter, origin.dimensions, origin.resource)
        start, spans = self._books.placed(book, party, usage, rate, origin.at, period)
        return Charge(event, kind, party, rate, period, steps, origin, book.version, start, spans)

    def rerate(
        self, connection: Connection, party: Party, period: Period, after: int, now: datetime
    ) -> tuple[RerateReport, int]:
        """Rate the usage of a period again by the present book: what stands by another rate is reversed and charged again.

        What has no price in the present book, or would pass the limits of a line, stays as it stands and is reported.

        Works on a block of lines from the number `after` on; returns what was done and where to go on, 0 at the end.
        """
        sql.lock_head(connection, RATING)
        book = self._books.current(connection)
        standing = sql.standing_lines(connection, party.id, to_micros(period.start), after, RETRY_MAX)
        if not standing:
            return RerateReport(), 0
        events = sql.events_by_seq(connection, [line.event_seq for line in standing])
        charges: list[Charge] = []
        report = RerateReport()
        held_back: list[tuple[EventRow, str, str]] = []
        self._books.load_agreed(connection, {event.resource for event in events.values()} - {""}, {party.id: party})
        for line in standing:
            event = events[line.event_seq]
            origin = event
            if event.kind != USAGE:
                found = sql.event_named(connection, event.corrects_source or "", event.corrects_id or "")
                assert found is not None
                origin = found
            rate = self._books.rate(book, party, origin.meter, origin.dimensions, origin.at, origin.resource)
            if rate is None:
                held_back.append((event, NO_PRICE, _no_price(origin, party)))
                continue
            if (rate.id, rate.list_id) == (line.rate_id, line.list_rate_id):
                continue
            old, stood = (
                self.rate_of_line(connection, line, origin, party),
                self._books.version(connection, line.book_version),
            )
            back = self._charge(event, "reversal", party, old, stood, -line.quantity, origin)
            again = self._charge(event, "rerating", party, rate, book, line.quantity, origin)
            charges += [replace(back, reverses=line.line_no, rerated=True), replace(again, rerated=True)]
        self._book(connection, charges, held_back, report, now)
        for left in held_back:
            report.leave(*left)
        return report, standing[-1].line_no

    def recount_due(self, connection: Connection) -> bool:
        """Whether terms of single customers were published whose open months were not counted again."""
        position, _ = sql.read_head(connection, RECOUNTED)
        return bool(sql.cards_since(connection, position, 1))

    def recount(self, connection: Connection, now: datetime) -> bool:
        """Count the open months of up to RECOUNT_MAX customers again whose terms were published since the last time; whether there are
        more. What the change makes of earlier usage is posted without waiting for the next usage of that month.

        Not in the transaction that publishes: what is remembered of the books must never come from one that is rolled back.
        """
        sql.lock_head(connection, RATING)
        position, _ = sql.lock_head(connection, RECOUNTED)
        changed = sql.cards_since(connection, position, RECOUNT_MAX)
        charges: list[Charge] = []
        for owner in dict.fromkeys(owner for _, owner in changed):
            charges += self._counters_again(connection, self._parties.get(connection, owner), now)
        self._book(connection, charges, [], RatingReport(), now)
        if changed:
            sql.move_head(connection, RECOUNTED, changed[-1][0])
        return len(changed) == RECOUNT_MAX

    def _counters_again(self, connection: Connection, party: Party, now: datetime) -> list[Charge]:
        """Charges that bring this month's counters, and those of the month before, to the present terms; closed months stay."""
        this = month_of(now, party.timezone)
        before = month_of(this.start - timedelta(days=1), party.timezone)
        charges: list[Charge] = []
        for period in (before, this):
            start = to_micros(period.start)
            for name, nano, list_nano, stored in sql.counters_of(connection, party.id, start):
                if not name.startswith(LIST) and (party.id, start) not in sql.closed_periods(connection, [party.id]):
                    chain = Chain.of(nano, list_nano, stored, partial(self._books.resolve, connection, party))
                    charges += self._counted_again(
                        connection, party, self._books.current(connection), chain, (name, start)
                    )
        return charges

    def _counted_again(
        self, connection: Connection, party: Party, book: PriceBook, chain: Chain, key: tuple[str, int]
    ) -> list[Charge]:
        """The newest line of a counter, reversed and charged again; nothing where that changes nothing."""
        name, start = key
        for part in reversed(chain.slices):
            line = sql.newest_standing_line(connection, party.id, start, part.rate.id) if part.steps else None
            if line is None:
                continue
            event = sql.events_by_seq(connection, [line.event_seq])[line.event_seq]
            origin = event
            if event.kind != USAGE:
                found = sql.event_named(connection, event.corrects_source or "", event.corrects_id or "")
                assert found is not None
                origin = found
            try:
                old = self.rate_of_line(connection, line, origin, party)
            except _WaitsError:
                continue
            rate = self._books.rate(book, party, origin.meter, origin.dimensions, origin.at, origin.resource)
            if rate is None or rate.chain != name:
                continue
            again = self._charge(event, "rerating", party, rate, book, line.quantity, origin)
            if chain.value(again.spans) == chain.nano:
                return []
            stood = self._books.version(connection, line.book_version)
            back = self._charge(event, "reversal", party, old, stood, -line.quantity, origin)
            return [replace(back, reverses=line.line_no, rerated=True), replace(again, rerated=True)]
        return []

    def rate_of_line(self, connection: Connection, line: LineRow, event: EventRow, party: Party) -> Rate:
        """The rate by which `line` was rated: by the book version of its day."""
        book = self._books.version(connection, line.book_version)
        self._books.load_agreed(connection, [event.resource] if event.resource else [], {party.id: party})
        rate = self._books.rate(book, party, event.meter, event.dimensions, event.at, event.resource)
        if rate is None or rate.id != line.rate_id:
            raise _WaitsError(MISMATCH, f"the rate {line.rate_id} of line {line.line_no} can't be derived again")
        return rate

    def _book(
        self,
        connection: Connection,
        charges: Sequence[Charge],
        held_back: list[tuple[EventRow, str, str]],
        report: RatingReport,
        now: datetime,
    ) -> None:
        if not charges:
            return
        charges = self._cut(connection, charges)
        known = self._chains(connection, charges)
        closed = sql.closed_periods(connection, [charge.party.id for charge in charges])
        groups: dict[tuple[str, datetime, datetime, str], Group] = {}
        changed: set[Key] = set()
        for unit in units(charges):
            before = {key: known[key] for charge in unit for key in charge.keys} if len(unit) > 1 else {}
            known.update((key, chain.copy()) for key, chain in before.items())
            priced = [advance(charge, known) for charge in unit]
            if None in priced:
                # A reversal without its new charge would be half a correction: neither is booked.
                known.update(before)
                held_back.append((unit[0].event, BEYOND_LIMITS, "it would pass what one rated line can hold"))
                continue
            changed.update(key for charge in unit for key in charge.keys)
            for charge, costs in zip(unit, priced, strict=True):
                assert costs is not None
                booked = open_period(charge.period, charge.party, closed)
                kind = group_kind(charge, booked)
                key = (charge.party.id, booked.start, charge.period.start, kind)
                group = groups.get(key)
                if group is None:
                    group = groups[key] = Group(charge.party, booked, charge.period, kind)
                group.charges.append((charge, *costs))
        report.rated += sum(len(group.charges) for group in groups.values())
        report.transactions += len(groups)
        self._write(connection, list(groups.values()), now)
        meters = {key: charge.origin.meter for charge in charges for key in charge.keys}
        sql.bulk_insert(
            connection,
            counters_table,
            [(*key, meters[key], *known[key].stored()) for key in sorted(changed)],
            "ON CONFLICT (organization_id, rate_id, period_start) DO UPDATE SET quantity = excluded.quantity, "
            "nano = excluded.nano, list_nano = excluded.list_nano, slices = excluded.slices",
        )

    def _cut(self, connection: Connection, charges: Sequence[Charge]) -> Sequence[Charge]:
        """Charges counted from where credits of their organization begin or end, so that these burn by time."""
        moments = sql.grant_moments(connection, [charge.party.id for charge in charges])
        if not moments:
            return charges
        first: dict[str, int] = {}
        found: list[Charge] = []
        for charge in charges:
            owner, at = charge.party.id, charge.origin.at
            if owner in moments:
                first[owner] = min(first.get(owner, at), at)
                charge = replace(charge, start=start_after(charge.start, moments[owner], at))
            found.append(charge)
        for owner, at in first.items():
            sql.unsettle(connection, owner, from_micros(at))
        return found

    def _chains(self, connection: Connection, charges: Sequence[Charge]) -> dict[Key, Chain]:
        """The counters that charges move, as they stand."""
        parties = {charge.party.id: charge.party for charge in charges}
        keys = {key for charge in charges for key in charge.keys}
        known = {
            key: Chain.of(nano, list_nano, stored, partial(self._books.resolve, connection, parties[key[0]]))
            for key, (_, nano, list_nano, stored) in sql.counters_for(connection, list(keys)).items()
        }
        for key in keys - known.keys():
            known[key] = Chain()
        return known

    def _write(self, connection: Connection, groups: Sequence[Group], now: datetime) -> None:
        chain, _ = sql.lock_head(connection, journal.CHAIN)
        line_no, _ = sql.lock_head(connection, LINES)
        entries: list[Entry] = []
        rows: list[LineRow] = []
        counted: list[tuple[days.Key, int, int]] = []
        before = line_no
        for transaction_no, group in enumerate(groups, chain + 1):
            first = len(rows)
            for charge, nano, list_nano in group.charges:
                line_no += 1
                rows.append(line_of(line_no, transaction_no, charge, nano, list_nano))
                counted.append((days.key_of(charge.origin, charge.party.timezone), charge.steps, nano))
            events = [charge.event for charge, _, _ in group.charges]
            entries.append(entry_of(group, rows[first:], events))
        journal.post(connection, entries, now)
        sql.bulk_insert(connection, lines_table, rows)
        sql.move_head(connection, LINES, line_no)
        days.add(connection, counted, before, line_no)
        self._spending.charge(
            connection,
            [(charge.origin, charge.kind, nano) for group in groups for charge, nano, _ in group.charges],
            now,
        )


class _WaitsError(Exception):
    """An event that can't be rated yet."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


_PERIODS: dict[str, tuple[int, int, Period]] = {}


def period_of(at: int, timezone: str) -> Period:
    """The billing period of a moment in microseconds; the last one asked for in each zone is remembered."""
    known = _PERIODS.get(timezone)
    if known is not None and known[0] <= at < known[1]:
        return known[2]
    period = month_of(from_micros(at), timezone)
    _PERIODS[timezone] = (to_micros(period.start), to_micros(period.end), period)
    return period


def open_period(used: Period, party: Party, closed: set[tuple[str, int]]) -> Period:
    """Where usage of `used` is booked: in its own period, or in the first one after it that is not closed.

    The clock has no say in it, so a clock that steps back can't put usage into another period.
    """
    period = used
    while (party.id, to_micros(period.start)) in closed:
        period = following(period, party.timezone)
    return period


def standing_line(lines: Iterable[LineRow]) -> LineRow | None:
    """The one line of an event and its corrections that nothing has reversed."""
    found = list(lines)
    reversed_lines = {line.reverses for line in found if line.reverses is not None}
    standing = [
        line for line in found if line.kind not in ("reversal", "superseded") and line.line_no not in reversed_lines
    ]
    assert len(standing) <= 1, f"lines {[line.line_no for line in standing]} stand for one event"
    return standing[0] if standing else None


def later(standing: EventRow, arrived: EventRow, original: EventRow) -> bool:
    """Whether what stands is a correction that was made after the one that arrived now."""
    if standing.seq == original.seq:
        return False
    return (standing.at, standing.source, standing.event_id) > (arrived.at, arrived.source, arrived.event_id)


def _no_price(event: EventRow, party: Party) -> str:
    return f"{event.meter} {event.dimensions} has no price in {party.currency} then"
