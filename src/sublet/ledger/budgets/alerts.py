"""Alerts of budgets: raised once per threshold and period, as events of the outbox."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, insert, select

from sublet.ledger.budgets.exposure import exposure_nano
from sublet.ledger.budgets.model import Budget
from sublet.ledger.events import record_hard_limit, record_threshold
from sublet.ledger.model import Party
from sublet.ledger.periods import month_of
from sublet.store.tables.ledger import alerts, budget_states


def raise_alerts(connection: Connection, budget: Budget, period_start: datetime, party: Party, now: datetime) -> None:
    """Record every threshold of `budget` that is newly reached. Each is an event in the outbox."""
    state = connection.execute(
        select(budget_states).where(
            budget_states.c.budget_id == budget.id, budget_states.c.period_start == period_start
        )
    ).first()
    spent = state.spent_nano if state else 0
    if budget.credit:
        # What is owed falls with each payment: who comes near the limit again is told again, but at most once a month.
        spent, period_start = exposure_nano(connection, party.id), month_of(now, party.timezone).start
    if budget.hard and spent >= max(budget.limit_nano, 1):
        record_hard_limit(connection, budget, period_start, spent, party, now)
    reached = [percent for percent in budget.thresholds if spent * 100 >= budget.limit_nano * percent]
    if not reached:
        return
    columns = alerts.c
    before = connection.execute(
        select(columns.threshold).where(columns.budget_id == budget.id, columns.period_start == period_start)
    )
    raised = set(before.scalars())
    for percent in sorted(set(reached) - raised):
        connection.execute(
            insert(alerts).values(
                budget_id=budget.id, period_start=period_start, threshold=percent, raised_at=now, spent_nano=spent
            )
        )
        record_threshold(connection, budget, period_start, percent, spent, party, now)
