"""Billing periods: calendar months in the organization's own time zone."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from sublet.values.errors import InvalidInputError

_LABEL = re.compile(r"(\d{4})-(\d{2})")
_MICROSECOND = timedelta(microseconds=1)
MONTH, YEAR = "month", "year"
"""The lengths of a fee's own periods."""


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """`[start, end)` in UTC: the calendar month `label` (like 2026-11) of one time zone."""

    start: datetime
    end: datetime
    label: str
    timezone: str = field(default="UTC", compare=False)

    def contains(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def share(self, start: datetime, end: datetime | None) -> tuple[int, int]:
        """How much of the period `[start, end)` covers, as (covered, in all).

        Counted in local days where both ends are midnights of the period's time zone, so that a day on which the clock
        changes counts as one; else in microseconds.
        """
        first = max(self.start, start)
        last = self.end if end is None else min(self.end, end)
        if last <= first:
            return 0, 1
        days = [self._local_day(moment) for moment in (self.start, first, last, self.end)]
        if None in days:
            return (last - first) // _MICROSECOND, (self.end - self.start) // _MICROSECOND
        opens, begins, ends, closes = (day for day in days if day is not None)
        return ends - begins, closes - opens

    def _local_day(self, moment: datetime) -> int | None:
        """The number of the local day that begins at `moment`; None where no day does."""
        local = moment.astimezone(ZoneInfo(self.timezone))
        starts = (local.hour, local.minute, local.second, local.microsecond) == (0, 0, 0, 0)
        if not starts and (moment - _MICROSECOND).astimezone(ZoneInfo(self.timezone)).date() == local.date():
            return None
        # Where the clock is put forward at midnight, the day begins at one o'clock.
        return local.toordinal()


def month_of(moment: datetime, timezone: str) -> Period:
    """The billing period that `moment` falls into."""
    local = moment.astimezone(ZoneInfo(timezone))
    return _month(local.year, local.month, timezone)


def month_labeled(label: str, timezone: str) -> Period:
    """The period that `label` names. Raises InvalidInputError."""
    match = _LABEL.fullmatch(label)
    if not match or not 1 <= int(match[2]) <= 12 or not 1970 < int(match[1]) < 9999:
        raise InvalidInputError(f"period {label!r} is not a month; write it like 2026-11")
    return _month(int(match[1]), int(match[2]), timezone)


def following(period: Period, timezone: str) -> Period:
    """The period after `period`."""
    return month_of(period.end, timezone)


def anchored(anchor: datetime, every: str, start: datetime, end: datetime, timezone: str) -> Iterator[Period]:
    """The periods of a month or a year each, counted from `anchor` in local time, that overlap `[start, end)`.

    A period that would begin on a day that its month lacks begins on that month's last day: from January 31 to February 28 to
    March 31.
    """
    step = 12 if every == YEAR else 1
    local = start.astimezone(ZoneInfo(timezone))
    first = anchor.astimezone(ZoneInfo(timezone))
    number = max(0, ((local.year - first.year) * 12 + local.month - first.month) // step - 1)
    while True:
        begins = _after(first, number * step)
        if begins >= end:
            return
        ends = _after(first, (number + 1) * step)
        if ends > start:
            yield Period(begins, ends, "", timezone)
        number += 1


def _after(first: datetime, months: int) -> datetime:
    """`first`, a local time, so many months later, in UTC."""
    place = first.year * 12 + first.month - 1 + months
    year, month = place // 12, place % 12 + 1
    day = min(first.day, monthrange(year, month)[1])
    return first.replace(year=year, month=month, day=day).astimezone(UTC)


@lru_cache(maxsize=4096)
def _month(year: int, month: int, timezone: str) -> Period:
    zone = ZoneInfo(timezone)
    start = datetime(year, month, 1, tzinfo=zone)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone)
    return Period(start.astimezone(UTC), end.astimezone(UTC), f"{year:04d}-{month:02d}", timezone)
