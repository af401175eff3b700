"""Price book versions and agreed prices in the database, and the rate of one event, remembered."""

from __future__ import annotations

import json
import threading
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction

from sqlalchemy import Connection, func, insert, select, update

from sublet.ledger import store as sql
from sublet.ledger.model import Party
from sublet.ledger.periods import Period, month_of
from sublet.ledger.prices.book import (
    AGREED,
    PriceBook,
    Rate,
    book_from_dict,
    ensure_continues,
    ensure_no_overlap,
    entries_of,
    rate_under,
    with_built_in,
)
from sublet.ledger.prices.cards import Cards
from sublet.ledger.prices.tariffs import Tariff
from sublet.ledger.prices.terms import Commitment, Discount, Price
from sublet.ledger.prices.tiers import Tier
from sublet.ledger.rating.chains import Span
from sublet.ledger.usage.meters import METERS
from sublet.store.changes import kept
from sublet.store.tables.ledger import agreed_prices, books, waiting
from sublet.values.clock import EPOCH, format_time, from_micros, to_micros
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.etags import ANY_STATE, Condition
from sublet.values.money import POSTING_NANO_MAX

AGREED_CACHED_MAX = 200_000
TERMS_CACHED_MAX = 20_000
"""Customers whose rates are remembered; the one that was asked for longest ago is forgotten first."""
KEYS_CACHED_MAX = 2_000
"""Meters and dimensions remembered for one customer."""
BOOK_HEAD = "book"
VERSIONS_CACHED_MAX = 10_000

_Segments = tuple[list[int], list[Rate | None]]


