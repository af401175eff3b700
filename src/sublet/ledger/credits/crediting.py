"""Grants credits, once per source. `burning` decides which usage they pay for, and when.

Promotional, reclaim and goodwill credits lower an invoice. Prepaid credit is money: it pays an invoice after tax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, func, insert, select, update

from sublet.ledger import store as sql
from sublet.ledger.budgets.model import LIMIT_NANO_MAX, PREPAID
from sublet.ledger.credits.kinds import CREDIT_NOTE
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import month_of
from sublet.ledger.store import LINES
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import budget_states, budgets, credit_grants, invoices
from sublet.values.clock import EPOCH, format_time, from_micros
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.ids import derived_id
from sublet.values.money import POSTING_NANO_MAX
from sublet.values.text import refuse_unsafe

CARRIED = "carried"
"""What an invoice below zero carried over, before credit notes; nothing gives it any more."""
NOTED = "note"
"""What a credit note took off a month: it burns as a credit does, and is none."""
RETURNED = "returned"
"""Money owed back to a customer that was moved to the wallet."""
CREDIT_KINDS = {
    "reclaim": "penalties",
    "promotional": "promotions",
    "goodwill": "adjustments",
    "prepaid": "cash",
    RETURNED: "customer_balance",
    CARRIED: "unbilled",
}
"""Each kind, and the account that a grant is charged to."""
GRANTED_KINDS = tuple(kind for kind in CREDIT_KINDS if kind not in (RETURNED, CARRIED))
"""The kinds that are granted on request."""

AT_USE, AT_PAYMENT = "at_use", "at_payment"
"""How money paid in advance is taxed: as a deposit, which pays the total of invoices that tax the usage, or when it is
received, on top of its amount, so that it pays for net usage that is not taxed again."""

CREDITS = Listing("credits", (credit_grants.c.granted_at, credit_grants.c.id))


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
    starts_at: datetime = EPOCH
    """The first moment of usage that it pays for."""
    tax_mode: str = AT_USE
    taken_nano: int = 0
    """Used before credits burnt by time."""
    expired_nano: int = 0
    expiry_no: int | None = None
    """The transaction that posted what expired of it."""
    settled: bool = False
    """Whether what expired was worked out since its usage last changed."""
    refunded_nano: int = 0
    account: str = ""
    """Where what a credit note took off is charged; empty for a credit."""
    noted: str = ""
    """How a credit note took it off: BY_LINE or BY_AMOUNT; empty for a credit."""

    @property
    def is_prepaid(self) -> bool:
        return self.kind in ("prepaid", RETURNED)

    @property
    def is_deposit(self) -> bool:
        """Whether it pays net and tax together."""
        return self.is_prepaid and self.tax_mode == AT_USE

    @property
    def liability(self) -> str:
        """The account that holds what may still be used."""
        if self.kind == NOTED:
            return self.account
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
            "starts_at": format_time(self.starts_at),
            "tax_mode": self.tax_mode if self.is_prepaid else "",
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
    tax_nano: int | None = None,
) -> Credit:
    """Grant a credit, once per `source_id`; repeating it returns the first. Raises InvalidInputError, ConflictError.

    With `tax_nano`, it is money that was received together with that tax. Without it, prepaid money is a deposit.
    """
    _check(nano, kind, reason, source_id, now, expires_at)
    identifier = derived_id("crd", party.id, source_id)
    starts_at = _starts(connection, party, kind, now, ends=expires_at is not None)
    mode = AT_USE if tax_nano is None else AT_PAYMENT
    credit = Credit(identifier, party.id, kind, source_id, reason, nano, nano, now, expires_at, starts_at, mode)
    # The heads are locked first, so that two grants with one source can't both find nothing.
    sql.lock_head(connection, journal.CHAIN)
    row = connection.execute(select(credit_grants).where(credit_grants.c.id == identifier)).first()
    if row is not None:
        known = credit_of(row)
        if (known.kind, known.nano, known.tax_mode) != (kind, nano, mode):
            raise ConflictError(
                f"source {source_id!r} was already used for a credit with another amount, kind or tax mode; use a new source_id"
            )
        return known
    period = month_of(now, party.timezone).start
    tax = tax_nano or 0
    amounts = {CREDIT_KINDS[kind]: nano + tax, credit.liability: -nano, "taxes_payable": -tax}
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
            starts_at=starts_at,
            tax_mode=mode,
        )
    )
    if credit.is_prepaid:
        _raise_wallet(connection, party, nano, now)
    return credit


def _check(nano: int, kind: str, reason: str, source_id: str, now: datetime, expires_at: datetime | None) -> None:
    if kind not in CREDIT_KINDS or kind == CARRIED:
        raise InvalidInputError(f"credit kind {kind!r} must be one of {', '.join(GRANTED_KINDS)}", field="kind")
    if type(nano) is not int or not 0 < nano <= POSTING_NANO_MAX:
        raise InvalidInputError("a credit must be above 0 and at most 9.2 billion")
    if not 0 < len(source_id) <= 200 or len(reason) > 500:
        raise InvalidInputError("a credit needs a source_id of at most 200 characters and a printable reason of 500")
    refuse_unsafe(source_id, "source_id")
    refuse_unsafe(reason, "reason")
    if expires_at is not None and expires_at <= now:
        raise InvalidInputError("a credit can't expire in the past; choose a later expires_at")


def _raise_wallet(connection: Connection, party: Party, nano: int, now: datetime) -> None:
    """Raise the limit of the wallet: a hard budget that never resets, so that usage can be reserved against prepaid money."""
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
            opening_line=sql.read_head(connection, LINES)[0],
            created_at=now,
            ended_at=None,
        )
        return
    if row.limit_nano + nano > LIMIT_NANO_MAX:
        raise InvalidInputError("a prepaid balance can't exceed 4.6 billion")
    connection.execute(update(budgets).where(budgets.c.id == identifier).values(limit_nano=row.limit_nano + nano))


def wallet_id(party: Party) -> str:
    """The id of the budget for an organization's prepaid money."""
    return derived_id("bud", party.id, PREPAID)


