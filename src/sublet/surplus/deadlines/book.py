"""A pool's deadline orders beside all else that is promised of it: what they may use, and what they leave for windows. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import numpy as np

from sublet.demand.model import Floats
from sublet.surplus.budget import Standing
from sublet.surplus.deadlines.admission import Answer, answer
from sublet.surplus.deadlines.kinds import WITHIN_HOURS_MAX, Idle, Kind, covering
from sublet.surplus.deadlines.orders import Order, kept_share, most_accelerators
from sublet.surplus.deadlines.paths import comparable_idle
from sublet.surplus.model import HOUR_S, IN_BLOCK, Promised, Sold, Withheld
from sublet.surplus.rule.earned import BEHIND_HOURS_MAX, behind_hours, catching_up, opens
from sublet.surplus.rule.view import View, unmet
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

START_S = 600
"""What starts and pauses may cost an order in all: a new one is promised as if its deadline were so much earlier."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What a pool says to an order. `likely` is the share of possible paths on which all that is promised, the order
    included, ends in time; `earliest` the earliest deadline that could be promised where the order is refused."""

    answer: Answer
    likely: float
    earliest: datetime | None = None


@dataclass(frozen=True, slots=True)
class OnSale:
    """How many accelerators one kind of order could have now, and what limits it."""

    class_name: str
    kind: Kind
    count: int
    sentence: str

    def as_dict(self) -> dict[str, object]:
        return {
            "class": self.class_name,
            "hours": self.kind.hours,
            "within": self.kind.within,
            "count": self.count,
            "sentence": self.sentence,
        }


def idle_of(view: View, sold: Sequence[Sold], policies: Mapping[str, ServiceClass]) -> Idle:
    """What deadline orders may use of a pool: what its owner leaves idle, less windows that are sold, claims, reclaims and
    absences, hour by hour. What is kept off the owner by blocks is for those who buy it there, and what nobody has bought of it
    is there whatever the owner needs."""
    facts = view.facts
    kept_back = facts.never_sell + facts.failure_reserve
    hourly = np.maximum(comparable_idle(view.hours.capacity, view.hours.in_use) - kept_back, 0.0)
    here = Window.starting(view.at, 1)
    blocks = [(block.window, float(block.count)) for block in facts.blocks]
    blocked = math.fsum(count for window, count in blocks if window.overlaps(here))
    items = [
        (item.window, float(item.count))
        for item in sold
        if item.class_name != IN_BLOCK and _by_window(policies.get(item.class_name))
    ]
    end = view.at + timedelta(hours=WITHIN_HOURS_MAX)
    items += [(claim.needed, rest) for claim, rest in unmet(view, view.claims, end)]
    items += [(claim.needed, rest) for claim, rest in unmet(view, facts.reclaims, end)]
    items += [(absence.window, float(absence.count)) for absence in facts.absences]
    taken = _by_hour(items, view.at) + np.maximum(_by_hour(blocks, view.at) - blocked, 0.0)
    now = math.floor(max(0.0, view.works - view.in_use - blocked))
    return Idle(hourly, now, float(facts.capacity), view.known, taken, _unsold(view, sold, policies))


def _unsold(view: View, sold: Sequence[Sold], policies: Mapping[str, ServiceClass]) -> Floats:
    """By coming hour, what blocks keep off the owner for all of it, still works, and nobody has bought in any way."""
    facts = view.facts
    kept = np.zeros(WITHIN_HOURS_MAX)
    for block in facts.blocks:
        first = max(0, math.ceil((block.window.start - view.at).total_seconds() / HOUR_S))
        last = math.floor((block.window.end - view.at).total_seconds() / HOUR_S)
        if last > first:
            kept[first:last] += block.count
    if not kept.any():
        return np.empty(0)
    end = view.at + timedelta(hours=WITHIN_HOURS_MAX)
    away = [(absence.window, float(absence.count)) for absence in facts.absences]
    away += [(claim.needed, rest) for claim, rest in unmet(view, facts.reclaims, end)]
    bought = [
        (item.window, float(item.count))
        for item in sold
        if item.class_name == IN_BLOCK or _by_window(policies.get(item.class_name))
    ]
    there = np.minimum(kept, view.works - _by_hour(away, view.at))
    left: Floats = np.maximum(0.0, np.floor(there - _by_hour(bought, view.at)))
    return left


def orders_of(promised: Iterable[Promised], at: datetime) -> list[Order]:
    """The open orders in whole hours: what is left rounded up, what remains rounded down, but an order that can still be kept
    to the second is not taken for late. What can't be kept any more is left out: nothing is gained by waiting for it."""
    found = []
    for item in promised:
        due_s = (item.due - at).total_seconds()
        left = math.ceil(item.left_s / HOUR_S)
        if left > 0 and due_s >= item.left_s:
            found.append(Order(item.id, item.accelerators, left, max(left, math.floor(due_s / HOUR_S))))
    return found


