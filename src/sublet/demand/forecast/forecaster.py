"""How far demand may rise: what it did after every comparable moment of the pool's own past."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sublet.demand.forecast.fits import NEARBY, PLAIN_PULL, Fits, keep, says_since
from sublet.demand.forecast.lookback import MEMORY_HOURS, Grid, last_seen
from sublet.demand.forecast.ranking import Ranking, WeightedLevels
from sublet.demand.model import Floats, Series

PATHS_MAX = 10_000
LEVEL_SHARE = 0.10
LEVEL_REST = 0.2
ORIGINS = (PLAIN_PULL, 0.5)
PLAIN, HIGH = range(2)
AGREED_SLOTS = 12
CALM_METHOD = "day_high"
JUMPY_METHOD = "levels"
SHORT_METHOD = "hours"


@dataclass(frozen=True)
class Futures:
    """What demand may do next: `paths` is (moments, slots) rises above the demand now, `weights` (moments) their say.

    `jump` says how large single jobs are: the JUMP_QUANTILE of one-slot rises over the highest demand, 0 if not known.
    `burst` is the mean of the largest hundredth of these rises, likewise. `order` is that of the highest rise on each path, where
    others who weigh the same paths found it.
    """

    paths: Grid
    weights: Grid
    method: str
    jump: float = 0.0
    order: Ranking | None = None
    burst: float = 0.0

    @cached_property
    def weight(self) -> float:
        """How many moments' worth of evidence there is."""
        return float(self.weights.sum())

    @cached_property
    def peaks(self) -> WeightedLevels:
        """The highest rise on each path."""
        return WeightedLevels(self.order or Ranking(self.paths.max(axis=1)), self.weights)


class Forecaster(Protocol):
    """One way to say what demand may do next, from what was known before slot `t` alone."""

    def futures(self, t: int, slots: int) -> Futures:
        """Rises over slots t … t+slots-1 above the demand of slot t-1."""
        ...

    def prepare(self, t: int, slots: int) -> None:
        """Get ready what `futures(t, slots)` needs that is known before slot t-1 has passed."""
        ...

    def extend(self, in_use: Floats) -> None:
        """Go on with `in_use`, which begins as the demand did that was given before."""
        ...


@dataclass(frozen=True)
class Recent:
    """Demand on a grid of `slot_s` seconds that ends at the moment of decision; the last element is the newest slot.

    `capacity` and `in_use` have one element per slot, NaN where nothing was seen.
    """

    slot_s: int
    capacity: Floats
    in_use: Floats

    @property
    def newest(self) -> float:
        """Demand in the newest slot, NaN where it was not seen."""
        return float(self.in_use[-1]) if self.in_use.size else float("nan")

    def rises(self, slots: int) -> Grid:
        """What happened next, from every past moment: `(moments, slots)` rises above the demand just before it.

        Row u holds `in_use[u + h] - in_use[u - 1]` for h = 0 … slots-1, over the moments whose whole future is past
        already. Moments that touch a slot that was not seen are left out.
        """
        usable = self.in_use.size - slots
        if usable < 1:
            return np.empty((0, slots), dtype=np.float32)
        first = max(0, usable - PATHS_MAX)
        demand = self.in_use[first:].astype(np.float32)
        rises = sliding_window_view(demand[1:], slots) - demand[: usable - first, None]
        whole = np.isfinite(rises).all(axis=1)
        return rises if whole.all() else rises[whole]


def recent(series: Series, at_us: int, slot_s: int, slots_max: int) -> Recent:
    """`series` on a grid that ends at `at_us`: slot k before the last covers `(at - (k+1) slots, at - k slots]`.

    Samples after `at_us` are ignored, whatever the caller handed in.
    """
    step_us = slot_s * 1_000_000
    age = (at_us - series.times_us) // step_us
    keep = (series.times_us <= at_us) & (age < slots_max)
    if not keep.any():
        return Recent(slot_s, np.empty(0), np.empty(0))
    age = age[keep]
    count = int(age.max()) + 1
    place = count - 1 - age
    in_use = np.full(count, -np.inf)
    capacity = np.full(count, np.inf)
    np.maximum.at(in_use, place, series.in_use[keep])
    np.minimum.at(capacity, place, series.capacity[keep])
    unseen = np.isinf(capacity)
    in_use[unseen] = capacity[unseen] = np.nan
    return Recent(slot_s, capacity, in_use)


class PlainRises:
    """Every past moment has the same say: what demand did after it is what it may do now."""

    method = "plain"

    def __init__(self, in_use: Floats) -> None:
        self._in_use = in_use

    def extend(self, in_use: Floats) -> None:
        self._in_use = in_use

    def prepare(self, t: int, slots: int) -> None:
        pass

    def futures(self, t: int, slots: int) -> Futures:
        rises = Recent(0, self._in_use[:0], self._in_use[:t]).rises(slots)
        return Futures(rises, np.ones(rises.shape[0], dtype=np.float32), self.method)


