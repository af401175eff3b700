"""Revenue, contract balances and aged receivables as rows of exports: the same figures as the reports."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select

from sublet.ledger import store as sql
from sublet.ledger.exports.charges import Charges
from sublet.ledger.payments.statements import AGES, aged_receivables
from sublet.ledger.periods import month_labeled
from sublet.ledger.revenue.breakdown import GROUPS, revenue_breakdown
from sublet.ledger.revenue.periods import MOVES, months_between, revenue_by_month
from sublet.store.paging import PageRequest
from sublet.store.tables.ledger import transactions
from sublet.values.clock import format_time

REVENUE_COLUMNS = ("period", "currency", "organization_id", "organization", "product", "pool", "model", "amount")
BALANCES = ("unbilled", "contract_assets", "contract_liabilities")
DEFERRED_COLUMNS = ("period", "currency", "organization_id", "organization", "opening", *MOVES, "closing", *BALANCES)
AGE_COLUMNS = ("current", "days_1_30", "days_31_60", "days_61_90", "days_over_90")
RECEIVABLE_COLUMNS = ("as_of", "currency", "organization_id", "organization", *AGE_COLUMNS, "unapplied", "total")


def revenue_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """What was earned and given away, by month, customer, product, pool and model."""
    for label in _months(charges):
        with charges.store.read() as connection:
            found = revenue_breakdown(connection, label, label, GROUPS, _owners(charges)).rows()
        for row in found:
            yield row | {"amount": Decimal(row["amount"])}


def deferred_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """For each month and customer: how deferred revenue moved, and what is unbilled at its end."""
    labels = _months(charges)
    if not labels:
        return
    with charges.store.read() as connection:
        owners = _owners(charges) or sorted(sql.organizations_with_transactions(connection))
    for owner in owners:
        party = charges.party(owner)
        with charges.store.read() as connection:
            months = revenue_by_month(connection, labels[0], labels[-1], [owner])
        for month in months:
            moved = month["deferred"] | {name: month[name] for name in BALANCES}
            amounts = {name: Decimal(text) for name, text in moved.items()}
            if any(amounts.values()):
                named = {"organization_id": party.id, "organization": party.name}
                yield {"period": month["period"], "currency": month["currency"]} | named | amounts


def receivable_rows(charges: Charges) -> Iterator[Mapping[str, Any]]:
    """What customers owe by age, at the end of the last month (in UTC) that is asked for, or now."""
    now = charges.store.clock.now()
    end = month_labeled(charges.span.until, "UTC").end if charges.span.until else now
    as_of = end if end < now else None
    after = None
    while True:
        with charges.store.read() as connection:
            page = aged_receivables(connection, now, PageRequest(after=after), as_of)
        for row in page.items:
            if charges.organization_id in ("", row["organization_id"]):
                named = {"organization_id": row["organization_id"], "organization": row["name"]}
                ages = {column: Decimal(row[name]) for column, (name, _) in zip(AGE_COLUMNS, AGES, strict=True)}
                rest = {name: Decimal(row[name]) for name in ("unapplied", "total")}
                if not any((*ages.values(), *rest.values())):
                    continue
                yield {"as_of": format_time(as_of or now), "currency": row["currency"]} | named | ages | rest
        after = page.next
        if after is None:
            return


def _owners(charges: Charges) -> list[str] | None:
    return [charges.organization_id] if charges.organization_id else None


def _months(charges: Charges) -> list[str]:
    """The months of the export, from the first that was booked to the present one where it has no bounds."""
    with charges.store.read() as connection:
        first = connection.execute(select(func.min(transactions.c.period_start))).scalar()
    if first is None:
        return []
    since = charges.span.since or f"{first:%Y-%m}"
    # East of Greenwich the month that began last may be the next one.
    until = charges.span.until or max(since, f"{charges.store.clock.now():%Y-%m}")
    return months_between(since, until)
