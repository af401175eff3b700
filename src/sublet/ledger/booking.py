"""Price book versions and agreed prices in the database, and the rate of one event, remembered."""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterable
from datetime import datetime
from fractions import Fraction

from sqlalchemy import Connection, func, insert, select, update

from sublet.ledger import store as sql
from sublet.ledger.book import PriceBook, Rate, book_from_dict, ensure_continues, entries_of, with_built_in
from sublet.ledger.meters import METERS
from sublet.ledger.model import Party
from sublet.ledger.prices import Discount, Price
from sublet.ledger.tariffs import Tariff, Tier
from sublet.store.tables.ledger import agreed_prices, books, waiting
from sublet.values.clock import EPOCH, from_micros, to_micros
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.money import POSTING_NANO_MAX

RATES_CACHED_MAX = 200_000
BOOK_HEAD = "book"

_Segments = tuple[list[int], list[Rate | None]]


class Books:
    """Every published version of the price book, and the prices agreed for single resources."""

    def __init__(self) -> None:
        self._versions: dict[int, PriceBook] = {0: PriceBook()}
        self._segments: dict[tuple[int, str, str, str], _Segments] = {}
        self._agreed: dict[tuple[str, str], Price] = {}

    def current(self, connection: Connection) -> PriceBook:
        """The latest version; an empty book where none was published."""
        return self.version(connection, connection.execute(select(func.max(books.c.version))).scalar() or 0)

    def version(self, connection: Connection, number: int) -> PriceBook:
        """Raises NotFoundError."""
        known = self._versions.get(number)
        if known is None:
            content = connection.execute(select(books.c.content).where(books.c.version == number)).scalar()
            if content is None:
                raise NotFoundError(f"there is no version {number} of the price book")
            known = self._versions[number] = book_from_dict(content, f"price book version {number}", number)
        return known

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
            return before.version
        ensure_continues(before, book)
        _ensure_owners(connection, before, book)
        number = before.version + 1
        connection.execute(
            insert(books).values(version=number, published_at=now, content=book.content, sha256=book.sha256)
        )
        return number

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
            raise InvalidInputError("the agreed price is too dear for what one posting holds")
        columns = agreed_prices.c
        row = connection.execute(
            select(agreed_prices).where(columns.resource == resource, columns.meter == meter)
        ).first()
        wanted = (party.id, party.currency, amount_nano, per_units)
        if row is not None:
            if (row.organization_id, row.currency, row.amount_nano, row.per_units) != wanted:
                raise ConflictError(f"another price was agreed for {meter} of {resource}; it stands for its whole life")
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
        if len(self._agreed) > RATES_CACHED_MAX:
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

    def _listed(self, book: PriceBook, party: Party, meter: str, dimensions: str, at: int) -> Rate | None:
        key = (book.version, party.id, meter, dimensions)
        segments = self._segments.get(key)
        if segments is None:
            if len(self._segments) > RATES_CACHED_MAX:
                self._segments.clear()
            segments = self._segments[key] = _segments(book, party, meter, dimensions)
        starts, rates = segments
        return rates[bisect_right(starts, at)]


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
        if not isinstance(entry, Discount) and entry.currency != party.currency:
            raise InvalidInputError(
                f"{entry.id}: it is in {entry.currency}, and {party.name} is billed in {party.currency}; write it in that"
            )


def _segments(book: PriceBook, party: Party, meter: str, dimensions: str) -> _Segments:
    """The rate before the first boundary, and after each: between two boundaries it can't change."""
    moments = book.boundaries(meter, party.currency)
    found = json.loads(dimensions)
    rates: list[Rate | None] = [book.rate_for(party.id, party.currency, meter, found, EPOCH)]
    rates += [book.rate_for(party.id, party.currency, meter, found, moment) for moment in moments]
    return [to_micros(moment) for moment in moments], rates


def _agreed_price(party: Party, resource: str, meter: str, amount_nano: int, per_units: int, at: datetime) -> Price:
    if meter not in METERS:
        raise InvalidInputError(f"meter {meter!r} is not known; use one of {', '.join(METERS)}")
    if not 0 <= amount_nano <= POSTING_NANO_MAX or not 0 < per_units <= 10**12:
        raise InvalidInputError("an agreed price is from 0 nano-units up, for 1 to 10**12 units")
    if not resource or len(resource) > 80:
        raise InvalidInputError("an agreed price needs the id of its resource, of at most 80 characters")
    tier = Tier(0, Fraction(amount_nano, per_units * METERS[meter].steps_per_unit))
    return Price(
        f"agreed:{resource}:{meter}",
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
