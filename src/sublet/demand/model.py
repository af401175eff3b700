"""The model of the owner's demand: samples of a pool over time, and claims that no forecast can know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from sublet.values.clock import as_utc, format_time, from_micros, to_micros
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

ACCELERATORS_MAX = 10_000_000
SLOTS_MAX = 4_000_000
SLACK_SHARE = 0.01
GAP_NEIGHBORS = 5
GAPS_AT_ONCE = 50_000
REASON_CHARACTERS_MAX = 500
PATIENCE_MAX = timedelta(days=1)
HOUR_S = 3600
TALLY_PARTS = 1_000


@dataclass(frozen=True, slots=True)
class Sample:
    """One observation of a pool. `in_use` is the owner's own demand, without Sublet's tenants. It may exceed `capacity` if
    work queues. `pending` counts the accelerators that queued work waits for."""

    time: datetime
    capacity: float
    in_use: float
    pending: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "time", as_utc(self.time))
        for name in ("capacity", "in_use", "pending"):
            value = getattr(self, name)
            if not 0 <= value <= ACCELERATORS_MAX:
                raise InvalidInputError(
                    f"{name} of the sample at {format_time(self.time)} is {value}; "
                    f"write a number from 0 to {ACCELERATORS_MAX}"
                )


@dataclass(frozen=True, slots=True)
class TeamUse:
    """What an internal team (the id of its organization) used of a pool at the moment of a sample, in accelerators."""

    at: datetime
    team: str
    in_use: float


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim of a team for `count` accelerators over `window`, regardless of the forecast. It may wait `patience_s` seconds
    for them. `team` is the id of its organization."""

    id: str
    pool_id: str
    count: int
    window: Window
    reason: str
    created_at: datetime
    withdrawn_at: datetime | None = None
    patience_s: int = 0
    team: str = ""

    @property
    def needed(self) -> Window:
        """The latest window of the claim: it may begin, and end, up to `patience_s` later."""
        late = timedelta(seconds=self.patience_s)
        return Window(self.window.start + late, self.window.end + late) if self.patience_s else self.window

    def as_dict(self) -> dict[str, object]:
        return {
            "id": self.id,
            "pool_id": self.pool_id,
            "accelerators": self.count,
            "start": format_time(self.window.start),
            "end": format_time(self.window.end),
            "reason": self.reason,
            "created_at": format_time(self.created_at),
            "withdrawn_at": format_time(self.withdrawn_at) if self.withdrawn_at else None,
            "patience_s": self.patience_s,
            "team": self.team or None,
        }


@dataclass(frozen=True, slots=True)
class Findings:
    """Irregularities in a series. Every repair is counted here."""

    rows: int = 0
    duplicates: int = 0
    out_of_order: int = 0
    gaps: int = 0
    missing_slots: int = 0
    capacity_changes: int = 0
    above_capacity: int = 0
    outages: int = 0

    def as_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}

    def sentences(self) -> list[str]:
        """One sentence for each finding, for people."""
        told = {
            "duplicates": (
                "1 row repeats another row and was",
                "{:,} rows repeat another row and were",
                " counted once",
            ),
            "out_of_order": (
                "time steps back once",
                "time steps back {:,} times",
                " (unsorted, or the clock was set); sorted",
            ),
            "gaps": ("1 gap", "{:,} gaps", " in time; nothing was filled in"),
            "missing_slots": ("1 slot has", "{:,} slots have", " no sample"),
            "capacity_changes": ("the capacity changed once", "the capacity changed {:,} times", ""),
            "above_capacity": ("1 sample needs", "{:,} samples need", " more than the capacity (work queues)"),
            "outages": ("1 sample has", "{:,} samples have", " no capacity at all"),
        }
        return [
            (one if getattr(self, name) == 1 else many.format(getattr(self, name))) + rest
            for name, (one, many, rest) in told.items()
            if getattr(self, name)
        ]