class Filtered:
    """Filtered past rises: moments near the same hour of the day, recent ones first, fitted to that hour's usual move.

    Rises after each past moment are split into what is usual at that hour of the day (mean and mean deviation per slot
    ahead, shrunk towards the whole day's) and a standard path; the standard paths are then set back at the present
    hour. Weights fall with the distance in hours of the day and halve every HALF_LIFE_HOURS, for long promises every
    LONG_HALF_LIFE_HOURS. The idea is filtered historical simulation (Barone-Adesi and others, 1999), with hours of the day
    in place of a volatility model.

    A method says from which origin of the fits it starts, and whether moments at another level of demand count less.

    With `agreed`, AGREED_SLOTS and more are forecast path by path by the highest of all origins.
    """

    def __init__(
        self, fits: Fits, method: str, origin: int = PLAIN, *, by_level: bool = False, agreed: bool = False
    ) -> None:
        self.method = method
        self._fits = fits
        self._origin = origin
        self._by_level = by_level
        self._agreed = agreed
        self._told: dict[int, list[tuple[int, Futures]]] = {}

    def extend(self, in_use: Floats) -> None:
        self._fits.extend(in_use)

    def prepare(self, t: int, slots: int) -> None:
        self._fits.prepare(t, slots)

    def futures(self, t: int, slots: int) -> Futures:
        return _told_before(self._told, t, slots, self._futures)

    def _futures(self, t: int, slots: int) -> Futures:
        fit = self._fits.at(t, slots)
        if self._agreed and slots >= AGREED_SLOTS:
            found, origin = self._fits.agreed(t, slots), 0
        else:
            found, origin = self._fits.set_at(t, slots), self._origin
        paths = found.rises(slots, origin)
        order: Ranking | None = found.order(slots, origin)
        wider = found.wider(self._fits.lately(t)) if slots == 1 else None
        if wider is not None and wider.size:
            usual = np.float32(np.average(paths[:, 0], weights=found.weights))
            paths, order = usual + (paths - usual) * wider[:, None], None
        level = last_seen(self._fits.in_use[:t]) if self._by_level and fit.highest > 0 else math.nan
        if math.isnan(level):
            return Futures(paths, found.weights, self.method, fit.jump, order, fit.burst)
        apart = (found.before - np.float32(level)) / np.float32(LEVEL_SHARE * fit.highest)
        likeness: Grid = np.exp(np.float32(-0.5) * apart**2) + np.float32(LEVEL_REST)
        return Futures(paths, found.weights * likeness, self.method, fit.jump, order, fit.burst)


class Alike(Filtered):
    """The same with a sign that is known beside demand, such as a queue: moments at which it stood elsewhere count less.

    `sign` has a value for each slot, as it was known when that slot began; likeness falls with the distance in its
    standard deviations.
    """

    def __init__(self, fits: Fits, method: str, sign: Floats, origin: int = PLAIN, *, agreed: bool = False) -> None:
        super().__init__(fits, method, origin, agreed=agreed)
        self._sign = sign

    def futures(self, t: int, slots: int) -> Futures:
        plain, found = super().futures(t, slots), self._fits.set_at(t, slots)
        spread = float(self._sign[max(0, t - MEMORY_HOURS) : t + 1].std())
        if spread == 0:
            return plain
        apart = (self._sign[found.moments] - self._sign[t]) / spread
        likeness = (np.exp(-0.5 * apart**2) + LEVEL_REST).astype(np.float32)
        return Futures(plain.paths, plain.weights * likeness, self.method, plain.jump, burst=plain.burst)


class Anytime:
    """Lookback rises as they were, at any hour of the day, recent ones first."""

    def __init__(self, fits: Fits, method: str) -> None:
        self.method = method
        self._fits = fits
        self._told: dict[int, tuple[int, Futures]] = {}

    def extend(self, in_use: Floats) -> None:
        self._fits.extend(in_use)

    def prepare(self, t: int, slots: int) -> None:
        pass

    def futures(self, t: int, slots: int) -> Futures:
        # All moments with all that came after them take much room: only the latest are kept.
        told = self._told.get(slots)
        if told is None or told[0] != t:
            told = self._told[slots] = (t, self._futures(t, slots))
        return told[1]

    def _futures(self, t: int, slots: int) -> Futures:
        first = max(1, t - slots + 1 - MEMORY_HOURS)
        count = max(0, t - slots + 1 - first)
        known = self._fits.in_use[first - 1 : t].astype(np.float32)
        step = known.itemsize
        rises = np.ndarray((slots, count), known.dtype, known, step if count else 0, (step, step)) - known[:count]
        # As much evidence as the hours near the present one give: what lasts fills many moments in a row.
        weights: Grid = says_since(t - first, count, slots) * NEARBY
        if not np.isfinite(known).all():
            whole = np.isfinite(rises).all(axis=0)
            rises, weights = rises[:, whole], weights[whole]
        fit = self._fits.at(t, slots)
        return Futures(rises.T, weights, self.method, fit.jump, burst=fit.burst)


def _told_before(
    told: dict[int, list[tuple[int, Futures]]], t: int, slots: int, tell: Callable[[int, int], Futures]
) -> Futures:
    """What was told of `slots` slots from slot `t` on, told now where it was not yet."""
    kept = told.setdefault(slots, [])
    for at, futures in kept:
        if at == t:
            return futures
    futures = tell(t, slots)
    keep(kept, (t, futures))
    return futures


def candidates(in_use: Floats, first_hour: int = 0, phase: int = 0) -> dict[str, Forecaster]:
    """The methods that a pool's own record chooses among, by name: where a pool begins is one of the first three."""
    fits = Fits(in_use, first_hour, phase, ORIGINS)
    return {
        CALM_METHOD: Filtered(fits, CALM_METHOD, HIGH, agreed=True),
        JUMPY_METHOD: Filtered(fits, JUMPY_METHOD, HIGH, by_level=True, agreed=True),
        SHORT_METHOD: Filtered(fits, SHORT_METHOD),
        "anytime": Anytime(fits, "anytime"),
    }