class Books:
    """Every published version of the price book, and the prices agreed for single resources."""

    def __init__(self) -> None:
        self._cards = Cards()
        self._published: list[int] = [0]
        """Versions at which the book itself was published, of those up to `_through`."""
        self._through = 0
        self._learning = threading.Lock()
        self._general: dict[int, PriceBook] = {0: PriceBook()}
        self._versions: OrderedDict[int, PriceBook] = OrderedDict({0: PriceBook()})
        self._known: OrderedDict[tuple[str, str], dict[tuple[str, str], _Segments]] = OrderedDict()
        self._agreed: dict[tuple[str, str], Price] = {}
        self.examined = 0
        """Entries of price books that were looked at to find rates, in all."""

    def current(self, connection: Connection) -> PriceBook:
        """The latest version; an empty book where none was published."""

        def read() -> int:
            return connection.execute(select(func.max(books.c.version))).scalar() or 0

        return self.version(connection, kept(connection, ("ledger_books",), "newest price book", read))

    def version(self, connection: Connection, number: int) -> PriceBook:
        """Raises NotFoundError."""
        known = self._versions.get(number)
        if known is not None:
            return known
        if number > self._through:
            self._learn(connection, number)
        general = self._published[bisect_right(self._published, number) - 1]
        if general not in self._general:
            self._general[general] = self._read(connection, general)
        if len(self._versions) >= VERSIONS_CACHED_MAX:
            self._versions.popitem(last=False)
        known = self._versions[number] = self._general[general].at(number, self._cards)
        return known

    def _learn(self, connection: Connection, number: int) -> None:
        """Learn which versions up to `number` are of the book, and read those of cards."""
        with self._learning:
            if number <= self._through:
                return  # another thread learned it while this one waited
            after = books.c.version > self._through
            columns = (books.c.version, books.c.organization_id)
            query = select(*columns).where(after, books.c.version <= number).order_by(books.c.version)
            rows = connection.execute(query).all()
            if not rows or rows[-1].version != number:
                raise NotFoundError(f"there is no version {number} of the price book")
            contents = select(books.c.version, books.c.content).where(after, books.c.version <= number)
            cards = {
                row.version: row.content for row in connection.execute(contents.where(books.c.organization_id != ""))
            }
            for row in rows:
                if row.version <= self._through:
                    continue
                if row.organization_id:
                    self._cards.add(row.organization_id, row.version, cards[row.version])
                else:
                    self._published.append(row.version)
                self._through = row.version

    def _read(self, connection: Connection, number: int) -> PriceBook:
        content = connection.execute(select(books.c.content).where(books.c.version == number)).scalar_one()
        return book_from_dict(content, f"price book version {number}", number)

    def read(self, connection: Connection, number: int) -> PriceBook:
        """The book of a version that was published in a transaction that may yet fail: it is not remembered."""
        return self._read(connection, number).at(number, self._cards)

    def publish(self, connection: Connection, book: PriceBook, now: datetime) -> int:
        """Make `book` the current version; the number it got. Publishing the same book again changes nothing.

        Built-in prices that `book` leaves out stay where it has none of its own. Raises ConflictError where an entry that
        was published before changed or vanished, InvalidInputError where one is for an organization that does not exist or is
        billed in another currency.
        """
        sql.lock_head(connection, BOOK_HEAD)
        before = self.current(connection)
        book = with_built_in(before, book)
        if before.version and before.sha256 == book.sha256:
            return before.state
        ensure_continues(before, book)
        _ensure_owners(connection, before, book)
        _ensure_no_card_has(before, book, self._cards)
        number = before.version + 1
        connection.execute(
            insert(books).values(
                version=number, published_at=now, content=book.content, sha256=book.sha256, organization_id=""
            )
        )
        return number

    def publish_card(
        self, connection: Connection, party: Party, card: PriceBook, now: datetime, seen: Condition = ANY_STATE
    ) -> tuple[PriceBook, PriceBook, int]:
        """Make `card` the rate card of a customer; everything before and after, and the card's version. Nothing of other customers is
        read. Raises as `publish` does, and PreconditionFailedError."""
        sql.lock_head(connection, BOOK_HEAD)
        before = self.current(connection)
        known = before.card(party.id)
        seen.require(known.version if known else 0)
        number = before.version + 1
        after = before.at(number, _WithCard(self._cards, party.id, replace(card, version=number)))
        if known is not None and known.sha256 == card.sha256:
            return before, before, known.version
        ensure_continues(known or PriceBook(), card)
        _ensure_owners(connection, known or PriceBook(), card)
        _ensure_fits(before, card, party)
        content, digest = card.content, card.sha256
        connection.execute(
            insert(books).values(
                version=number, published_at=now, content=content, sha256=digest, organization_id=party.id
            )
        )
        return before, after, number

    def agree(
        self,
        connection: Connection,
        party: Party,
        resource: str,
        meter: str,
        amount_nano: int,
        per_units: int,
        now: datetime,
    ) -> None:
        """Fix the price of `meter` for one resource: `amount_nano` for `per_units` units. Once agreed it stands.

        Raises ConflictError where another price was agreed, InvalidInputError for amounts out of range.
        """
        price = _agreed_price(party, resource, meter, amount_nano, per_units, now)
        kind = METERS[meter]
        if price.tariff.dearest_unit() * kind.quantity_max * kind.steps_per_unit > POSTING_NANO_MAX:
            raise InvalidInputError("the agreed price is too high for one posting")
        columns = agreed_prices.c
        row = connection.execute(
            select(agreed_prices).where(columns.resource == resource, columns.meter == meter)
        ).first()
        wanted = (party.id, party.currency, amount_nano, per_units)
        if row is not None:
            if (row.organization_id, row.currency, row.amount_nano, row.per_units) != wanted:
                raise ConflictError(
                    f"a different price was already agreed for {meter} of {resource}; it can't be changed"
                )
            return
        sql.insert_row(
            connection,
            agreed_prices,
            resource=resource,
            meter=meter,
            organization_id=party.id,
            currency=party.currency,
            amount_nano=amount_nano,
            per_units=per_units,
            agreed_at=now,
        )
        connection.execute(
            update(waiting)
            .where(waiting.c.organization_id == party.id, waiting.c.code == "no_price")
            .values(book_version=-1)
        )

    def load_agreed(self, connection: Connection, resources: Iterable[str], parties: dict[str, Party]) -> None:
        """Remember the agreed prices of `resources`, of which many have none."""
        if len(self._agreed) > AGREED_CACHED_MAX:
            self._agreed.clear()
        for part in sql.chunks(sorted(set(resources))):
            rows = connection.execute(select(agreed_prices).where(agreed_prices.c.resource.in_(part)))
            for row in rows:
                party = parties.get(row.organization_id)
                if party is not None:
                    self._agreed[row.resource, row.meter] = _agreed_price(
                        party, row.resource, row.meter, row.amount_nano, row.per_units, row.agreed_at
                    )

    def rate(self, book: PriceBook, party: Party, meter: str, dimensions: str, at: int, resource: str) -> Rate | None:
        """The rate of an event at `at` (microseconds) under `book`, or None where it has no price.

        The resource's agreed price must have been loaded before.
        """
        listed = self._listed(book, party, meter, dimensions, at)
        agreed = self._agreed.get((resource, meter)) if resource else None
        if agreed is None or agreed.organization != party.id:
            return listed
        list_price = listed.list_price if listed else agreed
        return book.rate_of(agreed, list_price, party.id, from_micros(at))

    def placed(
        self, book: PriceBook, party: Party, usage: tuple[str, str, str], rate: Rate, at: int, period: Period
    ) -> tuple[int, tuple[Span, ...]]:
        """Where usage at `at` by `rate` counts in its month: from which moment on (microseconds) that rate holds, and the
        rates of its chain over the whole month, none where it holds all through. `usage` is meter, dimensions, resource.
        """
        meter, dimensions, resource = usage
        starts, rates = self._segments(book, party, meter, dimensions)
        first, end = to_micros(period.start), to_micros(period.end)
        low, high = bisect_right(starts, first), bisect_left(starts, end)
        if low == high:
            return first, ()
        inner = starts[low:high]
        index = bisect_right(inner, at)
        agreed = self._agreed.get((resource, meter)) if resource else None
        if agreed is not None and agreed.organization != party.id:
            agreed = None
        spans = []
        for begins, ends, listed in zip([first, *inner], [*inner, end], rates[low : high + 1], strict=True):
            held = listed
            if agreed is not None:
                list_price = listed.list_price if listed else agreed
                held = book.rate_of(agreed, list_price, party.id, from_micros(begins))
            if held is not None and held.chain == rate.chain:
                covered, whole = period.share(from_micros(begins), from_micros(ends))
                spans.append(Span(held, Fraction(covered, whole)))
        return (inner[index - 1] if index else first), tuple(spans)

    def rates_of_month(self, book: PriceBook, party: Party, meter: str, dimensions: str, at: int) -> list[Rate]:
        """Every listed rate that holds at some time in the month of `at`, each once."""
        starts, rates = self._segments(book, party, meter, dimensions)
        period = month_of(from_micros(at), party.timezone)
        low, high = bisect_right(starts, to_micros(period.start)), bisect_left(starts, to_micros(period.end))
        return list({rate.id: rate for rate in rates[low : high + 1] if rate is not None}.values())

    def resolve(self, connection: Connection, party: Party, rate_id: str, list_id: str, version: int) -> Rate:
        """The rate of an id by the book in which it stood, next to the list price of that id."""
        book = self.version(connection, version)
        price_id, _, discount_id = rate_id.partition("~")
        prices = []
        for identifier in (price_id, list_id):
            price = book.price_named(identifier, party.id)
            if price is None and identifier.startswith(AGREED):
                _, resource, meter = identifier.split(":", 2)
                if (resource, meter) not in self._agreed:
                    self.load_agreed(connection, [resource], {party.id: party})
                price = self._agreed.get((resource, meter))
            if price is None:
                raise NotFoundError(f"version {version} of the price book has no price {identifier!r}")
            prices.append(price)
        return rate_under(
            prices[0], prices[1], book.discount_named(discount_id, party.id) if discount_id else None, version
        )

    def _listed(self, book: PriceBook, party: Party, meter: str, dimensions: str, at: int) -> Rate | None:
        starts, rates = self._segments(book, party, meter, dimensions)
        return rates[bisect_right(starts, at)]

    def _segments(self, book: PriceBook, party: Party, meter: str, dimensions: str) -> _Segments:
        """Remembered by what decides on them, so that a version in which only others' terms change loses nothing."""
        owner = (party.id, book.terms_of(party.id))
        known = self._known.get(owner)
        if known is None:
            if len(self._known) >= TERMS_CACHED_MAX:
                self._known.popitem(last=False)
            known = self._known[owner] = {}
        else:
            self._known.move_to_end(owner)
        segments = known.get((meter, dimensions))
        if segments is None:
            if len(known) >= KEYS_CACHED_MAX:
                known.clear()
            segments, examined = _segments(book, party, meter, dimensions)
            known[meter, dimensions] = segments
            self.examined += examined
        return segments


