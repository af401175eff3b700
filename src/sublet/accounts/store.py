"""The SQL of organisations and keys."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from sublet.accounts.model import ApiKey, Organisation
from sublet.store.tables.accounts import api_keys, organisations


def insert_organisation(connection: Connection, organisation: Organisation) -> None:
    connection.execute(
        insert(organisations).values(
            id=organisation.id,
            name=organisation.name,
            kind=organisation.kind,
            currency=organisation.currency,
            timezone=organisation.timezone,
            status=organisation.status,
            created_at=organisation.created_at,
        )
    )


def organisation_by(connection: Connection, *, id: str | None = None, name: str | None = None) -> Organisation | None:
    """The organisation with that id, or with that name."""
    condition = organisations.c.id == id if id is not None else organisations.c.name == name
    row = connection.execute(select(organisations).where(condition)).first()
    return _organisation(row) if row else None


def all_organisations(connection: Connection, limit: int) -> list[Organisation]:
    rows = connection.execute(
        select(organisations).order_by(organisations.c.created_at, organisations.c.id).limit(limit)
    )
    return [_organisation(row) for row in rows]


def insert_key(connection: Connection, key: ApiKey, sha256: str) -> None:
    connection.execute(
        insert(api_keys).values(
            id=key.id,
            organisation_id=key.organisation_id,
            name=key.name,
            sha256=sha256,
            hint=key.hint,
            scopes=list(key.scopes),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            project=key.project,
        )
    )


def key_by_sha256(connection: Connection, sha256: str) -> tuple[ApiKey, Organisation] | None:
    row = connection.execute(select(api_keys).where(api_keys.c.sha256 == sha256)).first()
    if row is None:
        return None
    owner = organisation_by(connection, id=row.organisation_id)
    return (_key(row), owner) if owner else None


def keys_of(connection: Connection, organisation_id: str) -> list[ApiKey]:
    rows = connection.execute(
        select(api_keys)
        .where(api_keys.c.organisation_id == organisation_id)
        .order_by(api_keys.c.created_at, api_keys.c.id)
    )
    return [_key(row) for row in rows]


def is_key_of(connection: Connection, organisation_id: str, key_id: str) -> bool:
    """Whether it is, or was before it was revoked, a key of that organisation."""
    found = select(api_keys.c.id).where(api_keys.c.id == key_id, api_keys.c.organisation_id == organisation_id)
    return connection.execute(found).first() is not None


def count_keys(connection: Connection, organisation_id: str) -> int:
    return connection.execute(
        select(func.count()).select_from(api_keys).where(api_keys.c.organisation_id == organisation_id)
    ).scalar_one()


def revoke(connection: Connection, key_id: str, at: datetime) -> bool:
    """Mark the key revoked; False where it was already or does not exist."""
    done = connection.execute(
        update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None)).values(revoked_at=at)
    )
    return done.rowcount == 1


def _organisation(row: Row[Any]) -> Organisation:
    return Organisation(row.id, row.name, row.kind, row.currency, row.timezone, row.status, row.created_at)


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.id,
        row.organisation_id,
        row.name,
        row.hint,
        tuple(row.scopes),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.project,
    )
