"""The use cases of plans: publish one, subscribe a customer, change and end a subscription."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from sublet.ledger.invoices.previews import rehearsed
from sublet.ledger.model import Party, amount_text
from sublet.ledger.periods import MONTH, YEAR, anchored, following, month_of
from sublet.ledger.plans import store as rows
from sublet.ledger.plans.compiling import Plans as Known
from sublet.ledger.plans.compiling import compiled
from sublet.ledger.plans.model import CALENDAR, SEATS_MAX, Coupon, Plan, State, Subscription
from sublet.ledger.prices.cards import card_from_dict
from sublet.ledger.publishing import Publishing
from sublet.ledger.rating.fixed import fee_of
from sublet.ledger.usage.intake import Parties
from sublet.store import Store
from sublet.store.paging import Page, PageRequest
from sublet.values.clock import format_time
from sublet.values.errors import ConflictError, InvalidInputError
from sublet.values.etags import ANY_STATE, Condition
from sublet.values.ids import new_id

AHEAD_MAX = timedelta(days=366)
"""How far ahead a start or a change may lie."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted of a subscription; None leaves something as it is, or as the plan has it."""

    plan_id: str | None = None
    seats: int | None = None
    add_ons: Sequence[tuple[str, int]] | None = None
    coupon: Coupon | None = None
    drop_coupon: bool = False
    at: datetime | None = None
    trial_days: int | None = None


