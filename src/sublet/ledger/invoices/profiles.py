"""What stands on an organization's invoices about it."""

from __future__ import annotations

from sqlalchemy import Connection, select

from sublet.ledger import store as sql
from sublet.ledger.invoices.taxes import Profile
from sublet.ledger.model import Party
from sublet.store.tables.ledger import profiles


def profile_of(connection: Connection, party: Party) -> Profile:
    row = connection.execute(select(profiles).where(profiles.c.organization_id == party.id)).first()
    if row is None:
        return Profile()
    return Profile(row.legal_name, row.address, row.country, row.tax_number, row.email, row.payment_days)


def set_profile(connection: Connection, organization_id: str, profile: Profile) -> None:
    """What stands on the organization's invoices from now on."""
    row = (
        organization_id,
        profile.legal_name,
        profile.address,
        profile.country,
        profile.tax_number,
        profile.email,
        profile.payment_days,
    )
    sql.bulk_insert(
        connection,
        profiles,
        [row],
        "ON CONFLICT (organization_id) DO UPDATE SET legal_name = excluded.legal_name, address = excluded.address, "
        "country = excluded.country, tax_number = excluded.tax_number, email = excluded.email, "
        "payment_days = excluded.payment_days",
    )
