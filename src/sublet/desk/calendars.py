"""Calendars: months, quarters and fiscal years with any year end, with exact days and exact years.

A year is the calendar's own: a fiscal year is exactly one year, and each of its days an equal share of it, so four quarters sum to
one year in leap years too. A year of 52 or 53 weeks is as long as its days are. A fiscal year is called by the calendar year in
which it ends, as listed companies do.
"""

from __future__ import annotations

import calendar
import itertools
import re
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

from sublet.values.errors import InvalidInputError

PERIODS_MAX = 240
MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
          "december")  # fmt: skip
WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_LAST = re.compile(r"last (\w+day) of (\w+)", re.IGNORECASE)
_DAY = re.compile(r"(\d\d)-(\d\d)")


class Step(StrEnum):
    """How long a period is."""

    MONTH = "month"
    QUARTER = "quarter"
    YEAR = "year"

    @property
    def months(self) -> int:
        return {Step.MONTH: 1, Step.QUARTER: 3, Step.YEAR: 12}[self]


@dataclass(frozen=True, slots=True)
class Period:
    """From `start` to `until`, its last day; `year` is what its fiscal year is called."""

    label: str
    start: date
    until: date
    year: str
    years: float

    @property
    def end(self) -> date:
        """The first day after it."""
        return self.until + timedelta(days=1)

    @property
    def days(self) -> int:
        return (self.end - self.start).days


@dataclass(frozen=True, slots=True)
class YearEnd:
    """The last day of fiscal years: a day of a month, its last day, or the last of a weekday in it (52 or 53 weeks)."""

    month: int
    day: int | None = None
    weekday: int | None = None

    @classmethod
    def of(cls, text: str) -> YearEnd:
        """From "06-30" or "last sunday of january". Raises InvalidInputError that says how to write one."""
        day, last = _DAY.fullmatch(text.strip()), _LAST.fullmatch(text.strip())
        if day and 1 <= int(day[1]) <= 12 and 1 <= int(day[2]) <= calendar.monthrange(2028, int(day[1]))[1]:
            month, number = int(day[1]), int(day[2])
            is_last = number >= calendar.monthrange(2027, month)[1]
            return cls(month, None if is_last else number)
        if last and last[1].lower() in WEEKDAYS and last[2].lower() in MONTHS:
            return cls(MONTHS.index(last[2].lower()) + 1, None, WEEKDAYS.index(last[1].lower()))
        raise InvalidInputError(
            f'year_end is {text!r}; write the last day of the fiscal year as month and day, like "06-30", '
            'or as "last sunday of january"'
        )

    @property
    def is_calendar_year(self) -> bool:
        return self.month == 12 and self.day is None and self.weekday is None

    def in_year(self, year: int) -> date:
        """The last day of the fiscal year that ends in a calendar year."""
        last = date(year, self.month, calendar.monthrange(year, self.month)[1])
        if self.weekday is not None:
            return last - timedelta(days=(last.weekday() - self.weekday) % 7)
        return last if self.day is None else date(year, self.month, self.day)

    def years_between(self, start: date, end: date) -> float:
        """Years from one day to another: each day is an equal share of the fiscal year that it is in."""
        return self._place(end) - self._place(start)

    def _place(self, day: date) -> float:
        """A day on the line of years: with calendar years, 2 July 2027 is 2027.4986."""
        if self.weekday is not None:
            return YearEnd(12)._place(day)
        year = day.year if day <= self.in_year(day.year) else day.year + 1
        before = self.in_year(year - 1) + timedelta(days=1)
        return year + (day - before).days / (self.in_year(year) + timedelta(days=1) - before).days

    def boundaries(self, year: int, step: Step) -> list[date]:
        """The first days of the periods of the fiscal year that ends in `year`, and the first day after it."""
        start, end = self.in_year(year - 1) + timedelta(days=1), self.in_year(year) + timedelta(days=1)
        count = 12 // step.months
        if self.weekday is None:
            return [_months_after(start, step.months * place) for place in range(count)] + [end]
        if step is Step.MONTH:
            raise InvalidInputError('a fiscal year of whole weeks has no months; use step = "quarter" or "year"')
        return [start + timedelta(weeks=13 * place) for place in range(count)] + [end]


def periods(first: date, step: Step, count: int, year_end: YearEnd) -> list[Period]:
    """`count` periods from the one that starts on `first`.

    Raises InvalidInputError where no period starts then, with the nearest day on which one does.
    """
    if not 1 <= count <= PERIODS_MAX:
        raise InvalidInputError(f"periods is {count}; give 1 to {PERIODS_MAX}")
    found: list[Period] = []
    year = first.year - 1
    starts: list[date] = []
    while len(found) < count:
        year += 1
        marks = year_end.boundaries(year, step)
        starts += marks[:-1]
        for place, (start, end) in enumerate(itertools.pairwise(marks), start=1):
            if start >= first and len(found) < count:
                label = _label(year, place, start, step, year_end)
                until, length = end - timedelta(days=1), year_end.years_between(start, end)
                found.append(Period(label, start, until, _year(year, year_end), length))
        if year > first.year + 2 and not found:
            break
    if not found or found[0].start != first:
        near = min(starts, key=lambda day: abs((day - first).days))
        raise InvalidInputError(f"no {step} of this calendar starts on {first}; the nearest starts on {near}")
    return found


def overlap_days(period: Period, start: date, end: date) -> int:
    """How many days of a period lie from `start` to before `end`."""
    return max(0, (min(period.end, end) - max(period.start, start)).days)


def ramped_share(period: Period, start: date, full: date, end: date) -> float:
    """The mean over a period's days of what is there: nothing before `start`, rising evenly to all at `full`, nothing from `end`."""
    length = (full - start).days
    first, last = max(period.start, start), min(period.end, end)
    if last <= first:
        return 0.0
    rising_until = min(max(first, full), last)
    rising = (rising_until - first).days
    middle = ((first - start).days + rising / 2) / length if length else 1.0
    return (rising * middle + (last - rising_until).days) / period.days


def _months_after(day: date, months: int) -> date:
    month = day.month - 1 + months
    year, month = day.year + month // 12, month % 12 + 1
    return date(year, month, min(day.day, calendar.monthrange(year, month)[1]))


def _year(year: int, year_end: YearEnd) -> str:
    return str(year) if year_end.is_calendar_year else f"FY{year}"


def _label(year: int, place: int, start: date, step: Step, year_end: YearEnd) -> str:
    match step:
        case Step.MONTH:
            return f"{start:%Y-%m}"
        case Step.QUARTER:
            return f"{_year(year, year_end)}Q{place}"
    return _year(year, year_end)
