"""Refunds what is owed to a customer: to the original payment method, or to the wallet."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update

from sublet.ledger import store as sql
from sublet.ledger.credits.crediting import AT_PAYMENT, RETURNED, credit_of
from sublet.ledger.credits.wallets import Wallets
from sublet.ledger.invoices.lines import plain, smallest_unit
from sublet.ledger.invoices.notes import Notes
from sublet.ledger.invoices.prepayments import invoice_of, return_prepayment
from sublet.ledger.journal import double_entry as journal
from sublet.ledger.model import Party, amount_text
from sublet.ledger.payments.receipts import ensure_payable, is_reversed
from sublet.ledger.periods import month_of
from sublet.ledger.store import RATING
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger import credit_grants, payments, refunds
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError, NotFoundError
from sublet.values.money import nano_from_decimal
from sublet.values.text import checked_line, refuse_unsafe

REFUND, RETURN = "refund", "return of a deposit"
TO_PAYMENT, TO_WALLET = "payment", "wallet"
NAMED_MAX = 10


@dataclass(frozen=True, slots=True)
class NewRefund:
    """A refund of `nano` to a customer, once per `source_id`: to the payment `payment` (a payment of an invoice or a
    prepayment), or to the wallet if that is empty."""

    organization_id: str
    nano: int
    source_id: str
    reason: str
    target: str = TO_PAYMENT
    payment: str = ""


def refund(connection: Connection, wallets: Wallets, wanted: NewRefund, now: datetime) -> dict[str, Any]:
    """Refund money that is owed to a customer. Raises InvalidInputError for more than is owed or was paid by that payment,
    ConflictError for a source that refunded something else, and NotFoundError for an unknown payment."""
    # The rater locks the same head, so that no usage is rated while a wallet grows.
    sql.lock_head(connection, RATING)
    sql.lock_head(connection, journal.CHAIN)
    party = sql.party(connection, wanted.organization_id)
    if party is None:
        raise NotFoundError(f"there is no organization {wanted.organization_id!r}")
    known = _known(connection, wanted)
    if known is not None:
        return known
    _ensure_owed(connection, party, wanted)
    if wanted.target == TO_PAYMENT:
        _ensure_paid(connection, party, wanted)
    reason = checked_line(wanted.reason, "the reason of the refund", 500, 1)
    if wanted.target == TO_WALLET:
        source = f"{REFUND} {wanted.source_id}"
        wallets.grant(connection, party, wanted.nano, RETURNED, reason, source, now)
        number = journal.number_of(connection, party.id, "credit", source)
        assert number is not None
    else:
        entry = journal.entry_of(
            party.id,
            party.currency,
            REFUND,
            wanted.source_id,
            month_of(now, party.timezone).start,
            f"refund by {wanted.payment}: {reason}",
            {"customer_balance": wanted.nano, "cash": -wanted.nano},
        )
        number = journal.post(connection, [entry], now)[0].number
    sql.insert_row(
        connection,
        refunds,
        organization_id=party.id,
        source_id=wanted.source_id,
        target=wanted.target,
        payment_source_id=wanted.payment or None,
        nano=wanted.nano,
        reason=reason,
        transaction_no=number,
        refunded_at=now,
    )
    found = _known(connection, wanted)
    assert found is not None
    return found


def _ensure_owed(connection: Connection, party: Party, wanted: NewRefund) -> None:
    if wanted.target not in (TO_PAYMENT, TO_WALLET):
        raise InvalidInputError(f"target must be {TO_PAYMENT} or {TO_WALLET}", field="target")
    if (wanted.target == TO_WALLET) == bool(wanted.payment):
        raise InvalidInputError(
            "payment is required for a refund to a payment, and not allowed for a refund to the wallet", field="payment"
        )
    owed = -journal.balance(connection, party.id, "customer_balance")
    if type(wanted.nano) is not int or not 0 < wanted.nano <= owed:
        raise InvalidInputError(
            f"the amount must be above 0 and at most {plain(max(0, owed))} {party.currency}, the amount owed",
            field="amount",
        )
    ensure_payable(wanted.nano, party.currency)
    if not 0 < len(wanted.source_id) <= 200:
        raise InvalidInputError("a refund needs a source_id of at most 200 characters", field="source_id")
    refuse_unsafe(wanted.source_id, "source_id")


def _ensure_paid(connection: Connection, party: Party, wanted: NewRefund) -> None:
    """Raises NotFoundError, and InvalidInputError if the payment, less earlier refunds, is smaller than the refund."""
    paid: dict[str, int] = {}
    for row in connection.execute(select(payments).where(payments.c.organization_id == party.id)).all():
        if not is_reversed(connection, row):
            paid[row.source_id] = row.nano
    columns = credit_grants.c
    prepaid = select(credit_grants).where(columns.organization_id == party.id, columns.kind == "prepaid")
    for row in connection.execute(prepaid).all():
        taxed = invoice_of(connection, credit_of(row)) if row.tax_mode == AT_PAYMENT else None
        paid[row.source_id] = paid.get(row.source_id, 0) + (int(taxed.total_nano) if taxed else row.nano)
    for row in _refunds_of(connection, party.id):
        if row.payment_source_id in paid:
            paid[row.payment_source_id] -= row.nano
    left = paid.get(wanted.payment)
    if left is None:
        named = ", ".join(repr(name) for name, nano in list(paid.items())[:NAMED_MAX] if nano)
        raise NotFoundError(f"{party.name} has no payment {wanted.payment!r}; it has {named or 'none'}")
    if wanted.nano > left:
        raise InvalidInputError(
            f"{plain(left)} {party.currency} of payment {wanted.payment!r} are left to refund", field="amount"
        )


def _known(connection: Connection, wanted: NewRefund) -> dict[str, Any] | None:
    columns = refunds.c
    row = connection.execute(
        select(refunds).where(columns.organization_id == wanted.organization_id, columns.source_id == wanted.source_id)
    ).first()
    if row is None:
        return None
    if (row.nano, row.target, row.payment_source_id or "") != (wanted.nano, wanted.target, wanted.payment):
        raise ConflictError(f"refund {wanted.source_id!r} was made with another amount or target; use a new source_id")
    return refund_as_dict(row)


def refund_as_dict(row: Row[Any]) -> dict[str, Any]:
    """A refund in the form of the API."""
    return {
        "organization_id": row.organization_id,
        "source_id": row.source_id,
        "target": row.target,
        "payment": row.payment_source_id or "",
        "amount": amount_text(row.nano),
        "reason": row.reason,
        "refunded_at": format_time(row.refunded_at),
        "transaction": row.transaction_no,
    }


REFUNDS = Listing("refunds", (refunds.c.transaction_no,), descending=True)


def refunds_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[dict[str, Any]]:
    """The refunds of an organization, newest first."""
    mine = select(refunds).where(refunds.c.organization_id == organization_id)
    return REFUNDS.read(connection, mine, wanted).map(refund_as_dict)


def _refunds_of(connection: Connection, organization_id: str) -> list[Row[Any]]:
    statement = select(refunds).where(refunds.c.organization_id == organization_id)
    return list(connection.execute(statement.order_by(refunds.c.transaction_no.desc())))


def return_deposit(
    connection: Connection, wallets: Wallets, credit_id: str, nano: int, reason: str, now: datetime
) -> dict[str, Any]:
    """Return what is left of money paid in advance, or `nano` of it, to what is owed to the customer. A refund then pays it
    out. If the money was taxed when it was paid, `nano` is net, and a credit note for its invoice returns the tax, too. Raises
    NotFoundError, ConflictError if such money has no invoice, and InvalidInputError for more than is left."""
    sql.lock_head(connection, RATING)
    sql.lock_head(connection, journal.CHAIN)
    row = connection.execute(select(credit_grants).where(credit_grants.c.id == credit_id).with_for_update()).first()
    if row is None:
        raise NotFoundError(f"there is no credit {credit_id!r}; `sublet ledger credits` lists them")
    credit = credit_of(row)
    if not credit.is_prepaid:
        raise ConflictError("only prepaid money can be returned; it is a credit that was given")
    party = sql.party(connection, row.organization_id)
    assert party is not None
    reason = checked_line(reason, "the reason of the return", 500, 1)
    left = next(found.remaining_nano for found in wallets.credits(connection, party, now) if found.id == credit_id)
    left -= left % smallest_unit(party.currency)
    if type(nano) is not int or not 0 < nano <= left:
        raise InvalidInputError(
            f"the amount must be above 0 and at most {plain(left)} {party.currency}", field="amount"
        )
    ensure_payable(nano, party.currency)
    owed, number, note = nano, 0, ""
    if credit.tax_mode == AT_PAYMENT:
        made = return_prepayment(connection, Notes(wallets), party, credit, nano, reason, now)
        owed, number, note = nano_from_decimal(made["balance"]), made["transaction"], made["number"]
    else:
        number = _owe(connection, party, credit_id, nano, reason, now)
    values = {"refunded_nano": credit.refunded_nano + nano, "remaining_nano": credit.remaining_nano - nano}
    connection.execute(update(credit_grants).where(credit_grants.c.id == credit_id).values(**values))
    wallets.refresh_budget(connection, party, now)
    return {
        "credit": credit_id,
        "organization_id": party.id,
        "amount": amount_text(nano),
        "owed": amount_text(owed),
        "left": amount_text(left - nano),
        "credit_note": note,
        "reason": reason,
        "transaction": number,
    }


def _owe(connection: Connection, party: Party, credit_id: str, nano: int, reason: str, now: datetime) -> int:
    """Move `nano` of a deposit to what is owed to the customer. Returns the number of the transaction."""
    chain, _ = sql.lock_head(connection, journal.CHAIN)
    entry = journal.entry_of(
        party.id,
        party.currency,
        RETURN,
        f"{credit_id} {chain + 1}",
        month_of(now, party.timezone).start,
        f"{RETURN} {credit_id}: {reason}",
        {"deferred_revenue": nano, "customer_balance": -nano},
    )
    return journal.post(connection, [entry], now)[0].number
