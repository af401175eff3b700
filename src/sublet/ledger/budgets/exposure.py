"""What a customer owes or is going to owe: what a credit limit limits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Numeric, ScalarSelect, cast, func, select

from sublet.store.tables.ledger import balances, budgets

EXPOSED = ("receivable", "unbilled", "deferred_revenue", "credits", "customer_balance")
"""Unpaid invoices and usage that is not invoiced yet, less prepaid money, credits, and what is owed to the customer. Tax counts
once it is invoiced."""


def exposure_nano(connection: Connection, organization_id: str) -> int:
    """In nano-units; below zero if the customer has paid or was credited more than it used."""
    columns = balances.c
    statement = select(columns.nano).where(columns.organization_id == organization_id, columns.account.in_(EXPOSED))
    return sum(connection.execute(statement).scalars())


def exposure_of_budget() -> ScalarSelect[Any]:
    """The same as an SQL expression beside a row of budgets."""
    columns = balances.c
    return (
        select(func.coalesce(func.sum(cast(columns.nano, Numeric(38, 0))), 0))
        .where(columns.organization_id == budgets.c.organization_id, columns.account.in_(EXPOSED))
        .correlate(budgets)
        .scalar_subquery()
    )
