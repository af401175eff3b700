"""Routes of plans and of the subscriptions to them."""

from dataclasses import fields
from decimal import Decimal
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.concurrency import run_in_threadpool

from sublet.accounts.conditions import Tagged, changed, if_match, shown
from sublet.accounts.model import Actor, Require
from sublet.ledger.plans import wire
from sublet.ledger.plans.model import PLAN_BYTES_MAX, Coupon, plan_from_toml
from sublet.ledger.plans.service import Wanted
from sublet.ledger.service import Ledger
from sublet.store.once import Effect
from sublet.store.paging import PageRequest, page_request
from sublet.values.errors import InvalidInputError
from sublet.values.etags import Condition
from sublet.values.wire import as_answer

Seen = Annotated[Condition, Depends(if_match)]
_PLAN_BODY = {
    "requestBody": {
        "required": True,
        "description": "A plan.",
        "content": {"application/toml": {"schema": {"type": "string", "maxLength": PLAN_BYTES_MAX}}},
    }
}
_SUMMARY = tuple(field.name for field in fields(wire.PlanSubscriptionSummary))


def plan_routes(routes: APIRouter, ledger: Ledger, require: Require) -> None:
    """Plans are read by everybody who reads prices; subscriptions by whose they are. The operator writes both."""
    reader = Annotated[Actor, Depends(require("prices:read"))]
    paged = Annotated[PageRequest, Depends(page_request)]
    writes = Depends(require("prices:write", effect=Effect(dict, dict)))

    @routes.get("/v1/pricing-plans", dependencies=[Depends(require("prices:read"))])
    def list_plans(page: paged) -> wire.PlanList:
        """List the newest version of each plan."""
        return as_answer(wire.PlanList, ledger.plans.plans(page).as_dict("plans"))

    @routes.get("/v1/pricing-plans/{plan_id}", dependencies=[Depends(require("prices:read"))])
    def read_plan(plan_id: str) -> wire.PricingPlan:
        """Show the newest version of a plan."""
        return as_answer(wire.PricingPlan, ledger.plans.plan(plan_id))

    @routes.post("/v1/pricing-plans", status_code=201, dependencies=[writes], openapi_extra=_PLAN_BODY)
    async def publish_plan(request: Request) -> wire.PricingPlan:
        """Publish a plan (TOML), or a new version of it. Existing subscriptions keep their version."""
        body = await request.body()
        if len(body) > PLAN_BYTES_MAX:
            raise InvalidInputError(f"a plan has at most {PLAN_BYTES_MAX} bytes")
        try:
            plan = plan_from_toml(body.decode(), "the body")
        except UnicodeDecodeError as error:
            raise InvalidInputError("a plan is UTF-8 text") from error
        return as_answer(wire.PricingPlan, await run_in_threadpool(ledger.plans.publish, plan))

    @routes.get("/v1/plan-subscriptions")
    def list_plan_subscriptions(actor: reader, page: paged, organization_id: str = "") -> wire.PlanSubscriptionList:
        """List the subscriptions to plans of an organization, newest first; for the operator, of all."""
        owner = "" if actor.everywhere and not organization_id else actor.whose(organization_id)
        found = ledger.plans.subscriptions(owner, page).map(lambda one: {name: one[name] for name in _SUMMARY})
        return as_answer(wire.PlanSubscriptionList, found.as_dict("subscriptions"))

    @routes.post("/v1/plan-subscriptions", status_code=201, dependencies=[writes])
    def subscribe_to_plan(body: wire.NewPlanSubscription) -> wire.PlanSubscription:
        """Subscribe an organization to a plan. Its fees and prices appear in the organization's rate card."""
        wanted = Wanted(
            body.plan_id, body.seats, _add_ons(body.add_ons), _coupon(body.coupon), False, body.at, body.trial_days
        )
        made = ledger.plans.subscribe(body.organization_id, wanted, preview=body.preview)
        return as_answer(wire.PlanSubscription, made)

    @routes.get("/v1/plan-subscriptions/{subscription_id}")
    def read_plan_subscription(request: Request, subscription_id: str, actor: reader) -> Tagged[wire.PlanSubscription]:
        """Show a subscription to a plan: what it has now, what it costs, and its changes."""
        found = ledger.plans.subscription(subscription_id, None if actor.everywhere else actor.organization_id)
        return shown(request, wire.PlanSubscription, found, _state(found))

    @routes.post("/v1/plan-subscriptions/{subscription_id}/change", dependencies=[writes])
    def change_plan_subscription(
        subscription_id: str, body: wire.PlanChange, seen: Seen
    ) -> Tagged[wire.PlanSubscription]:
        """Change a subscription from a moment on: its plan, seats, add-ons or coupon. Amounts are prorated."""
        add_ons = None if body.add_ons is None else _add_ons(body.add_ons)
        wanted = Wanted(body.plan_id, body.seats, add_ons, _coupon(body.coupon), body.drop_coupon, body.at)
        made = ledger.plans.change(subscription_id, wanted, seen, preview=body.preview)
        return changed(wire.PlanSubscription, made, _state(made))

    @routes.post("/v1/plan-subscriptions/{subscription_id}/end", dependencies=[writes])
    def end_plan_subscription(subscription_id: str, body: wire.PlanEnd, seen: Seen) -> Tagged[wire.PlanSubscription]:
        """End a subscription, by default with its current period, or withdraw an end that is still ahead."""
        made = ledger.plans.end(subscription_id, body.at, seen, withdraw=body.withdraw, preview=body.preview)
        return changed(wire.PlanSubscription, made, _state(made))


def _add_ons(wanted: list[wire.WantedAddOn]) -> list[tuple[str, int]]:
    return [(one.id, one.quantity) for one in wanted]


def _coupon(wanted: wire.WantedCoupon | None) -> Coupon | None:
    if wanted is None:
        return None
    percent, amount = Decimal(wanted.percent or 0), Decimal(wanted.amount or 0)
    return Coupon(wanted.name, percent, amount, wanted.until, wanted.covers_usage)


def _state(found: dict[str, Any]) -> list[Any]:
    return [found["id"], found["ends_at"], found["changes"]]
