"""Wire types of refunds, write-offs and netting. Amounts are exact decimals as text."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Amount, Flag, answer, body

_Source = Annotated[str, MinLen(1), MaxLen(200), LINE]
_Why = Annotated[str, MinLen(1), MaxLen(500), LINES]


@body
class NewRefund:
    """A refund of what is owed to a customer, once for each `source_id`: to `payment`, the source of a payment or prepayment,
    or to the wallet. With `preview`, nothing is written."""

    organization_id: Annotated[str, MaxLen(40), LINE]
    amount: Amount
    source_id: _Source
    reason: _Why
    target: Literal["payment", "wallet"] = "payment"
    payment: Annotated[str, MaxLen(200), LINE] = ""
    preview: Flag = False


@body
class NewReceipt:
    """A payment of a customer, once for each `source_id`: for `invoices`, by id or number, or else for the oldest ones. What is more
    than they come to becomes prepaid money. With `preview`, nothing is written."""

    organization_id: Annotated[str, MaxLen(40), LINE]
    amount: Amount
    source_id: Annotated[str, MinLen(1), MaxLen(150), LINE]
    invoices: Annotated[list[Annotated[str, MinLen(1), MaxLen(40), LINE]], MaxLen(1_000)] = field(default_factory=list)
    preview: Flag = False


@answer
class PaidPart:
    """What a payment paid of an invoice, by its number."""

    invoice: str
    amount: str


@answer
class Receipt:
    """A payment of a customer: what it paid of each invoice, and what became prepaid money."""

    organization_id: str
    source_id: str
    amount: str
    currency: str
    received_at: Moment
    invoices: list[PaidPart]
    prepaid: str


@answer
class ReceiptSummary:
    """A payment of a customer, and what of it became prepaid money."""

    source_id: str
    amount: str
    currency: str
    received_at: Moment
    prepaid: str
    invoices: list[str]


@answer
class ReceiptList:
    """A page of a customer's payments, newest first."""

    payments: list[ReceiptSummary]
    next: str | None


@body
class DepositReturn:
    """What is left of a deposit, or part of it, to return to what is owed to the customer. With `preview`, nothing is written."""

    amount: Amount
    reason: _Why
    preview: Flag = False


@body
class NewWriteOff:
    """The reason for writing off the open amount of an invoice. With `preview`, nothing is written."""

    reason: _Why
    preview: Flag = False


@body
class NewNetting:
    """A payment of an invoice from what is owed to its customer, once for each `source_id`. By default, `amount` is as much as
    possible. With `preview`, nothing is written."""

    source_id: _Source
    reason: _Why
    amount: Amount | None = None
    preview: Flag = False


@body
class UndoneNetting:
    """Netting to reverse, and the reason."""

    source_id: _Source
    reason: _Why


@answer
class Refund:
    """A refund. `payment` is the source of the payment that was refunded."""

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
    """A page of an organization's refunds, newest first."""

    refunds: list[Refund]
    next: str | None


@answer
class DepositReturned:
    """The amount of a deposit that was returned, what is owed to the customer for it (including tax that was paid with the
    deposit), what is left of it, and the credit note for the tax, if any."""

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
    """A write-off of an invoice: the bad debt, and the tax that was reversed with it."""

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
    """A payment of an invoice from what is owed to the customer. `undone_at` is when it was reversed, or null."""

    organization_id: str
    source_id: str
    invoice: str
    amount: str
    reason: str
    netted_at: Moment
    undone_at: Moment | None
    transaction: int