def offer(view: View, idle: Idle, policy: ServiceClass, wanted: Promised, promised: Sequence[Promised]) -> Offer:
    """Whether `wanted` may be promised beside `promised`. Raises InvalidInputError for what no pool could promise."""
    left = math.ceil(wanted.left_s / HOUR_S)
    due = math.floor(((wanted.due - view.at).total_seconds() - START_S) / HOUR_S)
    order = Order(wanted.id, wanted.accelerators, left, due)
    orders = orders_of(promised, view.at)
    kinds = standings_of(view, policy)
    if idle.floor.any() and policy.sell and not policy.by_window and kept_share([*orders, order], idle.certain) == 1.0:
        why = "It is sold from hours of blocks that nobody has rented: no forecast stands behind it."
        return Offer(Answer(True, order.accelerators, "", why, order.slack_hours), 1.0)
    said = _unknown(view, policy, order) or answer(order, orders, idle, kinds, policy.risk)
    if said.admitted:
        return Offer(said, kept_share([*orders, order], idle))
    for hours in _later(said, order, kinds):
        if answer(replace(order, due_hours=hours), orders, idle, kinds, policy.risk).admitted:
            # Rounded up to a quarter of an hour: a date for people, with the allowance for starts.
            at_s = math.ceil((view.at.timestamp() + hours * HOUR_S + START_S) / 900) * 900
            return Offer(said, 0.0, datetime.fromtimestamp(at_s, view.at.tzinfo))
    return Offer(said, 0.0)


def _later(said: Answer, order: Order, kinds: Iterable[Kind]) -> list[int]:
    """Later deadlines, in hours, that might be promised where `order` is refused: what the forecast names, and from where on
    another record speaks for it."""
    if said.reason not in ("deadline", "kind", "paths", "budget"):
        return []
    dues = {kind.within for kind in kinds if kind.hours >= order.left_hours}
    dues |= {said.earliest_due_hours} if said.earliest_due_hours is not None else set()
    return sorted(due for due in dues if due > order.due_hours)


def on_sale(view: View, idle: Idle, policy: ServiceClass, promised: Sequence[Promised]) -> list[OnSale]:
    """What the class could promise now of each of its kinds of order, each as if it were the only one: by its record and the
    forecast, or from hours of blocks that nobody has rented, for which no record is needed."""
    orders = orders_of(promised, view.at)
    records = standings_of(view, policy)
    unsold = math.floor(float(idle.floor.max())) if idle.floor.size and policy.sell else 0
    kinds = {*records, *(Kind(hours, within) for hours, within in policy.orders if unsold)}
    found = []
    for kind in sorted(kinds):
        said = _unknown(view, policy, Order("", 1, kind.hours, kind.within))
        if said is not None:
            count, sentence = 0, said.sentence
        else:
            count, sentence = _by_record(view, idle, policy, kind, orders)
        certain = most_accelerators(orders, Order("", unsold, kind.hours, kind.within), idle.certain) if unsold else 0
        if certain > count:
            count, sentence = certain, "unsold hours of blocks; no forecast stands behind them"
        found.append(OnSale(policy.name, kind, count, sentence))
    return found


