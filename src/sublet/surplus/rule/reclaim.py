"""When the owner needs capacity back: whom to take first, so that the least value is destroyed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

import numpy as np

from sublet.values.money import NANO

HOUR_S = 3600
EXACT_CELLS_MAX = 4_000_000
"""Candidates times accelerators up to which the best choice is found exactly: some tens of milliseconds."""
_COST_BITS = 61


@dataclass(frozen=True, slots=True)
class Holding:
    """A running promise that could be taken back.

    `rate_nano` is its price per accelerator-hour and `credit_nano` what taking it back costs at once, for all of it.
    `served_s` is lost where the tenant keeps no checkpoint newer than `checkpoint_age_s`; `drain_s` is how long it
    takes until the accelerators are the owner's. Nobody with a higher `turn` is asked while those of lower turns can
    give enough: it is the class's place in the order.
    """

    id: str
    accelerators: int
    class_name: str
    rate_nano: int
    credit_nano: int
    served_s: int
    left_s: int
    drain_s: int
    checkpoint_age_s: int | None = None
    turn: int = 0

    @property
    def lost_s(self) -> int:
        """Seconds of work that the tenant has to do again."""
        return self.served_s if self.checkpoint_age_s is None else min(self.served_s, self.checkpoint_age_s)

    @property
    def income_nano(self) -> int:
        """What the rest of the window would have earned."""
        return self.left_s * self.rate_nano * self.accelerators // HOUR_S

    @property
    def work_nano(self) -> int:
        """The tenant's work that is lost, at the price that it was bought for."""
        return self.lost_s * self.rate_nano * self.accelerators // HOUR_S

    @property
    def destroyed_nano(self) -> int:
        """Value destroyed: the credit owed, the income forgone, and the tenant's work that is lost."""
        return self.credit_nano + self.income_nano + self.work_nano

    @property
    def sentence(self) -> str:
        """What taking it back gives and costs, for a person who reads the plan."""
        return (
            f"frees {self.accelerators} in {_duration(self.drain_s)} and destroys {_amount(self.destroyed_nano)}: "
            f"credit {_amount(self.credit_nano)}, {_duration(self.left_s)} of income {_amount(self.income_nano)}, "
            f"{_duration(self.lost_s)} of work {_amount(self.work_nano)}"
        )


def least_destroyed(holdings: Sequence[Holding], count: int, by_s: int | None = None) -> list[Holding]:
    """Those whose end frees at least `count` accelerators and destroys the least value; all where that is too little.

    A higher turn gives only what the lower ones together can't, and as little value as possible; then the turn below it
    likewise. Within a turn, a lease that drains within `by_s` goes before those who are late. Each choice is the exact
    minimum (a knapsack that must be covered) up to EXACT_CELLS_MAX, and never dearer than the youngest first. Of equal
    choices the one with fewer holdings is made; nobody is taken in vain. The order of `holdings` does not matter.
    """

    def tier(item: Holding) -> tuple[int, bool]:
        return (item.turn, by_s is not None and item.drain_s > by_s)

    able = sorted((item for item in holdings if item.accelerators > 0), key=lambda item: (*tier(item), *_order(item)))
    tiers = [list(group) for _, group in groupby(able, key=tier)]
    taken: list[Holding] = []
    missing = count
    for index in range(len(tiers) - 1, -1, -1):
        looser = sum(item.accelerators for lower in tiers[:index] for item in lower)
        if missing - looser > 0:
            chosen = _cheapest(tiers[index], missing - looser)
            taken = [*chosen, *taken]
            missing -= sum(item.accelerators for item in chosen)
    return taken


def youngest_first(holdings: Sequence[Holding], count: int) -> list[Holding]:
    """The plain order, to compare with: class by class, the one that was served least goes first, until enough is free."""
    taken: list[Holding] = []
    freed = 0
    for item in sorted(holdings, key=lambda item: (item.turn, item.served_s, -item.left_s, item.id)):
        if freed >= count:
            break
        taken.append(item)
        freed += item.accelerators
    return taken


