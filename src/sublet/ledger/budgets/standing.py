"""The current state of every budget, most used first: one page takes three queries, regardless of the number of budgets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Numeric, and_, case, cast, func, literal, or_, select
from sqlalchemy.sql import ColumnElement

from sublet.accounts.directory import api_keys, organizations
from sublet.ledger.budgets.exposure import exposure_of_budget
from sublet.ledger.budgets.model import CREDIT, PERIODS, Budget, BudgetState
from sublet.ledger.budgets.spending import budget_of
from sublet.ledger.events import threshold_event_id
from sublet.store.tables.ledger import alerts, budget_states, budgets
from sublet.store.types import Instant
from sublet.values.clock import EPOCH

PAGE_MAX = 100
FIND_LENGTH_MAX = 120
NEAR_PERCENT = 80
ORDERS = ("use", "organization")
_AMOUNT = Numeric(38, 0)


@dataclass(frozen=True, slots=True)
class Told:
    """A threshold of a budget that was reached in its current period, and its event."""

    percent: int
    at: datetime
    event_id: str


@dataclass(frozen=True, slots=True)
class Standing:
    """A budget in its current period, with its organization. `key_name` and `key_hint` are those of its key, or empty.
    `resets_at` is None for a budget that never resets."""

    state: BudgetState
    organization: str
    currency: str
    timezone: str
    key_name: str
    key_hint: str
    resets_at: datetime | None
    told: tuple[Told, ...] = ()

    @property
    def budget(self) -> Budget:
        return self.state.budget


@dataclass(frozen=True, slots=True)
class Standings:
    """Some of the live budgets, in order, and the counts of each sort among all matching budgets.

    `refusing` are hard budgets with nothing left, `passed` are soft budgets whose limit is spent or held, and `near` are the
    others that are used to at least NEAR_PERCENT.
    """

    items: tuple[Standing, ...] = ()
    many: int = 0
    refusing: int = 0
    passed: int = 0
    near: int = 0


def standings(
    connection: Connection, now: datetime, *, find: str = "", order: str = "use", offset: int = 0, limit: int = PAGE_MAX
) -> Standings:
    """Live budgets: at most `limit` of them, most used first or, with `order` organization, by name.

    `find` keeps budgets whose organization, project or key has these characters in its name.
    """
    counted = func.coalesce(budget_states.c.spent_nano, 0)
    spent = case((budgets.c.kind == CREDIT, exposure_of_budget()), else_=cast(counted, _AMOUNT))
    held = func.coalesce(budget_states.c.held_nano, 0)
    used = cast(spent, _AMOUNT) + cast(held, _AMOUNT)
    most = cast(budgets.c.limit_nano, _AMOUNT)
    full, hard = used >= most, budgets.c.hard.is_(True)
    start = _period_start(_timezones(connection), now)
    near = and_(~full, used * 100 >= most * NEAR_PERCENT)
    # In tenths of a percent, so that integers order them. A budget with a limit of zero comes first once it is used.
    share = case((most > 0, used * 1000 / most), (used > 0, 2**62), else_=0)
    by_name = (organizations.c.name, budgets.c.scope, budgets.c.scope_id, budgets.c.id)
    statement = (
        select(
            budgets,
            organizations.c.name.label("organization"),
            organizations.c.currency,
            organizations.c.timezone,
            func.coalesce(api_keys.c.name, "").label("key_name"),
            func.coalesce(api_keys.c.hint, "").label("key_hint"),
            start.label("present"),
            spent.label("spent"),
            held.label("held"),
            func.count().over().label("many"),
            _count(and_(hard, full)).label("refusing"),
            _count(and_(~hard, full)).label("passed"),
            _count(near).label("near"),
        )
        .join(organizations, organizations.c.id == budgets.c.organization_id)
        .outerjoin(
            budget_states, and_(budget_states.c.budget_id == budgets.c.id, budget_states.c.period_start == start)
        )
        .outerjoin(api_keys, and_(budgets.c.scope == "key", api_keys.c.id == budgets.c.scope_id))
        .where(budgets.c.ended_at.is_(None))
        .order_by(*((share.desc(), *by_name) if order == "use" else by_name))
        .limit(min(limit, PAGE_MAX))
        .offset(max(0, offset))
    )
    if find:
        names = (organizations.c.name, budgets.c.scope_id, api_keys.c.name)
        statement = statement.where(or_(*(name.icontains(find[:FIND_LENGTH_MAX], autoescape=True) for name in names)))
    rows = connection.execute(statement).all()
    if not rows:
        return Standings()
    told = _told(connection, [(row.id, row.present) for row in rows])
    first = rows[0]
    items = tuple(_standing(row, told.get(row.id, ())) for row in rows)
    return Standings(items, first.many, int(first.refusing), int(first.passed), int(first.near))


def _standing(row: Any, told: Sequence[Told]) -> Standing:
    budget = budget_of(row)
    return Standing(
        BudgetState(budget, row.present, int(row.spent), int(row.held)),
        row.organization,
        row.currency,
        row.timezone,
        row.key_name,
        row.key_hint,
        budget.period_end(row.present, row.timezone),
        tuple(told),
    )


def _count(condition: ColumnElement[bool]) -> ColumnElement[Any]:
    return func.sum(case((condition, 1), else_=0)).over()


def _timezones(connection: Connection) -> list[str]:
    return sorted(connection.execute(select(organizations.c.timezone).distinct()).scalars())


def _period_start(timezones: Sequence[str], now: datetime) -> ColumnElement[datetime]:
    """The start of a budget's current period as an SQL expression, so that the database finds its state by the primary key."""
    zones: dict[tuple[str, datetime], list[str]] = {}
    for period in PERIODS:
        clock = Budget("", "", "organization", "", period, 0, False, ())
        for timezone in timezones:
            start = clock.period_start(now, timezone)
            if start != EPOCH:
                zones.setdefault((period, start), []).append(timezone)
    branches = [
        (and_(budgets.c.period == period, organizations.c.timezone.in_(names)), literal(start, Instant()))
        for (period, start), names in zones.items()
    ]
    never = literal(EPOCH, Instant())
    return case(*branches, else_=never) if branches else never


def _told(connection: Connection, present: Sequence[tuple[str, datetime]]) -> dict[str, list[Told]]:
    """The thresholds that were reached, by budget."""
    starts = dict(present)
    columns = alerts.c
    rows = connection.execute(
        select(alerts)
        .where(columns.budget_id.in_(starts), columns.period_start.in_(set(starts.values())))
        .order_by(columns.budget_id, columns.threshold)
    )
    found: dict[str, list[Told]] = {}
    for row in rows:
        if row.period_start == starts[row.budget_id]:
            event_id = threshold_event_id(row.budget_id, row.period_start, row.threshold)
            found.setdefault(row.budget_id, []).append(Told(row.threshold, row.raised_at, event_id))
    return found
