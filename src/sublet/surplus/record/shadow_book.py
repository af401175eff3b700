"""The shadow that never ends: it sells each class and window alone to endless buyers, on paper, hour by hour.

What it keeps and breaks is what each kind of promise earns: the budget and the monitor of `budget.py` stand on it.

It decides by the very rule of the running service, from what was recorded before each hour; then the hour happens.
Everything that it will need again fits in a small document, so that a restart goes on where it stood.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import numpy as np

from sublet.surplus.budget import Pace, Passed, Standing, stops_with
from sublet.surplus.deadlines.kinds import Idle, Kind, OpenOrders, used
from sublet.surplus.deadlines.paths import MOMENTS_MIN, comparable_idle
from sublet.surplus.kept import RECORD_HOURS_MAX, Key, budgeted, kinds_of, pace_of, promised, sells
from sublet.surplus.model import HOUR_S, Sold, Stood
from sublet.surplus.record.calibration import Day
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.memory import Hours
from sublet.surplus.rule.seller import LOOSEN_MAX, REGIME_RATIO, Seller
from sublet.surplus.rule.view import View
from sublet.surplus.terms import Shortage
from sublet.values.clock import from_micros, to_micros
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

HOUR_US = HOUR_S * 1_000_000
STEADY = 0.05
"""A factor nearer to 1 than this is neither tightened nor loosened."""

FIRM, PAUSED = 2.0, 1.0
"""How strict a kind of promise is: what can't be taken back, and what may be paused until its deadline."""

Cell = tuple[str, int]
"""A class and a window length in hours."""


@dataclass
class Bound:
    """What perfect knowledge would have honored, hour by hour: the greedy rule of the benchmark on the last W hours."""

    idle: list[int]
    used: list[int]

    def add(self, idle: int, window: int) -> int:
        """The hour that just passed had `idle` accelerators to sell; the hours that are honored by a window that ends
        with it."""
        self.idle.append(idle)
        self.used.append(0)
        if len(self.idle) < window:
            return 0
        start = max(0, min(free - taken for free, taken in zip(self.idle, self.used, strict=True)))
        self.used = [taken + start for taken in self.used][1:]
        self.idle = self.idle[1:]
        return start * window


@dataclass
class Turn:
    """Since when a window length has been tightened (-1) or loosened (1), and since when its regime is another one."""

    side: int = 0
    since_hour: int | None = None
    regime_hour: int | None = None
    ratio: float = 1.0
    factor: float = 1.0

    def note(self, seller: Seller, hour: int) -> None:
        self.ratio, self.factor = seller.ratio, factor_of(seller)
        side = 0 if abs(self.factor - 1) < STEADY else 1 if self.factor > 1 else -1
        if side != self.side:
            self.side, self.since_hour = side, hour if side else None
        if self.ratio < REGIME_RATIO:
            self.regime_hour = None
        elif self.regime_hour is None:
            self.regime_hour = hour


def factor_of(seller: Seller) -> float:
    """What the pool's record makes of the risk that is accepted: below 1 tightened, above loosened."""
    return min(LOOSEN_MAX, 1 / math.sqrt(seller.ratio)) if seller.ratio > 0 else LOOSEN_MAX