def in_order(credits: Sequence[Credit]) -> list[Credit]:
    """Credits in the order in which they burn."""
    return sorted(
        credits,
        key=lambda credit: (
            credit.expires_at is None,
            credit.expires_at or EPOCH,
            credit.is_prepaid,
            credit.granted_at,
            credit.id,
        ),
    )


def _starts(connection: Connection, party: Party, kind: str, now: datetime, *, ends: bool) -> datetime:
    """From when on usage is paid by a credit granted now: by money, and by a promotion for a time, from now on; by any other
    credit, from the first moment that is neither in a closed month nor invoiced, so that it lowers the next invoice."""
    if kind in ("prepaid", RETURNED) or (kind == "promotional" and ends):
        return now
    closed = [start for _, start in sql.closed_periods(connection, [party.id])]
    first = month_of(from_micros(max(closed)), party.timezone).end if closed else EPOCH
    columns = invoices.c
    standing = (columns.organization_id == party.id) & (columns.status != "void") & (columns.kind != CREDIT_NOTE)
    last = connection.execute(select(func.max(columns.finalized_at)).where(standing)).scalar()
    return max(first, last or EPOCH)


def rows_of(connection: Connection, organization_id: str) -> list[Credit]:
    """The credits of an organization, oldest first. `remaining_nano` is what invoices have not stated and what has not
    expired."""
    statement = select(credit_grants).where(credit_grants.c.organization_id == organization_id)
    found = [credit_of(row) for row in connection.execute(statement.order_by(credit_grants.c.granted_at))]
    return found


def row_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[Row[Any]]:
    """A page of rows of an organization's credits, oldest first."""
    query = select(credit_grants).where(credit_grants.c.organization_id == organization_id)
    return CREDITS.read(connection, query, wanted)


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
        row.starts_at,
        row.tax_mode,
        row.taken_nano,
        row.expired_nano,
        row.expiry_no,
        row.settled,
        row.refunded_nano,
    )
