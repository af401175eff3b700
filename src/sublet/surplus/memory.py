"""What the service remembers of a pool between two decisions, so that a decision reads only what is new.

Everything here is a function of the stored samples: forgetting it costs time, never an answer. What the sellers learned is
kept with the pool's record, under a mark of the samples it came from, so that a start need not live through weeks again.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import numpy as np
from sqlalchemy import Connection

from sublet.demand.forecast import Forecaster, candidates
from sublet.demand.model import Floats, Series, assemble
from sublet.demand.service import Demand
from sublet.surplus.model import HOUR_S
from sublet.surplus.seller import PHASES, HighLevel, Seller, phase_of
from sublet.values.clock import from_micros, to_micros

HISTORY = timedelta(days=120)
RECHECK_S = 5
MINUTE_US = 60_000_000
HOUR_US = HOUR_S * 1_000_000
SHADOW_HOURS_MAX = 60 * 24
SHADOW_HOURS_MIN = 96
MARKED_HOURS = 110 * 24
"""Fewer than HISTORY: what was kept holds for a service that begins some days later, too."""

STATE_VERSION = 4
"""Goes up when what is learned from the same samples changes: what was kept by an older release is then learned anew."""

POOLS_MAX = 5_000

_LENGTHS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 13, 16, 20, 24, 25, 32, 48, 72, 96, 120, 168, 240, 336, 504, 720, 1440, 2161)
LIVED_LENGTHS = (1, 4, 12, 24)
"""Lengths that live a shadow. The others take the record of the next shorter one: a promise from the middle of an hour
needs one hour more than it lasts."""


Learned = Callable[[str, Connection | None], Mapping[str, Any] | None]
"""(pool_id, connection) to what `Hours.as_state` told of the pool when it was last kept."""


@dataclass
class Hours:
    """Demand by whole hours up to the present one, and the sellers that learned from it."""

    first_hour: int
    capacity: Floats
    in_use: Floats
    phase: int = 0
    sellers: dict[int, Seller] = field(default_factory=dict)
    methods: dict[str, Forecaster] = field(default_factory=dict)
    learned: Mapping[str, Any] | None = None
    learning: threading.Lock = field(default_factory=threading.Lock)
    high: HighLevel = field(default_factory=HighLevel)

    @property
    def t(self) -> int:
        """The present hour, by its place; everything before it is known."""
        return int(self.in_use.size)

    @property
    def next_hour(self) -> int:
        """The present hour, since the epoch."""
        return self.first_hour + self.t

    @property
    def newest(self) -> float:
        """Demand in the last whole hour, NaN where it was not seen."""
        return float(self.in_use[-1]) if self.t else float("nan")

    def seller(self, slots: int, passed_s: float = HOUR_S) -> Seller:
        """The seller for promises of `slots` hours, or of the next longer length that is kept; up to date.

        `passed_s` of the present hour have passed: the shadows live through the last whole hour once a few minutes have,
        each pool's at a moment of its own, so that not all of them are due when the hour turns. What can be known of the next
        hour is made ready then, too.
        """
        length = _length(slots)
        due = self.t if passed_s >= HOUR_S * self.phase / PHASES else self.t - 1
        with self.learning:
            seller = self._seller(length)
            # A promise that no record could loosen enough needs no record.
            if seller.next < due and seller.hopeful(self.in_use, self.t):
                seller.learn(self.in_use, self.capacity, due)
                if due == self.t:
                    for method in self.methods.values():
                        method.prepare(self.t + 1, length)
        return seller

    def as_state(self) -> dict[str, Any]:
        """What the sellers learned, and a mark of the samples that they learned it from."""
        with self.learning:
            return {
                "until": self.next_hour,
                "mark": self._mark(self.next_hour),
                "sellers": [[slots, seller.as_state(self.first_hour)] for slots, seller in self.lived()],
            }

    def resume(self, state: Mapping[str, Any] | None) -> None:
        """Go on from what was learned before from these very samples; from others, learn anew."""
        if state is not None and state["until"] <= self.next_hour and state["mark"] == self._mark(state["until"]):
            self.learned = state

    def _mark(self, until: int) -> str:
        """A digest of the samples of MARKED_HOURS before `until`, and of when the first of them was."""
        first = max(self.first_hour, until - MARKED_HOURS)
        span = slice(first - self.first_hour, until - self.first_hour)
        digest = hashlib.blake2b(f"{STATE_VERSION} {first} {until} {self.phase}".encode(), digest_size=16)
        for column in (self.capacity[span], self.in_use[span]):
            seen = column.astype(np.float32)
            seen[np.isnan(seen)] = -1
            digest.update(seen.data)
        return digest.hexdigest()

    def lived(self) -> list[tuple[int, Seller]]:
        """The sellers that have a record of their own, shortest first."""
        return [(slots, self.sellers[slots]) for slots in LIVED_LENGTHS if slots in self.sellers]

    def _seller(self, length: int) -> Seller:
        if length not in self.sellers:
            if not self.methods:
                self.methods.update(candidates(self.in_use, self.first_hour, self.phase))
            begin = max(SHADOW_HOURS_MIN, self.t - SHADOW_HOURS_MAX)
            own = max(lived for lived in LIVED_LENGTHS if lived <= length)
            lead = None if own == length else self._seller(own)
            seller = self.sellers[length] = Seller(length, self.methods, begin, lead, self.high)
            if lead is None and self.learned is not None:
                for slots, state in self.learned["sellers"]:
                    if slots == length:
                        seller.resume(state, self.first_hour)
        return self.sellers[length]

    def extended(self, newer: Hours) -> Hours:
        """`newer`, with the sellers kept where all that they have seen is the same."""
        shift = newer.first_hour - self.first_hour
        if not 0 <= shift < self.t:
            return newer
        common = min(self.t - shift, newer.t)
        for mine, theirs in ((self.in_use, newer.in_use), (self.capacity, newer.capacity)):
            if not np.array_equal(mine[shift : shift + common], theirs[:common], equal_nan=True):
                return newer
        if shift + newer.t > 2 * HISTORY.days * 24:
            return newer
        whole = Hours(
            self.first_hour,
            np.concatenate([self.capacity[:shift], newer.capacity]),
            np.concatenate([self.in_use[:shift], newer.in_use]),
            self.phase,
            self.sellers,
            self.methods,
            self.learned,
            self.learning,
            self.high,
        )
        for method in whole.methods.values():
            method.extend(whole.in_use)
        return whole


@dataclass
class Remembered:
    """One pool's samples, by the minute, and its hours."""

    series: Series
    hours: Hours
    since: datetime
    counted: int
    checked_at: datetime


