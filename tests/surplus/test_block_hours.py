"""What blocks kept off their owner, hour by hour, against a count at every moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sublet.surplus.blocks.model import BlockChange, ChangeKind, kept_off, without
from sublet.values.windows import Window

FIRST = 490_000
BEGIN = datetime.fromtimestamp(FIRST * 3600, UTC)
QUARTER = timedelta(minutes=15)
spans = st.tuples(st.integers(-20, 60), st.integers(1, 60), st.integers(1, 6))


@given(st.lists(st.floats(0, 20), min_size=1, max_size=12), st.lists(spans, max_size=6))
def test_each_hour_has_less_by_the_most_that_was_kept_off_in_it(
    capacity: list[float], drawn: list[tuple[int, int, int]]
) -> None:
    kept = [
        (Window(BEGIN + start * QUARTER, BEGIN + (start + length) * QUARTER), count) for start, length, count in drawn
    ]
    left = without(np.array(capacity), FIRST, kept)
    for hour, had in enumerate(capacity):
        quarters = [BEGIN + (4 * hour + quarter) * QUARTER for quarter in range(4)]
        most = max(sum(count for window, count in kept if window.start <= at < window.end) for at in quarters)
        assert left[hour] == max(had - most, 0.0)


def test_what_was_not_seen_stays_unseen() -> None:
    left = without(np.array([np.nan, 8.0]), FIRST, [(Window(BEGIN, BEGIN + 8 * QUARTER), 3)])
    assert np.isnan(left[0]) and left[1] == 5.0


def change(number: int, kind: ChangeKind, at: timedelta, accelerators: int, hours: int) -> BlockChange:
    window = Window(BEGIN, BEGIN + timedelta(hours=hours))
    return BlockChange("blk_1", number, kind, BEGIN + at, "owner", "", accelerators, window, None)


def test_a_change_tells_nothing_of_the_time_before_it() -> None:
    hour = timedelta(hours=1)
    told = [
        change(1, ChangeKind.CREATED, -hour, 4, 10),
        change(2, ChangeKind.WIDENED, 2 * hour, 6, 10),
        change(3, ChangeKind.WITHDRAWN, 5 * hour, 6, 10),
    ]
    assert kept_off(told) == [
        (Window(BEGIN, BEGIN + 2 * hour), 4),
        (Window(BEGIN + 2 * hour, BEGIN + 5 * hour), 6),
    ]