@dataclass(frozen=True)
class Series:
    """Samples of one pool in order of time.

    `times_us` are microseconds since the epoch, strictly increasing; `capacity`, `in_use` and `pending` are
    accelerators, one per time; `step_s` is the usual distance of two samples.
    """

    pool: str
    times_us: Integers
    capacity: Floats
    in_use: Floats
    pending: Floats
    step_s: int
    findings: Findings = field(default_factory=Findings)

    def __len__(self) -> int:
        return int(self.times_us.size)

    @property
    def start(self) -> datetime:
        return from_micros(int(self.times_us[0]))

    @property
    def end(self) -> datetime:
        """When the last sample stops being news: one step after it."""
        return from_micros(int(self.times_us[-1]) + self.step_s * 1_000_000)

    def until(self, moment: datetime) -> Series:
        """Only what was known at `moment`: samples that began before it."""
        stop = int(np.searchsorted(self.times_us, to_micros(moment), side="left"))
        return replace(self.part(0, stop), findings=self.findings)

    def part(self, first: int, stop: int | None = None) -> Series:
        """The samples from place `first` until place `stop`, by default to the end."""
        span = slice(first, stop)
        columns = (self.times_us[span], self.capacity[span], self.in_use[span], self.pending[span])
        return Series(self.pool, *columns, self.step_s)

    def slots(self, slot_s: int = HOUR_S) -> Slots:
        """The series on a regular grid: per slot the highest need and the lowest capacity, NaN where nothing was seen.

        A sample that comes alone, half a slot or more after the one before it, and up to SLACK_SHARE of a slot early belongs to
        the slot that it was meant for.
        """
        if len(self) == 0:
            empty = np.empty(0)
            return Slots(self.pool, 0, slot_s, empty, empty.copy(), empty.copy())
        slot_us = slot_s * 1_000_000
        since_us = np.diff(self.times_us, prepend=2 * self.times_us[0] - self.times_us[min(1, len(self) - 1)])
        alone = 2 * since_us > slot_us if len(self) > 1 else np.ones(1, dtype=np.bool_)
        index = (self.times_us + int(SLACK_SHARE * slot_us) * alone) // slot_us
        first = int(index[0])
        count = int(index.max()) - first + 1
        if count > SLOTS_MAX:
            raise InvalidInputError(
                f"the samples of {self.pool} span {count} slots of {slot_s} s; split the series or check its times"
            )
        place = index - first
        in_use = np.full(count, -np.inf)
        pending = np.full(count, -np.inf)
        capacity = np.full(count, np.inf)
        np.maximum.at(in_use, place, self.in_use)
        np.maximum.at(pending, place, self.pending)
        np.minimum.at(capacity, place, self.capacity)
        unseen = np.isinf(capacity)
        for array in (in_use, pending, capacity):
            array[unseen] = np.nan
        return Slots(self.pool, first * slot_s, slot_s, capacity, in_use, pending)


@dataclass(frozen=True)
class Slots:
    """A series on a regular grid of `slot_s` seconds from `start_s` (seconds since the epoch); NaN = nothing seen."""

    pool: str
    start_s: int
    slot_s: int
    capacity: Floats
    in_use: Floats
    pending: Floats

    def __len__(self) -> int:
        return int(self.capacity.size)

    @property
    def seen(self) -> NDArray[np.bool_]:
        return np.isfinite(self.capacity)

    def carried(self) -> tuple[Slots, int]:
        """Each unseen slot repeats the last one that was seen (the past only), and how many slots that was."""
        if len(self) == 0:
            return self, 0
        known = self.seen
        last = np.maximum.accumulate(np.where(known, np.arange(len(self)), 0))
        return (
            Slots(self.pool, self.start_s, self.slot_s, self.capacity[last], self.in_use[last], self.pending[last]),
            int((~known).sum()),
        )


def series_of(pool: str, samples: Sequence[Sample]) -> Series:
    """Samples in any order as a series; of two at the same time the higher need and the lower capacity are kept."""
    return assemble(
        pool,
        np.array([to_micros(sample.time) for sample in samples], dtype=np.int64),
        np.array([sample.capacity for sample in samples], dtype=np.float64),
        np.array([sample.in_use for sample in samples], dtype=np.float64),
        np.array([sample.pending for sample in samples], dtype=np.float64),
    )


