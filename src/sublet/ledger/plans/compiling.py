"""Compiles subscriptions into dated entries of their customers' rate cards: rating and the proof know nothing of plans.

Each part of a subscription (base, seats, an add-on, a meter) becomes one entry for the time in which its terms stay the same. Entries
that were published are never changed: they end, and what was scheduled and then withdrawn ends as it begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_DOWN, Decimal
from itertools import pairwise
from typing import Any

from sublet.ledger.periods import MONTH
from sublet.ledger.plans.model import CALENDAR, Plan, State, Subscription, price_entry
from sublet.values.clock import format_time

Plans = Mapping[tuple[str, int], Plan]
SECTIONS = ("prices", "discounts", "commitments")
PREFIX = "pls_"
"""How the ids of entries begin that subscriptions own."""
_NANO = Decimal("0.000000001")


@dataclass(frozen=True, slots=True)
class _Part:
    """What a part of a subscription comes to from a moment on, as an entry without its times."""

    section: str
    key: str
    starts: datetime
    ends: datetime | None
    terms: Mapping[str, Any]

    def continues(self, other: _Part) -> bool:
        """Whether `other` has the same terms, from when this one ends."""
        same = json.dumps(self.terms, sort_keys=True) == json.dumps(other.terms, sort_keys=True)
        return same and self.ends is not None and max(self.starts, self.ends) == other.starts


def compiled(subscription: Subscription, plans: Plans, known: frozenset[str]) -> dict[str, list[dict[str, Any]]]:
    """The entries of a subscription by section. `known` are the ids that the customer's card has: of withdrawn states only those
    are kept."""
    found: dict[str, dict[str, dict[str, Any]]] = {section: {} for section in SECTIONS}
    live = subscription.live
    runs: dict[str, tuple[str, _Part]] = {}
    ended = subscription.ends_at
    for state, following in pairwise([*live, None]):
        assert state is not None
        end = ended if following is None else following.at if ended is None else min(ended, following.at)
        for part in _parts(subscription, plans[state.plan_id, state.plan_version], state, end):
            before = runs.get(part.key)
            name = f"{subscription.id}-{state.number}-{part.key}"
            if before is not None and before[1].continues(part):
                name, part = before[0], replace(part, starts=before[1].starts)
            runs[part.key] = (name, part)
            found[part.section][name] = _entry(name, part)
    for state in subscription.states:
        if state.withdrawn:
            for part in _parts(subscription, plans[state.plan_id, state.plan_version], state, state.at):
                name = f"{subscription.id}-{state.number}-{part.key}"
                if name in known:
                    found[part.section].setdefault(name, _entry(name, replace(part, ends=part.starts)))
    return {section: list(entries.values()) for section, entries in found.items() if entries}


def _entry(name: str, part: _Part) -> dict[str, Any]:
    entry = {**part.terms, "id": name, "from": format_time(part.starts)}
    return entry if part.ends is None else entry | {"until": format_time(max(part.starts, part.ends))}


def _parts(subscription: Subscription, plan: Plan, state: State, end: datetime | None) -> Iterator[_Part]:
    """The parts of one state, until `end`."""
    owner = subscription.organization_id
    for number, usage in enumerate(plan.usage, 1):
        terms = price_entry(usage, "", owner, plan.currency, plan.name)
        yield _Part("prices", f"{plan.id[:30]}.{plan.version}-u{number}", state.at, end, terms)
    begins = max(state.at, subscription.charged_from)
    fixed = [("base", plan.name, plan.amount, 1)]
    if plan.seat_amount is not None and state.seats:
        fixed.append(("seats", f"{plan.name}, {state.seats:,} seats", plan.seat_amount, state.seats))
    for identifier, quantity in state.add_ons:
        add_on = plan.add_on(identifier)
        count = f", {quantity:,} pieces" if quantity > 1 else ""
        fixed.append((f"a-{identifier}", f"{plan.name}, {add_on.name}{count}", add_on.amount, quantity))
    for key, text, amount, quantity in fixed:
        yield from _reduced(subscription, plan, state, (key, text, amount * quantity), (begins, end))
    coupon = state.coupon
    if coupon is not None and coupon.covers_usage and (coupon.until is None or coupon.until > state.at):
        terms = {"organization": owner, "description": coupon.name, "percent": str(coupon.percent)}
        yield _Part("discounts", "coupon", state.at, _first(end, coupon.until), terms)


def _reduced(
    subscription: Subscription,
    plan: Plan,
    state: State,
    fixed: tuple[str, str, Decimal],
    span: tuple[datetime, datetime | None],
) -> Iterator[_Part]:
    """A fixed amount: with the coupon as long as that holds, and in full afterwards."""
    key, text, amount = fixed
    begins, end = span
    coupon = state.coupon
    full = _terms(subscription, plan, text, amount)
    if coupon is None or (coupon.until is not None and coupon.until <= begins) or (coupon.amount and key != "base"):
        yield _Part("prices", key, begins, end, full)
        return
    less = coupon.amount or amount * coupon.percent / 100
    what = f"{coupon.percent.normalize():f} %" if coupon.percent else f"{coupon.amount} {plan.currency}"
    reduced = _terms(subscription, plan, f"{text}, {coupon.name}: {what} off", max(Decimal(0), amount - less))
    yield _Part("prices", f"{key}-c", begins, _first(end, coupon.until), reduced)
    if coupon.until is not None:
        yield _Part("prices", key, coupon.until, end, full)


def _terms(subscription: Subscription, plan: Plan, text: str, amount: Decimal) -> dict[str, Any]:
    terms = {
        "organization": subscription.organization_id,
        "description": text[:200],
        "kind": "flat",
        "currency": plan.currency,
        "amount": format(amount.quantize(_NANO, ROUND_DOWN), "f"),
    }
    if plan.every == MONTH and plan.begins == CALENDAR:
        return terms
    return terms | {"every": plan.every, "anchor": format_time(subscription.anchor)}


def _first(end: datetime | None, until: datetime | None) -> datetime | None:
    found = [moment for moment in (end, until) if moment is not None]
    return min(found) if found else None
