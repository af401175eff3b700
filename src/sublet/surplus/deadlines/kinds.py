"""Kinds of deadline orders, the shadow that sells one of them, and how many new ones a pool may take.

Two findings decide (docs/promises-research.md). Only what starts soon is admitted: more orders than idle accelerators wait
without any use to their buyers, and each promise that is made early is a risk taken early. And what is admitted ends in time
on every past path, replayed in the order in which it will run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from sublet.demand.forecast.lookback import MEMORY_HOURS
from sublet.demand.model import Floats
from sublet.surplus.budget import Pace
from sublet.surplus.deadlines.paths import MOMENTS_MIN, idle_paths
from sublet.surplus.deadlines.replay import Admitted, fastest, hour_of_service
from sublet.values.errors import InvalidInputError

EARNING = 1.0
"""Unlike an uninterrupted window a deadline has room for what the forecast misses: it earns at the promised rate itself."""

AHEAD = 1.2
"""Orders open at most, over what is idle now: enough to fill the next hour and no more."""

DAY_HOURS = 24
LONG_HOURS = 12
LONG_AHEAD = 1.0
LONG_LOSS = 0.5
"""From LONG_HOURS of service on: least slack first makes the last of the open orders late, not all of them."""

USED_SHARE = 0.5
"""An order from LONG_HOURS on earns nothing before the owner has used so much of the pool once."""

WITHIN_HOURS_MAX = 14 * 24
ORDER_HOURS_MAX = 7 * 24


@dataclass(frozen=True, slots=True, order=True)
class Kind:
    """`hours` of service on one accelerator, done `within` hours. Raises InvalidInputError where that can't be."""

    hours: int
    within: int

    def __post_init__(self) -> None:
        if not 1 <= self.hours <= ORDER_HOURS_MAX:
            raise InvalidInputError(f"an order is for {self.hours} hours; it must be 1 to {ORDER_HOURS_MAX}")
        if not self.hours <= self.within <= WITHIN_HOURS_MAX:
            raise InvalidInputError(
                f"{self.hours} hours don't fit within {self.within}; choose a deadline {self.hours} to "
                f"{WITHIN_HOURS_MAX} hours ahead"
            )

    @property
    def long(self) -> bool:
        """Whether a shortage of hours says nothing about an order: it fails only when the owner needs the pool for a day."""
        return self.hours >= LONG_HOURS

    @property
    def ahead(self) -> float:
        """Orders open at most, over what is idle now."""
        return LONG_AHEAD if self.long else AHEAD

    def pace(self, risk: float) -> Pace:
        """How fast it earns where `risk` is the share of orders that may be late."""
        return Pace(risk, self.hours, EARNING, LONG_LOSS if self.long else 1.0)

    def __str__(self) -> str:
        return f"{self.hours} h within {self.within} h"


def used(capacity: Floats, in_use: Floats) -> bool:
    """Whether the owner used USED_SHARE of the pool in any of the last MEMORY_HOURS, as far as they were seen."""
    lately = slice(-MEMORY_HOURS, None)
    found = capacity[lately]
    return bool(((in_use[lately] >= USED_SHARE * found) & (found > 0)).any())


def covering(kinds: Sequence[Kind], hours: int, within: int) -> Kind | None:
    """The kind whose record speaks for an order: at least as many hours, in no more time; None where none does.

    Of several the one with the fewest hours, then the one with the most time.
    """
    able = [kind for kind in kinds if kind.hours >= hours and kind.within <= within]
    return min(able, key=lambda kind: (kind.hours, -kind.within), default=None)


@dataclass(frozen=True)
class Ahead:
    """Paths that idle accelerators may take, the hardest first; `least` is how many accelerator-hours the worst of them has."""

    paths: Floats
    least: float
    lows: dict[int, Floats] = field(default_factory=dict)

    @classmethod
    def of(cls, paths: Floats) -> Ahead:
        """The paths, ordered by how many hours they have in all."""
        sums = paths.sum(axis=1)
        return cls(paths[np.argsort(sums, kind="stable")], float(sums.min(initial=math.inf)))

    def tight(self, hours: int, count: float) -> Floats:
        """Those on which not all of `count` can run from now on for so many hours."""
        if hours not in self.lows:
            self.lows[hours] = self.paths[:, :hours].min(axis=1)
        found: Floats = self.paths[self.lows[hours] < count]
        return found


