"""Wire types of plans and of the subscriptions to them. Amounts are exact decimals as text."""

from __future__ import annotations

from dataclasses import field
from typing import Annotated, Any

from annotated_types import Interval, MaxLen, MinLen

from sublet.values.moments import Moment
from sublet.values.wire import LINE, Amount, Flag, Whole, answer, body

PIECES_MAX = 1_000_000
_PlanId = Annotated[str, MinLen(1), MaxLen(80), LINE]
_Pieces = Annotated[Whole, Interval(ge=0, le=PIECES_MAX)]


@body
class WantedAddOn:
    """An add-on of the plan, and how many of it."""

    id: Annotated[str, MinLen(1), MaxLen(30), LINE]
    quantity: Annotated[Whole, Interval(ge=1, le=PIECES_MAX)] = 1


@body
class WantedCoupon:
    """A reduction until a moment or for good: `percent` of all fixed amounts (and, if it `covers_usage`, of usage), or `amount` of
    each period's base amount."""

    name: Annotated[str, MinLen(1), MaxLen(60), LINE]
    percent: Amount | None = None
    amount: Amount | None = None
    until: Moment | None = None
    covers_usage: Flag = False


@body
class NewPlanSubscription:
    """A subscription of an organization to the newest version of a plan, from `at` on (by default, from the start of its day).
    With `preview`, nothing is written."""

    organization_id: Annotated[str, MaxLen(40), LINE]
    plan_id: _PlanId
    seats: _Pieces = 0
    add_ons: Annotated[list[WantedAddOn], MaxLen(50)] = field(default_factory=list)
    coupon: WantedCoupon | None = None
    at: Moment | None = None
    trial_days: Annotated[Whole, Interval(ge=0, le=366)] | None = None
    preview: Flag = False


@body
class PlanChange:
    """What is to change in a subscription, from `at` on (by default, from the start of the customer's day). What is left out stays
    as it is. With `preview`, nothing is written."""

    plan_id: _PlanId | None = None
    seats: _Pieces | None = None
    add_ons: Annotated[list[WantedAddOn], MaxLen(50)] | None = None
    coupon: WantedCoupon | None = None
    drop_coupon: Flag = False
    at: Moment | None = None
    preview: Flag = False


@body
class PlanEnd:
    """When a subscription ends; by default, with its current period, or with its trial. With `withdraw`, an end that is still ahead is
    withdrawn. With `preview`, nothing is written."""

    at: Moment | None = None
    withdraw: Flag = False
    preview: Flag = False


@answer
class PlanAddOn:
    """What can be added to a plan, at an amount for each piece and period."""

    id: str
    name: str
    amount: str


@answer
class PricingPlan:
    """The newest version of a plan. Amounts are for each `every` (month or year); `usage` has what is included in each month, and the
    price beyond it."""

    id: str
    version: int
    name: str
    currency: str
    every: str
    begins: str
    amount: str
    seat_amount: str | None
    trial_days: int
    for_sale: bool
    usage: list[dict[str, Any]]
    add_ons: list[PlanAddOn]


@answer
class PlanList:
    """A page of plans."""

    plans: list[PricingPlan]
    next: str | None = None


@answer
class PlanCoupon:
    """A reduction of a subscription."""

    name: str
    percent: str
    amount: str
    until: str | None
    covers_usage: bool


@answer
class AddOnOfSubscription:
    """An add-on, and how many of it."""

    id: str
    quantity: int


@answer
class PlanState:
    """What a customer is subscribed to from `at` on. A `withdrawn` state was scheduled, and never begins."""

    number: int
    at: str
    plan_id: str
    plan_version: int
    seats: int
    add_ons: list[AddOnOfSubscription]
    coupon: PlanCoupon | None
    withdrawn: bool


@answer
class PlanSubscription:
    """A subscription as it is now, and its changes. `this_month` and `next_month` are what its fixed amounts come to in these calendar
    months, before tax."""

    id: str
    organization_id: str
    plan_id: str
    plan_version: int
    plan_name: str
    currency: str
    status: str
    seats: int
    add_ons: list[AddOnOfSubscription]
    coupon: PlanCoupon | None
    started_at: str
    charged_from: str
    ends_at: str | None
    period_start: str
    period_end: str
    this_month: str
    next_month: str
    changes: list[PlanState]


@answer
class PlanSubscriptionSummary:
    """A subscription as it is now."""

    id: str
    organization_id: str
    plan_id: str
    plan_version: int
    plan_name: str
    currency: str
    status: str
    seats: int
    started_at: str
    charged_from: str
    ends_at: str | None
    period_end: str
    this_month: str
    next_month: str


@answer
class PlanSubscriptionList:
    """A page of subscriptions."""

    subscriptions: list[PlanSubscriptionSummary]
    next: str | None = None
