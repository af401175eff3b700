"""How deep a promise may be sold: the tail of the forecast that a risk allows, and the shadow that keeps it honest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from sublet.demand.forecast import Forecaster, Futures, HourlyRises, PlainRises
from sublet.demand.model import Floats

SURPRISE_PRIOR = 1 / 3
"""A third of an event worse than anything seen is counted among the evidence: what keeps a short history modest."""

HOPE_RISK = 0.1
SHADOW_RISK = 0.05
SHADOW_HALF_LIFE_SLOTS = 30 * 24
SHADOW_PRIOR_BOOKS = 0.5
LOOSEN_MAX = 2.0
REGIME_RATIO = 1.5

JUMPY_CAUTION = 0.5
LONG_SLOTS = 12
LONG_LEVEL_QUANTILE = 0.97

# The unit sold last is the riskiest; those below it are safer. The ratio of its risk to the average of all, by slots.
_MARGIN = ((1, 8.0), (4, 3.3), (12, 6.0), (24, 8.5))


@cache
def margin(slots: int) -> float:
    """Risk that the last unit may carry, over the average that is promised; between the measured points on a log scale."""
    at = math.log(max(1, slots))
    return float(np.interp(at, [math.log(point) for point, _ in _MARGIN], [value for _, value in _MARGIN]))


# On a ladder a rung's units lie between those of the longer rungs and its own last: without the deepest units to dilute
# them, its average comes near the risk of its last unit.
_LADDER = ((1, 0.5), (4, 0.5), (12, 0.8), (24, 1.0))


@cache
def ladder_caution(slots: int) -> float:
    """By how much the risk of a promise is lowered where longer promises are sold from the same pool."""
    at = math.log(max(1, slots))
    return float(np.interp(at, [math.log(point) for point, _ in _LADDER], [value for _, value in _LADDER]))


@dataclass(frozen=True, slots=True)
class Depth:
    """How many may be started, and how many of them are expected to break."""

    count: int
    broken: float


def deepest(futures: Futures, room: Floats, tail: float, limit: float = math.inf, *, expect: bool = False) -> Depth:
    """The largest count that fits under `room` on all past paths but those of total weight `tail`, at most `limit`.

    `room` (slots) is what is left for the rise of demand and the count together. Never less for a larger tail, never
    more for less room. A negative tail is less evidence than the promise needs: nothing is sold. With `expect` it is also
    told how many of the count are expected to break.
    """
    limit = min(limit, float(room.min(initial=math.inf)))
    if tail < 0 or limit <= 0:
        return Depth(0, 0.0)
    if futures.weights.size == 0 or (tail >= futures.weight and not expect):
        return Depth(_whole(limit), 0.0)
    excess = (futures.paths - room.astype(np.float32)).max(axis=1)
    order = np.argsort(-excess, kind="stable")
    worst = excess[order]
    weights = futures.weights[order]
    place = int(np.searchsorted(np.cumsum(weights, dtype=np.float64), tail + 1e-9, side="right"))
    if place < worst.size:
        limit = min(limit, -float(worst[place]))
    count = _whole(limit)
    if count == 0 or not expect:
        return Depth(count, 0.0)
    return Depth(count, float((np.clip(worst + count, 0, count) * weights).sum() / futures.weight))


class Seller:
    """Sells promises of `slots` slots on one pool, in shadow, and tells how deep a real one may go.

    It is a function of the history alone: a restart computes the same again. The shadow sells at a fixed risk whatever
    the operator set, and compares what broke with what the forecast said would: the ratio tightens or loosens.
    """

    def __init__(self, slots: int, forecaster: Forecaster, start: int) -> None:
        self.slots = slots
        self.forecaster = forecaster
        self.next = start
        self.broken = 0.0
        self.expected = 0.0
        self._book = np.zeros(slots)
        self._largest = 0.0
        self._level_at, self._level = -1, math.inf

    @property
    def ratio(self) -> float:
        """Broken over expected in the shadow's fading record; 1 where there is none."""
        prior = SHADOW_PRIOR_BOOKS * self._largest
        return (self.broken + prior) / (self.expected + prior) if prior > 0 else 1.0

    def learn(self, in_use: Floats, capacity: Floats, t: int) -> None:
        """Let the shadow live through every slot before `t` that it has not lived through yet."""
        while self.next < t:
            self._live(in_use, capacity, self.next)
            self.next += 1

    def hopeful(self, in_use: Floats, t: int) -> bool:
        """Whether any record could ever let a promise so long be made, at a risk of a tenth or less."""
        evidence = self.forecaster.futures(t, self.slots).weight
        return LOOSEN_MAX * margin(self.slots) * HOPE_RISK * evidence >= SURPRISE_PRIOR * self.slots

    def tail(self, futures: Futures, risk: float) -> float:
        """The weight of past paths that a promise at `risk` (share that may break, on average) may ignore."""
        if risk >= 1:
            return math.inf
        allowed = min(1.0, margin(self.slots) * risk) * min(LOOSEN_MAX, 1 / math.sqrt(self.ratio))
        if futures.method == HourlyRises.jumpy_method:
            allowed *= JUMPY_CAUTION
        return allowed * futures.weight - SURPRISE_PRIOR * self.slots

    def level(self, in_use: Floats, t: int) -> float:
        """Demand that a long promise must leave room for whatever it is now: it comes back to its high level in time.

        The LONG_LEVEL_QUANTILE of all demand before slot `t` for LONG_SLOTS and more; -inf for shorter promises.
        """
        if self.slots < LONG_SLOTS:
            return -math.inf
        if self._level_at != t:
            known = in_use[:t]
            known = known[np.isfinite(known)]
            self._level = float(np.quantile(known, LONG_LEVEL_QUANTILE)) if known.size else math.inf
            self._level_at = t
        return self._level

    def _live(self, in_use: Floats, capacity: Floats, t: int) -> None:
        fade = 0.5 ** (1 / SHADOW_HALF_LIFE_SLOTS)
        self.broken *= fade
        self.expected *= fade
        self._largest *= 0.999
        idle = capacity[t] - in_use[t]
        room = capacity[t - 1] - in_use[t - 1] if t > 0 else math.nan
        if math.isfinite(idle) and math.isfinite(room):
            if room > 0:
                futures = self.forecaster.futures(t, self.slots)
                if futures.weights.size:
                    depth = deepest(futures, room - self._book, SHADOW_RISK * futures.weight, expect=True)
                    self._book += depth.count
                    self.expected += depth.broken
            self._largest = max(self._largest, float(self._book[0]))
            over = float(self._book[0]) - max(0, math.floor(idle))
            if over > 0:
                self.broken += over
                # Youngest first: they run longest, so every later slot loses as many.
                self._book = np.maximum(self._book - over, 0)
        self._book = np.append(self._book[1:], 0.0)


def sellers(in_use: Floats, first_hour: int, start: int, lengths: tuple[int, ...]) -> dict[int, Seller]:
    """A seller for each length in slots, over one forecaster of the pool."""
    forecaster = HourlyRises(in_use, first_hour)
    return {slots: Seller(slots, forecaster, start) for slots in lengths}


METHODS = {PlainRises.method: PlainRises, HourlyRises.method: HourlyRises}


def _whole(number: float) -> int:
    return max(0, math.floor(number + 1e-6))
