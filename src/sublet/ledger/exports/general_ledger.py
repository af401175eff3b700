"""The general ledger for an accounting program: what each account moved in a month, in the currency's digits, under the account
codes of the operator's own chart.

Xero: the columns of its template for manual journals (help.xero.com, "Enter multiple manual journals using an import template").
QuickBooks Online: the columns of its import of journal entries (quickbooks.intuit.com, "Import journal entries").
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from sublet.ledger.exports.charges import Charges, Span
from sublet.ledger.exports.journal import journal_rows
from sublet.ledger.invoices.lines import smallest_unit
from sublet.ledger.model import ACCOUNTS
from sublet.ledger.periods import month_labeled
from sublet.values.clock import as_utc
from sublet.values.money import decimal_from_nano, nano_from_decimal

GL_COLUMNS = ("period", "date", "currency", "account", "code", "meaning", "debit", "credit")
XERO_COLUMNS = (
    "*Narration",
    "*Date",
    "Description",
    "*AccountCode",
    "*TaxRate",
    "*Amount",
    "TrackingName1",
    "TrackingOption1",
    "TrackingName2",
    "TrackingOption2",
)
QUICKBOOKS_COLUMNS = ("JournalNo", "JournalDate", "AccountName", "Debits", "Credits", "Description", "Currency")
TRIAL_COLUMNS = ("period", "currency", "account", "code", "meaning", "debit", "credit")
XERO_TAX_RATE = "Tax Exempt"
"""Taxes have an account of their own, so no line is taxed again."""


def monthly(charges: Charges) -> Iterator[tuple[str, str, dict[str, int]]]:
    """For each month and currency what each account moved, in nano-units that are whole in the currency's digits.

    The exact sums are rounded down, and the accounts with the largest remainders get the units that are missing, so that each journal
    sums to zero and no account is off by a whole unit.
    """
    exact: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in journal_rows(charges):
        moved = nano_from_decimal(row["debit"] or 0) - nano_from_decimal(row["credit"] or 0)
        exact[row["period"], row["currency"]][row["account"]] += moved
    for (period, currency), sums in sorted(exact.items()):
        unit = smallest_unit(currency)
        whole = {account: nano - nano % unit for account, nano in sums.items()}
        missing = -sum(whole.values()) // unit
        for account in sorted(sums, key=lambda account: (-(sums[account] % unit), account))[:missing]:
            whole[account] += unit
        yield period, currency, {account: whole[account] for account in ACCOUNTS if whole.get(account)}


def gl_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """One row for each account, month and currency."""
    for period, currency, sums in monthly(charges):
        for account, nano in sums.items():
            yield {
                "period": period,
                "date": _last_day(period).isoformat(),
                "currency": currency,
                "account": account,
                "code": charges.code(account),
                "meaning": ACCOUNTS[account],
                "debit": _positive(nano, currency),
                "credit": _positive(-nano, currency),
            }


def trial_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """The trial balance: the balance of each account and currency at the end of the last month that is asked for, or now. Exact;
    debits and credits of a currency are equal."""
    through = Charges(charges.store, charges.books, charges.organization_id, Span("", charges.span.until))
    sums: dict[tuple[str, str], int] = defaultdict(int)
    for row in journal_rows(through):
        moved = nano_from_decimal(row["debit"] or 0) - nano_from_decimal(row["credit"] or 0)
        sums[row["currency"], row["account"]] += moved
    for currency in sorted({currency for currency, _ in sums}):
        for account in ACCOUNTS:
            nano = sums.get((currency, account), 0)
            if nano:
                yield {
                    "period": charges.span.until,
                    "currency": currency,
                    "account": account,
                    "code": charges.code(account),
                    "meaning": ACCOUNTS[account],
                    "debit": decimal_from_nano(nano) if nano > 0 else None,
                    "credit": decimal_from_nano(-nano) if nano < 0 else None,
                }


def xero_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """Manual journals of Xero: one for each month and currency; debits are positive."""
    for period, currency, sums in monthly(charges):
        for account, nano in sums.items():
            yield {
                "*Narration": f"Sublet {period} {currency}",
                "*Date": f"{_last_day(period):%d/%m/%Y}",
                "Description": ACCOUNTS[account],
                "*AccountCode": charges.code(account),
                "*TaxRate": XERO_TAX_RATE,
                "*Amount": _amount(nano, currency),
            }


def quickbooks_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """Journal entries of QuickBooks Online: one for each month and currency."""
    for period, currency, sums in monthly(charges):
        for account, nano in sums.items():
            yield {
                "JournalNo": f"{period} {currency}",
                "JournalDate": f"{_last_day(period):%m/%d/%Y}",
                "AccountName": charges.code(account),
                "Debits": _positive(nano, currency),
                "Credits": _positive(-nano, currency),
                "Description": ACCOUNTS[account],
                "Currency": currency,
            }


def _last_day(period: str) -> date:
    end = as_utc(month_labeled(period, "UTC").end).date()
    return date.fromordinal(end.toordinal() - 1)


def _positive(nano: int, currency: str) -> Decimal | None:
    return _amount(nano, currency) if nano > 0 else None


def _amount(nano: int, currency: str) -> Decimal:
    digits = Decimal(decimal_from_nano(smallest_unit(currency)))
    return Decimal(decimal_from_nano(nano)).quantize(digits.normalize())
