"""Wire types of credits, payments, budgets, billing profiles, prices and the books."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any, Literal

from annotated_types import Interval, MaxLen, MinLen

from sublet.ledger.invoices.wire import CreditNote as CreditNote
from sublet.ledger.invoices.wire import CreditNoteList as CreditNoteList
from sublet.ledger.invoices.wire import Invoice as Invoice
from sublet.ledger.invoices.wire import InvoiceDraft as InvoiceDraft
from sublet.ledger.invoices.wire import InvoiceList as InvoiceList
from sublet.ledger.invoices.wire import InvoiceMade as InvoiceMade
from sublet.ledger.invoices.wire import NewCreditNote as NewCreditNote
from sublet.ledger.invoices.wire import Owed as Owed
from sublet.ledger.invoices.wire import PeriodClosed as PeriodClosed
from sublet.ledger.payments.wire import DepositReturn as DepositReturn
from sublet.ledger.payments.wire import DepositReturned as DepositReturned
from sublet.ledger.payments.wire import Netting as Netting
from sublet.ledger.payments.wire import NewNetting as NewNetting
from sublet.ledger.payments.wire import NewReceipt as NewReceipt
from sublet.ledger.payments.wire import NewRefund as NewRefund
from sublet.ledger.payments.wire import NewWriteOff as NewWriteOff
from sublet.ledger.payments.wire import Receipt as Receipt
from sublet.ledger.payments.wire import ReceiptList as ReceiptList
from sublet.ledger.payments.wire import ReceiptSummary as ReceiptSummary
from sublet.ledger.payments.wire import Refund as Refund
from sublet.ledger.payments.wire import RefundList as RefundList
from sublet.ledger.payments.wire import UndoneNetting as UndoneNetting
from sublet.ledger.payments.wire import WriteOff as WriteOff
from sublet.ledger.plans.wire import NewPlanSubscription as NewPlanSubscription
from sublet.ledger.plans.wire import PlanChange as PlanChange
from sublet.ledger.plans.wire import PlanEnd as PlanEnd
from sublet.ledger.plans.wire import PlanList as PlanList
from sublet.ledger.plans.wire import PlanSubscription as PlanSubscription
from sublet.ledger.plans.wire import PlanSubscriptionList as PlanSubscriptionList
from sublet.ledger.plans.wire import PlanSubscriptionSummary as PlanSubscriptionSummary
from sublet.ledger.plans.wire import PricingPlan as PricingPlan
from sublet.ledger.prices.wire import RateCard as RateCard
from sublet.ledger.proof.wire import Checklist as Checklist
from sublet.ledger.revenue.wire import Revenue as Revenue
from sublet.ledger.revenue.wire import RevenueBreakdown as RevenueBreakdown
from sublet.ledger.revenue.wire import RevenueShare as RevenueShare
from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Amount, Flag, Whole, answer, body

THRESHOLDS = (50, 80, 100)
THRESHOLDS_MAX = 10

OrganizationId = Annotated[str, MaxLen(40), LINE]
SourceId = Annotated[str, MaxLen(200), LINE]
Why = Annotated[str, MinLen(1), MaxLen(500), LINES]
Threshold = Annotated[Whole, Interval(ge=1, le=1_000)]
ProfileText = Annotated[str, MaxLen(500), LINE]


@body
class NewCredit:
    """A credit to grant, once for each `source_id`."""

    organization_id: OrganizationId
    amount: Amount
    kind: Annotated[str, MaxLen(20), LINE] = "promotional"
    reason: Annotated[str, MaxLen(500), LINE] = ""
    source_id: SourceId
    expires_at: Moment | None = None
    tax_mode: Literal["at_use", "at_payment"] = "at_use"


@body
class NewPayment:
    """A payment that was received for an invoice."""

    amount: Amount
    source_id: SourceId


@body
class MistakenPayment:
    """A payment to reverse, and the reason."""

    source_id: SourceId
    reason: Why


@body
class NewBudget:
    """A budget to create. `scope` is `organization`, `project` or `key`. The last two need `scope_id`. `kind` is `budget`, or
    `credit` for a credit limit: a limit on unpaid invoices, usage that is not invoiced yet and reservations together, less
    prepaid money and credits. It is hard, for the whole organization, and never resets."""

    organization_id: OrganizationId
    limit: Amount
    scope: Annotated[str, MaxLen(20), LINE] = "organization"
    scope_id: Annotated[str, MaxLen(80), LINE] = ""
    period: Annotated[str, MaxLen(10), LINE] = "month"
    kind: Literal["budget", "credit"] = "budget"
    hard: Flag = True
    thresholds: Annotated[list[Threshold], MaxLen(THRESHOLDS_MAX)] = field(default_factory=lambda: list(THRESHOLDS))


@body
class NewLimit:
    """The new limit of a budget."""

    limit: Amount


@body
class BillingProfile:
    """The customer details on invoices. If `payment_days` is left out, it stays the same. Only the operator can change it."""

    legal_name: ProfileText = ""
    address: Annotated[str, MaxLen(500), LINES] = ""
    country: Annotated[str, MaxLen(2), LINE] = ""
    tax_number: ProfileText = ""
    email: ProfileText = ""
    payment_days: Annotated[Whole, Interval(ge=0, le=365)] | None = None
    street: ProfileText = ""
    postcode: ProfileText = ""
    city: ProfileText = ""
    vat_id: Annotated[str, MaxLen(20), LINE] = ""
    iban: Annotated[str, MaxLen(40), LINE] = ""
    bic: Annotated[str, MaxLen(11), LINE] = ""
    reference: ProfileText = ""
    language: Annotated[str, MaxLen(10), LINE] = ""


@body
class NewInvoice:
    """An invoice to create on demand, for everything up to the end of `period`. With `digest`, the invoice must match the
    draft that was reviewed."""

    organization_id: OrganizationId
    period: Annotated[str, MaxLen(7), LINE] = ""
    digest: Annotated[str, MaxLen(64), LINE] = ""


@body
class Dismissal:
    """A waiting correction to dismiss, and the reason."""

    source: Annotated[str, MaxLen(512), LINE]
    id: Annotated[str, MaxLen(256), LINE]
    reason: Why


@body
class Reason:
    """The reason for an operation."""

    reason: Why


@answer
class Budget:
    """A spending limit for each period. A hard budget refuses anything above the limit. A soft budget only sends alerts."""

    id: str
    organization_id: str
    scope: str
    scope_id: str
    period: str
    kind: str
    limit: str
    hard: bool
    thresholds: list[int]


@answer
class BudgetState(Budget):
    """A budget with what was spent and what is reserved (`held`) in the current period. For a credit limit, `spent` is what is owed
    and what is not invoiced yet, less prepaid money and credits."""

    period_start: Moment
    spent: str
    held: str
    free: str


@answer
class BudgetList:
    """A page of an organization's budgets, oldest first."""

    budgets: list[BudgetState]
    next: str | None


