"""What was earned, added up in the database: by organization, meter and dimensions over a window of use."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from sqlalchemy import Connection, func, select

from sublet.ledger.meters import METERS
from sublet.store.tables.accounts import organizations
from sublet.store.tables.ledger import balances, credit_grants, events, lines, transactions
from sublet.values.money import NANO


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
    # The sum of billionths may pass 2**63 where SQLite adds in 64 bits: wholes and rests are added apart.
    groups = (events.c.organization_id, transactions.c.currency, events.c.meter, events.c.dimensions)
    rows = connection.execute(
        select(
            *groups,
            func.sum(lines.c.quantity).label("steps"),
            func.sum(lines.c.nano // NANO).label("wholes"),
            func.sum(lines.c.nano % NANO).label("rests"),
        )
        .join(events, events.c.seq == lines.c.event_seq)
        .join(transactions, transactions.c.transaction_no == lines.c.transaction_no)
        .where(events.c.at >= since, events.c.at < until)
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
