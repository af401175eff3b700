"""Half-open windows of time, `[start, end)`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sublet.values.clock import as_utc, format_time
from sublet.values.errors import InvalidInputError


@dataclass(frozen=True, slots=True, order=True)
class Window:
    """`[start, end)`, both aware UTC, `start` before `end`."""

    start: datetime
    end: datetime

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", as_utc(self.start))
        object.__setattr__(self, "end", as_utc(self.end))
        if not self.start < self.end:
            raise InvalidInputError(
                f"a window must end after it starts; {format_time(self.start)} to {format_time(self.end)} does not"
            )

    @classmethod
    def starting(cls, start: datetime, seconds: float) -> Window:
        """The window of `seconds` from `start`."""
        return cls(start, start + timedelta(seconds=seconds))

    @classmethod
    def told(cls, start: datetime, end: datetime | None, duration_s: int | None) -> Window:
        """The window from `start` that a request tells by one of `end` and `duration_s`. Raises InvalidInputError for both and for
        none, and for one that leaves the calendar."""
        if (end is None) == (duration_s is None):
            raise InvalidInputError("send either end or duration_s")
        try:
            return cls(start, end) if end is not None else cls.starting(start, duration_s or 0)
        except OverflowError as error:
            raise InvalidInputError(
                "duration_s ends after the year 9999; use a shorter one", field="duration_s"
            ) from error

    @property
    def seconds(self) -> float:
        return (self.end - self.start).total_seconds()

    def contains(self, moment: datetime) -> bool:
        return self.start <= moment < self.end

    def overlaps(self, other: Window) -> bool:
        return self.start < other.end and other.start < self.end
