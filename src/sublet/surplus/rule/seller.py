"""How deep a promise may be sold: the tail of the forecast that a risk allows, and the shadows that keep it honest."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from sublet.demand.forecast.fits import JUMP_SHARE
from sublet.demand.forecast.forecaster import (
    CALM_METHOD,
    JUMPY_METHOD,
    SHORT_METHOD,
    Forecaster,
    Futures,
    candidates,
)
from sublet.demand.forecast.lookback import MEMORY_HOURS
from sublet.demand.forecast.ranking import Ranking, WeightedLevels
from sublet.demand.model import Floats

SURPRISE_PRIOR = 1 / 3
"""A third of an event worse than anything seen is counted among the evidence: what keeps a short history modest."""

HOPE_RISK = 0.1
PHASES = 240
SHADOW_RISK = 0.05
SHADOW_HALF_LIFE_SLOTS = 30 * 24
SHADOW_PRIOR_BOOKS = 0.5
LOOSEN_MAX = 2.0
REGIME_RATIO = 1.5

BREAK_COST = (1 - SHADOW_RISK) / SHADOW_RISK
"""What a broken promise costs in kept ones: at this price the best depth is the one whose last unit breaks with
SHADOW_RISK, so that the forecast that knows the risk best earns most."""
SWITCH_SHARE = 0.2

JUMP_CALM = 0.05
JUMP_CAUTION_MIN = 0.385
JUMP_CAUTION_MIN_SHORT = 0.25
CALM_SLOTS = 4
BURST_SAY = 0.35
"""What the mean of the rises at p99 to max counts of a rise at p95. If rises were exponential it would be 0.535, which calm pools
pay for with a fifth of what they sell; this costs them nothing and spares hostile ones (docs/promises-research.md)."""
AVERAGED = (SHORT_METHOD, CALM_METHOD, JUMPY_METHOD)
LONG_SLOTS = 12
LEVELS = ((LONG_SLOTS, 0.8), (24, 0.95))
"""By slots, the quantile of all demand that a promise so long and longer leaves room for: demand comes back there in time."""

# The unit sold last is the riskiest; those below it are safer. The ratio of its risk to the average of all, by slots.
_MARGIN = ((1, 6.0), (4, 4.3), (12, 4.0), (24, 4.4))


@cache
def margin(slots: int) -> float:
    """Risk that the last unit may carry, over the average that is promised; between the measured points on a log scale."""
    at = math.log(max(1, slots))
    return float(np.interp(at, [math.log(point) for point, _ in _MARGIN], [value for _, value in _MARGIN]))


# Promises that one forecast or the plain mean of three decides on: the share of past paths that may be ignored, over the risk
# promised on average, by slots. Each was chosen from fleets of other owners (docs/promises-research.md).
_FIXED = ((1, 4.0), (4, 1.6))
_PATIENT = ((1, 10.0), (4, 6.5))


@cache
def fixed_margin(slots: int, *, patient: bool = False) -> float:
    """The share of past paths that a promise may ignore, over its risk; `patient` where the owner's work may wait an hour."""
    points = _PATIENT if patient else _FIXED
    at = math.log(max(1, slots))
    return float(np.interp(at, [math.log(point) for point, _ in points], [value for _, value in points]))


# On a ladder a rung's units lie between those of the longer rungs and its own last: without the deepest units to dilute
# them, its average comes near the risk of its last unit. How far that goes for the shortest depends on how many are longer.
_LADDER = ((4, 0.3), (12, 0.5), (24, 1.0))
_SHORTEST = ((0.15, 1.05), (0.5, 0.7), (1.0, 0.6))


@cache
def ladder_caution(slots: int, long_share: float) -> float:
    """The factor on the risk of a promise where longer promises are sold from the same pool.

    `long_share` is how many of them there may be, as a share of what could be sold for the shortest window.
    """
    shortest = float(np.interp(long_share, [share for share, _ in _SHORTEST], [factor for _, factor in _SHORTEST]))
    points = ((1, shortest), *_LADDER)
    at = math.log(max(1, slots))
    return float(np.interp(at, [math.log(point) for point, _ in points], [value for _, value in points]))


