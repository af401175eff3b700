"""The SQL of plans and of the subscriptions to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, insert, select, update

from sublet.ledger.plans.model import Plan, State, Subscription, plan_from_dict
from sublet.store.paging import Listing, Page, PageRequest
from sublet.store.tables.ledger_sales import plan_subscriptions, plans
from sublet.values.clock import format_time
from sublet.values.errors import NotFoundError

_PLANS = Listing("plans", (plans.c.plan_id,))
_SUBSCRIPTIONS = Listing(
    "plan_subscriptions", (plan_subscriptions.c.created_at, plan_subscriptions.c.id), descending=True
)


def publish(connection: Connection, plan: Plan, now: datetime) -> Plan:
    """Make `plan` the newest version of its id, unless it is already. The caller holds the plan's lock."""
    row = connection.execute(select(plans).where(plans.c.plan_id == plan.id, plans.c.newest.is_(True))).first()
    if row is not None and row.sha256 == plan.sha256:
        return _plan(row)
    made = replace(plan, version=row.version + 1 if row is not None else 1)
    connection.execute(update(plans).where(plans.c.plan_id == plan.id).values(newest=False))
    values = {"plan_id": made.id, "version": made.version, "content": made.content, "sha256": made.sha256}
    connection.execute(insert(plans).values(**values, published_at=now, newest=True))
    return made


def newest(connection: Connection, plan_id: str) -> Plan:
    """Raises NotFoundError."""
    row = connection.execute(select(plans).where(plans.c.plan_id == plan_id, plans.c.newest.is_(True))).first()
    if row is None:
        raise NotFoundError(f"there is no plan {plan_id!r}; `sublet subscription plans` lists them")
    return _plan(row)


def version(connection: Connection, plan_id: str, number: int) -> Plan:
    """The version of a plan that a subscription names."""
    query = select(plans).where(plans.c.plan_id == plan_id, plans.c.version == number)
    return _plan(connection.execute(query).one())


def plans_page(connection: Connection, wanted: PageRequest) -> Page[Plan]:
    """The newest version of each plan, by id. Raises InvalidCursorError."""
    return _PLANS.read(connection, select(plans).where(plans.c.newest.is_(True)), wanted).map(_plan)


def _plan(row: Row[Any]) -> Plan:
    return plan_from_dict(row.content, f"plan {row.plan_id}", row.version)


def subscription(connection: Connection, subscription_id: str, organization_id: str | None) -> Subscription:
    """Of any organization, or only of one. Raises NotFoundError."""
    query = select(plan_subscriptions).where(plan_subscriptions.c.id == subscription_id)
    if organization_id is not None:
        query = query.where(plan_subscriptions.c.organization_id == organization_id)
    row = connection.execute(query).first()
    if row is None:
        raise NotFoundError(f"there is no subscription {subscription_id!r}; `sublet subscription ls` lists them")
    return _subscription(row)


def subscriptions_page(connection: Connection, organization_id: str, wanted: PageRequest) -> Page[Subscription]:
    """Newest first, of one organization or of all. Raises InvalidCursorError."""
    query = select(plan_subscriptions)
    if organization_id:
        query = query.where(plan_subscriptions.c.organization_id == organization_id)
    return _SUBSCRIPTIONS.read(connection, query, wanted).map(_subscription)


def _subscription(row: Row[Any]) -> Subscription:
    states = tuple(State.of(raw) for raw in row.states)
    names = ("id", "organization_id", "started_at", "charged_from", "anchor", "ends_at", "created_at")
    return Subscription(**{name: getattr(row, name) for name in names}, states=states)


def insert_subscription(connection: Connection, made: Subscription) -> None:
    """Store a new subscription."""
    names = ("id", "organization_id", "started_at", "charged_from", "anchor", "ends_at", "created_at")
    values = {name: getattr(made, name) for name in names}
    connection.execute(insert(plan_subscriptions).values(**values, states=[one.as_dict() for one in made.states]))


def update_subscription(connection: Connection, made: Subscription) -> None:
    """Store the states and the end of a subscription. The caller holds its lock."""
    values = {"ends_at": made.ends_at, "states": [one.as_dict() for one in made.states]}
    connection.execute(update(plan_subscriptions).where(plan_subscriptions.c.id == made.id).values(**values))


def state_of(found: Subscription) -> Any:
    """What tells one state of a subscription from every other, for entity tags."""
    ends = format_time(found.ends_at) if found.ends_at else None
    return [found.id, ends, [one.as_dict() for one in found.states]]
