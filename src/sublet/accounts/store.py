"""The SQL of organizations and keys."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from sublet.accounts.model import ApiKey, LiveKey, Organization
from sublet.store.changes import kept
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.accounts import api_keys, organizations, playground_keys

ORGANIZATIONS = Listing("organizations", (organizations.c.created_at, organizations.c.id))
KEYS = Listing("keys", (api_keys.c.created_at, api_keys.c.id))
_LISTED = api_keys.c.id.not_in(select(playground_keys.c.key_id))
"""The console's own keys are nobody's to list, copy or revoke."""


def insert_organization(connection: Connection, organization: Organization) -> None:
    connection.execute(
        insert(organizations).values(
            id=organization.id,
            name=organization.name,
            kind=organization.kind,
            currency=organization.currency,
            timezone=organization.timezone,
            status=organization.status,
            created_at=organization.created_at,
        )
    )


def organization_by(connection: Connection, *, id: str | None = None, name: str | None = None) -> Organization | None:
    """The organization with that id, or with that name."""

    def read() -> Organization | None:
        condition = organizations.c.id == id if id is not None else organizations.c.name == name
        row = connection.execute(select(organizations).where(condition)).first()
        return _organization(row) if row else None

    return kept(connection, ("organizations",), ("organization", id, name), read)


def set_status(connection: Connection, organization_id: str, status: str) -> None:
    connection.execute(update(organizations).where(organizations.c.id == organization_id).values(status=status))


def all_organizations(connection: Connection, limit: int) -> list[Organization]:
    rows = connection.execute(
        select(organizations).order_by(organizations.c.created_at, organizations.c.id).limit(limit)
    )
    return [_organization(row) for row in rows]


def organization_page(connection: Connection, wanted: PageRequest, only: str | None) -> Page[Organization]:
    """The oldest first; the one with the id `only` where that is given."""
    query = select(organizations)
    if only is not None:
        query = query.where(organizations.c.id == only)
    return ORGANIZATIONS.read(connection, query, wanted).map(_organization)


def insert_key(connection: Connection, key: ApiKey, sha256: str, signing_secret: str | None = None) -> None:
    connection.execute(
        insert(api_keys).values(
            id=key.id,
            organization_id=key.organization_id,
            name=key.name,
            sha256=sha256,
            hint=key.hint,
            role=key.role,
            scopes=list(key.scopes),
            created_at=key.created_at,
            expires_at=key.expires_at,
            revoked_at=key.revoked_at,
            project=key.project,
            signing_secret=signing_secret,
        )
    )


def key_by_sha256(connection: Connection, sha256: str) -> tuple[ApiKey, Organization] | None:
    row = connection.execute(select(api_keys).where(api_keys.c.sha256 == sha256)).first()
    if row is None:
        return None
    owner = organization_by(connection, id=row.organization_id)
    return (_key(row), owner) if owner else None


def key_by_id(connection: Connection, key_id: str) -> ApiKey | None:
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    return _key(row) if row else None


def keys_of(connection: Connection, organization_id: str) -> list[ApiKey]:
    rows = connection.execute(
        select(api_keys)
        .where(api_keys.c.organization_id == organization_id, _LISTED)
        .order_by(api_keys.c.created_at, api_keys.c.id)
    )
    return [_key(row) for row in rows]


def key_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[ApiKey]:
    """The keys of an organization, the oldest first."""
    query = select(api_keys).where(api_keys.c.organization_id == organization_id, _LISTED)
    return KEYS.read(connection, query, wanted).map(_key)


def key_names(connection: Connection, organization_id: str, ids: Iterable[str]) -> dict[str, str]:
    """The names of the organization's keys with these ids, revoked ones and the playground's too."""
    wanted, found = sorted(set(ids)), {}
    for start in range(0, len(wanted), 500):
        part = wanted[start : start + 500]
        query = select(api_keys.c.id, api_keys.c.name).where(
            api_keys.c.organization_id == organization_id, api_keys.c.id.in_(part)
        )
        found.update({row.id: row.name for row in connection.execute(query)})
    return found


def is_key_of(connection: Connection, organization_id: str, key_id: str) -> bool:
    """Whether it is, or was before it was revoked, a key of that organization."""
    found = select(api_keys.c.id).where(api_keys.c.id == key_id, api_keys.c.organization_id == organization_id)
    return connection.execute(found).first() is not None


def live_keys(connection: Connection) -> list[LiveKey]:
    """Every key that is not revoked, of organizations that are active."""
    key, owner = api_keys.c, organizations.c
    rows = connection.execute(
        select(
            *(key.sha256, key.id, key.organization_id, owner.name, key.role, key.scopes, key.expires_at, key.project),
            func.coalesce(key.signing_secret, ""),
        )
        .join(organizations, owner.id == key.organization_id)
        .where(key.revoked_at.is_(None), owner.status == "active")
    )
    return [LiveKey(*row) for row in rows]


def signing_secrets(connection: Connection) -> list[tuple[str, str]]:
    """The sealed secrets that keys sign with, each after its key's id."""
    found = select(api_keys.c.id, api_keys.c.signing_secret).where(api_keys.c.signing_secret.is_not(None))
    return [(row.id, row.signing_secret) for row in connection.execute(found)]


def set_signing_secret(connection: Connection, key_id: str, sealed: str) -> None:
    connection.execute(update(api_keys).where(api_keys.c.id == key_id).values(signing_secret=sealed))


def count_keys(connection: Connection, organization_id: str) -> int:
    return connection.execute(
        select(func.count()).select_from(api_keys).where(api_keys.c.organization_id == organization_id, _LISTED)
    ).scalar_one()


def revoke(connection: Connection, key_id: str, at: datetime, organization_id: str | None = None) -> bool:
    """Mark the key revoked; False where it was already, does not exist, or is not the organization's."""
    found = update(api_keys).where(api_keys.c.id == key_id, api_keys.c.revoked_at.is_(None))
    if organization_id is not None:
        found = found.where(api_keys.c.organization_id == organization_id)
    done = connection.execute(found.values(revoked_at=at))
    return done.rowcount == 1


def set_holder(connection: Connection, key_id: str, person_id: str, created_by: str) -> None:
    """Whom a key belongs to, empty for the organization, and who made it."""
    mine = api_keys.c.id == key_id
    connection.execute(update(api_keys).where(mine).values(person_id=person_id, created_by=created_by[:40]))


def revoke_held(connection: Connection, person_id: str, organization_id: str, at: datetime) -> int:
    """Revoke the keys that belong to a person in an organization; how many there were."""
    mine = (api_keys.c.person_id == person_id) & (api_keys.c.organization_id == organization_id)
    done = connection.execute(update(api_keys).where(mine, api_keys.c.revoked_at.is_(None)).values(revoked_at=at))
    return done.rowcount


def _organization(row: Row[Any]) -> Organization:
    return Organization(row.id, row.name, row.kind, row.currency, row.timezone, row.status, row.created_at)


def _key(row: Row[Any]) -> ApiKey:
    return ApiKey(
        row.id,
        row.organization_id,
        row.name,
        row.hint,
        tuple(row.scopes),
        row.created_at,
        row.expires_at,
        row.revoked_at,
        row.project,
        row.role,
        row.person_id,
        row.created_by,
    )
