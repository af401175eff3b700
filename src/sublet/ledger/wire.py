"""Money as it crosses the API: credits, payments, budgets, profiles, invoices."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Literal

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, LINES, Amount, Flag, Whole, answer, body

THRESHOLDS = (50, 80, 100)
THRESHOLDS_MAX = 10

OrganizationId = Annotated[str, MaxLen(40), LINE]
SourceId = Annotated[str, MaxLen(200), LINE]
Why = Annotated[str, MinLen(1), MaxLen(500), LINES]
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
    thresholds: Annotated[list[Annotated[Whole, Interval(ge=1, le=1_000)]], MaxLen(THRESHOLDS_MAX)] = field(
        default_factory=lambda: list(THRESHOLDS)
    )
    webhook_url: Annotated[str, MaxLen(2000), LINE] = ""
    webhook_secret: Annotated[str, MaxLen(200), LINE] = ""
    email: Annotated[str, MaxLen(320), LINE] = ""


@body
class NewLimit:
    """What a budget allows from now on."""

    limit: Amount


@body
class BillingProfile:
    """What stands on invoices about the customer."""

    legal_name: ProfileText = ""
    address: Annotated[str, MaxLen(500), LINES] = ""
    country: Annotated[str, MaxLen(2), LINE] = ""
    tax_number: ProfileText = ""
    email: ProfileText = ""
    payment_days: Annotated[Whole, Interval(ge=0, le=365)] = 30


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
    webhook_url: str
    email: str


@answer
class BudgetState(Budget):
    """A budget with what was spent and is held in its present period."""

    period_start: Moment
    spent: str
    held: str
    free: str


@answer
class BudgetList:
    """The budgets of an organization."""

    budgets: list[BudgetState]


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
