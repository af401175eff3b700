"""Orders with a deadline as they are sold: which of them run in the next hour, and which new one can be promised.

An order runs on all its accelerators at once or waits. Least slack runs first; of equals the earlier deadline, then the
order in which they are given. What does not fit is passed over for what does. Admission replays exactly this.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sublet.demand.model import Floats
from sublet.surplus.deadlines.kinds import ORDER_HOURS_MAX, WITHIN_HOURS_MAX, Idle
from sublet.surplus.deadlines.paths import MOMENTS_MIN
from sublet.values.errors import InvalidInputError

ORDERS_MAX = 500
"""Open orders of one pool at most: a replay looks at each of them in each hour of each path."""

Integers = NDArray[np.int64]
_DUE = 4 * WITHIN_HOURS_MAX
"""More than any deadline is away, so that slack and deadline sort as one number."""


@dataclass(frozen=True, slots=True)
class Order:
    """`accelerators` for `left_hours` more hours of service within `due_hours` from now.

    Hours are whole: round what is left up and what remains until the deadline down. Raises InvalidInputError.
    """

    id: str
    accelerators: int
    left_hours: int
    due_hours: int

    def __post_init__(self) -> None:
        if self.accelerators < 1:
            raise InvalidInputError(f"the order is for {self.accelerators} accelerators; it must be at least 1")
        if not 1 <= self.left_hours <= ORDER_HOURS_MAX:
            raise InvalidInputError(f"the order is for {self.left_hours} hours; it must be 1 to {ORDER_HOURS_MAX}")
        if self.due_hours > WITHIN_HOURS_MAX:
            raise InvalidInputError(f"the deadline is {self.due_hours} hours away; the maximum is {WITHIN_HOURS_MAX}")

    @property
    def slack_hours(self) -> int:
        """Hours that it can still wait; its latest start lies so far ahead. Negative where it will be late."""
        return self.due_hours - self.left_hours


def run_next(orders: Sequence[Order], idle: float) -> tuple[str, ...]:
    """The ids of the orders that run in the next hour on `idle` accelerators, in the order in which they are served."""
    chosen = []
    places = sorted(range(len(orders)), key=lambda place: (orders[place].slack_hours, orders[place].due_hours, place))
    for place in places:
        if orders[place].accelerators <= idle:
            idle -= orders[place].accelerators
            chosen.append(orders[place].id)
    return tuple(chosen)


def kept_share(orders: Sequence[Order], idle: Idle) -> float:
    """On which share of the possible paths every one of the orders ends in time; 0 with too little history to say.

    What the quote calls "how likely": an admitted order has 1. Raises InvalidInputError for more than ORDERS_MAX orders.
    """
    if not orders:
        return 1.0
    if len(orders) > ORDERS_MAX:
        raise InvalidInputError(f"{len(orders)} orders are open; one pool can have at most {ORDERS_MAX}")
    if any(order.slack_hours < 0 for order in orders):
        return 0.0
    paths = idle.paths(max(order.due_hours for order in orders))
    if len(paths) < MOMENTS_MIN:
        return 0.0
    return float(_kept(paths, orders).mean())


def can_admit(orders: Sequence[Order], new: Order, idle: Idle) -> bool:
    """Whether `new` and all of `orders` end in time on every path that the forecast calls possible.

    Where one of `orders` is late on a path already nothing new is let in.
    """
    if new.slack_hours < 0 or not _enough(orders, new, idle):
        return False
    return kept_share([*orders, new], idle) == 1.0


def most_accelerators(orders: Sequence[Order], new: Order, idle: Idle) -> int:
    """The largest part of `new`'s accelerators with which it could be admitted; 0 where it can't be at all."""
    low, high = 0, new.accelerators + 1
    while high - low > 1:
        middle = (low + high) // 2
        if can_admit(orders, _with(new, accelerators=middle), idle):
            low = middle
        else:
            high = middle
    return low


def earliest_due(orders: Sequence[Order], new: Order, idle: Idle, at_most: int = WITHIN_HOURS_MAX) -> int | None:
    """The earliest deadline, in hours from now, by which `new` can be promised; None where not even `at_most` is enough.

    The deadlines that are tried go by hours to a day, then by quarters of a day: what is told can be promised, and
    something at most six hours earlier might be.
    """
    tries = sorted({*range(new.left_hours, 25), *range(24, at_most + 1, 6), at_most})
    tries = [due for due in tries if new.left_hours <= due <= at_most]
    low, high = -1, len(tries)
    while high - low > 1:
        middle = (low + high) // 2
        if can_admit(orders, _with(new, due_hours=tries[middle]), idle):
            high = middle
        else:
            low = middle
    return tries[high] if high < len(tries) else None


def _with(order: Order, *, accelerators: int | None = None, due_hours: int | None = None) -> Order:
    return Order(
        order.id,
        order.accelerators if accelerators is None else accelerators,
        order.left_hours,
        order.due_hours if due_hours is None else due_hours,
    )


def _enough(orders: Sequence[Order], new: Order, idle: Idle) -> bool:
    """Whether the worst path has as many idle hours as there is work: soon told, and without it nothing can be kept."""
    every = [*orders, new]
    paths = idle.paths(max(max(order.due_hours for order in every), 1))
    work = sum(order.accelerators * order.left_hours for order in every)
    return len(paths) >= MOMENTS_MIN and float(paths.sum(axis=1).min()) >= work


def _kept(paths: Floats, orders: Sequence[Order]) -> NDArray[np.bool_]:
    sizes = np.array([order.accelerators for order in orders], dtype=np.int64)
    left = np.array([order.left_hours for order in orders], dtype=np.int64)
    due = np.array([order.due_hours for order in orders], dtype=np.int64)
    loop = _compiled()
    return loop(paths, sizes, left, due) if loop is not None else kept_orders(paths, sizes, left, due)


def kept_orders(paths: Floats, sizes: Integers, left: Integers, due: Integers) -> NDArray[np.bool_]:
    """For each of the paths (moments, hours) whether every order ends in time: accelerators, hours left, hours until due."""
    moments, hours = paths.shape
    rows = np.arange(moments)
    todo = np.repeat(left[None], moments, axis=0)
    in_time = np.ones(moments, dtype=np.bool_)
    for hour in range(hours):
        ranks = (due - hour - todo) * _DUE + due
        places = np.argsort(ranks, axis=1, kind="stable")
        free = paths[:, hour].copy()
        for turn in range(sizes.size):
            place = places[:, turn]
            runs = (todo[rows, place] > 0) & (sizes[place] <= free)
            free -= sizes[place] * runs
            todo[rows, place] -= runs
        in_time &= (todo <= np.maximum(0, due - hour - 1)).all(axis=1)
        if not todo.any():
            break
    return in_time


def _kept_orders_loop(paths: Floats, sizes: Integers, left: Integers, due: Integers, far: int) -> Any:
    """`kept_orders` as loops, for the compiler."""
    in_time = np.ones(paths.shape[0], dtype=np.bool_)
    for moment in range(paths.shape[0]):
        todo = left.copy()
        for hour in range(paths.shape[1]):
            places = np.argsort((due - hour - todo) * far + due, kind="mergesort")
            free = paths[moment, hour]
            open_ = 0
            for place in places:
                if todo[place] > 0 and sizes[place] <= free:
                    free -= sizes[place]
                    todo[place] -= 1
                if todo[place] > max(0, due[place] - hour - 1):
                    in_time[moment] = False
                open_ += todo[place]
            if open_ == 0 or not in_time[moment]:
                break
    return in_time


@cache
def _compiled() -> Any:
    try:
        from numba import njit
    except ImportError:
        return None
    loop = njit(cache=True)(_kept_orders_loop)
    return lambda paths, sizes, left, due: loop(paths, sizes, left, due, _DUE)
