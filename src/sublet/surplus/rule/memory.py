"""What the service remembers of a pool between two decisions, so that a decision reads only what is new.

Everything here is a function of the stored samples: forgetting it costs time, never an answer. What the sellers learned is
kept with the pool's record, under a mark of the samples it came from, so that a start need not live through weeks again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache, cached_property
from typing import Any, Protocol

import numpy as np
from sqlalchemy import Connection

from sublet.demand.forecast.forecaster import Forecaster, candidates
from sublet.demand.imports import Mark
from sublet.demand.model import Floats, Series, Tally
from sublet.demand.service import Demand
from sublet.surplus.blocks.model import without
from sublet.surplus.model import HOUR_S
from sublet.surplus.rule.seller import PHASES, HighLevel, Seller, phase_of
from sublet.surplus.terms import SHADOW_HOURS_MIN
from sublet.values.clock import from_micros, to_micros
from sublet.values.windows import Window

HISTORY = timedelta(days=125)
"""What forecasts look back on, 120 days, and the days that a fit is older than the moment that it serves."""

STEP_HOURS = PHASES
RECHECK_S = 5
LATELY = timedelta(days=2)
LATE = timedelta(minutes=5)
"""An hour is lived through once its last samples had time to come in."""

DROPPED_HOURS = 3
"""By so much the newest sample may be newer than the moment of a decision, the shadow's included."""

MINUTE_US = 60_000_000
HOUR_US = HOUR_S * 1_000_000
SHADOW_HOURS_MAX = 150 * 24
"""More than is looked back on: a shadow lives through all of it from its fixed hour on, whenever the service began."""

MARKED_HOURS = 110 * 24
"""Fewer than HISTORY: what was kept holds for a service that begins some days later, too."""

STATE_VERSION = 7
"""Goes up when what is learned from the same samples changes: what was kept by an older release is then learned again."""

POOLS_MAX = 5_000

_LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 13, 16, 20, 24, 25, 32, 48, 72, 96, 120, 168, 240, 336, 504, 720, 1440, 2161)
LIVED_LENGTHS = (1, 4, 12, 24)
"""Lengths that live a shadow. The others take the record of the next shorter one: a promise from the middle of an hour
needs one hour more than it lasts."""


class Learned(Protocol):
    def __call__(self, pool_id: str, connection: Connection, /) -> Mapping[str, Any] | None:
        """What `Hours.as_state` said of the pool when it was last kept."""
        ...


class KeptOff(Protocol):
    def __call__(self, pool_id: str, since: datetime, connection: Connection, /) -> Sequence[tuple[Window, int]]:
        """What blocks kept off the pool's owner since then, and when."""
        ...


