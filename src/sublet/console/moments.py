"""Moments as a browser's fields for date and time have them."""

from __future__ import annotations

from datetime import UTC, datetime

from sublet.values.errors import InvalidInputError


def typed_moment(moment: datetime) -> str:
    """A moment of UTC as a browser's field for date and time has it, to the minute, never later than it is."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M")


def moment_of(text: str) -> datetime:
    """What such a field sends. Raises InvalidInputError."""
    try:
        return datetime.strptime(text[:16], "%Y-%m-%dT%H:%M").replace(tzinfo=UTC)
    except ValueError as error:
        raise InvalidInputError("write a date and a time of UTC, such as 2026-07-02T14:00") from error
