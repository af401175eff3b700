"""The SQL of organizations and keys."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from sublet.accounts.model import ApiKey, LiveKey, Organization
from sublet.store.changes import kept
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.accounts import (
    api_keys,
    key_uses,
    memberships,
    organizations,
    persons,
    playground_keys,
    rate_limits,
    service_accounts,
)

ORGANIZATIONS = Listing("organizations", (organizations.c.created_at, organizations.c.id))
KEYS = Listing("keys", (api_keys.c.created_at, api_keys.c.id))
USE_INTERVAL = timedelta(minutes=1)
"""At most one write per key and interval says when it was last used."""
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
            person_id=key.person_id,
            service_account_id=key.service_account_id,
            created_by=key.created_by[:40],
            signing_secret=signing_secret,
        )
    )


def key_by_sha256(connection: Connection, sha256: str) -> tuple[ApiKey, Organization] | None:
    used = select(key_uses.c.used_at).where(key_uses.c.key_id == api_keys.c.id).scalar_subquery()
    row = connection.execute(select(api_keys, used.label("used_at")).where(api_keys.c.sha256 == sha256)).first()
    if row is None:
        return None
    owner = organization_by(connection, id=row.organization_id)
    return (replace(_key(row), last_used_at=row.used_at), owner) if owner else None


def key_by_id(connection: Connection, key_id: str) -> ApiKey | None:
    row = connection.execute(select(api_keys).where(api_keys.c.id == key_id)).first()
    return _key(row) if row else None


def keys_of(connection: Connection, organization_id: str) -> list[ApiKey]:
    rows = connection.execute(_keys_of(organization_id).order_by(api_keys.c.created_at, api_keys.c.id))
    return [_listed(row) for row in rows]


def key_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[ApiKey]:
    """The keys of an organization, the oldest first."""
    return KEYS.read(connection, _keys_of(organization_id), wanted).map(_listed)


def _keys_of(organization_id: str) -> Select[Any]:
    """The keys with the names of their owners, their last use, and the models that they may call."""
    # A key has one limit over all models.
    allowed = (
        select(rate_limits.c.models)
        .where(rate_limits.c.scope == "key", rate_limits.c.scope_id == api_keys.c.id, rate_limits.c.model == "")
        .limit(1)
        .scalar_subquery()
    )
    return (
        select(
            api_keys,
            key_uses.c.used_at,
            func.coalesce(persons.c.name, service_accounts.c.name, "").label("owner_name"),
            allowed.label("models"),
        )
        .outerjoin(key_uses, key_uses.c.key_id == api_keys.c.id)
        .outerjoin(persons, persons.c.id == api_keys.c.person_id)
        .outerjoin(service_accounts, service_accounts.c.id == api_keys.c.service_account_id)
        .where(api_keys.c.organization_id == organization_id, _LISTED)
    )


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


def member_name(connection: Connection, organization_id: str, person_id: str) -> str | None:
    """The name of a member of an organization; None for somebody else."""
    mine = (memberships.c.organization_id == organization_id) & (memberships.c.person_id == person_id)
    found = select(persons.c.name).join(memberships, memberships.c.person_id == persons.c.id).where(mine)
    return connection.execute(found).scalar_one_or_none()


def note_uses(connection: Connection, key_ids: Iterable[str], at: datetime) -> None:
    """The keys were used just now. Does nothing for one whose last use was noted less than a minute before."""
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    for key_id in sorted(key_ids):
        values = {"key_id": key_id, "used_at": at}
        statement = dialect.insert(key_uses).values(**values)
        connection.execute(
            statement.on_conflict_do_update(
                index_elements=["key_id"], set_={"used_at": at}, where=key_uses.c.used_at <= at - USE_INTERVAL
            )
        )


def personal_keys(connection: Connection, person_id: str, organization_id: str) -> list[ApiKey]:
    """The live keys that belong to a person in an organization."""
    mine = (api_keys.c.person_id == person_id) & (api_keys.c.organization_id == organization_id)
    return [_key(row) for row in connection.execute(select(api_keys).where(mine, api_keys.c.revoked_at.is_(None)))]


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
        row.service_account_id,
    )


def _listed(row: Row[Any]) -> ApiKey:
    models = tuple(row.models) if row.models is not None else None
    return replace(_key(row), owner_name=row.owner_name, models=models, last_used_at=row.used_at)