def long_limit(long_share: float, short: int) -> int:
    """How many promises longer than the shortest may run at once, where `short` of the shortest could be sold if none did.

    At least one, so that small pools have long windows too, unless `long_share` is 0.
    """
    return max(min(1, short), _whole(long_share * short)) if long_share > 0 else 0


@dataclass(frozen=True, slots=True)
class Depth:
    """How many may be started, and how many of them are expected to break."""

    count: int
    broken: float


@dataclass(frozen=True, slots=True)
class Voice:
    """One forecast of several that decide: its share, what it expects, and broken over expected in its record."""

    share: float
    futures: Futures
    ratio: float


def deepest(
    futures: Futures, room: Floats | float, tail: float, limit: float = math.inf, *, expect: bool = False
) -> Depth:
    """The largest count that fits under `room` on all past paths but those of total weight `tail`, at most `limit`.

    `room` (slots, or one number for all of them) is what is left for the rise of demand and the count together. Never
    less for a larger tail, never more for less room. A negative tail is less evidence than the promise needs: nothing is
    sold. With `expect` it is also told how many of the count are expected to break.
    """
    least = room if isinstance(room, float) else float(room.min(initial=math.inf))
    limit = min(limit, least)
    # A forecast that is not a number is no evidence either.
    if not tail >= 0 or limit <= 0:
        return Depth(0, 0.0)
    if futures.weights.size == 0 or (tail >= futures.weight and not expect):
        return Depth(_whole(limit), 0.0)
    if isinstance(room, float) or bool((room == least).all()):
        above, level = futures.peaks, np.float32(least)
    else:
        above, level = (
            WeightedLevels(Ranking((futures.paths - room.astype(np.float32)).max(axis=1)), futures.weights),
            np.float32(0),
        )
    reached = float(above.reached(tail) - level)
    count = 0 if math.isnan(reached) else _whole(min(limit, -reached))
    if count == 0 or not expect:
        return Depth(count, 0.0)
    broken = np.minimum(np.maximum(above.order.heights - level + np.float32(count), 0), np.float32(count))
    return Depth(count, float((broken * futures.weights).sum() / futures.weight))


class Record:
    """What one method would have sold of one length at a fixed risk, and what became of it; fading."""

    __slots__ = ("_book", "_largest", "broken", "expected", "sold")

    def __init__(self, slots: int, state: Sequence[Any] | None = None) -> None:
        """A record of promises of `slots` slots, by default an empty one; `state` is what `as_state` told."""
        # Most records are only compared for long: a book is laid out when its shadow lives on.
        self._book: Floats | list[float] = [0.0] * slots if state is None else state[4]
        numbers: Sequence[float] = (0.0, 0.0, 0.0, 0.0) if state is None else state[:4]
        self.sold, self.broken, self.expected, self._largest = numbers

    @property
    def ratio(self) -> float:
        """Broken over expected; 1 where there is none."""
        prior = SHADOW_PRIOR_BOOKS * self._largest
        return (self.broken + prior) / (self.expected + prior) if prior > 0 else 1.0

    @property
    def worth(self) -> float:
        """Promises sold less BREAK_COST for each that broke, and the broken one itself."""
        return self.sold - (1 + BREAK_COST) * self.broken

    def live(self, forecaster: Forecaster, in_use: Floats, capacity: Floats, t: int) -> None:
        """Slot `t` passes: sell by what was known before it, and break what its demand leaves no room for."""
        self.sold *= _FADE
        self.broken *= _FADE
        self.expected *= _FADE
        self._largest *= 0.999
        self._book = book = np.asarray(self._book, dtype=np.float64)
        idle = capacity[t] - in_use[t]
        room = capacity[t - 1] - in_use[t - 1] if t > 0 else math.nan
        if math.isfinite(idle) and math.isfinite(room):
            if room > 0:
                futures = forecaster.futures(t, book.size)
                if futures.weights.size:
                    depth = deepest(futures, room - book, SHADOW_RISK * futures.weight, expect=True)
                    book += depth.count
                    self.sold += depth.count
                    self.expected += depth.broken
            self._largest = max(self._largest, float(book[0]))
            over = float(book[0]) - max(0, math.floor(idle))
            if over > 0:
                self.broken += over
                # Youngest first: they run longest, so every later slot loses as many.
                np.maximum(book - over, 0, out=book)
        book[:-1] = book[1:]
        book[-1] = 0.0

    def as_state(self) -> list[Any]:
        """All that it holds, as a document."""
        return [self.sold, self.broken, self.expected, self._largest, [float(count) for count in self._book]]


