"""What was earned, added up in the database: by organization, meter and dimensions over a window of use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, FromClause, and_, case, func, not_, select

from sublet.accounts.directory import organizations
from sublet.ledger.model import ACCOUNTS, PRODUCT_ACCOUNTS
from sublet.ledger.usage.meters import METERS
from sublet.store.tables.ledger import balances, credit_grants, events, lines, postings, transactions, waiting
from sublet.values.money import NANO

EARNING = tuple(name for name, meaning in ACCOUNTS.items() if meaning.startswith(("income", "expense")))
"""The accounts that say what was earned: income, and what was given away."""

ORIGINAL = events.alias("original")
USED_AT = func.coalesce(ORIGINAL.c.at, events.c.at)
"""When it was used: what corrects usage counts when that was."""
DIMENSIONS = func.coalesce(ORIGINAL.c.dimensions, events.c.dimensions)


@dataclass(frozen=True, slots=True)
class Earned:
    """`units` of a meter and what they were rated at, for one organization and one set of dimensions."""

    organization_id: str
    currency: str
    meter: str
    dimensions: Mapping[str, str]
    units: Decimal
    nano: int

    @property
    def product(self) -> str:
        """`leases`, `models` or `energy`."""
        return METERS[self.meter].product


def earned(connection: Connection, since: datetime, until: datetime) -> list[Earned]:
    """Rated usage of the window `[since, until)`, reversals subtracted, before credits. Exact beyond 64 bits."""
    groups = (
        lines.c.organization_id,
        transactions.c.currency,
        events.c.meter,
        DIMENSIONS.label("dimensions"),
    )
    rows = connection.execute(
        select(*groups, func.sum(lines.c.quantity).label("steps"), *_summed(lines.c.nano))
        .select_from(used_lines())
        .where(_within(USED_AT, since, until))
        .group_by(*groups)
        .order_by(*groups)
    )
    return [
        Earned(
            row.organization_id,
            row.currency,
            row.meter,
            json.loads(row.dimensions or "{}"),
            METERS[row.meter].units(int(row.steps)),
            int(row.wholes) * NANO + int(row.rests),
        )
        for row in rows
    ]


def used_lines() -> FromClause:
    """Rated lines with their transaction, their event and, where that corrects another, the usage itself."""
    corrected = and_(
        events.c.corrects_id.is_not(None),
        ORIGINAL.c.source == events.c.corrects_source,
        ORIGINAL.c.event_id == events.c.corrects_id,
    )
    return (
        lines.join(events, events.c.seq == lines.c.event_seq)
        .join(transactions, transactions.c.transaction_no == lines.c.transaction_no)
        .outerjoin(ORIGINAL, corrected)
    )


def _summed(nano: ColumnElement[int]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """The sum of billionths may pass 2**63 where SQLite adds in 64 bits: wholes and rests are added apart."""
    return func.sum(nano // NANO).label("wholes"), func.sum(nano % NANO).label("rests")


def _within(at: ColumnElement[Any], since: datetime, until: datetime) -> ColumnElement[bool]:
    return and_(at >= since, at < until)


@dataclass(frozen=True, slots=True)
class Booked:
    """What the journal has of one account for one organization; income is positive, what was given away is negative."""

    organization_id: str
    currency: str
    account: str
    nano: int


REDUCED = "revenue.credit_notes"
"""How income that credit notes took off while the usage stands is told apart from what usage earned."""
_DOCUMENTS = ("invoice", "void", "credit note")
"""Transactions of documents: what they post on a product's income is no usage."""


def booked(connection: Connection, since: datetime, until: datetime) -> list[Booked]:
    """What was posted to the accounts that say what was earned, by the time of booking, in `[since, until)`."""
    columns = transactions.c
    of_product = postings.c.account.in_(PRODUCT_ACCOUNTS) & columns.kind.in_(_DOCUMENTS)
    account = case((of_product, REDUCED), else_=postings.c.account).label("account")
    groups = (columns.organization_id, columns.currency, account)
    rows = connection.execute(
        select(*groups, *_summed(postings.c.nano))
        .join(transactions, columns.transaction_no == postings.c.transaction_no)
        .where(_within(columns.booked_at, since, until), postings.c.account.in_(EARNING))
        .group_by(*groups)
        .order_by(*groups)
    )
    return [Booked(*row[:3], -(int(row.wholes) * NANO + int(row.rests))) for row in rows]


def booked_of_other_times(connection: Connection, since: datetime, until: datetime) -> dict[str, int]:
    """Usage of other times that was booked in `[since, until)`, by currency."""
    used, posted = _within(USED_AT, since, until), _within(transactions.c.booked_at, since, until)
    return _by_currency(connection, and_(posted, not_(used)))


def booked_at_other_times(connection: Connection, since: datetime, until: datetime) -> dict[str, int]:
    """Usage of `[since, until)` that was booked before or after it, by currency."""
    used, posted = _within(USED_AT, since, until), _within(transactions.c.booked_at, since, until)
    return _by_currency(connection, and_(used, not_(posted)))


def _by_currency(connection: Connection, condition: ColumnElement[bool]) -> dict[str, int]:
    rows = connection.execute(
        select(transactions.c.currency, *_summed(lines.c.nano))
        .select_from(used_lines())
        .where(condition)
        .group_by(transactions.c.currency)
    )
    return {row.currency: int(row.wholes) * NANO + int(row.rests) for row in rows}


def unrated(connection: Connection) -> dict[str, int]:
    """How many usage events wait for a price or for what they correct, by currency."""
    rows = connection.execute(
        select(organizations.c.currency, func.count())
        .select_from(waiting.join(organizations, organizations.c.id == waiting.c.organization_id))
        .group_by(organizations.c.currency)
    )
    return {row[0]: int(row[1]) for row in rows}


@dataclass(frozen=True, slots=True)
class Penalty:
    """What an organization was credited for a promise that was broken; `source_id` says for which."""

    organization_id: str
    currency: str
    source_id: str
    nano: int


def penalties(connection: Connection, since: datetime, until: datetime) -> list[Penalty]:
    """Credits for broken promises that were granted in `[since, until)`: what the account `penalties` was charged with."""
    given = credit_grants.c
    rows = connection.execute(
        select(given.organization_id, organizations.c.currency, given.source_id, given.nano)
        .join(organizations, organizations.c.id == given.organization_id)
        .where(given.kind == "reclaim", given.granted_at >= since, given.granted_at < until)
        .order_by(given.granted_at, given.id)
    )
    return [Penalty(*row) for row in rows]


def balance(connection: Connection, account: str) -> dict[str, int]:
    """The balance of one account in nano-units, by organization."""
    rows = connection.execute(select(balances.c.organization_id, balances.c.nano).where(balances.c.account == account))
    return {row.organization_id: int(row.nano) for row in rows}