class PlanSales:
    """Plans and the subscriptions to them. What a subscription costs stands in its customer's rate card."""

    def __init__(self, store: Store, parties: Parties, publishing: Publishing) -> None:
        self._store = store
        self._parties = parties
        self._publishing = publishing

    def publish(self, plan: Plan) -> dict[str, Any]:
        """Publish a plan or a new version of it. Subscriptions keep the version that they have. Raises InvalidInputError."""
        return self._store.write(lambda connection: self._publish(connection, plan))

    def _publish(self, connection: Connection, plan: Plan) -> dict[str, Any]:
        self._store.lock(connection, f"plan {plan.id}")
        return rows.publish(connection, plan, self._store.clock.now()).as_dict()

    def plans(self, wanted: PageRequest) -> Page[dict[str, Any]]:
        """The newest version of each plan, by id."""
        with self._store.read() as connection:
            return rows.plans_page(connection, wanted).map(lambda plan: plan.as_dict())

    def plan(self, plan_id: str) -> dict[str, Any]:
        """The newest version of a plan. Raises NotFoundError."""
        with self._store.read() as connection:
            return rows.newest(connection, plan_id).as_dict()

    def subscription(self, subscription_id: str, organization_id: str | None = None) -> dict[str, Any]:
        """A subscription, of any organization or only of one. Raises NotFoundError."""
        with self._store.read() as connection:
            found = rows.subscription(connection, subscription_id, organization_id)
            return self._shown(connection, found)

    def subscriptions(self, organization_id: str, wanted: PageRequest) -> Page[dict[str, Any]]:
        """Subscriptions, newest first, of one organization, or of all where it is empty."""
        with self._store.read() as connection:
            found = rows.subscriptions_page(connection, organization_id, wanted)
            return found.map(lambda one: self._shown(connection, one))

    def subscribe(self, organization_id: str, wanted: Wanted, *, preview: bool = False) -> dict[str, Any]:
        """Subscribe an organization to a plan, by default from the start of its local day. Raises NotFoundError, InvalidInputError,
        and the errors of publishing its rate card."""

        def write(connection: Connection) -> dict[str, Any]:
            now = self._store.clock.now()
            party = self._parties.get(connection, organization_id)
            plan = rows.newest(connection, wanted.plan_id or "")
            _ensure_for_sale(plan, party)
            start = self._moment(party, wanted.at, now)
            days = plan.trial_days if wanted.trial_days is None else wanted.trial_days
            charged = _days_later(start, days, party.timezone)
            anchor = _calendar_start(charged, plan.every, party.timezone) if plan.begins == CALENDAR else charged
            state = State(1, start, plan.id, plan.version, coupon=wanted.coupon)
            made = Subscription(
                new_id("pls"), party.id, start, charged, anchor, None, now, (_with(state, plan, wanted),)
            )
            rows.insert_subscription(connection, made)
            return self._put(connection, party, made)

        return self._done(write, preview=preview)

    def change(
        self, subscription_id: str, wanted: Wanted, seen: Condition = ANY_STATE, *, preview: bool = False
    ) -> dict[str, Any]:
        """Change a subscription from a moment on, by default from the start of the customer's local day: its plan, seats, add-ons or
        coupon. Changes that were scheduled for later are withdrawn. Raises as `subscribe`, ConflictError and
        PreconditionFailedError."""

        def write(connection: Connection) -> dict[str, Any]:
            now = self._store.clock.now()
            found = self._locked(connection, subscription_id, seen)
            party = self._parties.get(connection, found.organization_id)
            at = self._moment(party, wanted.at, now)
            if wanted.at is None:
                at = max([at, found.started_at, *(state.at for state in found.live if state.at <= now)])
            before = found.at(at)
            state = replace(before, at=at)
            if wanted.plan_id is not None and wanted.plan_id != before.plan_id:
                plan = rows.newest(connection, wanted.plan_id)
                _ensure_for_sale(plan, party)
                if (plan.every, plan.begins) != self._rhythm(connection, found):
                    raise InvalidInputError(
                        f"{plan.name} is billed in other periods; end this subscription and start one of {plan.id}",
                        field="plan_id",
                    )
                state = replace(state, plan_id=plan.id, plan_version=plan.version)
                if plan.seat_amount is None:
                    state = replace(state, seats=0)
            plan = rows.version(connection, state.plan_id, state.plan_version)
            if wanted.coupon is not None or wanted.drop_coupon:
                state = replace(state, coupon=wanted.coupon)
            made = found.changed(_with(state, plan, wanted), now)
            rows.update_subscription(connection, made)
            return self._put(connection, party, made)

        return self._done(write, preview=preview)

    def end(
        self,
        subscription_id: str,
        at: datetime | None,
        seen: Condition = ANY_STATE,
        *,
        withdraw: bool = False,
        preview: bool = False,
    ) -> dict[str, Any]:
        """End a subscription, by default with its current period, or with its trial; or `withdraw` an end that is still ahead. What is
        charged of a period that has begun is its part up to the end. Raises ConflictError and PreconditionFailedError."""

        def write(connection: Connection) -> dict[str, Any]:
            now = self._store.clock.now()
            found = self._locked(connection, subscription_id, seen)
            party = self._parties.get(connection, found.organization_id)
            if found.ends_at is not None and found.ends_at <= now:
                raise ConflictError(f"subscription {found.id} ended at {format_time(found.ends_at)}")
            if withdraw:
                made = replace(found, ends_at=None)
            else:
                ends = self._end_of_period(connection, found, party, now) if at is None else at
                ends = self._moment(party, ends, now)
                begun = max((state.at for state in found.live if state.at <= now), default=found.started_at)
                made = replace(found, ends_at=max(ends, begun))
            rows.update_subscription(connection, made)
            return self._put(connection, party, made)

        return self._done(write, preview=preview)

    def _done(self, write: Any, *, preview: bool) -> dict[str, Any]:
        found: dict[str, Any] = rehearsed(self._store, write) if preview else self._store.write(write)
        return found

    def _locked(self, connection: Connection, subscription_id: str, seen: Condition) -> Subscription:
        self._store.lock(connection, f"plan subscription {subscription_id}")
        found = rows.subscription(connection, subscription_id, None)
        seen.require(rows.state_of(found))
        return found

    def _rhythm(self, connection: Connection, found: Subscription) -> tuple[str, str]:
        first = found.states[0]
        plan = rows.version(connection, first.plan_id, first.plan_version)
        return plan.every, plan.begins

    def _moment(self, party: Party, at: datetime | None, now: datetime) -> datetime:
        """`at`, or the start of the local day. Raises InvalidInputError for a moment before this month, or too far ahead."""
        moment = _days_later(now, 0, party.timezone, midnight=True) if at is None else at
        first = month_of(now, party.timezone).start
        if not first <= moment <= now + AHEAD_MAX:
            raise InvalidInputError(
                f"{format_time(moment)} must be from the start of the month ({format_time(first)}) to a year ahead",
                field="at",
            )
        return moment

    def _end_of_period(self, connection: Connection, found: Subscription, party: Party, now: datetime) -> datetime:
        if now < found.charged_from:
            return found.charged_from
        state = found.at(now)
        return found.period(rows.version(connection, state.plan_id, state.plan_version), now, party.timezone).end

    def _put(self, connection: Connection, party: Party, found: Subscription) -> dict[str, Any]:
        plans = self._plans_of(connection, found)
        self._publishing.subscribed(connection, party, found.id, lambda known: compiled(found, plans, known))
        return self._shown(connection, found)

    def _plans_of(self, connection: Connection, found: Subscription) -> Known:
        used = {(state.plan_id, state.plan_version) for state in found.states}
        return {key: rows.version(connection, *key) for key in sorted(used)}

    def _shown(self, connection: Connection, found: Subscription) -> dict[str, Any]:
        """A subscription as the API shows it, with what its fixed amounts come to in this month and the next."""
        now = self._store.clock.now()
        party = self._parties.get(connection, found.organization_id)
        plans = self._plans_of(connection, found)
        state = found.at(now)
        plan = plans[state.plan_id, state.plan_version]
        entries = compiled(found, plans, frozenset())
        fees = card_from_dict(entries, party.id, found.id).fees if entries else ()
        month = month_of(now, party.timezone)
        months = (month, following(month, party.timezone))
        sums = [amount_text(sum(fee_of(fee, used) for fee in fees)) for used in months]
        period = found.period(plan, now, party.timezone)
        shown = state.as_dict()
        return {
            "id": found.id,
            "organization_id": party.id,
            "plan_id": plan.id,
            "plan_version": plan.version,
            "plan_name": plan.name,
            "currency": plan.currency,
            "status": found.status(now),
            "seats": state.seats,
            "add_ons": shown["add_ons"],
            "coupon": shown["coupon"],
            "started_at": format_time(found.started_at),
            "charged_from": format_time(found.charged_from),
            "ends_at": format_time(found.ends_at) if found.ends_at else None,
            "period_start": format_time(period.start),
            "period_end": format_time(period.end),
            "this_month": sums[0],
            "next_month": sums[1],
            "changes": [one.as_dict() for one in found.states],
        }


