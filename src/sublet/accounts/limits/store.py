"""The SQL of limits."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, or_, select, update

from sublet.accounts.limits.model import Allowed, Limit
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.accounts import organizations, rate_limits

LIMITS = Listing("limits", (rate_limits.c.created_at, rate_limits.c.id))


def insert_limit(connection: Connection, limit: Limit) -> None:
    connection.execute(
        insert(rate_limits).values(
            id=limit.id,
            organization_id=limit.organization_id or None,
            scope=limit.scope,
            scope_id=limit.scope_id,
            model=limit.model,
            by_operator=limit.by_operator,
            created_at=limit.created_at,
            **_values(limit.allowed),
        )
    )


def change_limit(connection: Connection, limit_id: str, allowed: Allowed, by_operator: bool) -> None:
    connection.execute(
        update(rate_limits).where(rate_limits.c.id == limit_id).values(by_operator=by_operator, **_values(allowed))
    )


def delete_limit(connection: Connection, limit_id: str) -> None:
    connection.execute(delete(rate_limits).where(rate_limits.c.id == limit_id))


def limit_by_id(connection: Connection, limit_id: str, organization_id: str | None, lock: bool = False) -> Limit | None:
    """The limit, if it is the organization's where one is given."""
    query = select(rate_limits).where(rate_limits.c.id == limit_id)
    if organization_id is not None:
        query = query.where(rate_limits.c.organization_id == organization_id)
    row = connection.execute(query.with_for_update() if lock else query).first()
    return _limit(row) if row else None


def limits_of(connection: Connection, organization_id: str) -> list[Limit]:
    """The limits of an organization, or with an empty id those of models."""
    rows = connection.execute(select(rate_limits).where(rate_limits.c.organization_id == (organization_id or None)))
    return [_limit(row) for row in rows]


def count_limits(connection: Connection, organization_id: str) -> int:
    query = select(func.count()).select_from(rate_limits)
    return connection.execute(query.where(rate_limits.c.organization_id == (organization_id or None))).scalar_one()


def limit_page(connection: Connection, organization_id: str | None, wanted: PageRequest) -> Page[Limit]:
    """The oldest first: those of an organization, or all where None is given."""
    query = select(rate_limits)
    if organization_id is not None:
        query = query.where(rate_limits.c.organization_id == organization_id)
    return LIMITS.read(connection, query, wanted).map(_limit)


def live_limits(connection: Connection) -> list[Limit]:
    """Every limit of models, and of organizations that are active."""
    rows = connection.execute(
        select(rate_limits)
        .outerjoin(organizations, organizations.c.id == rate_limits.c.organization_id)
        .where(or_(rate_limits.c.organization_id.is_(None), organizations.c.status == "active"))
        .order_by(rate_limits.c.id)
    )
    return [_limit(row) for row in rows]


def _values(allowed: Allowed) -> dict[str, Any]:
    return {
        "requests_per_minute": allowed.requests_per_minute,
        "input_tokens_per_minute": allowed.input_tokens_per_minute,
        "output_tokens_per_minute": allowed.output_tokens_per_minute,
        "concurrency": allowed.concurrency,
        "models": list(allowed.models) if allowed.models is not None else None,
        "expires_at": allowed.expires_at,
    }


def _limit(row: Row[Any]) -> Limit:
    allowed = Allowed(
        row.requests_per_minute,
        row.input_tokens_per_minute,
        row.output_tokens_per_minute,
        row.concurrency,
        tuple(row.models) if row.models is not None else None,
        row.expires_at,
    )
    return Limit(
        row.id, row.organization_id or "", row.scope, row.scope_id, row.model, allowed, row.by_operator, row.created_at
    )
