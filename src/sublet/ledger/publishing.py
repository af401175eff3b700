"""Publishes the price book and rate cards, and books the changes of fees and commitments in closed months."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from sublet.ledger import store as sql
from sublet.ledger.model import Party
from sublet.ledger.plans.compiling import PREFIX, SECTIONS
from sublet.ledger.prices.book import PriceBook, entries_of
from sublet.ledger.prices.booking import Books
from sublet.ledger.prices.cards import card_from_dict
from sublet.ledger.rating.fixed import publish_card_fixed, publish_fixed
from sublet.ledger.store import RATING
from sublet.ledger.usage.intake import Parties
from sublet.store import Store
from sublet.values.errors import ConflictError
from sublet.values.etags import ANY_STATE, Condition

Compiled = Callable[[frozenset[str]], Mapping[str, Sequence[Mapping[str, Any]]]]
"""The entries of a subscription by section, given the ids that its customer's card has."""


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
            party = self._parties.get(connection, organization_id)
            sql.lock_head(connection, RATING)
            return self._publish(connection, party, self._with_subscriptions(connection, party, card), seen)

        return self._store.write(write)

    def subscribed(self, connection: Connection, party: Party, subscription: str, compiled: Compiled) -> int:
        """Make what `compiled` returns the entries of a subscription in its customer's rate card, in the caller's transaction. It is
        given the ids that the card has. Raises the errors of `card`."""
        sql.lock_head(connection, RATING)
        content = self._books.current(connection).card(party.id) or PriceBook()
        known = frozenset(entry.id for entry in entries_of(content))
        own = compiled(known)
        merged: dict[str, Any] = {"name": content.name}
        for section in SECTIONS:
            others = [one for one in content.content.get(section, ()) if not one["id"].startswith(f"{subscription}-")]
            merged[section] = [*others, *own.get(section, ())]
        card = card_from_dict(merged, party.id, f"rate card of {party.name}")
        return self._publish(connection, party, card, ANY_STATE)

    def _publish(self, connection: Connection, party: Party, card: PriceBook, seen: Condition) -> int:
        now = self._store.clock.now()
        before, after, version = self._books.publish_card(connection, party, card, now, seen)
        publish_card_fixed(connection, party, before, after, now)
        return version

    def _with_subscriptions(self, connection: Connection, party: Party, card: PriceBook) -> PriceBook:
        """`card` with the entries that subscriptions own, which it may repeat or leave out. Raises ConflictError for a change of
        one."""
        current = self._books.current(connection).card(party.id) or PriceBook()
        held = {entry.id: (entry.content, entry.valid_until) for entry in entries_of(current)}
        for entry in entries_of(card):
            if entry.id.startswith(PREFIX) and held.get(entry.id) != (entry.content, entry.valid_until):
                raise ConflictError(
                    f"{entry.id} belongs to a plan; change the subscription {entry.id.partition('-')[0]} instead"
                )
        named = {entry.id for entry in entries_of(card)}
        merged = dict(card.content)
        for section in SECTIONS:
            kept = [one for one in current.content.get(section, ()) if one["id"].startswith(PREFIX)]
            missing = [one for one in kept if one["id"] not in named]
            if missing:
                merged[section] = [*merged.get(section, ()), *missing]
        return card if merged == card.content else card_from_dict(merged, party.id, "the rate card")

    def card_of(self, organization_id: str) -> PriceBook:
        """The rate card of an organization; empty if it has none. Raises NotFoundError."""
        with self._store.read() as connection:
            party = self._parties.get(connection, organization_id)
            return self._books.current(connection).card(party.id) or PriceBook()