@dataclass(frozen=True, slots=True)
class _WithCard:
    """Cards with one that is being published."""

    cards: Cards
    organization_id: str
    card: PriceBook

    def at(self, organization_id: str, version: int) -> PriceBook | None:
        """The card of a customer as of a version."""
        return self.card if organization_id == self.organization_id else self.cards.at(organization_id, version)

    def owners(self, version: int) -> Iterator[str]:
        """Customers that had a card as of a version, and this one."""
        yield from (name for name in self.cards.owners(version) if name != self.organization_id)
        yield self.organization_id


def _ensure_fits(book: PriceBook, card: PriceBook, party: Party) -> None:
    """Raises InvalidInputError where an entry of a card is in the book too, or holds beside one that the book has for the same
    customer."""
    ids = {entry.id for entry in entries_of(book)}
    own = [entry for entry in entries_of(book) if entry.organization == party.id]
    for entry in entries_of(card):
        if entry.id in ids:
            raise InvalidInputError(
                f"the price book has an entry {entry.id!r} already; use another id in the rate card"
            )
    if own:
        ensure_no_overlap(own, card)


def _ensure_no_card_has(before: PriceBook, book: PriceBook, cards: Cards) -> None:
    """Raises InvalidInputError where an entry that is new in `book` is in a rate card too, or holds beside one of its customer's."""
    known = {entry.id for entry in entries_of(before)}
    new = [entry for entry in entries_of(book) if entry.id not in known]
    ids = cards.ids(before.version) if new else {}
    for entry in new:
        if entry.id in ids:
            raise InvalidInputError(
                f"the rate card of {ids[entry.id]} has an entry {entry.id!r} already; use another id"
            )
        card = before.card(entry.organization)
        if card is not None:
            ensure_no_overlap([entry], card)


