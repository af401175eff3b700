"""What stands on an organization's invoices about it."""

from __future__ import annotations

from dataclasses import astuple, fields

from sqlalchemy import Connection, select

from sublet.ledger import store as sql
from sublet.ledger.invoices.taxes import Profile
from sublet.ledger.model import Party
from sublet.store.tables.ledger import profiles

_NAMES = tuple(field.name for field in fields(Profile))


def profile_of(connection: Connection, party: Party) -> Profile:
    row = connection.execute(select(profiles).where(profiles.c.organization_id == party.id)).first()
    return Profile() if row is None else Profile(**{name: getattr(row, name) for name in _NAMES})


def set_profile(connection: Connection, organization_id: str, profile: Profile) -> None:
    """What stands on the organization's invoices from now on."""
    changed = ", ".join(f"{name} = excluded.{name}" for name in _NAMES)
    sql.bulk_insert(
        connection,
        profiles,
        [(organization_id, *astuple(profile))],
        f"ON CONFLICT (organization_id) DO UPDATE SET {changed}",
    )
