"""The ledger as this machine's settings have it: whose name stands on invoices, and which taxes."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated

import typer

from sublet.accounts.service import Accounts
from sublet.config import settings
from sublet.config.settings import Billing
from sublet.ledger.invoices import Issuer
from sublet.ledger.service import Ledger
from sublet.ledger.taxes import FlatTax, Taxes, taxes_named
from sublet.store import Store
from sublet.store.schema import migrate

Organization = Annotated[str, typer.Argument(help="Id or name.")]


def ledger_of(store: Store, billing: Billing) -> Ledger:
    """Raises InvalidInputError where the tax calculator that `billing` names is not installed."""
    issuer = Issuer(billing.issuer_name, billing.issuer_address, billing.issuer_tax_number)
    return Ledger(store, taxes=taxes_of(billing), issuer=issuer)


def taxes_of(billing: Billing) -> Taxes:
    """The plug-in where one is named, else the one percentage where it is set, else none. Raises InvalidInputError."""
    if billing.tax_percent is None:
        return taxes_named(billing.taxes)
    return FlatTax(billing.tax_name, Fraction(billing.tax_percent), billing.tax_country)


def open_ledger() -> Ledger:
    """The ledger in the database of this machine's settings, brought to the present schema."""
    found = settings.load()
    store = Store(found.database_url)
    migrate(store)
    return ledger_of(store, found.billing)


def organization_id(ledger: Ledger, name: str) -> str:
    """The id of an organization by id or name. Raises NotFoundError."""
    return Accounts(ledger.store).organization(name).id
