"""The SQL of service accounts."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, and_, func, insert, or_, select, update

from sublet.accounts.service_accounts.model import ServiceAccount
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.accounts import api_keys, key_uses, service_accounts

_table = service_accounts
ACCOUNTS = Listing("service_accounts", (_table.c.created_at, _table.c.id))


def insert_account(connection: Connection, made: ServiceAccount) -> None:
    connection.execute(
        insert(_table).values(
            id=made.id,
            organization_id=made.organization_id,
            name=made.name,
            role=made.role,
            project=made.project,
            created_at=made.created_at,
            created_by=made.created_by,
        )
    )


def account_by(connection: Connection, id_or_name: str, organization_id: str | None = None) -> ServiceAccount | None:
    """The one with that id, or in an organization, with that name; None if it was removed."""
    wanted = _table.c.id == id_or_name
    if organization_id is not None:
        wanted = and_(_table.c.organization_id == organization_id, or_(wanted, _table.c.name == id_or_name))
    row = connection.execute(select(_table).where(wanted, _table.c.removed_at.is_(None))).first()
    return _account(row) if row else None


def account_page(
    connection: Connection, organization_id: str, wanted: PageRequest, now: datetime
) -> Page[ServiceAccount]:
    """The oldest first, with how many keys each has and when one was last used."""
    mine = api_keys.c.service_account_id == _table.c.id
    usable = and_(api_keys.c.revoked_at.is_(None), or_(api_keys.c.expires_at.is_(None), api_keys.c.expires_at > now))
    keys = select(func.count()).select_from(api_keys).where(mine, usable).scalar_subquery()
    used = (
        select(func.max(key_uses.c.used_at))
        .join(api_keys, api_keys.c.id == key_uses.c.key_id)
        .where(mine)
        .scalar_subquery()
    )
    query = select(_table, keys.label("live_keys"), used.label("used_at")).where(
        _table.c.organization_id == organization_id, _table.c.removed_at.is_(None)
    )
    return ACCOUNTS.read(connection, query, wanted).map(_listed)


def count_accounts(connection: Connection, organization_id: str) -> int:
    mine = and_(_table.c.organization_id == organization_id, _table.c.removed_at.is_(None))
    return connection.execute(select(func.count()).select_from(_table).where(mine)).scalar_one()


def remove_account(connection: Connection, account_id: str, now: datetime) -> None:
    """The service account is removed, and its keys end with it."""
    connection.execute(update(_table).where(_table.c.id == account_id).values(removed_at=now))
    mine = and_(api_keys.c.service_account_id == account_id, api_keys.c.revoked_at.is_(None))
    connection.execute(update(api_keys).where(mine).values(revoked_at=now))


def _account(row: Row[Any], live_keys: int = 0, used_at: datetime | None = None) -> ServiceAccount:
    return ServiceAccount(
        row.id,
        row.organization_id,
        row.name,
        row.role,
        row.project,
        row.created_at,
        row.created_by,
        row.removed_at,
        live_keys,
        used_at,
    )


def _listed(row: Row[Any]) -> ServiceAccount:
    return _account(row, row.live_keys, row.used_at)
