"""Revenue by customer, product, pool and model, for each month and currency: the rated lines of usage, and what else the journal
posted as earned or given away. The totals are compared with the journal's own, to the nano-unit.

Months are those to which the journal books, as in `periods`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select

from sublet.ledger import store as sql
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import month_labeled, month_of
from sublet.ledger.rating.figures import DIMENSIONS, EARNING, used_lines
from sublet.ledger.revenue.periods import months_between
from sublet.ledger.usage.meters import METERS
from sublet.store.paging import Page, PageRequest, page_of
from sublet.store.tables.ledger import events, lines, postings, transactions
from sublet.values.errors import InvalidInputError

CUSTOMER, PRODUCT, POOL, MODEL = GROUPS = ("customer", "product", "pool", "model")
RATED = ("usage", "adjustment", "correction", "rerating")
"""Kinds of transactions that post rated lines and nothing else."""
_SPLIT = 10**9
_WIDEST_ZONE = timedelta(hours=26)


@dataclass(frozen=True, slots=True, order=True)
class Group:
    """What a sum belongs to. What is not asked for, or not known (the pool of a fee), is empty."""

    period: str
    currency: str
    organization_id: str = ""
    product: str = ""
    pool: str = ""
    model: str = ""


@dataclass(slots=True)
class Breakdown:
    """Sums in nano-units; income is positive, and what was given away is negative."""

    amounts: dict[Group, int] = field(default_factory=lambda: defaultdict(int))
    booked: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    """By month and currency, what the journal posted to the accounts of income and expense."""
    names: dict[str, str] = field(default_factory=dict)
    """Names of organizations by id."""

    def rows(self) -> list[dict[str, Any]]:
        """One entry for each group that is not zero, in their order."""
        return [
            {
                "period": group.period,
                "currency": group.currency,
                "organization_id": group.organization_id,
                "organization": self.names.get(group.organization_id, ""),
                "product": group.product,
                "pool": group.pool,
                "model": group.model,
                "amount": amount_text(nano),
            }
            for group, nano in sorted(self.amounts.items())
            if nano
        ]

    def totals(self) -> dict[str, dict[str, Any]]:
        """For each month and currency the sum of all groups, the journal's, and their difference, which must be 0."""
        found: dict[tuple[str, str], int] = defaultdict(int)
        for group, nano in self.amounts.items():
            found[group.period, group.currency] += nano
        return {
            f"{period} {currency}": {
                "total": amount_text(found[period, currency]),
                "journal": amount_text(self.booked[period, currency]),
                "difference": amount_text(found[period, currency] - self.booked[period, currency]),
            }
            for period, currency in sorted({*found, *self.booked})
        }

    def page(self, wanted: PageRequest) -> Page[dict[str, Any]]:
        """Raises InvalidCursorError."""
        return page_of("revenue", self.rows(), _key, wanted)


def _key(row: dict[str, Any]) -> str:
    names = ("period", "currency", "organization_id", "product", "pool", "model")
    return json.dumps([row[name] for name in names])


def groups_of(by: str) -> tuple[str, ...]:
    """Names separated by commas. Raises InvalidInputError for one that is not known."""
    found = tuple(name.strip() for name in by.split(",") if name.strip())
    unknown = [name for name in found if name not in GROUPS]
    if unknown or not found:
        raise InvalidInputError(
            f"by {by!r} must be one or more of {', '.join(GROUPS)}, separated by commas", field="by"
        )
    return found


def revenue_breakdown(
    connection: Connection, since: str, until: str, by: Sequence[str], organization_ids: Iterable[str] | None = None
) -> Breakdown:
    """Months `since` to `until`, both inclusive, by what `by` names; of these organizations, or of all. Raises
    InvalidInputError."""
    labels = frozenset(months_between(since, until))
    bounds = (month_labeled(since, "UTC").start - _WIDEST_ZONE, month_labeled(until, "UTC").end + _WIDEST_ZONE)
    found = Breakdown()
    owners = sql.organizations_with_transactions(connection) if organization_ids is None else organization_ids
    for chunk in sql.chunks(sorted(owners)):
        parties = {owner: party for owner in chunk if (party := sql.party(connection, owner)) is not None}
        found.names |= {party.id: party.name for party in parties.values()}
        for owner, start, product, pool, model, nano in _rated(connection, list(parties), bounds):
            _add(found, labels, by, parties[owner], start, (product, pool, model), nano)
        for owner, start, kind, account, nano in _posted(connection, list(parties), bounds):
            party = parties[owner]
            label = month_of(start, party.timezone).label
            if label in labels:
                found.booked[label, party.currency] += nano
            if kind not in RATED:
                _add(found, labels, by, party, start, (account.removeprefix("revenue."), "", ""), nano)
    return found


def _add(
    found: Breakdown,
    labels: frozenset[str],
    by: Sequence[str],
    party: Party,
    start: datetime,
    of: tuple[str, str, str],
    nano: int,
) -> None:
    label = month_of(start, party.timezone).label
    if label in labels:
        asked = dict(zip((CUSTOMER, PRODUCT, POOL, MODEL), (party.id, *of), strict=True))
        values = [asked[name] if name in by else "" for name in GROUPS]
        found.amounts[Group(label, party.currency, *values)] += nano


_Rated = tuple[str, datetime, str, str, str, int]


def _rated(connection: Connection, owners: Sequence[str], bounds: tuple[datetime, datetime]) -> list[_Rated]:
    columns = transactions.c
    groups = (lines.c.organization_id, columns.period_start, events.c.meter, DIMENSIONS.label("dimensions"))
    statement = (
        select(*groups, func.sum(lines.c.nano // _SPLIT).label("high"), func.sum(lines.c.nano % _SPLIT).label("low"))
        .select_from(used_lines())
        .where(columns.organization_id.in_(owners), columns.period_start >= bounds[0], columns.period_start < bounds[1])
        .group_by(*groups)
    )
    found: list[_Rated] = []
    for row in connection.execute(statement):
        dimensions = json.loads(row.dimensions or "{}")
        nano = int(row.high) * _SPLIT + int(row.low)
        of = (METERS[row.meter].product, dimensions.get("pool", ""), dimensions.get("model", ""))
        found.append((row.organization_id, row.period_start, *of, nano))
    return found


def _posted(
    connection: Connection, owners: Sequence[str], bounds: tuple[datetime, datetime]
) -> list[tuple[str, datetime, str, str, int]]:
    columns = transactions.c
    groups = (columns.organization_id, columns.period_start, columns.kind, postings.c.account)
    high, low = func.sum(postings.c.nano // _SPLIT).label("high"), func.sum(postings.c.nano % _SPLIT).label("low")
    statement = (
        select(*groups, high, low)
        .join(postings, postings.c.transaction_no == columns.transaction_no)
        .where(
            columns.organization_id.in_(owners),
            columns.period_start >= bounds[0],
            columns.period_start < bounds[1],
            postings.c.account.in_(EARNING),
        )
        .group_by(*groups)
    )
    return [
        (row.organization_id, row.period_start, row.kind, row.account, -(int(row.high) * _SPLIT + int(row.low)))
        for row in connection.execute(statement)
    ]
