"""Time comes from an injected clock and is always aware UTC."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Where the present comes from."""

    def now(self) -> datetime:
        """The present, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


class SimulatedClock:
    """A clock that moves only when told to; deterministic tests and simulations run on it."""

    def __init__(self, start: datetime | None = None) -> None:
        """`start` must be aware; by default 2026-01-05 00:00 UTC, a Monday."""
        self._now = as_utc(start) if start else datetime(2026, 1, 5, tzinfo=UTC)
        self._lock = threading.Lock()

    def now(self) -> datetime:
        with self._lock:
            return self._now

    def advance(self, seconds: float) -> datetime:
        """Move by `seconds` (negative: the clock steps back) and return the new present."""
        with self._lock:
            self._now += timedelta(seconds=seconds)
            return self._now

    def set(self, moment: datetime) -> None:
        """Jump to `moment`, which must be aware."""
        with self._lock:
            self._now = as_utc(moment)


def as_utc(moment: datetime) -> datetime:
    """`moment` in UTC. Raises ValueError for a time without an offset: it could be any hour of the day; and for one that
    its offset moves out of the years 1 to 9999."""
    if moment.tzinfo is UTC:
        return moment
    if moment.tzinfo is None:
        raise ValueError(f"time {moment.isoformat()} has no offset; write it as {moment.isoformat()}Z or +hh:mm")
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"time {moment.isoformat()} is outside the years 1 to 9999 in UTC") from error


def within_reach(moment: datetime) -> datetime:
    """`moment`, which came from outside, in UTC. Raises ValueError as `as_utc` does, and for one before EARLIEST or not before
    LATEST: nothing that is added to it or taken off it may leave the calendar."""
    if moment.tzinfo is not None and not EARLIEST <= moment < LATEST:
        shown = moment.isoformat().replace("+00:00", "Z")
        raise ValueError(f"time {shown} is outside the years {EARLIEST.year} to {LATEST.year - 1}")
    return as_utc(moment)


def parse_time(text: str) -> datetime:
    """Read RFC 3339 with an offset, as aware UTC `within_reach`. Raises ValueError that says what to write instead."""
    try:
        moment = datetime.fromisoformat(text.strip().upper())
    except ValueError as error:
        raise ValueError(f"{text[:80]!r} is not a time; use the form 2026-07-02T14:00:00Z") from error
    return within_reach(moment)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with `Z`, to the second, or to the microsecond where there is a fraction."""
    return as_utc(moment).isoformat().replace("+00:00", "Z")


EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EARLIEST, LATEST = EPOCH, datetime(9000, 1, 1, tzinfo=UTC)
"""What comes from outside lies in `[EARLIEST, LATEST)`."""
_MICROSECOND = timedelta(microseconds=1)


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970-01-01T00:00Z, exact."""
    return (as_utc(moment) - EPOCH) // _MICROSECOND


def from_micros(micros: int) -> datetime:
    """The inverse of `to_micros`."""
    return EPOCH + timedelta(microseconds=micros)
