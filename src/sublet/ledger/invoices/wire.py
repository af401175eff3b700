"""Wire types of invoices and credit notes. Amounts are exact decimals as text."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated

from annotated_types import MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Amount, Flag, answer, body

NOTED_LINES_MAX = 1_000


@body
class NotedLine:
    """A line to credit, by its position or id. `amount` is net; by default, it is everything that is left of the line."""

    line: Annotated[str, MinLen(1), MaxLen(40), LINE]
    amount: Amount | None = None


@body
class NewCreditNote:
    """A credit note to create for `lines`, for a gross `amount`, or, without either, for everything that is left. With
    `preview`, nothing is written. With `digest`, the credit note must match the preview that was reviewed."""

    reason: Annotated[str, MinLen(1), MaxLen(500), LINES]
    lines: Annotated[list[NotedLine], MaxLen(NOTED_LINES_MAX)] = field(default_factory=list)
    amount: Amount | None = None
    preview: Flag = False
    digest: Annotated[str, MaxLen(64), LINE] = ""


@answer
class InvoiceParty:
    """The issuer of an invoice. `address` has what is not in street, postcode and city."""

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
    """The customer of an invoice. `reference` is the customer's own reference, such as a purchase order."""

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
    """Usage or a commitment at one price. `used` and `booked` are months."""

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
    """A credit and the amount that it deducts."""

    credit: str
    kind: str
    reason: str
    amount: str


@answer
class InvoiceTax:
    """A tax on the net amount. `category` (UNCL 5305) and `reason` are set if the tax calculator provides them."""

    name: str
    percent: str
    amount: str
    category: str = ""
    reason: str = ""


@answer
class ProjectShare:
    """A project's share of a line: its usage and cost."""

    project: str
    quantity: str
    amount: str


@answer
class LineDetail:
    """The details of a line: the first and last time of use, the resources that were used, and the share of each project."""

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
    """An invoice that a credit note reduces: by how much net and tax, and how much of that was still unpaid."""

    id: str
    invoice: str
    issued_at: Moment
    net: str
    tax: str
    total: str
    receivable: str


@answer
class CreditNote:
    """A reduction of invoices. Amounts are in the customer's favor. Of the total, `receivable` reduces what is open, `prepaid`
    returns to deposits, and `balance` is owed to the customer. `digest` identifies these exact contents."""

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
    """A page of an organization's credit notes, newest first."""

    credit_notes: list[CreditNote]
    next: str | None


@answer
class InvoiceDraft:
    """The contents of an invoice. `digest` identifies these exact contents. Amounts are exact decimals as text."""

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
    """A final invoice: what was paid, credited, netted and written off, what is open, and the transaction that posted it."""

    due_at: Moment
    transaction: int
    paid: str
    credited: str
    netted: str
    written_off: str
    open: str


@answer
class ProductShare:
    """The cost of a product."""

    product: str
    amount: str


@answer
class ProjectCost:
    """The cost of a project. `project` is empty for usage without a project."""

    project: str
    amount: str


@answer
class Forecast:
    """A forecast for the month, before credits and tax, and the method behind it."""

    usage: str
    fees: str
    net: str
    method: str


@answer
class Owed:
    """What an organization owes now. `used` is exact usage that is not invoiced yet. `total` and `due` are those of an invoice
    created now. `open` and `overdue` are those of existing invoices."""

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
    """A page of an organization's invoices, newest first."""

    invoices: list[Invoice]
    next: str | None


@answer
class InvoiceMade:
    """The new invoice, and the credit note for months that cost less than was invoiced. Each is null if there is nothing to
    bill or credit."""

    invoice: Invoice | None
    credit_note: CreditNote | None


@answer
class PeriodClosed:
    """The month, whether this call closed it, its invoice, and the credit note. Each document is null if there is nothing to
    bill or credit."""

    period: str
    closed_now: bool
    invoice: Invoice | None
    credit_note: CreditNote | None
