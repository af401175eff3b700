"""Money as it crosses the API: credits, payments, budgets, profiles, invoices."""

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
from sublet.ledger.payments.wire import NewRefund as NewRefund
from sublet.ledger.payments.wire import NewWriteOff as NewWriteOff
from sublet.ledger.payments.wire import Refund as Refund
from sublet.ledger.payments.wire import RefundList as RefundList
from sublet.ledger.payments.wire import UndoneNetting as UndoneNetting
from sublet.ledger.payments.wire import WriteOff as WriteOff
from sublet.ledger.prices.wire import RateCard as RateCard
from sublet.ledger.revenue.wire import Revenue as Revenue
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
    """A credit to give, once per `source_id`."""

    organization_id: OrganizationId
    amount: Amount
    kind: Annotated[str, MaxLen(20), LINE] = "promotional"
    reason: Annotated[str, MaxLen(500), LINE] = ""
    source_id: SourceId
    expires_at: Moment | None = None
    tax_mode: Literal["at_use", "at_payment"] = "at_use"


@body
class NewPayment:
    """Money received for an invoice."""

    amount: Amount
    source_id: SourceId


@body
class MistakenPayment:
    """A payment to take back, and why."""

    source_id: SourceId
    reason: Why


@body
class NewBudget:
    """A budget to set up: `scope` is organization, project or key, the last two with their `scope_id`."""

    organization_id: OrganizationId
    limit: Amount
    scope: Annotated[str, MaxLen(20), LINE] = "organization"
    scope_id: Annotated[str, MaxLen(80), LINE] = ""
    period: Annotated[str, MaxLen(10), LINE] = "month"
    hard: Flag = True
    thresholds: Annotated[list[Threshold], MaxLen(THRESHOLDS_MAX)] = field(default_factory=lambda: list(THRESHOLDS))


@body
class NewLimit:
    """What a budget allows from now on."""

    limit: Amount


@body
class BillingProfile:
    """What stands on invoices about the customer. `payment_days` stays as it is if left out; only the operator changes it."""

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
    """An invoice on demand: for everything up to the end of `period`, as reviewed in the draft with `digest`."""

    organization_id: OrganizationId
    period: Annotated[str, MaxLen(7), LINE] = ""
    digest: Annotated[str, MaxLen(64), LINE] = ""


@body
class Dismissal:
    """A waiting correction to put aside, and why."""

    source: Annotated[str, MaxLen(512), LINE]
    id: Annotated[str, MaxLen(256), LINE]
    reason: Why


@body
class Reason:
    """Why something is done."""

    reason: Why


@answer
class Budget:
    """At most `limit` in a period. A hard one refuses what would pass it; a soft one only raises alerts."""

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
    """A budget with what was spent and is held in its present period."""

    period_start: Moment
    spent: str
    held: str
    free: str


@answer
class BudgetList:
    """A page of the budgets of an organization, the oldest first."""

    budgets: list[BudgetState]
    next: str | None


@answer
class Balances:
    """Balances by account; debit is positive. Exact decimals as text."""

    balances: dict[str, str]


@answer
class Profile:
    """What stands on invoices about the customer."""

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
    """A credit and what is left of it; `tax_mode` is empty where it is not money received in advance."""

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
    """A page of the credits of an organization, the oldest first."""

    credits: list[CreditState]
    next: str | None


@answer
class RefusedEvent:
    """An event that was not taken: its place in the batch, and why."""

    index: int
    source: str
    id: str
    code: str
    message: str
    details: dict[str, Any]


@answer
class UsageTaken:
    """How many events were taken, how many were there already, and which were refused."""

    accepted: int
    duplicates: int
    refused: list[RefusedEvent]


@answer
class PriceBook:
    """Prices, discounts and commitments by the form of their entries (docs/prices.md), the version of the book, and the unit of
    each meter."""

    version: int
    units: dict[str, str]
    name: str
    prices: list[dict[str, Any]]
    discounts: list[dict[str, Any]]
    commitments: list[dict[str, Any]]


@answer
class BookFinding:
    """Something to look at in a price book: a gap, say, and where it is."""

    severity: str
    where: str
    message: str


@answer
class PricesPublished:
    """The version that holds from now on, and what was noticed in it."""

    version: int
    findings: list[BookFinding]
    built_in: list[str]


@answer
class ProofReport:
    """Whether everything derived again from the raw events is what the books say, and what is not."""

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
    """The newest proof that was kept."""

    proved_at: Moment


@answer
class WaitingEvent:
    """An event that is not rated yet, and why."""

    code: str
    reason: str
    organization: str
    source: str
    id: str


@answer
class BooksHealth:
    """How far rating is, the oldest events that wait, and the last proof."""

    events: int
    rated_to: int
    lines: int
    waiting_events: int
    waiting: list[WaitingEvent]
    last_proof: LastProof | None
    ok: bool


@answer
class EventName:
    """An event by its source and id."""

    source: str
    id: str


@answer
class DismissedEvent:
    """A correction that was put aside for good, and why."""

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
    """A page of what was put aside, the newest first."""

    dismissed: list[DismissedEvent]
    next: str | None


@answer
class Movement:
    """A change of what is owed."""

    transaction: int
    booked_at: Moment
    kind: str
    text: str
    amount: str
    balance: str


@answer
class Statement:
    """What an organization owed at the start of a month, what changed it, and what it owed at the end."""

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
    """A page of what each organization owes: in `total`, and for each age in days past due (`current`, `1-30`, …), less what is
    owed back to it and pays no invoice yet (`unapplied`)."""

    receivables: list[dict[str, str]]
    next: str | None


@answer
class PeriodsClosed:
    """A month that was closed for every organization in whose time zone it is over, and the invoices made by this call."""

    period: str
    closed_now: int
    invoices: list[str]


@answer
class RatingReport:
    """What a run of rating did."""

    rated: int
    waiting: int
    transactions: int


@answer
class RerateReport(RatingReport):
    """What rerating a month did; `left` counts the events that keep their earlier price, and `left_events` are the first ones."""

    left: int
    left_events: list[dict[str, str]]
