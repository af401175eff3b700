"""Credits: granted once per source, used by invoices in a stated order, expired when their day comes.

Promotional, reclaim and goodwill credits lower an invoice. Prepaid credit is money: it pays an invoice after tax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from sublet.ledger import journal
from sublet.ledger import store as sql
from sublet.ledger.budgets import LIMIT_NANO_MAX, PREPAID
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import month_of
from sublet.ledger.store import LINES
from sublet.store.tables.ledger import budget_states, budgets, credit_grants, credit_uses
from sublet.values.clock import EPOCH, format_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.ids import derived_id
from sublet.values.money import POSTING_NANO_MAX
from sublet.values.text import refuse_unsafe

CREDIT_KINDS = {
    "reclaim": "penalties",
    "promotional": "promotions",
    "goodwill": "adjustments",
    "prepaid": "cash",
    "carried": "unbilled",
}
"""Each kind, and the account that a grant is charged to."""

EXPIRE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Credit:
    """`remaining_nano` of `nano` may still be used, until `expires_at`."""

    id: str
    organization_id: str
    kind: str
    source_id: str
    reason: str
    nano: int
    remaining_nano: int
    granted_at: datetime
    expires_at: datetime | None

    @property
    def is_prepaid(self) -> bool:
        return self.kind == "prepaid"

    @property
    def liability(self) -> str:
        """The account that holds what may still be used."""
        return "deferred_revenue" if self.is_prepaid else "credits"

    def as_dict(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "organization_id": self.organization_id,
            "kind": self.kind,
            "source_id": self.source_id,
            "reason": self.reason,
            "amount": amount_text(self.nano),
            "remaining": amount_text(self.remaining_nano),
            "granted_at": format_time(self.granted_at),
            "expires_at": format_time(self.expires_at) if self.expires_at else None,
        }


def grant(
    connection: Connection,
    party: Party,
    nano: int,
    kind: str,
    reason: str,
    source_id: str,
    now: datetime,
    expires_at: datetime | None = None,
) -> Credit:
    """Give a credit, once per `source_id`: repeating it returns the first. Raises InvalidInputError, ConflictError."""
    _check(nano, kind, reason, source_id, now, expires_at)
    identifier = derived_id("crd", party.id, source_id)
    credit = Credit(identifier, party.id, kind, source_id, reason, nano, nano, now, expires_at)
    # The heads are held first, so that two grants of one source can't both find nothing.
    sql.lock_head(connection, journal.CHAIN)
    row = connection.execute(select(credit_grants).where(credit_grants.c.id == identifier)).first()
    if row is not None:
        known = credit_of(row)
        if (known.kind, known.nano) != (kind, nano):
            raise ConflictError(
                f"source {source_id!r} has earned a credit of another amount or kind; use a new source_id"
            )
        return known
    period = month_of(now, party.timezone).start
    amounts = {CREDIT_KINDS[kind]: nano, credit.liability: -nano}
    entry = journal.entry_of(party.id, party.currency, "credit", source_id, period, f"{kind} credit: {reason}", amounts)
    journal.post(connection, [entry], now)
    connection.execute(
        insert(credit_grants).values(
            id=identifier,
            organization_id=party.id,
            kind=kind,
            source_id=source_id,
            reason=reason,
            nano=nano,
            remaining_nano=nano,
            granted_at=now,
            expires_at=expires_at,
        )
    )
    if credit.is_prepaid:
        _raise_wallet(connection, party, nano, now)
    return credit


def _check(nano: int, kind: str, reason: str, source_id: str, now: datetime, expires_at: datetime | None) -> None:
    if kind not in CREDIT_KINDS:
        raise InvalidInputError(f"credit kind {kind!r} must be one of {', '.join(CREDIT_KINDS)}")
    if type(nano) is not int or not 0 < nano <= POSTING_NANO_MAX:
        raise InvalidInputError("a credit must be above 0 and at most 9.2 billion")
    if not 0 < len(source_id) <= 200 or len(reason) > 500:
        raise InvalidInputError("a credit needs a source_id of at most 200 characters and a printable reason of 500")
    refuse_unsafe(source_id, "source_id")
    refuse_unsafe(reason, "reason")
    if expires_at is not None and expires_at <= now:
        raise InvalidInputError("a credit can't expire in the past; choose a later expires_at")


def _raise_wallet(connection: Connection, party: Party, nano: int, now: datetime) -> None:
    """Prepaid money is a hard budget that never starts anew: usage can be reserved against what was paid."""
    identifier = wallet_id(party)
    row = connection.execute(select(budgets).where(budgets.c.id == identifier).with_for_update()).first()
    if row is None:
        sql.insert_row(
            connection,
            budgets,
            id=identifier,
            organization_id=party.id,
            scope="organization",
            scope_id="",
            period="ever",
            kind=PREPAID,
            limit_nano=nano,
            hard=True,
            thresholds=[80, 100],
            webhook_url="",
            webhook_secret="",
            email="",
            opening_line=sql.read_head(connection, LINES)[0],
            created_at=now,
            ended_at=None,
        )
        return
    if row.limit_nano + nano > LIMIT_NANO_MAX:
        raise InvalidInputError("a prepaid balance can't pass 4.6 billion")
    connection.execute(update(budgets).where(budgets.c.id == identifier).values(limit_nano=row.limit_nano + nano))


def wallet_id(party: Party) -> str:
    """The id of the budget that an organization's prepaid money is."""
    return derived_id("bud", party.id, PREPAID)


