"""Refunds, write-offs and netting as they cross the API. Amounts are exact decimals as text."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Amount, Flag, answer, body

_Source = Annotated[str, MinLen(1), MaxLen(200), LINE]
_Why = Annotated[str, MinLen(1), MaxLen(500), LINES]


@body
class NewRefund:
    """Money to give back of what is owed to a customer, once per `source_id`: by `payment`, the source of a payment or prepayment, or
    to the wallet. With `preview`, nothing is written."""

    organization_id: Annotated[str, MaxLen(40), LINE]
    amount: Amount
    source_id: _Source
    reason: _Why
    target: Literal["payment", "wallet"] = "payment"
    payment: Annotated[str, MaxLen(200), LINE] = ""
    preview: Flag = False


@body
class DepositReturn:
    """What is left of a deposit, or part of it, to owe back. With `preview`, nothing is written."""

    amount: Amount
    reason: _Why
    preview: Flag = False


@body
class NewWriteOff:
    """Why what is open on an invoice is written off. With `preview`, nothing is written."""

    reason: _Why
    preview: Flag = False


@body
class NewNetting:
    """What is owed to a customer pays an invoice, once per `source_id`: `amount` of it, or as much as can be."""

    source_id: _Source
    reason: _Why
    amount: Amount | None = None
    preview: Flag = False


@body
class UndoneNetting:
    """Netting to take back, and why."""

    source_id: _Source
    reason: _Why


@answer
class Refund:
    """A refund; `payment` is the source of the payment that it went back by."""

    organization_id: str
    source_id: str
    target: str
    payment: str
    amount: str
    reason: str
    refunded_at: Moment
    transaction: int


@answer
class RefundList:
    """A page of the refunds of an organization, the newest first."""

    refunds: list[Refund]
    next: str | None


@answer
class DepositReturned:
    """What was returned of a deposit, what is owed back for it (with its tax, where that was paid with it), what is left of it, and
    the credit note of its tax, if any."""

    credit: str
    organization_id: str
    amount: str
    owed: str
    left: str
    credit_note: str
    reason: str
    transaction: int


@answer
class WriteOff:
    """What was written off of an invoice: bad debt, and the tax that was taken back with it."""

    id: str
    invoice: str
    amount: str
    bad_debt: str
    tax: str
    reason: str
    written_off_at: Moment
    transaction: int


@answer
class Netting:
    """What is owed to a customer and paid an invoice; `undone_at` where it was taken back."""

    organization_id: str
    source_id: str
    invoice: str
    amount: str
    reason: str
    netted_at: Moment
    undone_at: Moment | None
    transaction: int
