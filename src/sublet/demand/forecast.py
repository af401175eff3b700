"""How far demand may rise: what it did after every comparable moment of the pool's own past."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
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
HIGH_HOURS = 24
HIGH_PULL = 0.5
PHASE_STEP = 7
SHARED_SLOTS = (5, 25)
AGREED_SLOTS = 12
CALM_METHOD = "day_high"
JUMPY_METHOD = "levels"
SHORT_METHOD = "hours"

Grid = NDArray[np.float32]


@dataclass(frozen=True)
class Futures:
    """What demand may do next: `paths` is (moments, slots) rises above the demand now, `weights` (moments) their say.

    `jump` says how large single jobs are: the JUMP_QUANTILE of one-slot rises over the highest demand, 0 if not known.
    """

    paths: Grid
    weights: Grid
    method: str
    jump: float = 0.0

    @cached_property
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


class Fits:
    """What is usual in a pool, hour by hour, fitted once for each length and shared by the forecasters that use it.

    Rises count from an origin: the demand just before, or `pull` of the way from there to the highest demand of the last
    HIGH_HOURS: what demand has just left it often comes back to. A fit is renewed once a day, at an hour that `phase` and its length
    give, so that the fits of many pools do not fall into the same hour. It knows nothing later.
    """

    def __init__(self, in_use: Floats, first_hour: int = 0, phase: int = 0, pull: float = 0.0) -> None:
        """`in_use` is hourly, NaN where nothing was seen; `first_hour` is the hour of its first element since the epoch."""
        self.in_use = in_use
        self.first_hour = first_hour
        self._phase = phase
        self._pull = pull
        self._fits: dict[int, _Fit] = {}
        self._before: dict[int, _Fit] = {}
        self._at_hour: dict[int, tuple[int, _Set]] = {}

    def extend(self, in_use: Floats) -> None:
        """Go on with `in_use`, which begins as the demand did that was given before."""
        self.in_use = in_use
        self._at_hour.clear()

    def at(self, t: int, slots: int) -> _Fit:
        """The fit that is in force at slot `t`: of the first of SHARED_SLOTS that reaches so far, else of its own length."""
        slots = _shared(slots)
        renewed = t - (self.first_hour + t - self._phase - PHASE_STEP * slots) % DAY
        at = renewed if renewed - slots >= 2 * DAY else t
        fit = self._fits.get(slots)
        if fit is not None and fit.at == at:
            if t > at:
                self._before.pop(slots, None)
            return fit
        # A shadow lives an hour behind a decision: where a fit is renewed, the one before it is still asked for.
        before = self._before.get(slots)
        if before is not None and before.at == at:
            return before
        if fit is not None:
            self._before[slots] = fit
        fit = self._fits[slots] = _Fit.of(self.in_use, self.first_hour, at, slots, self._pull)
        return fit

    def set_at(self, t: int, slots: int) -> _Set:
        """The standard paths set back at the hour of slot `t`, above the demand of the slot before it."""
        length = _shared(slots)
        known = self._at_hour.get(length)
        if known is None or known[0] != t:
            found = self.at(t, slots).set_at(t, (self.first_hour + t) % DAY)
            if self._pull and t > 0:
                recently = self.in_use[max(0, t - HIGH_HOURS) : t]
                found.paths.T[...] += np.float32(self._pull * (np.fmax.reduce(recently) - recently[-1]))
            known = self._at_hour[length] = (t, found)
        found = known[1]
        return found if slots == length else replace(found, paths=found.paths[:, :slots])


def _shared(slots: int) -> int:
    return next((length for length in SHARED_SLOTS if length >= slots), slots)


class HourlyRises:
    """Filtered past rises: moments near the same hour of the day, recent ones first, fitted to that hour's usual move.

    Rises after each past moment are split into what is usual at that hour of the day (mean and mean deviation per slot
    ahead, shrunk towards the whole day's) and a standard path; the standard paths are then set back at the present
    hour. Weights fall with the distance in hours of the day and halve every HALF_LIFE_HOURS. The idea is filtered
    historical simulation (Barone-Adesi and others, 1999), with hours of the day in place of a volatility model.

    Where single jobs are large against the pool (`jump` exceeds JUMP_SHARE), the level of demand says more than the
    hour: moments at another level count less, and the method is called `levels`.
    """

    method = "hours"
    jumpy_method = "levels"

    def __init__(self, in_use: Floats, first_hour: int = 0) -> None:
        """`in_use` is hourly, NaN where nothing was seen; `first_hour` is the hour of its first element since the epoch."""
        self._fits = Fits(in_use, first_hour)

    def extend(self, in_use: Floats) -> None:
        self._fits.extend(in_use)

    def futures(self, t: int, slots: int) -> Futures:
        by_level = self._fits.at(t, slots).jump > JUMP_SHARE
        return Filtered(self._fits, self.jumpy_method if by_level else self.method, by_level=by_level).futures(t, slots)


class Filtered:
    """One way of using fits: with or without regard to the level of demand.

    With `other` fits of the same demand, AGREED_SLOTS and more are forecast path by path by the higher of both.
    """

    def __init__(self, fits: Fits, method: str, *, by_level: bool = False, other: Fits | None = None) -> None:
        self.method = method
        self._fits = fits
        self._by_level = by_level
        self._other = other

    def extend(self, in_use: Floats) -> None:
        self._fits.extend(in_use)

    def futures(self, t: int, slots: int) -> Futures:
        fit, found = self._fits.at(t, slots), self._fits.set_at(t, slots)
        paths = found.paths
        if self._other is not None and slots >= AGREED_SLOTS:
            paths = np.maximum(paths, self._other.set_at(t, slots).paths)
        if not self._by_level or fit.highest <= 0:
            return Futures(paths, found.weights, self.method, fit.jump)
        apart = (found.before - self._fits.in_use[t - 1]) / (LEVEL_SHARE * fit.highest)
        likeness = (np.exp(-0.5 * apart**2) + LEVEL_REST).astype(np.float32)
        return Futures(paths, found.weights * likeness, self.method, fit.jump)


class Alike(Filtered):
    """The same with a sign that is known beside demand, such as a queue: moments at which it stood elsewhere count less.

    `sign` has a value for each slot, as it was known when that slot began; likeness falls with the distance in its
    standard deviations.
    """

    def __init__(self, fits: Fits, method: str, sign: Floats, *, other: Fits | None = None) -> None:
        super().__init__(fits, method, other=other)
        self._sign = sign

    def futures(self, t: int, slots: int) -> Futures:
        plain, found = super().futures(t, slots), self._fits.set_at(t, slots)
        spread = float(self._sign[max(0, t - MEMORY_HOURS) : t + 1].std())
        if spread == 0:
            return plain
        apart = (self._sign[found.moments] - self._sign[t]) / spread
        likeness = (np.exp(-0.5 * apart**2) + LEVEL_REST).astype(np.float32)
        return Futures(plain.paths, plain.weights * likeness, self.method, plain.jump)


class Anytime:
    """Past rises as they were, at any hour of the day, recent ones first."""

    def __init__(self, fits: Fits, method: str) -> None:
        self.method = method
        self._fits = fits

    def extend(self, in_use: Floats) -> None:
        self._fits.extend(in_use)

    def futures(self, t: int, slots: int) -> Futures:
        first = max(1, t - slots + 1 - MEMORY_HOURS)
        count = max(0, t - slots + 1 - first)
        known = self._fits.in_use[first - 1 : t].astype(np.float32)
        rises = np.empty((slots, count), dtype=np.float32)
        for ahead in range(slots):
            np.subtract(known[1 + ahead : 1 + ahead + count], known[:count], out=rises[ahead])
        # As much evidence as the hours near the present one give: what lasts fills many moments in a row.
        weights = _faded(t - np.arange(first, first + count)) * _NEARBY
        whole = np.isfinite(rises).all(axis=0)
        if not whole.all():
            rises, weights = rises[:, whole], weights[whole]
        return Futures(rises.T, weights, self.method, self._fits.at(t, slots).jump)


def candidates(in_use: Floats, first_hour: int = 0, phase: int = 0) -> dict[str, Forecaster]:
    """The methods that a pool's own record chooses among, by name: where a pool begins is one of the first three."""
    plain, high = Fits(in_use, first_hour, phase), Fits(in_use, first_hour, phase, HIGH_PULL)
    return {
        CALM_METHOD: Filtered(high, CALM_METHOD, other=plain),
        JUMPY_METHOD: Filtered(high, JUMPY_METHOD, by_level=True, other=plain),
        SHORT_METHOD: Filtered(plain, SHORT_METHOD),
        "anytime": Anytime(plain, "anytime"),
    }


@dataclass(frozen=True, slots=True)
class _Set:
    """Paths (moments, slots) at one hour, their say, demand before each moment, and the moments themselves."""

    paths: Grid
    weights: Grid
    before: Floats
    moments: NDArray[np.int64]


@dataclass(frozen=True)
class _Fit:
    """Standard paths (slots, moments), sorted by hour of the day, and the hours' usual moves, as known at slot `at`.

    `starts` says where in them each hour of the day begins; `before` is demand before each moment.
    """

    at: int
    mean: Floats
    spread: Floats
    standard: Grid
    moments: NDArray[np.int64]
    before: Floats
    starts: NDArray[np.int64]
    highest: float
    jump: float

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """Moments of each hour of the day."""
        return np.diff(self.starts)

    @classmethod
    def of(cls, in_use: Floats, first_hour: int, at: int, slots: int, pull: float) -> _Fit:
        first = max(1, at - slots + 1 - MEMORY_HOURS)
        moments = np.arange(first, max(first, at - slots + 1))
        known = in_use[first - 1 : at]
        origin = known[: moments.size]
        if pull:
            start = max(0, first - HIGH_HOURS)
            high = _highest_lately(in_use[start : first - 1 + moments.size])[first - 1 - start :]
            origin = (1 - pull) * origin + pull * high
        if moments.size:
            rises = sliding_window_view(known[1:], slots) - origin[:, None]
            whole = np.isfinite(rises).all(axis=1)
            rises, moments = rises[whole], moments[whole]
        if moments.size == 0:
            nothing, no_paths = np.zeros((DAY, slots)), np.empty((slots, 0), dtype=np.float32)
            nowhere = np.zeros(DAY + 1, dtype=np.int64)
            return cls(at, nothing, nothing, no_paths, moments[:0], np.empty(0), nowhere, 0.0, 0.0)
        highest = float(np.fmax.reduce(known))
        steps = in_use[moments] - in_use[moments - 1]
        jump = float(np.quantile(steps, JUMP_QUANTILE)) / max(1.0, highest)
        hours = (first_hour + moments) % DAY
        order = np.argsort(hours, kind="stable")
        rises, moments, hours = rises[order], moments[order], hours[order]
        starts = np.searchsorted(hours, np.arange(DAY + 1))
        mean, spread = _usual(rises, hours, starts)
        standard = np.ascontiguousarray(((rises - mean[hours]) / spread[hours]).T, dtype=np.float32)
        return cls(at, mean, spread, standard, moments, in_use[moments - 1], starts, highest, jump)

    def set_at(self, t: int, hour: int) -> _Set:
        """The standard paths set back at that hour of the day. Moments within NEAR_HOURS of it have a say."""
        first, last = hour - NEAR_HOURS, hour + NEAR_HOURS + 1
        # Sorted by hour of the day, they are one run, or two where midnight is among them.
        runs = [(max(0, first), min(DAY, last))]
        runs += [(first + DAY, DAY)] * (first < 0) + [(0, last - DAY)] * (last > DAY)
        places = [slice(self.starts[begin], self.starts[end]) for begin, end in runs]
        paths = np.concatenate([self.standard[:, place] for place in places], axis=1)
        paths *= self.spread[hour].astype(np.float32)[:, None]
        paths += self.mean[hour].astype(np.float32)[:, None]
        moments = np.concatenate([self.moments[place] for place in places])
        before = np.concatenate([self.before[place] for place in places])
        hours = np.concatenate([np.arange(begin, end) for begin, end in runs])
        nearness = np.repeat(_NEARNESS[np.abs((hours - hour + DAY // 2) % DAY - DAY // 2)], self.counts[hours])
        return _Set(paths.T, nearness * _faded(t - moments), before, moments)


_NEARNESS = np.exp(-0.5 * (np.arange(NEAR_HOURS + 1) / KERNEL_HOURS) ** 2).astype(np.float32)
_NEARBY = np.float32((2 * _NEARNESS.sum() - 1) / DAY)


def _faded(ages: NDArray[np.int64]) -> Grid:
    faded: Grid = np.exp2(-ages.astype(np.float32) / np.float32(HALF_LIFE_HOURS))
    return faded


def _highest_lately(in_use: Floats) -> Floats:
    """The highest demand of the HIGH_HOURS slots up to each, over what was seen of them."""
    highest = in_use.copy()
    covered = 1
    while covered < HIGH_HOURS:
        step = min(covered, HIGH_HOURS - covered)
        highest[step:] = np.fmax(highest[step:], highest[:-step].copy())
        covered += step
    return highest


def _usual(rises: Floats, hours: NDArray[np.int64], starts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Mean and mean absolute deviation per hour of the day and slot ahead, shrunk towards the whole day's."""
    counts = np.diff(starts)[:, None]
    say = counts / (counts + SHRINK)
    mean = say * _sums(rises, starts) / np.maximum(counts, 1) + (1 - say) * rises.mean(axis=0)
    off = np.abs(rises - mean[hours])
    typical = off.mean(axis=0)
    spread = say * _sums(off, starts) / np.maximum(counts, 1) + (1 - say) * typical
    return mean, np.maximum(spread, SPREAD_FLOOR * typical + SPREAD_MIN)


def _sums(rows: Floats, starts: NDArray[np.int64]) -> Floats:
    """Sum of the rows of each hour of the day, in a fixed order: the same digits on every machine."""
    sums = np.zeros((DAY, rows.shape[1]))
    for hour in range(DAY):
        sums[hour] = rows[starts[hour] : starts[hour + 1]].sum(axis=0)
    return sums
