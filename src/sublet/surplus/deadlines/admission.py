"""Whether an order with a deadline may be promised now, and if not, why and what could be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sublet.surplus.budget import Standing
from sublet.surplus.deadlines.kinds import Idle, Kind, covering
from sublet.surplus.deadlines.orders import ORDERS_MAX, Order, can_admit, earliest_due, most_accelerators
from sublet.surplus.deadlines.paths import MOMENTS_MIN, step_of


@dataclass(frozen=True, slots=True)
class Answer:
    """`most` accelerators could be promised for the hours and the deadline asked for; `reason` says what limits them.

    `latest_start_hours` is how long the order may wait at most. `earliest_due_hours` is told of a refused order alone: the
    earliest deadline by which all of it could be promised, None where none can. `hours_to_open` says how much more history
    without a broken promise is needed where the budget is what limits it, None where that can't be said.
    """

    admitted: bool
    most: int
    reason: str
    sentence: str
    latest_start_hours: int
    earliest_due_hours: int | None = None
    hours_to_open: int | None = None


def answer(
    new: Order,
    orders: Sequence[Order],
    idle: Idle,
    standings: dict[Kind, Standing],
    risk: float,
) -> Answer:
    """Whether `new` may be promised beside the open `orders`, at most `risk` of which (a share) may be late.

    `standings` has the record of each kind that the class offers on this pool; the one that covers the order decides. In
    turn: whether there is a record for so hard an order, whether it has earned so much, whether enough is idle for the
    order to start soon, whether everything ends in time on every path.
    """
    start = new.slack_hours
    kind = covering(list(standings), new.left_hours, new.due_hours)
    if start < 0:
        why = f"{new.left_hours} h of service don't fit in the {max(0, new.due_hours)} whole hours until then"
        return _refused(new, orders, idle, 0, "deadline", why)
    if kind is None:
        offered = ", ".join(str(one) for one in sorted(standings)) or "none"
        why = f"no kind of order on offer covers {new.left_hours} h within {new.due_hours} h (on offer: {offered})"
        return _refused(new, orders, idle, 0, "kind", why)
    if len(orders) >= ORDERS_MAX:
        return _refused(new, orders, idle, 0, "orders", f"{len(orders)} orders are open, the most that one pool takes")
    pace, standing = kind.pace(risk), standings[kind]
    open_ = sum(order.accelerators for order in orders)
    earned = math.floor(standing.left(pace, open_))
    soon = max(0, math.floor(kind.ahead * idle.free) - open_)
    if earned < new.accelerators:
        hours = standing.hours_until(pace, open_ + new.accelerators)
        more = (
            f"{hours} more hours without a late order are needed" if hours else "the pool sells too little to earn it"
        )
        if standing.unused:
            more = "its owner has not used half of it yet, so nobody knows what is left when it does"
        why = f"the record of {kind} supports {earned} more accelerators on this pool: {more}"
        return replace(_refused(new, orders, idle, earned, "budget", why), hours_to_open=hours)
    if soon < new.accelerators:
        why = f"{idle.free:g} accelerators are idle now and {open_} are promised, so it could not start soon"
        return _refused(new, orders, idle, soon, "idle_now", why)
    if len(idle.paths(new.due_hours)) < MOMENTS_MIN:
        wanted = new.due_hours + MOMENTS_MIN * step_of(new.due_hours)
        why = f"{idle.hourly.size} h of history are less than the {wanted} h that such a deadline needs"
        return _refused(new, orders, idle, 0, "history", why)
    if not can_admit(orders, new, idle):
        why = "on a past path like the present it would be late, or make another order late"
        return _refused(new, orders, idle, most_accelerators(orders, new, idle), "paths", why)
    return Answer(True, new.accelerators, "", "", start)


def _refused(new: Order, orders: Sequence[Order], idle: Idle, most: int, reason: str, why: str) -> Answer:
    """A refusal that says what could be promised instead."""
    due = earliest_due(orders, new, idle) if reason in ("deadline", "paths", "idle_now") else None
    could = ""
    if due is not None:
        could = f"; the forecast would allow {new.accelerators} accelerators by a deadline in {due} h"
    elif reason in ("deadline", "paths"):
        could = "; the forecast allows no deadline for so many accelerators"
    elif most:
        could = f"; {most} could be promised"
    return Answer(
        False, most, reason, f"Not enough idle capacity for that deadline: {why}{could}.", new.slack_hours, due
    )