def _order(item: Holding) -> tuple[float, int, int, int, str]:
    """Cheapest per accelerator first, then who is gone sooner, then the younger."""
    return (item.destroyed_nano / item.accelerators, item.drain_s, item.served_s, -item.left_s, item.id)


def _cheapest(items: list[Holding], count: int) -> list[Holding]:
    """Of `items` (in order) the set that frees `count` and destroys least; all of them where that is not more."""
    if sum(item.accelerators for item in items) <= count:
        return items
    if len(items) * (count + 1) <= EXACT_CELLS_MAX:
        return _exact(items, count)
    # The cheapest per accelerator are taken as they come; who is at the border is chosen exactly.
    border = max(0, EXACT_CELLS_MAX // len(items) - 1)
    fixed: list[Holding] = []
    freed = 0
    for item in items:
        if freed + item.accelerators > count - border:
            break
        fixed.append(item)
        freed += item.accelerators
    core = items[len(fixed) : len(fixed) + max(1, EXACT_CELLS_MAX // (count - freed + 1))]
    if sum(item.accelerators for item in core) < count - freed:
        core = items[len(fixed) :]
        found = _without_spare([*fixed, *core], count, _dearest)
    else:
        found = _without_spare([*fixed, *_exact(core, count - freed)], count, _dearest)
    plain = _without_spare(youngest_first(items, count), count, _dearest)
    return min(found, plain, key=_destroyed)


def _exact(items: list[Holding], count: int) -> list[Holding]:
    """The cover of least cost by dynamic programming: `least[k]` is the least cost that frees k or more."""
    if sum(item.accelerators for item in items) <= count:
        return items
    # One more unit of cost for each holding, below all values, so that equal values are freed by fewer of them.
    total = sum(item.destroyed_nano for item in items) * (len(items) + 1) + len(items)
    shift = max(0, total.bit_length() - _COST_BITS)
    least = np.full(count + 1, np.iinfo(np.int64).max // 2, dtype=np.int64)
    least[0] = 0
    taken = np.zeros((len(items), count + 1), dtype=np.bool_)
    for index, item in enumerate(items):
        cost = (item.destroyed_nano * (len(items) + 1) >> shift) + 1
        size = min(item.accelerators, count + 1)
        with_it = np.empty_like(least)
        with_it[:size] = least[0] + cost
        with_it[size:] = least[: count + 1 - size] + cost
        np.less(with_it, least, out=taken[index])
        np.minimum(with_it, least, out=least)
    chosen: list[Holding] = []
    left = count
    for index in range(len(items) - 1, -1, -1):
        if taken[index, left]:
            chosen.append(items[index])
            left = max(0, left - items[index].accelerators)
    return chosen[::-1]


def _without_spare(items: list[Holding], count: int, first: Callable[[Holding], tuple[int, str]]) -> list[Holding]:
    """Leave out whom the count can do without, in the order of `first`."""
    freed = sum(item.accelerators for item in items)
    kept = list(items)
    for item in sorted(items, key=first):
        if freed - item.accelerators >= count:
            kept.remove(item)
            freed -= item.accelerators
    return kept


def _dearest(item: Holding) -> tuple[int, str]:
    return (-item.destroyed_nano, item.id)


def _destroyed(items: list[Holding]) -> int:
    return sum(item.destroyed_nano for item in items)


def _amount(nano: int) -> str:
    """In cents from one unit on; four digits behind the point below."""
    exact = Decimal(nano) / NANO
    return f"{exact:.2f}" if abs(exact) >= 1 or not nano else f"{exact:.4f}"


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 2 * HOUR_S:
        return f"{seconds // 60} min"
    return f"{seconds // HOUR_S} h" if seconds < 48 * HOUR_S else f"{seconds // (24 * HOUR_S)} d"