def assemble(pool: str, times_us: Integers, capacity: Floats, in_use: Floats, pending: Floats) -> Series:
    """Columns in any order as a series, with everything that was noticed on the way."""
    rows = int(times_us.size)
    out_of_order = int((np.diff(times_us) < 0).sum()) if rows > 1 else 0
    if out_of_order:
        order = np.argsort(times_us, kind="stable")
        times_us, capacity, in_use, pending = times_us[order], capacity[order], in_use[order], pending[order]
    duplicates = 0
    if rows > 1:
        starts = np.flatnonzero(np.r_[True, np.diff(times_us) > 0])
        duplicates = rows - int(starts.size)
        if duplicates:
            times_us = times_us[starts]
            capacity = np.minimum.reduceat(capacity, starts)
            in_use = np.maximum.reduceat(in_use, starts)
            pending = np.maximum.reduceat(pending, starts)
    step_s = _usual_step_s(times_us)
    gaps, missing = _gaps(np.diff(times_us) / 1e6, step_s)
    findings = Findings(
        rows=rows,
        duplicates=duplicates,
        out_of_order=out_of_order,
        gaps=gaps,
        missing_slots=missing,
        capacity_changes=int((np.diff(capacity) != 0).sum()) if times_us.size > 1 else 0,
        above_capacity=int((in_use > capacity).sum()),
        outages=int((capacity == 0).sum()),
    )
    return Series(pool, times_us, capacity, in_use, pending, step_s, findings)


def claimed(claims: Sequence[Claim], moment: datetime) -> int:
    """Accelerators that standing claims cover at `moment`."""
    return sum(claim.count for claim in claims if claim.withdrawn_at is None and claim.window.contains(moment))


def _gaps(distances_s: Floats, step_s: int) -> tuple[int, int]:
    """How many distances are wider than is usual on both sides of them, and how many samples are missing in them.

    What is usual on a side is the median of GAP_NEIGHBORS distances there where there are so many, `step_s` at least.
    """
    wide = np.flatnonzero(distances_s > 1.5 * step_s)
    gaps = missing = 0
    for part in np.array_split(wide, wide.size // GAPS_AT_ONCE + 1):
        usual = np.full(part.size, float(step_s))
        for side in (np.arange(-GAP_NEIGHBORS, 0), np.arange(1, GAP_NEIGHBORS + 1)):
            around = part[:, None] + side
            inside = (around >= 0) & (around < distances_s.size)
            near = distances_s[np.clip(around, 0, distances_s.size - 1)]
            known = inside.all(axis=1)
            usual[known] = np.maximum(usual[known], np.median(near[known], axis=1))
        wider = distances_s[part] > 1.5 * usual
        gaps += int(wider.sum())
        missing += int(np.round(distances_s[part][wider] / usual[wider] - 1).sum())
    return gaps, missing


def _usual_step_s(times_us: Integers) -> int:
    if times_us.size < 2:
        return HOUR_S
    return max(1, int(np.median(np.diff(times_us)) // 1_000_000))


@dataclass(frozen=True, slots=True)
class Tally:
    """What samples add up to: how many there are, and the sums of demand and capacity in thousandths of an accelerator.

    Whole numbers, so that a sum has no order: the same samples have the same tally wherever it is added up. A corrected
    sample has another one, because need is only ever corrected upwards and capacity downwards.
    """

    count: int = 0
    in_use: int = 0
    capacity: int = 0

    @classmethod
    def of(cls, series: Series, valued_from: datetime) -> Tally:
        """The tally of `series`; what it says is summed from `valued_from` on, before it is only counted."""
        first = int(np.searchsorted(series.times_us, to_micros(valued_from), side="left"))
        sums = [
            int(np.floor(column[first:] * TALLY_PARTS + 0.5).astype(np.int64).sum())
            for column in (series.in_use, series.capacity)
        ]
        return cls(len(series), *sums)

    def __add__(self, other: Tally) -> Tally:
        return Tally(self.count + other.count, self.in_use + other.in_use, self.capacity + other.capacity)