@dataclass
class ShadowBook:
    """One pool's shadow. `cells[key][j]` windows end after j more hours beyond the present one."""

    since_hour: int
    next_hour: int
    hours: int = 0
    unseen: int = 0
    cells: dict[Cell, list[int]] = field(default_factory=dict)
    bounds: dict[int, Bound] = field(default_factory=dict)
    turns: dict[int, Turn] = field(default_factory=dict)
    days: dict[tuple[str, int, int], Day] = field(default_factory=dict)
    risks: dict[str, float] = field(default_factory=dict)
    learned: Mapping[str, Any] | None = None
    standings: dict[Key, Standing] = field(default_factory=dict)
    paces: dict[Key, Pace] = field(default_factory=dict)
    orders: dict[Key, OpenOrders] = field(default_factory=dict)
    shortages: dict[Cell, Shortage] = field(default_factory=dict)
    started: dict[Cell, int] = field(default_factory=dict)
    unused: bool = False

    def sell(self, view: View, policies: Mapping[str, ServiceClass]) -> None:
        """At the full hour `view.at`, start as many windows of each class and length as the rule allows beside its own."""
        self.started = {}
        for policy in policies.values():
            for kept in promised(policy):
                self.paces[kept] = pace_of(policy, *kept[1:])
                self.standings.setdefault(kept, Standing())
        self._sell_orders(view, policies.values())
        for policy, window in _windows(policies.values()):
            key = (policy.name, window)
            cells = self.cells.setdefault(key, [0] * window)
            self.risks[policy.name] = policy.broken_per_1000_max
            if budgeted(policy):
                self.shortages.setdefault(key, Shortage()).hours = view.facts.patience_hours
            sold = [
                Sold(count, policy.name, Window.starting(view.at, (place + 1) * HOUR_S))
                for place, count in enumerate(cells)
                if count
            ]
            count = rule.sellable(view, policy, Window.starting(view.at, window * HOUR_S), sold, policies).count
            if count:
                cells[-1] += count
                self.started[key] = count
                self._day(key).started += count

    def _sell_orders(self, view: View, policies: Iterable[ServiceClass]) -> None:
        """Admit as many deadline orders of each kind as would end in time, were no other kind sold."""
        facts, hours = view.facts, view.hours
        kept_back = facts.never_sell + facts.failure_reserve
        idle: Idle | None = None
        self.unused = not used(hours.capacity, hours.in_use)
        for policy in policies:
            for kind in kinds_of(policy) if policy.sell else ():
                key = (policy.name, kind.hours, kind.within)
                orders = self.orders.setdefault(key, OpenOrders(kind))
                if view.stale or hours.t < kind.within + MOMENTS_MIN:
                    continue
                if idle is None:
                    hourly = np.maximum(comparable_idle(hours.capacity, hours.in_use) - kept_back, 0.0)
                    now = max(0.0, min(facts.capacity, view.working) - kept_back - view.in_use)
                    idle = Idle(hourly, math.floor(now), float(facts.capacity), view.known)
                orders.add(orders.room(idle))

    def note_sellers(self, hours: Hours) -> None:
        """Remember since when each length is tightened or loosened."""
        for window in sorted({window for _, window in self.cells}):
            self.turns.setdefault(window, Turn()).note(hours.seller(window), self.next_hour)

    def happen(self, idle: int | None, capacity: int) -> None:
        """The hour passes: where less than was sold is `idle` the youngest windows break; others come to their end.

        `idle` None: the hour was not seen, nothing is known to have broken, and for all that is known the whole
        `capacity` was idle. The bound keeps no reserve: who knows the future needs none, and what is sold may outlive
        a rise that the reserve takes.
        """
        self.hours += 1
        self.unseen += idle is None
        held = self._held_most()
        if idle is not None:
            self._orders_happen(float(idle))
        for (name, window), cells in self.cells.items():
            key = (name, window)
            running = sum(cells)
            over = 0 if idle is None else max(0, running - idle)
            if (name, window, 0) in self.paces and idle is not None:
                over = int(self.shortages.setdefault(key, Shortage()).breaks(over))
                self._stand((name, window, 0), Passed(self.started.get(key, 0), over, running))
            for place in range(window - 1, -1, -1):
                cut = min(over, cells[place])
                if cut:
                    cells[place] -= cut
                    over -= cut
                    self._broke(key, cut, window - 1 - place)
            ended = cells.pop(0)
            cells.append(0)
            if ended:
                day = self._day(key)
                day.kept += ended
                day.accepted += ended * self.risks.get(name, 0.0)
        for window in sorted({window for _, window in self.cells}):
            free = max(capacity, held[window]) if idle is None else idle
            hours = self.bounds.setdefault(window, Bound([], [])).add(free, window)
            if hours:
                for name in {name for name, length in self.cells if length == window}:
                    self._day((name, window)).bound_hours += hours
        self.next_hour += 1

    def _held_most(self) -> dict[int, int]:
        """By length, the windows that run now of the class that has most of them."""
        most: dict[int, int] = {}
        for (_, window), cells in self.cells.items():
            most[window] = max(most.get(window, 0), sum(cells))
        return most

    def _orders_happen(self, idle: float) -> None:
        for key, orders in self.orders.items():
            running = orders.count
            done, late, near = orders.pass_hour(idle)
            unused = self.unused and orders.kind.long
            self._stand(key, Passed(done, late, running, near, unused))

    def _stand(self, key: Key, passed: Passed) -> None:
        """The hour is known for one kind of promise; where the monitor speaks, all that is as strict and as long stops."""
        standing, pace = self.standings.setdefault(key, Standing()), self.paces[key]
        if not standing.pass_hour(pace, self.next_hour, passed):
            return
        others = [other for other in self.paces if other != key]
        for place in stops_with(_strictness(key), [_strictness(other) for other in others]):
            name = f"{key[0]} {key[1]} h" + (f" within {key[2]} h" if key[2] else "")
            self.standings.setdefault(others[place], Standing()).stop(self.next_hour, by=name)

    def stood(self) -> list[Stood]:
        """Where each kind of promise stands after the last hour that was lived through."""
        return [
            Stood(*key, self.next_hour - 1, self.paces[key], standing)
            for key, standing in sorted(self.standings.items())
            if key in self.paces
        ]

    def running(self, class_name: str, window: int) -> int:
        return sum(self.cells.get((class_name, window), ()))

    def take_days(self) -> list[tuple[str, int, Day]]:
        """What has come together since the last time, by class, length in seconds and day; and forget it."""
        taken = [(name, window * HOUR_S, day) for (name, window, _), day in sorted(self.days.items())]
        self.days = {}
        return taken

    def as_state(self) -> dict[str, Any]:
        """All but the days, as a document."""
        return {
            "cells": [[name, window, cells] for (name, window), cells in sorted(self.cells.items())],
            "bounds": [[window, bound.idle, bound.used] for window, bound in sorted(self.bounds.items())],
            "turns": [
                [window, turn.side, turn.since_hour, turn.regime_hour, turn.ratio, turn.factor]
                for window, turn in sorted(self.turns.items())
            ],
            "risks": self.risks,
            "learned": self.learned,
            "orders": [[*key, orders.grid.tolist()] for key, orders in sorted(self.orders.items())],
            "shortages": [[*key, shortage.hours, shortage.waited] for key, shortage in sorted(self.shortages.items())],
        }

    @classmethod
    def of_state(cls, since_hour: int, next_hour: int, hours: int, unseen: int, state: Mapping[str, Any]) -> ShadowBook:
        """The book that `as_state` described."""
        return cls(
            since_hour,
            next_hour,
            hours,
            unseen,
            {(name, window): list(cells) for name, window, cells in state["cells"]},
            {window: Bound(list(idle), list(used)) for window, idle, used in state["bounds"]},
            {window: Turn(*values) for window, *values in state["turns"]},
            risks=dict(state["risks"]),
            learned=state.get("learned"),
            orders={
                (name, hours, within): OpenOrders(Kind(hours, within), np.array(grid))
                for name, hours, within, grid in state.get("orders", ())
            },
            shortages={
                (name, window): Shortage(hours, list(waited))
                for name, window, hours, waited in state.get("shortages", ())
            },
        )

    def _broke(self, key: Cell, count: int, served: int) -> None:
        day = self._day(key)
        day.broken += count
        day.accepted += count * self.risks.get(key[0], 0.0)
        day.broken_after[served] = day.broken_after.get(served, 0) + count

    def _day(self, key: Cell) -> Day:
        number = self.next_hour // 24
        return self.days.setdefault((*key, number), Day(number))


def _strictness(key: Key) -> tuple[float, int]:
    return (PAUSED if key[2] else FIRM), key[1]


def hour_of(moment: datetime) -> int:
    """Whole hours since the epoch."""
    return to_micros(moment) // HOUR_US


def moment_of(hour: int) -> datetime:
    return from_micros(hour * HOUR_US)


def _windows(policies: Iterable[ServiceClass]) -> Iterator[tuple[ServiceClass, int]]:
    """Every class on sale with every window of whole hours that is sold by a forecast, at most a week long."""
    for policy in policies:
        if policy.sell and policy.by_window:
            for window_s in policy.windows_s:
                if window_s % HOUR_S == 0 and window_s <= RECORD_HOURS_MAX * HOUR_S and sells(policy, window_s):
                    yield policy, window_s // HOUR_S
