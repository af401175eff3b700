"""The use cases of what settles invoices besides payments: credit notes."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from sublet.ledger.credits.wallets import Wallets
from sublet.ledger.invoices.invoicing import note_row, notes_page
from sublet.ledger.invoices.previews import as_draft, rehearsed
from sublet.ledger.invoices.price_reductions import PriceReductions, Wanted
from sublet.ledger.usage.intake import Parties
from sublet.store import Store
from sublet.store.paging import PageRequest


class Settling:
    """What lowers an invoice or what is owed to a customer, other than payments; each can be previewed."""

    def __init__(self, store: Store, parties: Parties, wallets: Wallets) -> None:
        self._store = store
        self._parties = parties
        self._reductions = PriceReductions(wallets)

    def credit(
        self, invoice_id: str, wanted: Wanted, reason: str, *, digest: str = "", preview: bool = False
    ) -> dict[str, Any]:
        """Make a credit note that lowers the price of an invoice; its usage stands. With `preview`, show the note that would be made
        and write nothing."""

        def write(connection: Connection) -> dict[str, Any]:
            return self._reductions.make(connection, invoice_id, wanted, reason, self._store.clock.now(), digest)

        return rehearsed(self._store, write, as_draft) if preview else self._store.write(write)

    def note(self, note_id: str) -> dict[str, Any]:
        """A credit note by id or number. Raises NotFoundError."""
        with self._store.read() as connection:
            found: dict[str, Any] = note_row(connection, note_id).document
            return found

    def notes(self, organization_id: str) -> list[dict[str, Any]]:
        """The credit notes of an organization, the newest first."""
        with self._store.read() as connection:
            self._parties.get(connection, organization_id)
            page = PageRequest()
            found: list[dict[str, Any]] = []
            while True:
                part = notes_page(connection, organization_id, page)
                found += [row.document for row in part.items]
                if part.next is None:
                    return found
                page = PageRequest(after=part.next)
