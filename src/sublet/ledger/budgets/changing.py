"""Changes existing budgets, one change at a time, based on the state that the caller has seen."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from sqlalchemy import Connection, select, update

from sublet.ledger.budgets.model import PREPAID, Budget
from sublet.ledger.budgets.spending import budget_of
from sublet.store.tables.ledger import budgets
from sublet.values.errors import NotFoundError
from sublet.values.etags import Condition


def live_budget(
    connection: Connection, budget_id: str, organization_id: str | None = None, lock: bool = False
) -> Budget:
    """A budget that has not ended, of the organization if one is given. With `lock`, nobody else can change it until the
    transaction ends. Raises NotFoundError."""
    columns = budgets.c
    query = select(budgets).where(columns.id == budget_id, columns.ended_at.is_(None), columns.kind != PREPAID)
    if organization_id is not None:
        query = query.where(columns.organization_id == organization_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    if row is None:
        raise NotFoundError(f"there is no live budget {budget_id!r}; `sublet ledger budget ls` lists them")
    return budget_of(row)


def change_limit(connection: Connection, budget_id: str, limit_nano: int, seen: Condition) -> Budget:
    """Change the limit from now on. Raises NotFoundError, PreconditionFailedError."""
    found = live_budget(connection, budget_id, lock=True)
    seen.require(found.as_dict())
    connection.execute(update(budgets).where(budgets.c.id == budget_id).values(limit_nano=limit_nano))
    return replace(found, limit_nano=limit_nano)


def end(connection: Connection, budget_id: str, now: datetime, seen: Condition) -> None:
    """End the budget from now on. Raises NotFoundError, PreconditionFailedError."""
    seen.require(live_budget(connection, budget_id, lock=True).as_dict())
    connection.execute(update(budgets).where(budgets.c.id == budget_id).values(ended_at=now))
