"""Invoices and credit notes as they cross the API. Amounts are exact decimals as text."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from annotated_types import MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Amount, Flag, answer, body

NOTED_LINES_MAX = 1_000


@body
class NotedLine:
    """A line to credit, by its position or id: `amount` of its net, or without it what is left."""

    line: Annotated[str, MinLen(1), MaxLen(40), LINE]
    amount: Amount | None = None


@body
class NewCreditNote:
    """A credit note to make: of `lines`, of a gross `amount`, or without either of all that is left. With `preview`, nothing is
    written; `digest` is that of the preview, so that exactly that note is made."""

    reason: Annotated[str, MinLen(1), MaxLen(500), LINES]
    lines: Annotated[list[NotedLine], MaxLen(NOTED_LINES_MAX)] = field(default_factory=list)
    amount: Amount | None = None
    preview: Flag = False
    digest: Annotated[str, MaxLen(64), LINE] = ""


@answer
class InvoiceParty:
    """Who issues an invoice; `address` is what does not stand in street, postcode, and city."""

    name: str
    address: str
    street: str
    postcode: str
    city: str
    country: str
    tax_number: str
    vat_id: str
    email: str
    iban: str
    bic: str


@answer
class InvoiceCustomer(InvoiceParty):
    """Who is invoiced; `reference` is the customer's own, such as a purchase order."""

    organization_id: str
    reference: str
    language: str


@answer
class InvoicePeriod:
    """The month of an invoice in the customer's time zone."""

    label: str
    start: Moment
    end: Moment
    timezone: str


@answer
class InvoiceLine:
    """What was used or agreed at one price; `used` and `booked` are months."""

    position: int
    id: str
    kind: str
    description: str
    product: str
    meter: str
    rate: str
    used: str
    booked: str
    quantity: str
    unit: str
    unit_price: str
    amount: str
    list_amount: str
    events: int


@answer
class InvoiceCredit:
    """What a credit takes off."""

    credit: str
    kind: str
    reason: str
    amount: str


@answer
class InvoiceTax:
    """A tax on the net amount; `category` (UNCL 5305) and `reason` where the tax calculator states them."""

    name: str
    percent: str
    amount: str
    category: str = ""
    reason: str = ""


@answer
class ProjectShare:
    """What a project used of a line, and its cost."""

    project: str
    quantity: str
    amount: str


@answer
class LineDetail:
    """What a line is for: the first and the last moment of use, what was used, and each project's share."""

    line: str
    first: Moment
    last: Moment
    names: dict[str, list[str]]
    """By dimension, such as model, pool, generation, and class."""
    resources: list[str]
    accelerators: int | None
    """Of a lease."""
    projects: list[ProjectShare]


@answer
class CorrectedInvoice:
    """An invoice that a credit note lowers: by how much net and tax, and what of that was still to be paid."""

    id: str
    invoice: str
    issued_at: Moment
    net: str
    tax: str
    total: str
    receivable: str


@answer
class CreditNote:
    """What is due less on invoices; amounts are in the customer's favor. `receivable` of the total lowers what is open on them, what
    was paid from a deposit goes back to it, and `balance` is owed to the customer. `digest` names exactly this."""

    id: str
    number: str
    status: str
    kind: str
    made: str
    reason: str
    corrects: list[CorrectedInvoice]
    issuer: InvoiceParty
    customer: InvoiceCustomer
    currency: str
    period: InvoicePeriod
    issued_at: Moment
    lines: list[InvoiceLine]
    subtotal: str
    credits: list[InvoiceCredit]
    rounding: str
    net: str
    taxes: list[InvoiceTax]
    total: str
    prepaid: list[InvoiceCredit]
    receivable: str
    balance: str
    rounding_rule: str
    digest: str
    transaction: int = 0


@answer
class CreditNoteList:
    """A page of the credit notes of an organization, the newest first."""

    credit_notes: list[CreditNote]
    next: str | None


@answer
class InvoiceDraft:
    """What an invoice charges; `digest` names exactly this. Amounts are exact decimals as text."""

    id: str
    number: str
    status: str
    kind: str
    issuer: InvoiceParty
    customer: InvoiceCustomer
    currency: str
    period: InvoicePeriod
    issued_at: Moment
    lines: list[InvoiceLine]
    subtotal: str
    credits: list[InvoiceCredit]
    brought_forward: str = "0.000000000"
    """What earlier documents rounded off, or below zero up; `rounding` counts it."""
    rounding: str
    net: str
    taxes: list[InvoiceTax]
    total: str
    prepaid: list[InvoiceCredit]
    due: str
    carried: str
    rounding_rule: str
    digest: str
    details: list[LineDetail]
    """What each line of usage is for; empty in lists."""
    credit_note: CreditNote | None
    """On a draft, the credit note that would be made with it."""


@answer
class Invoice(InvoiceDraft):
    """A final invoice, with what was paid on it, what else lowered it, what is open, and the transaction that posted it."""

    due_at: Moment
    transaction: int
    paid: str
    credited: str
    netted: str
    written_off: str
    open: str


@answer
class ProductShare:
    """What a product costs."""

    product: str
    amount: str


@answer
class ProjectCost:
    """What a project costs; empty of none."""

    project: str
    amount: str


@answer
class Forecast:
    """What the month may come to before credits and tax, and how that is worked out."""

    usage: str
    fees: str
    net: str
    method: str


@answer
class Owed:
    """What an organization owes now. `used` is exact and not invoiced yet; `total` and `due` are those of the invoice that would be
    made now; `open` and `overdue` are of invoices that were made."""

    organization_id: str
    currency: str
    as_of: Moment
    period: str
    used: str
    products: list[ProductShare]
    projects: list[ProjectCost]
    credits: list[InvoiceCredit]
    net: str
    taxes: list[InvoiceTax]
    total: str
    prepaid: list[InvoiceCredit]
    due: str
    open: str
    overdue: str
    owed_back: str
    credit_left: str
    forecast: Forecast | None
    next_invoice_at: Moment


@answer
class InvoiceList:
    """A page of the invoices of an organization, the newest first."""

    invoices: list[Invoice]
    next: str | None


@answer
class InvoiceMade:
    """The invoice, and the credit note of months that come to less than was invoiced; null where there was nothing."""

    invoice: Invoice | None
    credit_note: CreditNote | None


@answer
class PeriodClosed:
    """The month, whether this call closed it, its invoice if there was anything to invoice, and the credit note beside it."""

    period: str
    closed_now: bool
    invoice: Invoice | None
    credit_note: CreditNote | None
