"""The shadow that never ends: it sells each class and window alone to endless buyers, on paper, hour by hour.

It decides by the very rule of the running service, from what was recorded before each hour; then the hour happens.
Everything that it will need again fits in a small document, so that a restart goes on where it stood.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sublet.surplus.model import HOUR_S, Sold
from sublet.surplus.record.calibration import Day
from sublet.surplus.rule import ladder as rule
from sublet.surplus.rule.memory import Hours
from sublet.surplus.rule.seller import LOOSEN_MAX, REGIME_RATIO, Seller
from sublet.surplus.rule.view import View
from sublet.values.clock import from_micros, to_micros
from sublet.values.service_classes import ServiceClass
from sublet.values.windows import Window

HOUR_US = HOUR_S * 1_000_000
WINDOW_HOURS_MAX = 168
STEADY = 0.05
"""A factor nearer to 1 than this is neither tightened nor loosened."""

Key = tuple[str, int]
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
    cells: dict[Key, list[int]] = field(default_factory=dict)
    bounds: dict[int, Bound] = field(default_factory=dict)
    turns: dict[int, Turn] = field(default_factory=dict)
    days: dict[tuple[str, int, int], Day] = field(default_factory=dict)
    risks: dict[str, float] = field(default_factory=dict)
    learned: Mapping[str, Any] | None = None

    def sell(self, view: View, policies: Mapping[str, ServiceClass]) -> None:
        """At the full hour `view.at`, start as many windows of each class and length as the rule allows beside its own."""
        for policy, window in _windows(policies.values()):
            key = (policy.name, window)
            cells = self.cells.setdefault(key, [0] * window)
            self.risks[policy.name] = policy.broken_per_1000_max
            sold = [
                Sold(count, policy.name, Window.starting(view.at, (place + 1) * HOUR_S))
                for place, count in enumerate(cells)
                if count
            ]
            count = rule.sellable(view, policy, Window.starting(view.at, window * HOUR_S), sold, policies).count
            if count:
                cells[-1] += count
                self._day(key).started += count

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
        for (name, window), cells in self.cells.items():
            key = (name, window)
            over = 0 if idle is None else max(0, sum(cells) - idle)
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
        )

    def _broke(self, key: Key, count: int, served: int) -> None:
        day = self._day(key)
        day.broken += count
        day.accepted += count * self.risks.get(key[0], 0.0)
        day.broken_after[served] = day.broken_after.get(served, 0) + count

    def _day(self, key: Key) -> Day:
        number = self.next_hour // 24
        return self.days.setdefault((*key, number), Day(number))


def hour_of(moment: datetime) -> int:
    """Whole hours since the epoch."""
    return to_micros(moment) // HOUR_US


def moment_of(hour: int) -> datetime:
    return from_micros(hour * HOUR_US)


def _windows(policies: Iterable[ServiceClass]) -> Iterator[tuple[ServiceClass, int]]:
    """Every class on sale with every window of whole hours, at most a week long."""
    for policy in policies:
        if policy.sell and policy.by_window:
            for window_s in policy.windows_s:
                if window_s % HOUR_S == 0 and window_s <= WINDOW_HOURS_MAX * HOUR_S:
                    yield policy, window_s // HOUR_S