def nothing_kept(pool_id: str, since: datetime, connection: Connection, /) -> Sequence[tuple[Window, int]]:
    """That there never was a block."""
    return ()


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back samples are looked at: `hours` at most, from a place that moves on by `step` hours at once.

    It is a function of the time and the pool alone, so that a service that runs for long and one that has just begun look at
    the same samples, and what was learned seldom moves. Each pool's turn is at an hour of its own. Where samples are kept for
    less than HISTORY none of these is old enough to be dropped.
    """

    hours: int
    step: int

    @classmethod
    def of(cls, kept: timedelta) -> Reach:
        """The reach where samples are kept for `kept`."""
        most = max(1, kept // timedelta(hours=1) - DROPPED_HOURS)
        step = max(1, min(STEP_HOURS, most // 14))
        return cls(min(most, HISTORY // timedelta(hours=1) + step), step)

    def begin(self, hour: int, pool_id: str) -> int:
        """The first hour that is looked at in hour `hour`; both count since the epoch."""
        oldest = hour - self.hours
        return oldest + (phase_of(pool_id) - oldest) % self.step

    @property
    def marked(self) -> int:
        """Hours before any moment that are still looked at one turn later, too, for the mark of what was learned."""
        return max(1, min(MARKED_HOURS, self.hours - 2 * self.step))


@dataclass
class Shared:
    """What the hours of a pool share as they go on: the sellers, and the longest demand that anybody asked about."""

    in_use: Floats = field(default_factory=lambda: np.empty(0))
    sellers: dict[int, Seller] = field(default_factory=dict)
    patient: dict[int, Seller] = field(default_factory=dict)
    methods: dict[str, Forecaster] = field(default_factory=dict)
    high: HighLevel = field(default_factory=HighLevel)
    learning: threading.Lock = field(default_factory=threading.Lock)

    def reach(self, in_use: Floats) -> None:
        """Know `in_use`, too, where it is longer: who asks about an earlier hour takes nothing from who asks about a later one."""
        if in_use.size > self.in_use.size:
            self.in_use = in_use
            for method in self.methods.values():
                method.extend(in_use)


@dataclass
class Hours:
    """Demand by whole hours up to the present one, and the sellers that learned from it.

    `marked` says of how many hours what was learned bears a mark.
    """

    first_hour: int
    capacity: Floats
    in_use: Floats
    phase: int = 0
    marked: int = MARKED_HOURS
    learned: Mapping[str, Any] | None = None
    shared: Shared = field(default_factory=Shared)

    def __post_init__(self) -> None:
        self.shared.reach(self.in_use)

    @property
    def sellers(self) -> dict[int, Seller]:
        """By the hours that they promise."""
        return self.shared.sellers

    @property
    def methods(self) -> dict[str, Forecaster]:
        """The ways of forecasting, by name."""
        return self.shared.methods

    @property
    def t(self) -> int:
        """The present hour, by its place; everything before it is known."""
        return int(self.in_use.size)

    @property
    def next_hour(self) -> int:
        """The present hour, since the epoch."""
        return self.first_hour + self.t

    @cached_property
    def seen(self) -> int:
        """The place after the last hour that was seen."""
        known = np.flatnonzero(np.isfinite(self.in_use))
        return int(known[-1]) + 1 if known.size else 0

    def seller(self, slots: int, passed_s: float = HOUR_S, *, patient: bool = False) -> Seller:
        """The seller for promises of `slots` hours, or of the next longer length that is kept; up to date.

        `patient` is for an owner whose work may wait an hour.

        `passed_s` of the present hour have passed: the shadows live through the last whole hour once a few minutes have,
        each pool's at a moment of its own, and all of them some minutes before the hour turns, when every forecast is
        renewed. What can be known of the next hour is made ready then, too. Hours that were not seen wait for one that was: their
        samples may still come.
        """
        length = length_of(slots)
        late_s = LATE.total_seconds()
        due = self.t if passed_s >= late_s + (HOUR_S - 2 * late_s) * self.phase / PHASES else self.t - 1
        with self.shared.learning:
            seller = self._patient(length) if patient else self._seller(length)
            # A promise that no record could loosen enough needs no record.
            if seller.next < min(due, self.seen) and seller.hopeful(self.in_use, self.t):
                seller.learn(self.in_use, self.capacity, min(due, self.seen))
                if due == self.t:
                    for method in self.methods.values():
                        method.prepare(self.t + 1, length)
        return seller

    def catch_up(self, slots: int, hours_max: int) -> int:
        """Let the seller for promises of `slots` hours live through at most `hours_max` of the hours that it has not; how many are
        left. A promise would have it live through all of them at once."""
        with self.shared.learning:
            seller = self._seller(length_of(slots))
            due = min(self.t - 1, self.seen)
            if seller.next >= due or not seller.hopeful(self.in_use, self.t):
                return 0
            seller.learn(self.in_use, self.capacity, min(due, seller.next + hours_max))
            return due - seller.next

    def as_state(self) -> dict[str, Any]:
        """What the sellers learned, and a mark of the samples that they learned it from."""
        with self.shared.learning:
            told = self._told()
            told.update({slots: seller.as_state(self.first_hour) for slots, seller in self.lived()})
            until = min(self.next_hour, max((state["next"] for state in told.values()), default=self.first_hour))
            return {
                "until": until,
                "mark": self._mark(until),
                "sellers": [[slots, state] for slots, state in sorted(told.items())],
            }

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Go on from what was learned before from these very samples; from others, learn again."""
        if state is None or not state["sellers"] or state["until"] > self.next_hour:
            return
        if state["mark"] == self._mark(state["until"]):
            self.learned = state

    def _mark(self, until: int) -> str:
        """A digest of the samples of `marked` hours before `until`, and of when the first of them was."""
        first = max(self.first_hour, until - self.marked)
        span = slice(first - self.first_hour, max(first, until) - self.first_hour)
        digest = hashlib.sha256(f"{STATE_VERSION} {first} {until} {self.phase}".encode())
        for column in (self.capacity[span], self.in_use[span]):
            seen = column.astype(np.float32)
            seen[np.isnan(seen)] = -1
            digest.update(seen.data)
        return digest.hexdigest()

    def lived(self) -> list[tuple[int, Seller]]:
        """The sellers that have a record of their own, shortest first."""
        return [(slots, self.sellers[slots]) for slots in LIVED_LENGTHS if slots in self.sellers]

    def _patient(self, length: int) -> Seller:
        if length not in self.shared.patient:
            self._seller(length)
            self.shared.patient[length] = Seller(length, self.methods, self.t, high=self.shared.high, patient=True)
        return self.shared.patient[length]

    def _seller(self, length: int) -> Seller:
        if length not in self.sellers:
            if not self.methods:
                self.methods.update(candidates(self.shared.in_use, self.first_hour, self.phase))
            begin = max(SHADOW_HOURS_MIN, self.t - SHADOW_HOURS_MAX)
            own = lived_length(length)
            lead = None if own == length else self._seller(own)
            seller = self.sellers[length] = Seller(length, self.methods, begin, lead, self.shared.high)
            told = self._told().get(length) if lead is None else None
            if told is not None:
                seller.resume(told, self.first_hour)
        return self.sellers[length]

    def _told(self) -> dict[int, Mapping[str, Any]]:
        """By length, what was learned before, but for what ends before the hours that are known."""
        sellers = self.learned["sellers"] if self.learned is not None else ()
        return {slots: state for slots, state in sellers if state["next"] >= self.first_hour + SHADOW_HOURS_MIN}

    def extended(self, newer: Hours) -> Hours:
        """`newer`, with what the sellers learned where all that they learned it from is the same.

        Where nothing but hours came, it is the same sellers. Where it begins elsewhere, or hours that they have not lived
        through differ, it is others that go on from the same place.
        """
        with self.shared.learning:
            if self.first_hour == newer.first_hour and self._begins(newer):
                return replace(newer, learned=self.learned, shared=self.shared)
        newer.resume(self.as_state())
        return newer

    def _begins(self, newer: Hours) -> bool:
        pairs = ((self.in_use, newer.in_use), (self.capacity, newer.capacity))
        return self.t <= newer.t and all(np.array_equal(mine, its[: self.t], equal_nan=True) for mine, its in pairs)