def _with(state: State, plan: Plan, wanted: Wanted) -> State:
    """`state` with the wanted seats and add-ons. Raises InvalidInputError for what the plan does not have."""
    if wanted.seats is not None:
        state = replace(state, seats=wanted.seats)
    if not 0 <= state.seats <= SEATS_MAX:
        raise InvalidInputError(f"seats must be from 0 to {SEATS_MAX:,}", field="seats")
    if state.seats and plan.seat_amount is None:
        raise InvalidInputError(f"plan {plan.id} has no price for seats; leave out seats", field="seats")
    if wanted.add_ons is not None:
        state = replace(state, add_ons=tuple(sorted(dict(wanted.add_ons).items())))
    for identifier, quantity in state.add_ons:
        plan.add_on(identifier)
        if not 1 <= quantity <= SEATS_MAX:
            raise InvalidInputError(f"the quantity of {identifier} must be from 1 to {SEATS_MAX:,}", field="add_ons")
    return state


def _ensure_for_sale(plan: Plan, party: Party) -> None:
    if not plan.for_sale:
        raise ConflictError(f"plan {plan.id} is not for sale any more")
    if plan.currency != party.currency:
        raise InvalidInputError(
            f"plan {plan.id} is in {plan.currency}, but {party.name} is billed in {party.currency}", field="plan_id"
        )


def _days_later(moment: datetime, days: int, timezone: str, *, midnight: bool = False) -> datetime:
    """So many local days later, at the same local time, or at the start of the day."""
    local = moment.astimezone(ZoneInfo(timezone))
    if midnight:
        local = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return (local + timedelta(days=days)).astimezone(UTC)


def _calendar_start(moment: datetime, every: str, timezone: str) -> datetime:
    """The start of the calendar's month or year that `moment` falls into."""
    month = month_of(moment, timezone)
    if every == MONTH:
        return month.start
    local = month.start.astimezone(ZoneInfo(timezone)).replace(month=1, fold=0)
    assert every == YEAR
    return next(anchored(local.astimezone(UTC), YEAR, moment, moment + timedelta(days=1), timezone)).start
