"""What is usual in a pool at each hour of the day, and what demand did after every past moment, set back at the present."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from typing import TypeVar

import numpy as np

from sublet.demand.forecast.lookback import BEFORE_HOURS, DAY, HIGH_HOURS, SPREAD_MIN, Grid, Lookback, Places, last_seen
from sublet.demand.forecast.ranking import Ranking
from sublet.demand.model import Floats

HALF_LIFE_HOURS = 20 * DAY
LONG_HALF_LIFE_HOURS = 90 * DAY
"""What ends a long promise is rare: it is remembered for longer than how the days of these weeks go."""

NEAR_HOURS = 5
KERNEL_HOURS = 2.0
SHRINK = 5.0
SPREAD_FLOOR = 0.25
PLAIN_PULL = 0.0
JUMP_SHARE = 0.085
PHASE_STEP = 7
SHARED_SLOTS = (5, 25)

KEPT_HOURS = 2
"""A decision stands at the present hour while a shadow may still live an hour behind it."""

SAYS_KEPT = 512
"""Many pools were seen for as long: what their moments have to say is found once for all of them."""

Item = TypeVar("Item")


class Fits:
    """What is usual in a pool, hour by hour, fitted once for each length and shared by the forecasters that use it.

    Rises count from an origin: `pulls` says for each how far it lies on the way from the demand just before (0) to the
    highest demand of the last HIGH_HOURS: what demand has just left it often comes back to. All origins are fitted in one
    go. A fit is renewed once a day, at an hour that `phase` and its length give, so that the fits of many pools do not fall
    into the same hour. It knows nothing later.
    """

    def __init__(
        self, in_use: Floats, first_hour: int = 0, phase: int = 0, pulls: tuple[float, ...] = (PLAIN_PULL,)
    ) -> None:
        """`in_use` is hourly, NaN where nothing was seen; `first_hour` is the hour of its first element since the epoch."""
        self.in_use = in_use
        self.first_hour = first_hour
        self._phase = phase
        self._pulls = np.array(pulls, dtype=np.float32)[:, None, None]
        self._fits: dict[int, list[Fit]] = {}
        self._sets: dict[int, list[Set]] = {}
        self._ready: dict[tuple[int, int], Set] = {}
        self._agreed: dict[int, list[Set]] = {}

    def extend(self, in_use: Floats) -> None:
        """Go on with `in_use`, which begins as the demand did that was given before."""
        self.in_use = in_use

    def at(self, t: int, slots: int) -> Fit:
        """The fit that is in force at slot `t`: of the first of SHARED_SLOTS that reaches so far, else of its own length."""
        slots = shared(slots)
        at = self._renewed(t, slots)
        kept = self._fits.setdefault(slots, [])
        for fit in kept:
            if fit.past.at == at:
                return fit
        fit = Fit(Lookback.of(self.in_use, at, slots), self._pulls)
        # A shadow lives an hour behind a decision: where a fit is renewed, the one before it is still asked for.
        keep(kept, fit)
        return fit

    def set_at(self, t: int, slots: int) -> Set:
        """The paths of the fit set back at the hour of slot `t`, above the demand of the slot before it.

        They may be longer than `slots`.
        """
        length = shared(slots)
        kept = self._sets.setdefault(length, [])
        found = _of_slot(kept, t)
        if found is None:
            found = self._new_set(t, length)
            keep(kept, found)
        return found

    def prepare(self, t: int, slots: int) -> None:
        """Get ready what the paths at slot `t` need but for the demand just before it, where the fit stays in force."""
        length = shared(slots)
        if (t, length) in self._ready or all(
            fit.past.at != self._renewed(t, length) for fit in self._fits.get(length, ())
        ):
            return
        for other in list(self._ready):
            if other[1] == length:
                self._ready.pop(other, None)
        self._ready[t, length] = self._from_origin(t, length)

    def agreed(self, t: int, slots: int) -> Set:
        """Path by path the highest of what the origins say, as the paths of one origin."""
        length = shared(slots)
        kept = self._agreed.setdefault(length, [])
        found = _of_slot(kept, t)
        if found is None:
            # Where they have to agree, they are seldom asked for alone: they are not kept for that.
            each = _of_slot(self._sets.get(length, ()), t) or self._new_set(t, length)
            found = replace(each, paths=each.paths.max(axis=0, keepdims=True))
            keep(kept, found)
        return found

    def lately(self, t: int) -> Floats:
        """Demand by which the swings at slot `t` are known: until the slot before its last."""
        return self.in_use[max(0, t - BEFORE_HOURS) : max(0, t - 1)]

    def _new_set(self, t: int, length: int) -> Set:
        """A set that nobody else holds."""
        # What is taken out here no other thread finds, so that it may be written to.
        found = self._ready.pop((t, length), None) or self._from_origin(t, length)
        if t > 0:
            recently = self.in_use[max(0, t - HIGH_HOURS) : t]
            above = np.float32(float(np.fmax.reduce(recently)) - last_seen(recently))
            for origin, pull in enumerate(self._pulls.ravel()):
                if pull and np.isfinite(above):
                    found.paths[origin] += pull * above
        return found

    def _from_origin(self, t: int, length: int) -> Set:
        return self.at(t, length).set_at(t, self.lately(t))

    def _renewed(self, t: int, length: int) -> int:
        renewed = t - (self.first_hour + t - self._phase - PHASE_STEP * length) % DAY
        return renewed if renewed - length >= 2 * DAY else t


@cache
def shared(slots: int) -> int:
    """The length of the fit that serves promises of `slots` slots."""
    return next((length for length in SHARED_SLOTS if length >= slots), slots)


def faded(ages: Places, slots: int) -> Grid:
    """The say of moments so many hours ago for promises of `slots` slots."""
    half_life = HALF_LIFE_HOURS if slots <= SHARED_SLOTS[0] else LONG_HALF_LIFE_HOURS
    says: Grid = np.exp2(-ages.astype(np.float32) / np.float32(half_life))
    return says


@lru_cache(SAYS_KEPT)
def says_since(oldest: int, count: int, slots: int) -> Grid:
    """The say of `count` moments, the first of them `oldest` hours ago and one each hour from there; not to be written to."""
    says = faded(oldest - np.arange(count), slots)
    says.flags.writeable = False
    return says


@lru_cache(SAYS_KEPT)
def _says_near(here: int, newest: int, days: int, slots: int) -> Grid:
    """The say of the moments near hour `here`, by hour and day; row 0 of the newest column was `newest` hours ago."""
    near = _NEARNESS * faded(newest - (here + _NEAR) % DAY, slots)
    says: Grid = near[:, None] * faded(DAY * np.arange(days - 1, -1, -1), slots)
    says.flags.writeable = False
    return says


class Fit:
    """The usual move of each hour of the day, slot by slot ahead: its mean, and its mean deviation; from each origin.

    An hour's deviation is found when it is first asked for: a decision needs those near its own hour alone.
    """

    def __init__(self, past: Lookback, pulls: Grid) -> None:
        """An origin lies so much of the way from the demand before each moment to the highest of the hours before it.

        `pulls` has the shape (origins, 1, 1).
        """
        self.past = past
        self._pulls = pulls
        # One number for all hours where each has as many moments.
        self._counts = np.full(1, past.days, dtype=np.float32)
        if past.whole is not None:
            self._counts = past.whole.sum(axis=1).astype(np.float32)
        self._say = self._counts / (self._counts + np.float32(SHRINK))
        self._mean = self._means()
        self._deviation = np.zeros((pulls.size, past.slots, DAY), dtype=np.float32)
        self._found = [False] * DAY

    @property
    def at(self) -> int:
        """The slot before which all of this was known."""
        return self.past.at

    @property
    def jump(self) -> float:
        """How large single jobs are: the JUMP_QUANTILE of one-slot rises over the highest demand, 0 if not known."""
        return self.past.jump

    @property
    def burst(self) -> float:
        """How large the largest jobs are: the mean of the rises at p99 to max over the highest demand, 0 if not known."""
        return self.past.burst

    @property
    def highest(self) -> float:
        return self.past.highest

    def set_at(self, t: int, lately: Floats) -> Set:
        """The paths as they would be at slot `t`, above their origins; `lately` is demand until the slot before its last.

        Moments within NEAR_HOURS of the same time of day have a say.
        """
        past = self.past
        here = (t - past.first) % DAY
        rows, ahead = _places(here, past.slots)
        before = past.before.take(rows, axis=0)
        origins = before + self._pulls * (past.high.take(rows, axis=0) - before)
        moves = past.ahead.take(ahead, axis=0) - origins[:, None]
        mean = self._mean.take(rows, axis=2)
        # One large job is as large in calm hours as in others.
        if past.swings is None or past.jump > JUMP_SHARE:
            spread = self._spread(here, moves, mean)
            scale = spread[:, :, NEAR_HOURS, None] / spread
            moves *= scale[..., None]
            moves += (mean[:, :, NEAR_HOURS, None] - mean * scale)[..., None]
        else:
            moves -= mean[..., None]
            spread = self._spread(here, moves)
            scale = spread[:, :, NEAR_HOURS, None] / spread
            moves *= scale[..., None] * past.swings.against(lately, rows)
            moves += mean[:, :, NEAR_HOURS, None, None]
        says = _says_near(here, t - past.first - DAY * (past.days - 1), past.days, past.slots)
        paths = moves.reshape(len(moves), past.slots, rows.size * past.days)
        if past.whole is None:
            return Set(t, paths, says.ravel(), past, rows)
        kept = past.whole[rows]
        return Set(t, paths[:, :, kept.ravel()], says[kept], past, rows)

    def _means(self) -> Grid:
        """The mean move from each origin per slot ahead and hour, shrunk towards the whole day's."""
        past = self.past
        if past.whole is None:
            every = past.demand.sum(axis=1)
            origins = every[:DAY] + self._pulls[:, 0] * (past.high.sum(axis=1) - every[:DAY])
            sums = every[1:].take(_places_of_day(past.slots)) - origins[:, None]
        else:
            origins = past.before + self._pulls * (past.high - past.before)
            moves = past.ahead.take(_places_of_day(past.slots), axis=0) - origins[:, None]
            moves[:, :, ~past.whole] = 0
            sums = moves.sum(axis=3)
        return self._shrunk(sums, self._counts, self._say)[0]

    def _spread(self, here: int, moves: Grid, mean: Grid | None = None) -> Grid:
        """The mean deviation of the hours near `here`, shrunk towards that of all of them; `moves` less `mean` are off."""
        rows = _places(here, self.past.slots)[0]
        unknown = [place for place, row in enumerate(rows.tolist()) if not self._found[row]]
        if unknown:
            some = slice(None) if len(unknown) == rows.size else np.array(unknown)
            if mean is None:
                off = np.abs(moves[:, :, some])
            else:
                off = moves[:, :, some] - mean[:, :, some, None]
                np.abs(off, out=off)
            hours = rows[some]
            if self.past.whole is not None:
                off[:, :, ~self.past.whole[hours]] = 0
            self._deviation[:, :, hours] = off.sum(axis=3)
            for hour in hours.tolist():
                self._found[hour] = True
        counts, say = self._counts, self._say
        if self.past.whole is not None:
            counts, say = counts.take(rows), say.take(rows)
        spread, typical = self._shrunk(self._deviation.take(rows, axis=2), counts, say)
        widest: Grid = np.maximum(spread, np.float32(SPREAD_FLOOR) * typical + np.float32(SPREAD_MIN))
        return widest

    @staticmethod
    def _shrunk(sums: Grid, counts: Grid, say: Grid) -> tuple[Grid, Grid]:
        """The mean of each hour (the last axis) shrunk towards that of all of them, and the latter."""
        every = float(counts.sum()) * (sums.shape[-1] // counts.size)
        typical: Grid = sums.sum(axis=-1, keepdims=True) / np.float32(max(1.0, every))
        mean: Grid = say * sums
        mean /= np.maximum(counts, 1)
        mean += (1 - say) * typical
        return mean, typical


@dataclass(frozen=True, slots=True)
class Set:
    """Paths (origins, slots, moments) above the demand before slot `t`, and the say of each moment."""

    t: int
    paths: Grid
    weights: Grid
    past: Lookback
    rows: Places
    _orders: dict[tuple[int, int], Ranking] = field(default_factory=dict, init=False)

    def order(self, slots: int, origin: int = 0) -> Ranking:
        """The order of the highest rises within `slots` slots."""
        found = self._orders.get((slots, origin))
        return found or self._orders.setdefault((slots, origin), Ranking(self.paths[origin, :slots].max(axis=0)))

    def rises(self, slots: int, origin: int = 0) -> Grid:
        """The paths (moments, slots) from one origin."""
        found: Grid = self.paths[origin, :slots].T
        return found

    @property
    def before(self) -> Grid:
        """Demand before each moment."""
        return self._of(self.past.before[self.rows])

    @property
    def moments(self) -> Places:
        """The slots from which the paths rose."""
        days = DAY * np.arange(self.past.days)
        every = (self.past.first + self.rows)[:, None] + days
        found: Places = every.ravel() if self.past.whole is None else every[self.past.whole[self.rows]]
        return found

    def wider(self, lately: Floats) -> Grid | None:
        """How much wider rises are now than after each moment, where the paths don't show it yet."""
        if self.past.swings is None or self.past.jump <= JUMP_SHARE:
            return None
        return self._of(self.past.swings.against(lately, self.rows))

    def _of(self, grid: Grid) -> Grid:
        found: Grid = grid.ravel() if self.past.whole is None else grid[self.past.whole[self.rows]]
        return found


_NEAR = np.arange(-NEAR_HOURS, NEAR_HOURS + 1)
_NEARNESS = np.exp(-0.5 * (_NEAR / KERNEL_HOURS) ** 2).astype(np.float32)
NEARBY = np.float32(_NEARNESS.sum() / DAY)
"""The say of a moment at any hour of the day that makes all of them worth what those near the present hour are."""


@cache
def _places(here: int, slots: int) -> tuple[Places, Places]:
    """The rows near hour `here`, and the rows of demand that lies ahead of them, slot by slot."""
    rows = (here + _NEAR) % DAY
    return rows, rows + np.arange(slots)[:, None]


@cache
def _places_of_day(slots: int) -> Places:
    """The rows of demand that lies ahead of each hour of the day, slot by slot."""
    places: Places = np.arange(slots)[:, None] + np.arange(DAY)
    return places


def _of_slot(sets: Sequence[Set], t: int) -> Set | None:
    for found in sets:
        if found.t == t:
            return found
    return None


def keep(kept: list[Item], item: Item) -> None:
    """Put `item` at the end of what is kept for KEPT_HOURS."""
    kept.append(item)
    del kept[:-KEPT_HOURS]
