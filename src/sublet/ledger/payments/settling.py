"""The use cases that settle invoices other than by payments: credit notes, refunds, write-offs and netting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from sublet.ledger import store as sql
from sublet.ledger.credits.wallets import Wallets
from sublet.ledger.invoices.invoicing import invoice_row, note_row, notes_page, stated
from sublet.ledger.invoices.parties import with_all_fields
from sublet.ledger.invoices.previews import as_draft, rehearsed
from sublet.ledger.invoices.price_reductions import PriceReductions, Wanted
from sublet.ledger.invoices.write_offs import recover, write_off
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.payments.netting import net, undo
from sublet.ledger.payments.received import Received, receive
from sublet.ledger.payments.refunds import NewRefund, refund, return_deposit
from sublet.ledger.usage.intake import Parties
from sublet.store import Store
from sublet.store.paging import PageRequest
from sublet.values.errors import ConflictError
from sublet.values.text import checked_line


class Settling:
    """Reduces invoices, or what is owed to a customer, other than by payments. Each can be previewed."""

    def __init__(self, store: Store, parties: Parties, wallets: Wallets, *, tax_relief: bool = True) -> None:
        self._store = store
        self._wallets = wallets
        self._tax_relief = tax_relief
        self._parties = parties
        self._reductions = PriceReductions(wallets)

    def credit(
        self, invoice_id: str, wanted: Wanted, reason: str, *, digest: str = "", preview: bool = False
    ) -> dict[str, Any]:
        """Create a credit note that lowers the price of an invoice. Its usage does not change. With `preview`, return the note
        that would be created, and write nothing."""

        def write(connection: Connection) -> dict[str, Any]:
            return self._reductions.make(connection, invoice_id, wanted, reason, self._store.clock.now(), digest)

        return rehearsed(self._store, write, as_draft) if preview else self._store.write(write)

    def note(self, note_id: str) -> dict[str, Any]:
        """A credit note by id or number. Raises NotFoundError."""
        with self._store.read() as connection:
            found: dict[str, Any] = note_row(connection, note_id).document
            return found | with_all_fields(found)

    def notes(self, organization_id: str) -> list[dict[str, Any]]:
        """The credit notes of an organization, newest first."""
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

    def receive(self, received: Received, *, preview: bool = False) -> dict[str, Any]:
        """Record a payment of a customer: for the invoices that it names, or the oldest ones; the rest is prepaid money."""

        def write(connection: Connection) -> dict[str, Any]:
            party = self._parties.get(connection, received.organization_id)
            return receive(connection, self._wallets, party, received, self._store.clock.now())

        return self._done(write, preview=preview)

    def refund(self, wanted: NewRefund, *, preview: bool = False) -> dict[str, Any]:
        """Refund what is owed to a customer, to a payment or to the wallet."""
        return self._done(
            lambda connection: refund(connection, self._wallets, wanted, self._store.clock.now()), preview=preview
        )

    def return_deposit(self, credit_id: str, nano: int, reason: str, *, preview: bool = False) -> dict[str, Any]:
        """Return what is left of a deposit, or part of it, to what is owed to the customer. A refund then pays it out."""

        def write(connection: Connection) -> dict[str, Any]:
            return return_deposit(connection, self._wallets, credit_id, nano, reason, self._store.clock.now())

        return self._done(write, preview=preview)

    def write_off(self, invoice_id: str, reason: str, *, preview: bool = False) -> dict[str, Any]:
        """Write off the open amount of an invoice as bad debt. A later payment recovers it."""

        def write(connection: Connection) -> dict[str, Any]:
            sql.lock_head(connection, journal.CHAIN)
            row = invoice_row(connection, invoice_id)
            return write_off(connection, row, reason, self._store.clock.now(), tax_relief=self._tax_relief)

        return self._done(write, preview=preview)

    def reinstate(self, invoice_id: str, reason: str, *, preview: bool = False) -> dict[str, Any]:
        """Reverse a write-off. The invoice is open again. Raises ConflictError if nothing is written off."""

        def write(connection: Connection) -> dict[str, Any]:
            sql.lock_head(connection, journal.CHAIN)
            row = invoice_row(connection, invoice_id)
            said = checked_line(reason, "the reason why the write-off is taken back", 500, 1)
            if not row.written_off_nano:
                raise ConflictError(f"no part of invoice {row.number} is written off")
            return stated(recover(connection, row, row.written_off_nano, said, self._store.clock.now()))

        return self._done(write, preview=preview)

    def net(
        self, invoice_id: str, source_id: str, reason: str, nano: int | None = None, *, preview: bool = False
    ) -> dict[str, Any]:
        """Pay an invoice, or `nano` of it, from what is owed to its customer."""
        return self._done(
            lambda connection: net(connection, invoice_id, nano, source_id, reason, self._store.clock.now()),
            preview=preview,
        )

    def undo_netting(self, invoice_id: str, source_id: str, reason: str) -> dict[str, Any]:
        """Reverse netting by a reversal that names it."""
        return self._store.write(
            lambda connection: undo(connection, invoice_id, source_id, reason, self._store.clock.now())
        )

    def _done(self, write: Callable[[Connection], dict[str, Any]], *, preview: bool) -> dict[str, Any]:
        return rehearsed(self._store, write) if preview else self._store.write(write)
