"""What stands on an organization's invoices about it."""

from __future__ import annotations

from dataclasses import astuple, dataclass, fields, replace

from sqlalchemy import Connection, select

from sublet.ledger import store as sql
from sublet.ledger.invoices.taxes import Profile
from sublet.ledger.model import Party
from sublet.store.tables.ledger import profiles
from sublet.values.errors import ForbiddenError

_NAMES = tuple(field.name for field in fields(Profile))


@dataclass(frozen=True, slots=True)
class Terms:
    """In how many days someone asks to have to pay; None leaves it as it is."""

    payment_days: int | None
    by_operator: bool

    def put_into(self, profile: Profile, before: Profile) -> Profile:
        """`profile` with these terms. Raises ForbiddenError where a customer would give itself others than it has."""
        days = before.payment_days if self.payment_days is None else self.payment_days
        if days != before.payment_days and not self.by_operator:
            raise ForbiddenError(
                f"payment_days is the operator's: you have {before.payment_days} days to pay; leave it out, or ask the operator"
            )
        return replace(profile, payment_days=days)


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
