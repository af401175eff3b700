"""Assembles the ledger from the settings: the issuer of invoices, and the taxes."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from sublet.config.sections import Billing
from sublet.ledger.exports.charges import Seller
from sublet.ledger.invoices.details import AcceleratorsOf
from sublet.ledger.invoices.logos import read_logo
from sublet.ledger.invoices.parties import Issuer
from sublet.ledger.invoices.taxes import FlatTax, Taxes, taxes_named
from sublet.ledger.model import ACCOUNTS
from sublet.ledger.service import Ledger
from sublet.store import Store
from sublet.values.errors import InvalidInputError


def ledger_of(
    store: Store, billing: Billing, accelerators_of: AcceleratorsOf = lambda connection, resources: {}
) -> Ledger:
    """The ledger. `accelerators_of` returns the accelerators of leases. Raises InvalidInputError if the tax calculator in
    `billing` is not installed."""
    return Ledger(
        store,
        taxes=taxes_of(billing),
        issuer=Issuer(**{field.name: getattr(billing, f"issuer_{field.name}") for field in fields(Issuer)}),
        bad_debt_tax_relief=billing.bad_debt_tax_relief,
        grace=timedelta(hours=billing.grace_hours),
        expected_breakage_percent=billing.expected_breakage_percent or Decimal(0),
        logo=read_logo(billing.issuer_logo) if billing.issuer_logo else None,
        accelerators_of=accelerators_of,
        seller=_seller_of(billing),
    )


def _seller_of(billing: Billing) -> Seller:
    datev = (billing.datev_consultant, billing.datev_client, billing.datev_clearing_account)
    return Seller(billing.issuer_name, _chart_of(billing), datev)


def _chart_of(billing: Billing) -> dict[str, str]:
    """The operator's codes of accounts. Raises InvalidInputError for an account that the ledger does not have."""
    unknown = sorted(set(billing.chart_of_accounts) - set(ACCOUNTS))
    if unknown:
        raise InvalidInputError(f"billing.chart_of_accounts has {unknown[0]!r}; use {', '.join(ACCOUNTS)}")
    return dict(billing.chart_of_accounts)


def taxes_of(billing: Billing) -> Taxes:
    """The plug-in if one is named, or else the single percentage if it is set, or else no tax. Raises InvalidInputError."""
    if billing.tax_percent is None:
        return taxes_named(billing.taxes)
    return FlatTax(billing.tax_name, Fraction(billing.tax_percent), billing.tax_country)