@answer
class Balances:
    """The balance of each account, as exact decimals. Debits are positive."""

    balances: dict[str, str]


@answer
class Profile:
    """The customer details on invoices."""

    legal_name: str
    address: str
    country: str
    tax_number: str
    email: str
    payment_days: int
    street: str
    postcode: str
    city: str
    vat_id: str
    iban: str
    bic: str
    reference: str
    language: str


@answer
class CreditState:
    """A credit and what is left of it. `tax_mode` is set only for money that was received in advance."""

    id: str
    organization_id: str
    kind: str
    source_id: str
    reason: str
    amount: str
    remaining: str
    granted_at: Moment
    starts_at: Moment
    tax_mode: str
    expires_at: Moment | None


@answer
class CreditList:
    """A page of an organization's credits, oldest first."""

    credits: list[CreditState]
    next: str | None


@answer
class RefusedEvent:
    """An event that was refused: its position in the batch, and the reason."""

    index: int
    source: str
    id: str
    code: str
    message: str
    details: dict[str, Any]


@answer
class UsageTaken:
    """How many events were recorded, how many were duplicates, and which were refused."""

    accepted: int
    duplicates: int
    refused: list[RefusedEvent]


@answer
class PriceBook:
    """A price book: its version, prices, discounts and commitments as in its file (docs/ledger.md), and the unit of each
    meter."""

    version: int
    units: dict[str, str]
    name: str
    prices: list[dict[str, Any]]
    discounts: list[dict[str, Any]]
    commitments: list[dict[str, Any]]


@answer
class BookFinding:
    """A finding in a price book, such as a gap, and where it is."""

    severity: str
    where: str
    message: str


@answer
class PricesPublished:
    """The new version of the price book, and findings in it."""

    version: int
    findings: list[BookFinding]
    built_in: list[str]


@answer
class ProofReport:
    """Whether the books match a recomputation from the raw events, and where they differ."""

    subject: str
    ok: bool
    difference: str
    events: int
    lines: int
    transactions: int
    invoices: int
    notes: int
    first_difference: str | None
    findings: list[str]


@answer
class LastProof(ProofReport):
    """The last proof that was stored."""

    proved_at: Moment


@answer
class WaitingEvent:
    """An event that is not rated yet, and the reason."""

    code: str
    reason: str
    organization: str
    source: str
    id: str


@answer
class BooksHealth:
    """How far rating has progressed, the oldest waiting events, and the last proof."""

    events: int
    rated_to: int
    lines: int
    waiting_events: int
    waiting: list[WaitingEvent]
    last_proof: LastProof | None
    ok: bool


@answer
class EventName:
    """The source and id of an event."""

    source: str
    id: str


@answer
class DismissedEvent:
    """A dismissed correction, and the reason."""

    transaction: int
    dismissed_at: Moment
    organization_id: str
    kind: str
    source: str
    id: str
    corrects: EventName
    reason: str


@answer
class DismissedList:
    """A page of dismissed corrections, newest first."""

    dismissed: list[DismissedEvent]
    next: str | None


@answer
class Movement:
    """A change of what an organization owes."""

    transaction: int
    booked_at: Moment
    kind: str
    text: str
    amount: str
    balance: str


@answer
class Statement:
    """What an organization owed at the start of a month, every movement, and what it owed at the end."""

    organization_id: str
    name: str
    currency: str
    period: str
    opening: str
    movements: list[Movement]
    closing: str
    owed_back: str


@answer
class ReceivableList:
    """A page of receivables by organization: the `total`, and the amount for each age in days past due (`current`, `1-30`, and
    so on). What is owed to the customer and not yet applied to an invoice (`unapplied`) is subtracted."""

    receivables: list[dict[str, str]]
    next: str | None


@answer
class PeriodsClosed:
    """A month that was closed for every organization in whose time zone it is over, and the invoices that this call created."""

    period: str
    closed_now: int
    invoices: list[str]


@answer
class RatingReport:
    """The result of a rating run."""

    rated: int
    waiting: int
    transactions: int


@answer
class RerateReport(RatingReport):
    """The result of rerating a month. `left` is the number of events that keep their earlier price, and `left_events` lists
    the first of them."""

    left: int
    left_events: list[dict[str, str]]