def _ensure_owners(connection: Connection, before: PriceBook, book: PriceBook) -> None:
    """Entries of one organization that are new in `book` must be able to hold. Raises InvalidInputError."""
    known = {entry.id for entry in entries_of(before)}
    parties: dict[str, Party | None] = {}
    for entry in entries_of(book):
        if not entry.organization or entry.id in known:
            continue
        if entry.organization not in parties:
            parties[entry.organization] = sql.party(connection, entry.organization)
        party = parties[entry.organization]
        if party is None:
            raise InvalidInputError(
                f"{entry.id}: there is no organization {entry.organization!r}; write its id, as `sublet org ls` shows it"
            )
        if isinstance(entry, Commitment) and entry.term_end is not None:
            _ensure_whole_months(entry, party)
        if not isinstance(entry, Discount) and entry.currency != party.currency:
            raise InvalidInputError(
                f"{entry.id}: the price is in {entry.currency}, but {party.name} is billed in {party.currency}; use that currency"
            )


def _ensure_whole_months(entry: Commitment, party: Party) -> None:
    """Raises InvalidInputError where a term does not begin and end with months of its customer: usage is counted by month."""
    for name, moment in (("from", entry.valid_from), ("term_end", entry.term_end)):
        if moment is not None and month_of(moment, party.timezone).start != moment:
            first = month_of(moment, party.timezone)
            raise InvalidInputError(
                f"{entry.id}: {name} must be the start of a month of {party.name} ({party.timezone}), such as "
                f"{format_time(first.start)} or {format_time(first.end)}"
            )


def _segments(book: PriceBook, party: Party, meter: str, dimensions: str) -> tuple[_Segments, int]:
    """The rate before the first moment at which it changes, and after each; and how many entries were looked at."""
    found = json.loads(dimensions)
    starts: list[int] = []
    rates: list[Rate | None] = [book.rate_for(party.id, party.currency, meter, found, EPOCH)]
    moments, entries = book.boundaries(party.id, meter, party.currency)
    for moment in moments:
        rate = book.rate_for(party.id, party.currency, meter, found, moment)
        if _named(rate) != _named(rates[-1]):
            starts.append(to_micros(moment))
            rates.append(rate)
    return (starts, rates), entries * (len(moments) + 1)


def _named(rate: Rate | None) -> tuple[str, str] | None:
    return None if rate is None else (rate.id, rate.list_price.id)


def _agreed_price(party: Party, resource: str, meter: str, amount_nano: int, per_units: int, at: datetime) -> Price:
    if meter not in METERS:
        raise InvalidInputError(f"meter {meter!r} is not known; use one of {', '.join(METERS)}")
    if not 0 <= amount_nano <= POSTING_NANO_MAX or not 0 < per_units <= 10**12:
        raise InvalidInputError("an agreed price is from 0 nano-units up, for 1 to 10**12 units")
    if not resource or len(resource) > 80:
        raise InvalidInputError("an agreed price needs the id of its resource, of at most 80 characters")
    tier = Tier(0, Fraction(amount_nano, per_units * METERS[meter].steps_per_unit))
    return Price(
        f"{AGREED}{resource}:{meter}",
        party.id,
        f"agreed for {resource}",
        meter,
        (),
        "per_unit",
        party.currency,
        per_units,
        Tariff.build("per_unit", (tier,)),
        at,
        None,
        "",
    )