def _by_record(view: View, idle: Idle, policy: ServiceClass, kind: Kind, orders: Sequence[Order]) -> tuple[int, str]:
    """How many accelerators one kind of order could have by its record and the forecast, and what limits it."""
    stood = (view.standings or {})[policy.name, kind.hours, kind.within]
    open_ = sum(order.accelerators for order in orders)
    earned = math.floor(stood.standing.most(kind.pace(policy.risk))) - open_
    soon = math.floor(kind.ahead * idle.free) - open_
    most = max(0, min(earned, soon))
    count = most_accelerators(orders, Order("", most, kind.hours, kind.within), idle) if most else 0
    limits = [(earned, "its record supports no more"), (soon, "no more are idle now"), (count, "the forecast")]
    why = "" if count and count == soon else min(limits, key=lambda item: max(0, item[0]))[1]
    return count, f"{why}: {opens(stood, view.at)}" if why.startswith("its record") else why


def standings_of(view: View, policy: ServiceClass) -> dict[Kind, Standing]:
    """The record of each kind of order of the class, where there is one that is not behind."""
    return {
        Kind(stood.hours, stood.within): stood.standing
        for (name, _, within), stood in (view.standings or {}).items()
        if name == policy.name and within and not catching_up(stood, view.at)
    }


def beside(
    view: View, idle: Callable[[], Idle], window: Window, count: int, promised: Sequence[Promised]
) -> tuple[int, Withheld | None]:
    """How many of `count` accelerators may be sold over `window` so that what is promised by a deadline is kept on no fewer
    paths than without; and what is withheld for it. The same for every class, so that a stricter one never has more."""
    orders = orders_of(promised, view.at) if count > 0 else []
    if not orders:
        return count, None
    free = idle()
    first = max(0, math.floor((window.start - view.at).total_seconds() / HOUR_S))
    hours = math.ceil((window.end - view.at).total_seconds() / HOUR_S) - first
    last = max(order.due_hours for order in orders)
    if first >= last:
        return count, None
    before = kept_share(orders, free)
    low, high = 0, count + 1
    while high - low > 1:
        middle = (low + high) // 2 if low or high <= count else count
        if kept_share(orders, free.less(middle, first, hours)) >= before:
            low = middle
        else:
            high = middle
    spare = count - low
    if not spare:
        return count, None
    return low, Withheld(spare, "deadline_work", f"{spare} needed by what is promised by a deadline")


def _unknown(view: View, policy: ServiceClass, order: Order) -> Answer | None:
    """A refusal where too little is known of the present or of the record; None where there is an answer to be had."""
    stale = f"the last sample is {view.sample_age_s or 0:.0f} s old" if view.stale else ""
    behind = [
        behind_hours(stood, view.at)
        for (name, _, within), stood in (view.standings or {}).items()
        if name == policy.name and within
    ]
    kind = covering([Kind(hours, within) for hours, within in policy.orders], order.left_hours, order.due_hours)
    if stale:
        reason, why = "stale_demand", stale
    elif order.slack_hours < 0 or kind in standings_of(view, policy):
        return None
    elif kind is None:
        offered = ", ".join(str(Kind(hours, within)) for hours, within in sorted(policy.orders)) or "none"
        why = f"no kind of order covers {order.left_hours} h within {order.due_hours} whole hours (on offer: {offered})"
        return Answer(False, 0, "kind", f"That deadline can't be promised: {why}.", order.slack_hours)
    elif behind and max(behind) > BEHIND_HOURS_MAX:
        reason, why = "behind", f"the record of the pool is {max(behind)} h behind; it is catching up"
    else:
        reason, why = "budget", f"the pool has no record of {kind} yet: it begins after four days of history"
    sentence = f"Not enough is known to promise that deadline: {why}."
    return Answer(False, 0, reason, sentence, order.slack_hours)


def _by_window(policy: ServiceClass | None) -> bool:
    return policy is None or policy.by_window


def _by_hour(items: Iterable[tuple[Window, float]], at: datetime) -> Floats:
    """The sum of the items that hold at any moment of each coming hour."""
    found = np.zeros(WITHIN_HOURS_MAX)
    for window, count in items:
        first = max(0, math.floor((window.start - at).total_seconds() / HOUR_S))
        last = math.ceil((window.end - at).total_seconds() / HOUR_S)
        if last > first:
            found[first:last] += count
    return found
