"""Creates budgets: their defaults, what is refused, and what their scope has spent already."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, select

from sublet.accounts.directory import is_key_of
from sublet.ledger import store as sql
from sublet.ledger.budgets.model import CREDIT, KINDS, THRESHOLDS, Budget
from sublet.ledger.usage.intake import Parties
from sublet.store.tables.ledger import budgets as budgets_table
from sublet.values.clock import to_micros
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.ids import new_id
from sublet.values.text import checked_line

SCOPE_ID_MAX = 80


def create_budget(connection: Connection, parties: Parties, budget: Budget, now: datetime) -> Budget:
    """Store the budget with what was spent in its current period. Raises ConflictError if its id is taken, and NotFoundError
    if it is for a key that the organization does not have."""
    party = parties.get(connection, budget.organization_id)
    if budget.scope == "key" and not is_key_of(connection, party.id, budget.scope_id):
        raise NotFoundError(
            f"{party.name} has no key {budget.scope_id!r}; `sublet key ls {party.id}` lists those that it has"
        )
    if connection.execute(select(budgets_table.c.id).where(budgets_table.c.id == budget.id)).first():
        raise ConflictError(f"budget {budget.id!r} already exists; omit the id to create a new one")
    _refuse_second(connection, party.id, budget)
    sql.insert_row(
        connection,
        budgets_table,
        id=budget.id,
        organization_id=party.id,
        scope=budget.scope,
        scope_id=budget.scope_id,
        period=budget.period,
        kind=budget.kind,
        limit_nano=budget.limit_nano,
        hard=budget.hard,
        thresholds=list(budget.thresholds),
        opening_line=0,
        created_at=now,
        ended_at=None,
    )
    start = budget.period_start(now, party.timezone)
    spent = sql.rated_since(connection, party.id, budget.scope, budget.scope_id, to_micros(start))
    sql.insert_state(connection, budget.id, to_micros(start), spent)
    return budget


def _refuse_second(connection: Connection, organization_id: str, budget: Budget) -> None:
    """Raises ConflictError if a live budget has the same scope, period and kind: everything would be counted twice, and which
    of the two refuses would be random."""
    columns = budgets_table.c
    same = (
        columns.organization_id == organization_id,
        columns.ended_at.is_(None),
        columns.scope == budget.scope,
        columns.scope_id == budget.scope_id,
        columns.period == budget.period,
        columns.kind == budget.kind,
        columns.hard == budget.hard,
    )
    found = connection.execute(select(columns.id).where(*same).limit(1)).scalar()
    if found is not None:
        whose = f"{budget.scope} {budget.scope_id}".strip()
        raise ConflictError(
            f"budget {found} already limits this {whose} for the same period; change its limit, or end it first",
            budget_id=found,
        )


def new_budget(organization_id: str, limit_nano: int, **fields: Any) -> Budget:
    """A budget with a new id; by default, a hard monthly one for the whole organization. Its project is normalized like the
    projects of keys, because a budget for another spelling would have no effect. Raises InvalidInputError."""
    defaults: dict[str, Any] = {
        "scope": "organization",
        "scope_id": "",
        "period": "month",
        "hard": True,
        "thresholds": THRESHOLDS,
    }
    values = defaults | fields
    if values.get("kind") == CREDIT:
        values["period"] = "ever"
    if values.get("kind", KINDS[0]) not in KINDS:
        raise InvalidInputError(f"kind {values['kind']!r} must be one of {', '.join(KINDS)}", field="kind")
    values["scope_id"] = checked_line(values["scope_id"], "scope_id", SCOPE_ID_MAX)
    try:
        return Budget(new_id("bud"), organization_id, limit_nano=limit_nano, **values)
    except TypeError as error:
        raise InvalidInputError(f"unknown field of a budget: {error}") from error