class HighLevel:
    """The demand that a pool comes back to in time: found once for all its sellers."""

    def __init__(self) -> None:
        self._found: tuple[int, dict[int, float]] = (-1, {})

    def before(self, in_use: Floats, t: int, slots: int) -> float:
        """The quantile of the demand of MEMORY_HOURS before slot `t` that LEVELS names for promises of `slots` slots.

        -inf for shorter promises than any there; infinite where no demand was seen.
        """
        if slots < LONG_SLOTS:
            return -math.inf
        # Replaced as a whole: several threads may ask.
        at, levels = self._found
        if at != t:
            known = in_use[max(0, t - MEMORY_HOURS) : t].astype(np.float32)
            if not math.isfinite(known.sum()):
                known = known[np.isfinite(known)]
            places = {least: math.ceil(quantile * (known.size - 1)) for least, quantile in LEVELS}
            known = np.partition(known, list(places.values())) if known.size else known
            levels = {least: float(known[place]) if known.size else math.inf for least, place in places.items()}
            self._found = (t, levels)
        return levels[max(least for least in levels if least <= slots)]


_FADE = 0.5 ** (1 / SHADOW_HALF_LIFE_SLOTS)


class Seller:
    """Sells promises of `slots` slots on one pool, in shadow, and tells how deep a real one may go.

    Each method of forecasting lives a shadow of its own, which sells at a fixed risk whatever the operator set. The
    method whose record is worth most decides, once it is ahead by SWITCH_SHARE of what the present one sold. What broke
    of its promises against what it expected tightens or loosens. All is a function of the history alone.

    Promises shorter than CALM_SLOTS, and those of an owner whose work may wait an hour (`patient`), need none of that: a
    method that is chosen by its record stands on the hour at which the record began. One method decides on the
    former and the mean of three on the latter, with a fixed share of past paths.
    """

    def __init__(
        self,
        slots: int,
        methods: Mapping[str, Forecaster],
        start: int,
        lead: Seller | None = None,
        high: HighLevel | None = None,
        *,
        patient: bool = False,
    ) -> None:
        """`methods` by name. With `lead` the record of that length is taken for this one's too; `high` is the pool's.

        A pool begins with the method for calm, jumpy or short promises where it is there, else with the first.
        """
        self.slots = slots
        self.patient = patient
        self.fixed = patient or slots < CALM_SLOTS
        self._lead = lead
        self._next = start
        begin = (SHORT_METHOD if slots < CALM_SLOTS else CALM_METHOD) if self.fixed else ""
        self._method = begin if begin in methods else next(iter(methods))
        self._since: int | None = None
        self._methods = methods
        self._records: dict[str, Record] = {}
        self._kept: Mapping[str, Sequence[Any]] = {}
        self._high = high or HighLevel()
        self._heard: tuple[tuple[int, int], tuple[Voice, ...]] = ((-1, -1), ())

    @property
    def next(self) -> int:
        """The slot that the shadows live through next."""
        return self._lead.next if self._lead else self._next

    @property
    def method(self) -> str:
        """The name of the method that decides now."""
        return self._lead.method if self._lead else self._method

    @property
    def since(self) -> int | None:
        """The slot from which on it has decided because its record was the best; None where the pool began with it."""
        return self._lead.since if self._lead else self._since

    @property
    def records(self) -> Mapping[str, Record]:
        """The record of each method."""
        return {name: self.record(name) for name in self._methods}

    @property
    def forecaster(self) -> Forecaster:
        """The method that decides now."""
        return self._methods[self.method]

    @property
    def ratio(self) -> float:
        """Broken over expected in the fading record of the method that decides; 1 where there is none."""
        return 1.0 if self.fixed else self.record(self.method).ratio

    def record(self, name: str) -> Record:
        """The record of one method."""
        if self._lead:
            return self._lead.record(name)
        # Few of those that were kept are asked for before their shadows live on.
        found = self._records.get(name)
        return found or self._records.setdefault(name, Record(self.slots, self._kept.get(name)))

    def extend(self, in_use: Floats) -> None:
        """Go on with `in_use`, which begins as the demand did that was given before."""
        for forecaster in self._methods.values():
            forecaster.extend(in_use)

    def learn(self, in_use: Floats, capacity: Floats, t: int) -> None:
        """Let the shadows live through every slot before `t` that they have not lived through yet."""
        if self._lead:
            self._lead.learn(in_use, capacity, t)
            return
        if self.fixed:
            self._next = max(self._next, t)
        while self._next < t:
            for name, record in self.records.items():
                record.live(self._methods[name], in_use, capacity, self._next)
            # Anyone who asks meanwhile hears the old choice under the old slot.
            self._choose(self._next + 1)
            self._next += 1

    def as_state(self, first_hour: int) -> dict[str, Any]:
        """Where its shadows stand, as a document; hours count since the epoch, slot 0 is `first_hour`."""
        return {
            "next": first_hour + self._next,
            "method": self._method,
            "since": None if self._since is None else first_hour + self._since,
            "records": {} if self.fixed else {name: record.as_state() for name, record in self.records.items()},
        }

    def resume(self, state: Mapping[str, Any], first_hour: int) -> None:
        """Go on from where `as_state` stood, if the methods are still the same."""
        if self.fixed:
            self._next = state["next"] - first_hour
            return
        if set(state["records"]) != set(self._methods):
            return
        self._records, self._kept = {}, state["records"]
        self._next = state["next"] - first_hour
        self._method = state["method"]
        self._since = None if state["since"] is None else state["since"] - first_hour

    def hopeful(self, in_use: Floats, t: int) -> bool:
        """Whether any record could ever let a promise so long be made, at a risk of a tenth or less."""
        if self.fixed:
            return False
        evidence = self.forecaster.futures(t, self.slots).weight
        return LOOSEN_MAX * margin(self.slots) * HOPE_RISK * evidence >= SURPRISE_PRIOR * self.slots

    def shares(self, t: int) -> dict[str, float]:
        """What each method has to say in a depth at slot `t`, by name, the chosen one first where it is among them.

        They add up to 1. From CALM_SLOTS to LONG_SLOTS each of AVERAGED has a share by what its record is worth: methods
        that err at different moments do not put the whole book at risk at once. To average the depths and not the
        probabilities is sharper (Lichtendahl and others, 2013). Shorter and longer promises are decided by the chosen
        method alone; for long ones day_high and levels are the more cautious of two forecasts already, path by path. So
        are those of pools where single jobs are large: there one job takes the whole book, however its depth came about.
        """
        if self.patient and self.slots >= CALM_SLOTS:
            names = [name for name in AVERAGED if name in self._methods] or [self.method]
            return {name: 1 / len(names) for name in sorted(names, key=lambda name: (name != self.method, name))}
        if self.fixed or not CALM_SLOTS <= self.slots < LONG_SLOTS:
            return {self.method: 1.0}
        if self.forecaster.futures(t, self.slots).jump > JUMP_SHARE:
            return {self.method: 1.0}
        worths = {name: self.record(name).worth for name in AVERAGED if name in self._methods}
        worths = {name: worth for name, worth in worths.items() if worth > 0}
        every = math.fsum(worths.values())
        names = sorted(worths, key=lambda name: (name != self.method, name))
        return {name: worths[name] / every for name in names} if names else {self.method: 1.0}

    def voices(self, t: int) -> tuple[Voice, ...]:
        """The forecasts that decide at slot `t`."""
        now = (t, self.next)
        # Replaced as a whole: several threads may ask.
        at, voices = self._heard
        if at != now:
            voices = tuple(
                Voice(share, self._methods[name].futures(t, self.slots), 1.0 if self.fixed else self.record(name).ratio)
                for name, share in self.shares(t).items()
            )
            self._heard = (now, voices)
        return voices

    def tail(self, futures: Futures, risk: float, ratio: float | None = None, lasts: int | None = None) -> float:
        """The weight of past paths that a promise at `risk` (share that may break, on average) may ignore.

        `ratio` is the record of the method that told them; by default the one that leads. `lasts` is how many slots long the
        promise is: one that begins within a slot touches one slot more than it lasts, and is exposed no longer for that.
        """
        if risk >= 1:
            return math.inf
        slots = self.slots if lasts is None else min(lasts, self.slots)
        if self.fixed:
            return min(1.0, fixed_margin(slots, patient=self.patient) * risk) * futures.weight
        allowed = min(1.0, margin(slots) * risk) * min(LOOSEN_MAX, 1 / math.sqrt(ratio or self.ratio))
        return allowed * jump_caution(largest_jobs(futures, slots), slots) * futures.weight - SURPRISE_PRIOR * slots

    def level(self, in_use: Floats, t: int) -> float:
        """Demand that a long promise must leave room for whatever it is now: it comes back to its high level in time."""
        return self._high.before(in_use, t, self.slots)

    def _choose(self, t: int) -> None:
        """Which method decides from slot `t` on."""
        if self._since is None:
            jump = self.forecaster.futures(t, self.slots).jump
            calm = CALM_METHOD if self.slots >= CALM_SLOTS else SHORT_METHOD
            begin = JUMPY_METHOD if jump > JUMP_SHARE else calm
            self._method = begin if begin in self._methods else self._method
        records = self.records
        present = records[self._method]
        best = max(records, key=lambda name: records[name].worth)
        if records[best].worth > present.worth + SWITCH_SHARE * present.sold:
            self._method, self._since = best, t