@dataclass
class Remembered:
    """One pool's samples, by the minute, and its hours. The samples begin at `since`.

    `whole` is their tally, `late` the tally of which only what came from `late_since` on has its values summed.
    """

    series: Series
    hours: Hours
    since: datetime
    late_since: datetime
    whole: Tally
    late: Tally
    checked_at: datetime
    imported: Mark = field(default_factory=Mark)

    def after(self, at: datetime) -> bool:
        """Whether more is known than could be known at `at`."""
        at_us = to_micros(at)
        newer = len(self.series) > 0 and at_us < int(self.series.times_us[-1])
        return newer or at_us // HOUR_US < self.hours.next_hour

    def round_of(self, at: datetime) -> int:
        """Hours that end at a moment of the pool's own: once in each of them the values of all samples are checked."""
        return (to_micros(at) - HOUR_US * self.hours.phase // PHASES) // HOUR_US


class Memory:
    """Remembers pools between decisions. Reads new samples each time, and all of them again when older ones came or changed.

    An import, or that one was undone, is seen at the next question. Anything else that changed is seen RECHECK_S later at most;
    the value of a sample that was older than LATELY
    when the pool was last read, within an hour. `learned` tells what the record's sellers had learned of a pool, to go on
    from there after a start. `kept_off` tells what blocks kept off the owner: what is left is the ladder's.
    """

    def __init__(
        self,
        demand: Demand,
        learned: Learned = lambda pool_id, connection: None,
        kept_off: KeptOff = nothing_kept,
    ) -> None:
        self._demand = demand
        self._learned = learned
        self._kept_off = kept_off
        self._pools: dict[str, Remembered] = {}
        self._earlier: dict[str, Remembered] = {}
        self._lock = threading.RLock()

    def recall(self, pool_id: str, at: datetime, connection: Connection) -> Remembered:
        """What is known of the pool at `at`, and nothing later.

        The connection is the caller's: anyone who waited for one while holding the lock would stop those who have one.
        What is known of the latest moment stays as it is where an earlier one is asked for: a clock that was read before
        another thread's does not undo what that one learned.
        """
        with self._lock:
            latest = self._pools.get(pool_id)
            pools = self._earlier if latest is not None and latest.after(at) else self._pools
            known = pools.get(pool_id)
            if known is None or known.after(at) or not self._current(pool_id, known, at, connection):
                known = self._read(pool_id, known or latest, at, connection)
            else:
                known = self._renewed(pool_id, known, at, connection)
            if latest is not None and pools is self._pools and known.hours.next_hour > latest.hours.next_hour:
                self._earlier.pop(pool_id, None)
            if len(pools) >= POOLS_MAX and pool_id not in pools:
                pools.pop(next(iter(pools)))
            pools[pool_id] = known
            return known

    def _current(self, pool_id: str, known: Remembered, at: datetime, connection: Connection) -> bool:
        if len(known.series) == 0 or self._begin(pool_id, at) != known.since:
            return False
        if self._demand.imported(pool_id, connection) != known.imported:
            return False
        if 0 < (at - known.checked_at).total_seconds() < RECHECK_S:
            return True
        newest = from_micros(int(known.series.times_us[-1]))
        every = known.round_of(at) != known.round_of(known.checked_at)
        valued_from, tally = (known.since, known.whole) if every else (known.late_since, known.late)
        if self._demand.tally(pool_id, known.since, newest, valued_from, connection) != tally:
            return False
        known.checked_at = at
        return True

    def _begin(self, pool_id: str, at: datetime) -> datetime:
        return from_micros(Reach.of(self._demand.kept).begin(to_micros(at) // HOUR_US, pool_id) * HOUR_US)

    def _read(self, pool_id: str, before: Remembered | None, at: datetime, connection: Connection) -> Remembered:
        since = self._begin(pool_id, at)
        imported = self._demand.imported(pool_id, connection)
        late_since = max(since, at - LATELY)
        series = self._demand.history(pool_id, since, at + timedelta(microseconds=1), connection)
        whole, late = Tally.of(series, since), Tally.of(series, late_since)
        series = thinned(series, MINUTE_US)
        kept = self._kept_off(pool_id, since, connection)
        hours = hours_of(series, at, Reach.of(self._demand.kept).marked, kept)
        if before is not None:
            hours = before.hours.extended(hours)
        if not hours.sellers and hours.learned is None:
            hours.resume(self._learned(pool_id, connection))
        return Remembered(series, hours, since, late_since, whole, late, at, imported)

    def _renewed(self, pool_id: str, known: Remembered, at: datetime, connection: Connection) -> Remembered:
        since = from_micros(int(known.series.times_us[-1]) + 1)
        fresh = self._demand.history(pool_id, since, at + timedelta(microseconds=1), connection)
        changed = known.hours.next_hour
        if len(fresh):
            changed = min(changed, int(fresh.times_us[0]) // HOUR_US)
            # Only a tally of all samples is a check: what is asked for again and again would never be checked otherwise.
            known = replace(
                known,
                series=_joined(known.series, fresh),
                whole=known.whole + Tally.of(fresh, known.since),
                late=known.late + Tally.of(fresh, known.late_since),
            )
        if changed < known.hours.next_hour or known.hours.next_hour < to_micros(at) // HOUR_US:
            kept = self._kept_off(pool_id, known.since, connection)
            hours = _hours_again(known.hours, changed, known.series, at, kept)
            known = replace(known, hours=known.hours.extended(hours))
        return known


def lived_length(length: int) -> int:
    """The length of the record that sellers of `length` go by."""
    return max(lived for lived in LIVED_LENGTHS if lived <= length)


@cache
def length_of(slots: int) -> int:
    """The length of the seller that promises of `slots` slots are sold by."""
    return next((length for length in _LENGTHS if length >= slots), _LENGTHS[-1])


def thinned(series: Series, slot_us: int) -> Series:
    """At most one sample a slot, at its last time: the highest need and the lowest capacity of that slot."""
    if len(series) < 2:
        return series
    ends = np.flatnonzero(np.append(np.diff(series.times_us // slot_us) > 0, True))
    if ends.size == len(series):
        return series
    starts = np.concatenate([[0], ends[:-1] + 1])
    return Series(
        series.pool,
        series.times_us[ends],
        np.minimum.reduceat(series.capacity, starts),
        np.maximum.reduceat(series.in_use, starts),
        np.maximum.reduceat(series.pending, starts),
        series.step_s,
        series.findings,
    )


def hours_of(
    series: Series, at: datetime, marked: int = MARKED_HOURS, kept: Sequence[tuple[Window, int]] = ()
) -> Hours:
    """Whole hours before `at`; the hours between the last sample and `at` were not seen. Their capacity is what blocks, which
    `kept` it off the owner, left to the ladder."""
    present = to_micros(at) // HOUR_US
    stop = int(np.searchsorted(series.times_us, present * HOUR_US, side="left"))
    if stop == 0:
        return Hours(present, np.empty(0), np.empty(0), phase_of(series.pool), marked)
    slots = series.part(0, stop).slots(HOUR_S)
    # A sample that came a moment early belongs to the present hour.
    first = min(present, slots.start_s // HOUR_S)
    whole = slice(present - first)
    unseen = np.full(max(0, present - first - len(slots)), np.nan)
    return Hours(
        first,
        np.concatenate([without(slots.capacity[whole], first, kept), unseen]),
        np.concatenate([slots.in_use[whole], unseen]),
        phase_of(series.pool),
        marked,
    )


def chained(first: Series, *later: Series) -> Series:
    """The samples of several series, each of them later than those before it."""
    every = (first, *later)
    return Series(
        first.pool,
        np.concatenate([series.times_us for series in every]),
        np.concatenate([series.capacity for series in every]),
        np.concatenate([series.in_use for series in every]),
        np.concatenate([series.pending for series in every]),
        first.step_s,
    )


def _joined(old: Series, fresh: Series) -> Series:
    """`old` and the samples that came after it, at most one a minute: the minute that both share is one."""
    shared = int(old.times_us[-1]) // MINUTE_US == int(fresh.times_us[0]) // MINUTE_US
    whole = len(old) - shared
    return chained(old.part(0, whole), thinned(chained(old.part(whole), fresh), MINUTE_US))


def _hours_again(
    known: Hours, changed: int, series: Series, at: datetime, kept: Sequence[tuple[Window, int]] = ()
) -> Hours:
    """Whole hours of `series` before `at`, of which those before hour `changed` are as `known` has them."""
    # A sample tells by its distance from the one before it which hour it is meant for: one that lies well before is seen, too.
    first = int(np.searchsorted(series.times_us, changed * HOUR_US - HOUR_US // 2, side="left")) - 1
    if first <= 0:
        return hours_of(series, at, known.marked, kept)
    found = hours_of(series.part(first), at, known.marked, kept)
    same, skipped = changed - known.first_hour, changed - found.first_hour
    return replace(
        found,
        first_hour=known.first_hour,
        capacity=np.concatenate([known.capacity[:same], found.capacity[skipped:]]),
        in_use=np.concatenate([known.in_use[:same], found.in_use[skipped:]]),
        shared=Shared(),
    )
