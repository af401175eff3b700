"""Billing periods: calendar months in the organization's own time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from sublet.values.errors import InvalidInputError

_LABEL = re.compile(r"(\d{4})-(\d{2})")
_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """`[start, end)` in UTC: the calendar month `label` (like 2026-11) of one time zone."""

    start: datetime
    end: datetime
    label: str

    def contains(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def share(self, start: datetime, end: datetime | None) -> tuple[int, int]:
        """How much of the period `[start, end)` covers, as (microseconds covered, microseconds in all)."""
        first = max(self.start, start)
        last = self.end if end is None else min(self.end, end)
        whole = (self.end - self.start) // _MICROSECOND
        return max(0, (last - first) // _MICROSECOND), whole


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


@lru_cache(maxsize=4096)
def _month(year: int, month: int, timezone: str) -> Period:
    zone = ZoneInfo(timezone)
    start = datetime(year, month, 1, tzinfo=zone)
    end = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=zone)
    return Period(start.astimezone(UTC), end.astimezone(UTC), f"{year:04d}-{month:02d}")
