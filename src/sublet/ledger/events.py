"""What the ledger tells of in the outbox."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from sublet.ledger.budgets import Budget
from sublet.ledger.model import Party, amount_text
from sublet.store.events import declare
from sublet.values.clock import format_time


@dataclass(frozen=True, slots=True)
class BudgetStanding:
    """How a budget stands in its period. Amounts are decimal texts in `currency`."""

    budget: str
    scope: str
    scope_id: str
    period: str
    period_start: datetime
    hard: bool
    limit: str
    spent: str
    currency: str


@dataclass(frozen=True, slots=True)
class ThresholdReached(BudgetStanding):
    """The same, and which threshold it is."""

    threshold_percent: int


THRESHOLD_REACHED = declare(
    "budget.threshold_reached", ThresholdReached, "Spending reached a threshold of a budget.", subject="budget"
)
HARD_LIMIT_REACHED = declare(
    "budget.hard_limit_reached",
    BudgetStanding,
    "A hard budget is spent: new work that it covers is refused until the period ends.",
    subject="budget",
)


def record_threshold(
    connection: Connection,
    budget: Budget,
    period_start: datetime,
    percent: int,
    spent_nano: int,
    party: Party,
    now: datetime,
) -> None:
    """Tell of one threshold, once per period."""
    standing = _standing(budget, period_start, spent_nano, party)
    payload = ThresholdReached(**standing, threshold_percent=percent)
    key = (budget.id, format_time(period_start), str(percent))
    THRESHOLD_REACHED.record(connection, payload, now, organization_id=party.id, key=key)


def record_hard_limit(
    connection: Connection, budget: Budget, period_start: datetime, spent_nano: int, party: Party, now: datetime
) -> None:
    """Tell that a hard budget is spent, once per period."""
    payload = BudgetStanding(**_standing(budget, period_start, spent_nano, party))
    key = (budget.id, format_time(period_start))
    HARD_LIMIT_REACHED.record(connection, payload, now, organization_id=party.id, key=key)


def _standing(budget: Budget, period_start: datetime, spent_nano: int, party: Party) -> dict[str, Any]:
    return {
        "budget": budget.id,
        "scope": budget.scope,
        "scope_id": budget.scope_id,
        "period": budget.period,
        "period_start": period_start,
        "hard": budget.hard,
        "limit": amount_text(budget.limit_nano),
        "spent": amount_text(spent_nano),
        "currency": party.currency,
    }
