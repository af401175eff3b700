"""The steps of a calendar: at each moment they are what one counts by hand, and the parts add up to the capacity."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.surplus import bookings as parts
from sublet.surplus.bookings import (
    SOLD,
    SPAN_MAX,
    STEPS_MAX,
    Booking,
    CalendarStep,
    calendar_window,
    steps_of,
)
from sublet.values.errors import InvalidInputError
from sublet.values.windows import Window

NOW = datetime(2026, 1, 5, tzinfo=UTC)
DAY = Window.starting(NOW, 86_400)
CLASSES = ("firm", "notice", "spot")
KINDS = (
    parts.CAPACITY, parts.MAINTENANCE, parts.QUARANTINED, parts.FLOORS, parts.REPLICAS, parts.CLAIMED, parts.RECLAIMED,
    parts.BLOCKS, parts.SOLD_FROM_BLOCKS, parts.HELD, parts.HELD_FROM_BLOCKS, f"{SOLD}firm", f"{SOLD}spot", f"{SOLD}gone",
)  # fmt: skip
BOOKINGS = st.lists(
    st.builds(
        lambda kind, count, start, long: Booking(
            kind, count, Window.starting(NOW + timedelta(hours=start), long * 3600)
        ),
        st.sampled_from(KINDS),
        st.integers(0, 8),
        st.integers(-5, 30),
        st.integers(1, 40),
    ),
    max_size=12,
)


def counted(bookings: Sequence[Booking], kind: str, at: datetime) -> int:
    return sum(item.count for item in bookings if item.kind == kind and item.window.contains(at))


def is_whole(step: CalendarStep) -> None:
    """The parts and what is left are the capacity and what is too many; no number is below 0."""
    numbers = [*step.parts.values(), step.capacity, step.left, step.excess, step.blocks]
    assert min(numbers) >= 0, step
    assert sum(step.parts.values()) + step.left == step.capacity + step.excess, step
    assert not (step.left and step.excess), step


def booked(kind: str, count: int, start_h: float = 0, long_h: float = 24) -> Booking:
    return Booking(kind, count, Window.starting(NOW + timedelta(hours=start_h), long_h * 3600))


@given(BOOKINGS)
def test_the_parts_add_up_at_each_moment_and_are_what_was_booked(bookings: list[Booking]) -> None:
    steps = steps_of([booked(parts.CAPACITY, 8), *bookings], DAY, CLASSES)
    assert steps[0].window.start == DAY.start and steps[-1].window.end == DAY.end
    assert all(one.window.end == following.window.start for one, following in pairwise(steps))
    for hour in range(24):
        at = NOW + timedelta(hours=hour, minutes=30)
        [step] = [step for step in steps if step.window.contains(at)]
        is_whole(step)
        assert step.capacity == 8 + counted(bookings, parts.CAPACITY, at)
        for kind in (parts.REPLICAS, parts.CLAIMED, parts.RECLAIMED, parts.BLOCKS, parts.SOLD_FROM_BLOCKS):
            assert getattr(step, kind) == counted(bookings, kind, at), kind
        assert step.held == sum(counted(bookings, kind, at) for kind in (parts.HELD, parts.HELD_FROM_BLOCKS))
        for name in ("firm", "spot", "gone"):
            assert step.sold.get(name, 0) == counted(bookings, SOLD + name, at), name
        assert set(CLASSES) <= set(step.sold)
        assert step.maintenance == min(step.capacity, counted(bookings, parts.MAINTENANCE, at))
        assert step.unsold_in_blocks <= step.blocks


@pytest.mark.parametrize(
    ("bookings", "unsold", "left", "excess"),
    [
        ([(parts.BLOCKS, 4)], 4, 4, 0),
        ([(parts.BLOCKS, 4), (parts.SOLD_FROM_BLOCKS, 3), (parts.HELD_FROM_BLOCKS, 1)], 0, 4, 0),
        ([(parts.BLOCKS, 4), (f"{SOLD}spot", 6)], 2, 0, 0),
        ([(parts.BLOCKS, 4), (parts.CLAIMED, 6)], 4, 0, 2),
        ([(parts.BLOCKS, 4), (parts.MAINTENANCE, 8)], 0, 0, 0),
        ([(parts.FLOORS, 3), (parts.MAINTENANCE, 6), (parts.QUARANTINED, 5)], 0, 0, 0),
        ([(f"{SOLD}spot", 6), (parts.CLAIMED, 6)], 0, 0, 4),
    ],
)
def test_unsold_hours_of_a_block_are_lent_to_tenants_and_never_to_the_owner(
    bookings: list[tuple[str, int]], unsold: int, left: int, excess: int
) -> None:
    [step] = steps_of([booked(parts.CAPACITY, 8), *(booked(*item) for item in bookings)], DAY, CLASSES)
    assert (step.unsold_in_blocks, step.left, step.excess) == (unsold, left, excess)


def test_many_changes_are_merged_and_the_fullest_moment_is_shown() -> None:
    """A step of five minutes out of each ten, and one moment in which all is sold."""
    short = [booked(f"{SOLD}spot", 1 + place % 3, place / 6, 1 / 12) for place in range(144)]
    full = booked(f"{SOLD}firm", 5, 12.01, 0.001)
    many = [*short, *(booked(f"{SOLD}notice", 1, place / 6 + 0.1, 0.01) for place in range(144))]
    steps = steps_of([booked(parts.CAPACITY, 8), full, *many], DAY, CLASSES)
    assert 100 < len(steps) <= STEPS_MAX and max(step.merged for step in steps) > 1
    assert steps[0].window.start == DAY.start and steps[-1].window.end == DAY.end
    for step in steps:
        is_whole(step)
    [fullest] = [step for step in steps if step.window.contains(full.window.start)]
    assert fullest.sold["firm"] == 5 and fullest.left <= 2


def test_a_calendar_covers_the_future_and_at_most_three_years() -> None:
    assert calendar_window(NOW, None, None) == Window(NOW, NOW + timedelta(days=30))
    past = calendar_window(NOW, NOW - timedelta(days=9), NOW + timedelta(days=1))
    assert past == Window(NOW, NOW + timedelta(days=1)), "the past is not booked any more"
    assert calendar_window(NOW, NOW + SPAN_MAX, NOW + 2 * SPAN_MAX).seconds == SPAN_MAX.total_seconds()
    second = timedelta(seconds=1)
    for since, until, words in (
        (None, NOW, "must be after"),
        (None, NOW + SPAN_MAX + second, "at most three years"),
        (NOW + SPAN_MAX + second, None, "more than three years ahead"),
    ):
        with pytest.raises(InvalidInputError, match=words):
            calendar_window(NOW, since, until)
