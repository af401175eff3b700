"""The ledger as the settings have it: whose name stands on invoices, and which taxes."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from sublet.config.settings import Billing
from sublet.ledger.invoices.details import AcceleratorsOf
from sublet.ledger.invoices.logos import read_logo
from sublet.ledger.invoices.parties import Issuer
from sublet.ledger.invoices.taxes import FlatTax, Taxes, taxes_named
from sublet.ledger.service import Ledger
from sublet.store import Store


def ledger_of(
    store: Store, billing: Billing, accelerators_of: AcceleratorsOf = lambda connection, resources: {}
) -> Ledger:
    """`accelerators_of` says how many accelerators leases have. Raises InvalidInputError where the tax calculator that `billing`
    names is not installed."""
    return Ledger(
        store,
        taxes=taxes_of(billing),
        issuer=Issuer(**{field.name: getattr(billing, f"issuer_{field.name}") for field in fields(Issuer)}),
        bad_debt_tax_relief=billing.bad_debt_tax_relief,
        grace=timedelta(hours=billing.grace_hours),
        expected_breakage_percent=billing.expected_breakage_percent or Decimal(0),
        logo=read_logo(billing.issuer_logo) if billing.issuer_logo else None,
        accelerators_of=accelerators_of,
    )


def taxes_of(billing: Billing) -> Taxes:
    """The plug-in where one is named, else the one percentage where it is set, else none. Raises InvalidInputError."""
    if billing.tax_percent is None:
        return taxes_named(billing.taxes)
    return FlatTax(billing.tax_name, Fraction(billing.tax_percent), billing.tax_country)
