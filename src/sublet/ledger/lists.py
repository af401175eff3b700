"""Pages of an organization's credits, invoices, credit notes, refunds and budgets."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Row

from sublet.ledger.budgets.model import BudgetState
from sublet.ledger.budgets.spending import Spending
from sublet.ledger.credits.crediting import Credit
from sublet.ledger.credits.wallets import Wallets
from sublet.ledger.invoices.invoicing import invoices_page, notes_page, stated
from sublet.ledger.invoices.parties import with_all_fields
from sublet.ledger.payments.received import receipts_page
from sublet.ledger.payments.refunds import refunds_page
from sublet.ledger.usage.intake import Parties
from sublet.store import Store
from sublet.store.paging import Page, PageRequest


class Lists:
    """Each method raises NotFoundError for an unknown organization, and InvalidCursorError."""

    def __init__(self, store: Store, parties: Parties, wallets: Wallets, spending: Spending) -> None:
        self._store = store
        self._parties = parties
        self._wallets = wallets
        self._spending = spending

    def credits(self, organization_id: str, wanted: PageRequest) -> Page[Credit]:
        """Credits, oldest first, with what is left of each."""
        with self._store.read() as connection:
            party = self._parties.get(connection, organization_id)
            return self._wallets.credit_page(connection, party, self._store.clock.now(), wanted)

    def invoices(self, organization_id: str, wanted: PageRequest) -> Page[dict[str, Any]]:
        """Invoices, newest first."""
        with self._store.read() as connection:
            self._parties.get(connection, organization_id)
            return invoices_page(connection, organization_id, wanted).map(stated)

    def notes(self, organization_id: str, wanted: PageRequest) -> Page[dict[str, Any]]:
        """Credit notes, newest first."""
        with self._store.read() as connection:
            self._parties.get(connection, organization_id)
            return notes_page(connection, organization_id, wanted).map(_document)

    def refunds(self, organization_id: str, wanted: PageRequest) -> Page[dict[str, Any]]:
        """Refunds, newest first."""
        with self._store.read() as connection:
            self._parties.get(connection, organization_id)
            return refunds_page(connection, organization_id, wanted)

    def payments(self, organization_id: str, wanted: PageRequest) -> Page[dict[str, Any]]:
        """Payments that were recorded for a customer as a whole, newest first."""
        with self._store.read() as connection:
            return receipts_page(connection, self._parties.get(connection, organization_id), wanted)

    def budgets(self, organization_id: str, wanted: PageRequest) -> Page[BudgetState]:
        """Budgets in their current periods, oldest first."""
        with self._store.read() as connection:
            return self._spending.state_page(connection, organization_id, self._store.clock.now(), wanted)


def _document(row: Row[Any]) -> dict[str, Any]:
    found: dict[str, Any] = row.document | with_all_fields(row.document)
    return found
