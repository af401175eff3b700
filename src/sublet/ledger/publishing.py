"""Publishes the price book and rate cards, and books the changes of fees and commitments in closed months."""

from __future__ import annotations

from sqlalchemy import Connection

from sublet.ledger import store as sql
from sublet.ledger.prices.book import PriceBook
from sublet.ledger.prices.booking import Books
from sublet.ledger.rating.fixed import publish_card_fixed, publish_fixed
from sublet.ledger.store import RATING
from sublet.ledger.usage.intake import Parties
from sublet.store import Store
from sublet.values.etags import ANY_STATE, Condition


class Publishing:
    """Publishes prices from now on: for everybody, and for single customers."""

    def __init__(self, store: Store, parties: Parties, books: Books) -> None:
        self._store = store
        self._parties = parties
        self._books = books

    def book(self, book: PriceBook, seen: Condition = ANY_STATE) -> int:
        """Publish `book` as the current price book, and return its version. Changes of fees and commitments in closed months
        are booked in the first open one. Raises ConflictError if published terms changed, BackdatedError if a backdated change
        is not stated, and PreconditionFailedError."""

        def write(connection: Connection) -> int:
            now = self._store.clock.now()
            # The rater and the closing of months lock the same head, so that no month closes while its fees are booked.
            sql.lock_head(connection, RATING)
            before = self._books.current(connection)
            seen.require(before.state)
            version = self._books.publish(connection, book, now)
            if version > before.version:
                publish_fixed(connection, before, self._books.read(connection, version), now)
            return version

        return self._store.write(write)

    def card(self, organization_id: str, card: PriceBook, seen: Condition = ANY_STATE) -> int:
        """Publish `card` as the rate card of an organization, and return its version. Other customers' terms are not read.
        Raises the errors of `book`, and NotFoundError."""

        def write(connection: Connection) -> int:
            now = self._store.clock.now()
            party = self._parties.get(connection, organization_id)
            sql.lock_head(connection, RATING)
            before, after, version = self._books.publish_card(connection, party, card, now, seen)
            publish_card_fixed(connection, party, before, after, now)
            return version

        return self._store.write(write)

    def card_of(self, organization_id: str) -> PriceBook:
        """The rate card of an organization; empty if it has none. Raises NotFoundError."""
        with self._store.read() as connection:
            party = self._parties.get(connection, organization_id)
            return self._books.current(connection).card(party.id) or PriceBook()