class Memory:
    """Remembers pools between decisions. Reads new samples each time, and all of them again when older ones appeared.

    `learned` tells what the record's sellers had learned of a pool, to go on from there after a start.
    """

    def __init__(self, demand: Demand, learned: Learned = lambda pool_id, connection: None) -> None:
        self._demand = demand
        self._learned = learned
        self._pools: dict[str, Remembered] = {}
        self._lock = threading.RLock()

    def recall(self, pool_id: str, at: datetime, connection: Connection | None) -> Remembered:
        """What is known of the pool at `at`. Asking about an earlier moment than last time reads everything anew."""
        with self._lock:
            known = self._pools.get(pool_id)
            if known is None or not self._current(pool_id, known, at, connection):
                known = self._read(pool_id, at, connection)
            else:
                known = self._renew(pool_id, known, at, connection)
            if len(self._pools) >= POOLS_MAX and pool_id not in self._pools:
                self._pools.pop(next(iter(self._pools)))
            self._pools[pool_id] = known
            return known

    def _current(self, pool_id: str, known: Remembered, at: datetime, connection: Connection | None) -> bool:
        if len(known.series) == 0 or to_micros(at) < int(known.series.times_us[-1]):
            return False
        if 0 <= (at - known.checked_at).total_seconds() < RECHECK_S and at != known.checked_at:
            return True
        newest = from_micros(int(known.series.times_us[-1]))
        if self._demand.count_between(pool_id, known.since, newest, connection) != known.counted:
            return False
        known.checked_at = at
        return True

    def _read(self, pool_id: str, at: datetime, connection: Connection | None) -> Remembered:
        since = at - HISTORY
        series = self._demand.history(pool_id, since, at + timedelta(microseconds=1), connection)
        counted = len(series)
        series = by_minute(series)
        hours = hours_of(series, at)
        known = self._pools.get(pool_id)
        if known is not None:
            hours = known.hours.extended(hours)
        if not hours.sellers:
            hours.resume(self._learned(pool_id, connection))
        return Remembered(series, hours, since, counted, at)

    def _renew(self, pool_id: str, known: Remembered, at: datetime, connection: Connection | None) -> Remembered:
        since = from_micros(int(known.series.times_us[-1]) + 1)
        fresh = self._demand.history(pool_id, since, at + timedelta(microseconds=1), connection)
        series, counted = known.series, known.counted
        if len(fresh):
            series = by_minute(_joined(series, fresh))
            counted = known.counted + len(fresh)
        hours = known.hours
        if hours.next_hour != to_micros(at) // HOUR_US:
            hours = hours.extended(hours_of(series, at))
        # Only a count of all samples is a check: what is asked for again and again would never be checked otherwise.
        return Remembered(series, hours, known.since, counted, known.checked_at)


@cache
def _length(slots: int) -> int:
    return next((length for length in _LENGTHS if length >= slots), _LENGTHS[-1])


def by_minute(series: Series) -> Series:
    """At most one sample a minute."""
    return series if series.step_s >= 60 else thinned(series, MINUTE_US)


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


def hours_of(series: Series, at: datetime) -> Hours:
    """Whole hours before `at`; the hours between the last sample and `at` were not seen."""
    present = to_micros(at) // HOUR_US
    stop = int(np.searchsorted(series.times_us, present * HOUR_US, side="left"))
    if stop == 0:
        return Hours(present, np.empty(0), np.empty(0), phase_of(series.pool))
    slots = Series(
        series.pool,
        series.times_us[:stop],
        series.capacity[:stop],
        series.in_use[:stop],
        series.pending[:stop],
        series.step_s,
    ).slots(HOUR_S)
    first = slots.start_s // HOUR_S
    unseen = np.full(max(0, present - first - len(slots)), np.nan)
    return Hours(
        first,
        np.concatenate([slots.capacity, unseen]),
        np.concatenate([slots.in_use, unseen]),
        phase_of(series.pool),
    )


def _joined(old: Series, new: Series) -> Series:
    return assemble(
        old.pool,
        np.concatenate([old.times_us, new.times_us]),
        np.concatenate([old.capacity, new.capacity]),
        np.concatenate([old.in_use, new.in_use]),
        np.concatenate([old.pending, new.pending]),
    )