def agreed_depth(voices: Sequence[Voice], depth_of: Callable[[Voice], Depth]) -> int:
    """The depths that the voices would sell, averaged by their shares."""
    if len(voices) == 1:
        return depth_of(voices[0]).count
    return _whole(math.fsum(voice.share * depth_of(voice).count for voice in voices))


def largest_jobs(futures: Futures, slots: int) -> float:
    """How large single jobs are, over the highest demand. What meets a long promise is rare: for CALM_SLOTS and more the rises
    at p99 to max count, too, however calm the others are."""
    return futures.jump if slots < CALM_SLOTS else max(futures.jump, BURST_SAY * futures.burst)


def jump_caution(jump: float, slots: int) -> float:
    """By how much the tail is lowered where single jobs are large: one of them takes more of the book at once."""
    least = JUMP_CAUTION_MIN if slots >= CALM_SLOTS else JUMP_CAUTION_MIN_SHORT
    return 1.0 if jump <= JUMP_CALM else max(least, (JUMP_CALM / jump) ** 2)


def sellers(
    in_use: Floats, first_hour: int, start: int, lengths: tuple[int, ...], phase: int = 0, *, patient: bool = False
) -> dict[int, Seller]:
    """A seller for each length in slots, over the same forecasters of the pool. `phase` spreads when they are refitted."""
    methods = candidates(in_use, first_hour, phase)
    high = HighLevel()
    return {slots: Seller(slots, methods, start, high=high, patient=patient) for slots in lengths}


def phase_of(pool: str) -> int:
    """A pool's own place, below PHASES: what is renewed daily and hourly falls due at it, so that many pools share it."""
    return zlib.crc32(pool.encode()) % PHASES


def _whole(number: float) -> int:
    return max(0, math.floor(number + 1e-6))