def usable(
    connection: Connection, organization_id: str, now: datetime, *, prepaid: bool, lock: bool = False
) -> list[Credit]:
    """Credits that an invoice may use now, in order: what expires first, then what was granted first.

    With `lock` their rows are held until the transaction ends.
    """
    columns = credit_grants.c
    statement = (
        select(credit_grants)
        .where(columns.organization_id == organization_id, columns.remaining_nano > 0)
        .where((columns.expires_at.is_(None)) | (columns.expires_at > now))
        .where(columns.kind == "prepaid" if prepaid else columns.kind != "prepaid")
    )
    rows = connection.execute(statement.with_for_update() if lock else statement)
    found = [credit_of(row) for row in rows]
    return sorted(
        found,
        key=lambda credit: (credit.expires_at is None, credit.expires_at or EPOCH, credit.granted_at, credit.id),
    )


def use(
    connection: Connection, credits: Sequence[Credit], amount_nano: int, invoice_id: str
) -> list[tuple[Credit, int]]:
    """Take up to `amount_nano` from `credits`, in order, for an invoice; what was taken from each."""
    taken = allot(credits, amount_nano)
    for credit, nano in taken:
        connection.execute(
            update(credit_grants)
            .where(credit_grants.c.id == credit.id)
            .values(remaining_nano=credit.remaining_nano - nano)
        )
        connection.execute(insert(credit_uses).values(credit_id=credit.id, invoice_id=invoice_id, nano=nano))
    return taken


def allot(credits: Sequence[Credit], amount_nano: int) -> list[tuple[Credit, int]]:
    """How `amount_nano` would be taken from `credits`, in order."""
    taken: list[tuple[Credit, int]] = []
    for credit in credits:
        part = min(credit.remaining_nano, amount_nano)
        if part > 0:
            taken.append((credit, part))
            amount_nano -= part
    return taken


def give_back(connection: Connection, invoice_id: str) -> None:
    """Return what a voided invoice had used."""
    rows = connection.execute(select(credit_uses).where(credit_uses.c.invoice_id == invoice_id)).all()
    for row in rows:
        connection.execute(
            update(credit_grants)
            .where(credit_grants.c.id == row.credit_id)
            .values(remaining_nano=credit_grants.c.remaining_nano + row.nano)
        )


def expire(connection: Connection, parties: dict[str, Party], now: datetime, due: Sequence[Credit]) -> int:
    """Post what is left of expired credits as breakage, once each."""
    for credit in due:
        party = parties[credit.organization_id]
        period = month_of(now, party.timezone).start
        left = credit.remaining_nano
        amounts = {credit.liability: left, "breakage": -left}
        memo = f"{credit.kind} credit {credit.id} expired"
        # A voided invoice can return value to an expired credit, which then expires again by another name.
        source = f"{credit.id} {format_time(now)}"
        journal.post(
            connection,
            [journal.entry_of(party.id, party.currency, "expiry", source, period, memo, amounts)],
            now,
        )
        connection.execute(update(credit_grants).where(credit_grants.c.id == credit.id).values(remaining_nano=0))
        if credit.is_prepaid:
            _lower_wallet(connection, party, left)
    return len(due)


def _lower_wallet(connection: Connection, party: Party, nano: int) -> None:
    identifier = wallet_id(party)
    row = connection.execute(select(budgets).where(budgets.c.id == identifier).with_for_update()).one()
    connection.execute(
        update(budgets).where(budgets.c.id == identifier).values(limit_nano=max(0, row.limit_nano - nano))
    )


def expired(connection: Connection, now: datetime) -> list[Credit]:
    """Credits whose day has come and of which something is left; their rows are held."""
    columns = credit_grants.c
    sql.lock_head(connection, journal.CHAIN)
    statement = (
        select(credit_grants)
        .where(columns.expires_at <= now, columns.remaining_nano > 0)
        .order_by(columns.id)
        .limit(EXPIRE_MAX)
        .with_for_update()
    )
    return [credit_of(row) for row in connection.execute(statement)]


def credits_of(connection: Connection, organization_id: str) -> list[Credit]:
    statement = select(credit_grants).where(credit_grants.c.organization_id == organization_id)
    found = [credit_of(row) for row in connection.execute(statement.order_by(credit_grants.c.granted_at))]
    return found


def wallet_spent(connection: Connection, party: Party) -> int:
    """What was rated against the prepaid wallet so far."""
    identifier = wallet_id(party)
    statement = select(budget_states.c.spent_nano).where(budget_states.c.budget_id == identifier)
    return connection.execute(statement).scalar_one_or_none() or 0


def credit_of(row: Row[Any]) -> Credit:
    return Credit(
        row.id,
        row.organization_id,
        row.kind,
        row.source_id,
        row.reason,
        row.nano,
        row.remaining_nano,
        row.granted_at,
        row.expires_at,
    )
