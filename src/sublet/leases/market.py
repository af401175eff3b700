"""What customers asked for, at which price, and what they accepted: what demand and prices are judged by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, case, select

from sublet.leases.states import LeaseState
from sublet.store.tables.leases import lease_transitions, leases, quotes

ROWS_MAX = 100_000
"""Quotes that one answer reads at most, the newest first."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A quote that somebody asked for: the window in hours, the price per accelerator-hour, and whether it became a lease.
    `service_hours` are set for hours by a deadline."""

    pool_id: str
    class_name: str
    hours: float
    service_hours: float | None
    accelerators: int
    price_nano: int
    currency: str
    accepted: bool
    at: datetime


def asked_since(connection: Connection, pool_ids: Sequence[str], since: datetime, until: datetime) -> list[Asked]:
    """Quotes of those pools that were made in `[since, until)`, the newest first. Offers that a refusal named are not among
    them, unless one was accepted: nobody had asked for those. A quote that is still open counts once it is decided."""
    taken = leases.c.id.is_not(None)
    rows = connection.execute(
        select(
            quotes.c.pool_id,
            quotes.c.class_name,
            quotes.c.start_at,
            quotes.c.end_at,
            quotes.c.service_s,
            quotes.c.accelerators,
            quotes.c.price_nano,
            quotes.c.currency,
            quotes.c.created_at,
            case((taken, 1), else_=0).label("taken"),
        )
        .select_from(quotes.outerjoin(leases, leases.c.quote_id == quotes.c.id))
        .where(
            quotes.c.pool_id.in_(pool_ids),
            quotes.c.created_at >= since,
            quotes.c.created_at < until,
            taken | ((quotes.c.is_offer == 0) & (quotes.c.expires_at <= until)),
            quotes.c.block_id.is_(None),
        )
        .order_by(quotes.c.created_at.desc(), quotes.c.id)
        .limit(ROWS_MAX)
    )
    return [_asked(row) for row in rows]


def sold_since(connection: Connection, pool_id: str, class_name: str, since: datetime, now: datetime) -> list[Asked]:
    """What was sold of a class since then, and what quotes hold that may still be accepted; block sales are not among it."""
    taken = leases.c.id.is_not(None)
    rows = connection.execute(
        select(quotes, case((taken, 1), else_=0).label("taken"))
        .select_from(quotes.outerjoin(leases, leases.c.quote_id == quotes.c.id))
        .where(
            quotes.c.pool_id == pool_id,
            quotes.c.class_name == class_name,
            quotes.c.created_at >= since,
            taken | ((quotes.c.is_offer == 0) & (quotes.c.held_until > now)),
            quotes.c.block_id.is_(None),
        )
        .limit(ROWS_MAX)
    )
    return [_asked(row) for row in rows]


@dataclass(frozen=True, slots=True)
class Held:
    """Accelerators of a pool that a lease held in one state."""

    pool_id: str
    class_name: str
    from_block: bool
    accelerators: int
    state: LeaseState
    start: datetime
    end: datetime


def held_between(connection: Connection, since: datetime, until: datetime) -> list[Held]:
    """What leases held in `[since, until)`, by state, from the record of their changes; a lease that has moved counts on the pool
    where it is."""
    there = leases.c.created_at < until, leases.c.ended_at.is_(None) | (leases.c.ended_at > since)
    changed: dict[str, list[tuple[datetime, LeaseState]]] = {}
    steps = select(lease_transitions.c.subject_id, lease_transitions.c.to_state, lease_transitions.c.at)
    steps = steps.join(leases, leases.c.id == lease_transitions.c.subject_id).where(
        *there, lease_transitions.c.at < until
    )
    for row in connection.execute(steps.order_by(lease_transitions.c.subject_id, lease_transitions.c.number)):
        changed.setdefault(row.subject_id, []).append((row.at, LeaseState(row.to_state)))
    found = []
    for row in connection.execute(select(leases).where(*there).order_by(leases.c.id)):
        path = changed.get(row.id, [])
        for place, (at, state) in enumerate(path):
            start, end = max(at, since), min(path[place + 1][0] if place + 1 < len(path) else until, until)
            if start < end and (state.served or state in (LeaseState.PREPARING, LeaseState.ENDING)):
                count = row.accelerators
                found.append(Held(row.pool_id, row.class_name, row.block_id is not None, count, state, start, end))
    return found


def _asked(row: Any) -> Asked:
    return Asked(
        row.pool_id,
        row.class_name,
        (row.end_at - row.start_at).total_seconds() / 3600,
        row.service_s / 3600 if row.service_s is not None else None,
        row.accelerators,
        row.price_nano,
        row.currency,
        bool(row.taken),
        row.created_at,
    )
