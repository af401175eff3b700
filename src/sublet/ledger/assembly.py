"""The ledger as the settings have it: whose name stands on invoices, and which taxes."""

from __future__ import annotations

from fractions import Fraction

from sublet.config.settings import Billing
from sublet.ledger.invoices.invoicing import Issuer
from sublet.ledger.invoices.taxes import FlatTax, Taxes, taxes_named
from sublet.ledger.service import Ledger
from sublet.store import Store


def ledger_of(store: Store, billing: Billing) -> Ledger:
    """Raises InvalidInputError where the tax calculator that `billing` names is not installed."""
    issuer = Issuer(billing.issuer_name, billing.issuer_address, billing.issuer_tax_number)
    return Ledger(store, taxes=taxes_of(billing), issuer=issuer, bad_debt_tax_relief=billing.bad_debt_tax_relief)


def taxes_of(billing: Billing) -> Taxes:
    """The plug-in where one is named, else the one percentage where it is set, else none. Raises InvalidInputError."""
    if billing.tax_percent is None:
        return taxes_named(billing.taxes)
    return FlatTax(billing.tax_name, Fraction(billing.tax_percent), billing.tax_country)
