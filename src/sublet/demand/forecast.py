"""How far demand may rise: what it did after every comparable moment of the pool's own past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sublet.demand.model import Floats, Series

PATHS_MAX = 10_000
DAY = 24
MEMORY_HOURS = 120 * DAY
HALF_LIFE_HOURS = 20 * DAY
NEAR_HOURS = 5
KERNEL_HOURS = 2.0
SHRINK = 5.0
SPREAD_FLOOR = 0.25
SPREAD_MIN = 1e-3
JUMP_QUANTILE = 0.95
JUMP_SHARE = 0.085
LEVEL_SHARE = 0.10
LEVEL_REST = 0.2

Grid = NDArray[np.float32]


@dataclass(frozen=True)
class Futures:
    """What demand may do next: `paths` is (moments, slots) rises above the demand now, `weights` (moments) their say."""

    paths: Grid
    weights: Grid
    method: str

    @property
    def weight(self) -> float:
        """How many moments' worth of evidence there is."""
        return float(self.weights.sum())


class Forecaster(Protocol):
    """One way to say what demand may do next, from what was known before slot `t` alone."""

    def futures(self, t: int, slots: int) -> Futures:
        """Rises over slots t … t+slots-1 above the demand of slot t-1."""
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

    def futures(self, t: int, slots: int) -> Futures:
        rises = Recent(0, self._in_use[:0], self._in_use[max(0, t - MEMORY_HOURS) : t]).rises(slots)
        return Futures(rises, np.ones(rises.shape[0], dtype=np.float32), self.method)


class HourlyRises:
    """Filtered past rises: moments near the same hour of the day, recent ones first, fitted to that hour's usual move.

    Rises after each past moment are split into what is usual at that hour of the day (mean and mean deviation per slot
    ahead, shrunk towards the whole day's) and a standard path; the standard paths are then set back at the present
    hour. Weights fall with the distance in hours of the day and halve every HALF_LIFE_HOURS. The fit is renewed at
    midnight UTC and knows nothing later. The idea is filtered historical simulation (Barone-Adesi and others, 1999),
    with hours of the day in place of a volatility model.

    Where single jobs are large against the pool (the JUMP_QUANTILE of one-hour rises exceeds JUMP_SHARE of the highest
    demand), the level of demand says more than the hour: moments at another level count less, and the method is called
    `levels`.
    """

    method = "hours"
    jumpy_method = "levels"

    def __init__(self, in_use: Floats, first_hour: int = 0) -> None:
        """`in_use` is hourly, NaN where nothing was seen; `first_hour` is the hour of its first element since the epoch."""
        self._in_use = in_use
        self._first_hour = first_hour
        self._fits: dict[int, _Fit] = {}
        self._latest: dict[int, tuple[int, Futures]] = {}

    def extend(self, in_use: Floats) -> None:
        self._in_use = in_use
        self._latest.clear()

    def futures(self, t: int, slots: int) -> Futures:
        known = self._latest.get(slots)
        if known is None or known[0] != t:
            known = self._latest[slots] = (t, self._futures(t, slots))
        return known[1]

    def _futures(self, t: int, slots: int) -> Futures:
        midnight = t - (self._first_hour + t) % DAY
        at = midnight if midnight - slots >= 2 * DAY else t
        fit = self._fits.get(slots)
        if fit is None or fit.at != at:
            fit = self._fits[slots] = _Fit.of(self._in_use, self._first_hour, at, slots)
        return fit.set_at(t, (self._first_hour + t) % DAY, self._in_use)


@dataclass(frozen=True)
class _Fit:
    """Standard paths and the hours' usual moves, as known at slot `at`."""

    at: int
    mean: Floats
    spread: Floats
    standard: Grid
    moments: NDArray[np.int64]
    hours: NDArray[np.int64]
    highest: float
    jumpy: bool

    @classmethod
    def of(cls, in_use: Floats, first_hour: int, at: int, slots: int) -> _Fit:
        first = max(1, at - slots + 1 - MEMORY_HOURS)
        moments = np.arange(first, at - slots + 1)
        if moments.size == 0:
            nothing = np.zeros((DAY, slots))
            no_paths = np.empty((0, slots), dtype=np.float32)
            return cls(at, nothing, nothing, no_paths, moments, moments, 0.0, False)
        known = in_use[first - 1 : at]
        rises = sliding_window_view(known[1:], slots) - known[: moments.size, None]
        whole = np.isfinite(rises).all(axis=1)
        rises, moments = rises[whole], moments[whole]
        hours = (first_hour + moments) % DAY
        mean, spread = _usual(rises, hours)
        standard = ((rises - mean[hours]) / spread[hours]).astype(np.float32)
        highest = float(known[np.isfinite(known)].max()) if moments.size else 0.0
        jumpy = bool(moments.size) and float(np.quantile(rises[:, 0], JUMP_QUANTILE)) > JUMP_SHARE * highest
        return cls(at, mean, spread, standard, moments, hours, highest, jumpy)

    def near(self, hour: int) -> tuple[NDArray[np.int64], Grid]:
        """Places of the moments within NEAR_HOURS of that hour of the day, and their say by nearness."""
        apart = np.abs(self.hours - hour)
        apart = np.minimum(apart, DAY - apart)
        rows = np.flatnonzero(apart <= NEAR_HOURS)
        return rows, _NEARNESS[apart[rows]]

    def set_at(self, t: int, hour: int, in_use: Floats) -> Futures:
        """The standard paths set back at the hour of slot `t`."""
        rows, nearness = self.near(hour)
        paths = self.mean[hour].astype(np.float32) + self.spread[hour].astype(np.float32) * self.standard[rows]
        ages = (t - self.moments[rows]).astype(np.float32)
        weights = nearness * np.exp2(-ages / HALF_LIFE_HOURS).astype(np.float32)
        if not self.jumpy:
            return Futures(paths, weights, HourlyRises.method)
        apart = (in_use[self.moments[rows] - 1] - in_use[t - 1]) / (LEVEL_SHARE * self.highest)
        likeness = np.exp(-0.5 * apart**2) + LEVEL_REST
        return Futures(paths, (weights * likeness).astype(np.float32), HourlyRises.jumpy_method)


_NEARNESS = np.exp(-0.5 * (np.arange(DAY) / KERNEL_HOURS) ** 2).astype(np.float32)


def _usual(rises: Floats, hours: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and mean absolute deviation per hour of the day and slot ahead, shrunk towards the whole day's."""
    counts = np.bincount(hours, minlength=DAY)[:, None]
    say = counts / (counts + SHRINK)
    overall = rises.mean(axis=0) if rises.size else np.zeros(rises.shape[1])
    mean = say * _sums(rises, hours) / np.maximum(counts, 1) + (1 - say) * overall
    off = np.abs(rises - mean[hours])
    typical = off.mean(axis=0) if rises.size else np.zeros(rises.shape[1])
    spread = say * _sums(off, hours) / np.maximum(counts, 1) + (1 - say) * typical
    return mean, np.maximum(spread, SPREAD_FLOOR * typical + SPREAD_MIN)


def _sums(rows: Floats, hours: NDArray[np.int64]) -> Floats:
    """Sum of the rows of each hour of the day, in a fixed order: the same digits on every machine."""
    sums = np.zeros((DAY, rows.shape[1]))
    for hour in range(DAY):
        sums[hour] = rows[hours == hour].sum(axis=0)
    return sums
