"""What other domains may read of accounts: organizations and keys as selectables to join with, and single look-ups.

The tables behind them are this package's own; no hash of a key is in here.
"""

from __future__ import annotations

from sqlalchemy import Connection, select

from sublet.accounts import store as sql
from sublet.accounts.model import Organization
from sublet.store.tables.accounts import api_keys as _api_keys
from sublet.store.tables.accounts import organizations as _organizations

organizations = select(
    _organizations.c.id,
    _organizations.c.name,
    _organizations.c.currency,
    _organizations.c.timezone,
    _organizations.c.created_at,
).subquery("organizations")
"""Every organization: id, name, currency, timezone, created_at."""

api_keys = select(
    _api_keys.c.id,
    _api_keys.c.organization_id,
    _api_keys.c.name,
    _api_keys.c.hint,
    _api_keys.c.project,
).subquery("api_keys")
"""Every key, revoked ones too: id, organization_id, name, hint, project."""


def organization(connection: Connection, organization_id: str) -> Organization | None:
    """The organization with that id."""
    return sql.organization_by(connection, id=organization_id)


def is_key_of(connection: Connection, organization_id: str, key_id: str) -> bool:
    """Whether it is, or was before it was revoked, a key of that organization."""
    return sql.is_key_of(connection, organization_id, key_id)
