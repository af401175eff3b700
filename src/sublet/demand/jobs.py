"""What a batch system knows of its own future: running jobs with their time limits, and jobs that wait for all their accelerators
at once.

No forecast is needed for what is queued already. `need_ahead` turns the jobs into the need of each coming hour; the rule never
sells into it for a promise that can't be taken back. Pure.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from sublet.demand.model import ACCELERATORS_MAX, HOUR_S, Floats
from sublet.values.clock import as_utc, to_micros
from sublet.values.errors import InvalidInputError

KNOWN_HOURS = 7 * 24
"""What is known reaches so many hours ahead: no batch system plans further, and nothing longer is sold by a forecast."""

FRESH_HOURS = 2
"""Jobs that were told longer ago say nothing about now."""

JOBS_MAX = 20_000
HOUR_US = HOUR_S * 1_000_000


@dataclass(frozen=True, slots=True)
class KnownJob:
    """A job that holds `accelerators`, or waits until so many are free at once. Raises InvalidInputError.

    A running one has a `start`; a waiting one may have an `eligible` moment before which it can't begin. `limit_s` is its time
    limit in seconds, None where it has none.
    """

    accelerators: int
    start: datetime | None = None
    limit_s: int | None = None
    eligible: datetime | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.accelerators <= ACCELERATORS_MAX:
            raise InvalidInputError(f"a job has {self.accelerators} accelerators; it must be 1 to {ACCELERATORS_MAX}")
        if self.limit_s is not None and self.limit_s < 1:
            raise InvalidInputError(f"the time limit of a job is {self.limit_s} s; it must be at least 1 or omitted")


@dataclass(frozen=True)
class Known:
    """What the jobs of a pool, told at `at`, will need: `need` has the accelerators by hour, the hour of `at` first."""

    at: datetime
    need: Floats

    @classmethod
    def of(cls, jobs: Sequence[KnownJob], at: datetime, capacity: float) -> Known:
        """Raises InvalidInputError for more than JOBS_MAX jobs."""
        return cls(as_utc(at), need_ahead(jobs, at, capacity))

    def from_hour(self, hour: int) -> Floats:
        """The need from hour `hour` on (since the epoch); empty where it was told too long before that, or after it."""
        passed = hour - to_micros(self.at) // HOUR_US
        return self.need[passed:] if 0 <= passed <= FRESH_HOURS else self.need[:0]

    def as_steps(self) -> list[list[float]]:
        """Hours from the first, and the need from there on: as short as it can be said."""
        changes = np.flatnonzero(np.diff(self.need, prepend=np.nan) != 0)
        return [[int(place), float(self.need[place])] for place in changes]

    @classmethod
    def of_steps(cls, at: datetime, steps: Sequence[Sequence[float]]) -> Known:
        """What `as_steps` told."""
        need = np.zeros(KNOWN_HOURS)
        for place, level in steps:
            need[int(place) :] = level
        return cls(at, need)


def need_ahead(jobs: Sequence[KnownJob], at: datetime, capacity: float) -> Floats:
    """Accelerators that the jobs need in each of the coming KNOWN_HOURS hours, the present one first; at most `capacity`.

    A running job is counted until its limit, and one without a limit to the end: it may end sooner, but nothing promises it. A
    waiting job, in the order given, is counted from now on, since any job before it may end at once, until the latest
    moment at which it can be over: it starts when all its accelerators are free at last, those before it first. A job larger
    than the pool never starts and is left out. Raises InvalidInputError for more than JOBS_MAX jobs.
    """
    if len(jobs) > JOBS_MAX:
        raise InvalidInputError(f"{len(jobs)} jobs were sent; at most {JOBS_MAX} per pool are accepted")
    now = to_micros(as_utc(at)) / 1e6
    begin = now // HOUR_S * HOUR_S
    changes = np.zeros(KNOWN_HOURS + 1)

    def count(accelerators: int, first_s: float, last_s: float) -> None:
        first = min(KNOWN_HOURS, max(0, int((first_s - begin) // HOUR_S)))
        last = KNOWN_HOURS if math.isinf(last_s) else min(KNOWN_HOURS, math.ceil((last_s - begin) / HOUR_S))
        if last > first:
            changes[first] += accelerators
            changes[last] -= accelerators

    ends: list[tuple[float, int]] = []
    free = capacity
    for job in jobs:
        if job.start is not None:
            # One past its limit is about to be ended, and holds what it has until it is.
            end = max(now + 1, to_micros(job.start) / 1e6 + _limit_s(job))
            count(job.accelerators, now, end)
            heapq.heappush(ends, (end, job.accelerators))
            free -= job.accelerators
    latest = now
    for job in jobs:
        if job.start is not None or job.accelerators > capacity:
            continue
        earliest = max(now, to_micros(job.eligible) / 1e6 if job.eligible is not None else now)
        latest = max(latest, earliest)
        while free < job.accelerators and ends:
            end, given = heapq.heappop(ends)
            latest, free = max(latest, end), free + given
        free -= job.accelerators
        heapq.heappush(ends, (latest + _limit_s(job), job.accelerators))
        count(job.accelerators, earliest, latest + _limit_s(job))
    need: Floats = np.minimum(np.cumsum(changes[:-1]), max(0.0, capacity))
    return need


def latest_known(known: Sequence[Known], at: datetime, hour: int) -> Floats:
    """The need from hour `hour` on, by what was told last before or at `at`; empty where nothing fresh was."""
    told = [item for item in known if item.at <= at]
    return max(told, key=lambda item: item.at).from_hour(hour) if told else np.empty(0)


def _limit_s(job: KnownJob) -> float:
    return math.inf if job.limit_s is None else float(job.limit_s)