@dataclass(frozen=True)
class Idle:
    """What is known of a pool's idle accelerators at one moment: by hour until then, now, and what could be at most; by hour from
    then on what running and waiting jobs will need, empty where none are known, and what others have been promised (`taken`).
    `floor` is what is there by hour whatever the owner's demand does: unsold hours of blocks.
    """

    hourly: Floats
    now: float
    capacity: float
    need: Floats = field(default_factory=lambda: np.empty(0))
    taken: Floats = field(default_factory=lambda: np.empty(0))
    floor: Floats = field(default_factory=lambda: np.empty(0))

    @property
    def free(self) -> float:
        """What is idle now and promised to nobody."""
        least = float(self.floor[0]) if self.floor.size else 0.0
        return max(least, 0.0, self.now - float(self.taken[0])) if self.taken.size else max(least, self.now)

    @property
    def certain(self) -> Idle:
        """What no forecast stands behind: the floor alone."""
        return Idle(np.empty(0), 0.0, 0.0, floor=self.floor)

    def ahead(self, hours: int) -> Ahead:
        """The paths of so many hours with what is asked of them again and again; found once."""
        if hours not in self._ahead:
            self._ahead[hours] = Ahead.of(self.paths(hours))
        return self._ahead[hours]

    @cached_property
    def _ahead(self) -> dict[int, Ahead]:
        return {}

    def paths(self, hours: int) -> Floats:
        """The paths that it may take in the coming hours; see `idle_paths`."""
        if not self.floor.any():
            return self._forecast(hours)
        least = np.zeros(hours)
        known = min(hours, self.floor.size)
        least[:known] = self.floor[:known]
        found = self._forecast(hours) if self.hourly.size else np.empty((0, hours))
        if len(found) < MOMENTS_MIN:
            return np.tile(least, (MOMENTS_MIN, 1))
        raised: Floats = np.maximum(found, least)
        return raised

    def _forecast(self, hours: int) -> Floats:
        found = idle_paths(self.hourly, self.now, self.capacity, hours)
        needed = self.need[:hours]
        if needed.size:
            found[:, : needed.size] = np.minimum(
                found[:, : needed.size], np.maximum(0.0, np.floor(self.capacity - needed))
            )
        if not self.taken.any():
            return found
        taken = np.zeros(hours)
        known = min(hours, self.taken.size)
        taken[:known] = self.taken[:known]
        left: Floats = np.maximum(found - taken, 0.0)
        return left

    def less(self, count: float, first: int, hours: int) -> Idle:
        """The same with `count` more accelerators taken for `hours` hours from hour `first` on."""
        taken = np.zeros(max(self.taken.size, first + hours))
        taken[: self.taken.size] = self.taken
        taken[first : first + hours] += count
        floor = self.floor.copy()
        floor[first : first + hours] = np.maximum(0.0, floor[first : first + hours] - count)
        return replace(self, taken=taken, floor=floor)


class OpenOrders:
    """Open orders of one kind, one accelerator each; `grid[slack, left - 1]` counts those with so much left to do."""

    def __init__(self, kind: Kind, grid: Floats | None = None) -> None:
        self.kind = kind
        self.grid: Floats = np.zeros((kind.within - kind.hours + 1, kind.hours)) if grid is None else grid

    @property
    def count(self) -> float:
        """Orders that are open."""
        return float(self.grid.sum())

    @property
    def work(self) -> float:
        """Accelerator-hours that are left to do."""
        return float((self.grid * np.arange(1, self.kind.hours + 1)).sum())

    def room(self, idle: Idle, admitted: Admitted | None = None) -> int:
        """How many new orders end in time, with all that is open, on every path that the forecast calls possible."""
        most = math.floor(self.kind.ahead * idle.free - self.count)
        if most < 1:
            return 0
        ahead = idle.ahead(self.kind.within)
        if len(ahead.paths) < MOMENTS_MIN:
            return 0
        # Without as many idle hours as there is work nothing can be kept: that is soon told, and spares most replays.
        most = min(most, math.floor((ahead.least - self.work) / self.kind.hours))
        if most < 1:
            return 0
        # Where all that is open may run at once until it is done nothing can be late: such a path needs no replay. The hardest
        # come first: what they leave is seldom lowered again.
        tight = ahead.tight(self.kind.hours, self.count + most)
        return int((admitted or fastest())(tight, self.grid, float(most)))

    def add(self, count: float) -> None:
        """Admit `count` new orders."""
        self.grid[-1, -1] += count

    def pass_hour(self, idle: float) -> tuple[float, float, float]:
        """An hour passes with `idle` accelerators: how many orders ended in it, how many are late, and how many came near that.

        An order that can wait for a whole day uses half of that in every busy day or night: of those only late ones count as near.
        """
        self.grid, done, late, near = hour_of_service(self.grid, idle)
        return done, late, near if self.kind.within - self.kind.hours < DAY_HOURS else late
