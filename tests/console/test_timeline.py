"""From points to stretches: nothing invented, peaks kept, gaps kept, and never more than a chart can hold."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.console.model import PoolPoint, PoolView, Sold
from sublet.console.timeline import COLUMNS_MAX, gaps, present, stretches, window_of, x_ticks, y_ticks
from sublet.values.windows import Window

NOW = datetime(2026, 7, 2, 14, 5, tzinfo=UTC)


def pool(points: list[PoolPoint], gap_s: float = 120.0) -> PoolView:
    return PoolView("pool_1", "p", "H100", "s", 8, None, tuple(points), gap_s=gap_s)


def at(seconds: float, own: float | None = 3, forecast: bool = False, capacity: float = 8) -> PoolPoint:
    return PoolPoint(NOW + timedelta(seconds=seconds), capacity, own, Sold({"spot": 1}), 2, forecast)


def drawn(view: PoolView) -> list[tuple[float, float, float | None]]:
    now = NOW.timestamp()
    found = stretches(view, NOW, window_of(view, NOW))
    return [(round(item.start - now), round(item.end - now), item.point.own_demand) for item in found]


def test_a_sample_holds_until_the_next_and_the_last_until_now() -> None:
    assert drawn(pool([at(-60, 1), at(-30, 2)], gap_s=100)) == [(-60, -30, 1), (-30, 0, 2)]


def test_a_pause_longer_than_the_gap_is_a_gap() -> None:
    view = pool([at(-1000, 1), at(-500, 2), at(-400, 5)], gap_s=100)
    assert drawn(view) == [(-1000, -900, 1), (-500, -400, 2), (-400, -300, 5)]
    window = window_of(view, NOW)
    now = NOW.timestamp()
    found = gaps(stretches(view, NOW, window), window, now)
    assert [(start - now, end - now) for start, end in found] == [(-900, -500), (-300, 0)]


def test_an_unknown_demand_is_a_gap_too() -> None:
    view = pool([at(-600, 1), at(-400, None), at(-200, 2)], gap_s=1000)
    window = window_of(view, NOW)
    now = NOW.timestamp()
    found = gaps(stretches(view, NOW, window), window, now)
    assert [(start - now, end - now) for start, end in found] == [(-400, -200)]


def test_a_single_fresh_point_can_be_seen() -> None:
    ((start, end, own),) = drawn(pool([at(0, 4)]))
    assert (start, end, own) == (-1, 0, 4)


def test_a_point_of_this_moment_takes_its_room_from_the_one_before() -> None:
    assert drawn(pool([at(-100, 1), at(0, 4)])) == [(-100, -1, 1), (-1, 0, 4)]


def test_a_forecast_made_earlier_starts_now() -> None:
    points = [at(-50, 1), at(-20, 3, forecast=True), at(200, 4, forecast=True)]
    assert drawn(pool(points)) == [(-50, 0, 1), (0, 200, 3), (200, 420, 4)]


def test_a_forecast_reaches_no_further_than_its_last_step() -> None:
    points = [at(-86_400 * 400, 1), at(0, 3, forecast=True), at(3600, 4, forecast=True)]
    view = pool(points)
    window = window_of(view, NOW)
    assert (window.end - NOW).days > 1
    assert stretches(view, NOW, window)[-1].end - NOW.timestamp() == 7200


def test_an_observation_from_the_future_is_left_out() -> None:
    assert drawn(pool([at(-50, 1), at(50, 7)])) == [(-50, 0, 1)]


def test_a_young_system_is_not_lost_beside_its_forecast() -> None:
    view = pool([at(-60), *(at(3600 * hour, forecast=True) for hour in range(48))])
    window = window_of(view, NOW)
    assert (NOW - window.start).total_seconds() == 300
    assert (window.end - NOW).total_seconds() == 600


def test_the_present_is_the_last_observation_unless_it_is_stale() -> None:
    assert present(pool([at(-500, 1), at(-50, 2), at(0, 9, forecast=True)]), NOW) == at(-50, 2)
    assert present(pool([at(-500, 1)]), NOW) is None
    assert present(pool([]), NOW) is None


def test_400_days_keep_their_highest_peak_in_few_columns() -> None:
    points = [at(-600 * index, 2, capacity=8 if index < 30_000 else 4) for index in range(57_600)]
    points[31_234] = at(-600 * 31_234, 7.5, capacity=4)
    found = stretches(pool(points, gap_s=900), NOW, window_of(pool(points), NOW))
    assert len(found) <= COLUMNS_MAX + 1
    assert max(item.point.own_demand or 0 for item in found) == 7.5
    assert {item.point.capacity for item in found} == {4, 8}


@given(
    st.lists(
        st.tuples(
            st.floats(-4e7, 4e6),
            st.none() | st.floats(0, 1e6),
            st.booleans(),
        ),
        max_size=60,
    ),
    st.floats(1, 1e6),
)
def test_stretches_never_overlap_never_leave_the_window_and_never_invent_a_value(
    raw: list[tuple[float, float | None, bool]], gap_s: float
) -> None:
    view = pool([at(seconds, own, forecast) for seconds, own, forecast in raw], gap_s)
    window = window_of(view, NOW)
    found = stretches(view, NOW, window)
    assert len(found) <= 2 * COLUMNS_MAX
    for item in found:
        assert item.start < item.end
        assert item.end <= window.end.timestamp() + 1e-3
        assert item.point in view.points
    for before, after in itertools.pairwise(found):
        assert before.end <= after.start + 1e-3


@pytest.mark.parametrize(
    ("peak", "labels"),
    [
        (0, ["0", "1"]),
        (1, ["0", "1"]),
        (2, ["0", "1", "2"]),
        (7, ["0", "2", "4", "6", "8"]),
        (64, ["0", "20", "40", "60", "80"]),
        (1_000_000, ["0", "500000", "1000000"]),
    ],
)
def test_y_ticks_are_whole_and_reach_the_peak(peak: float, labels: list[str]) -> None:
    assert [tick.label for tick in y_ticks(peak)] == labels


@pytest.mark.parametrize(
    ("hours", "first", "second"),
    [
        (1, "13:10", "13:20"),
        (30, "12:00", "16:00"),
        (24 * 3, "30 Jun", "12:00"),
        (24 * 30, "4 Jun", "8 Jun"),
        (24 * 400, "Jul 2025", "Sep 2025"),
    ],
)
def test_x_ticks_stand_at_round_times(hours: int, first: str, second: str) -> None:
    ticks = x_ticks(Window(NOW - timedelta(hours=hours), NOW))
    assert 2 <= len(ticks) <= 10
    assert [tick.label for tick in ticks[:2]] == [first, second]


@given(st.floats(60, 4e8))
def test_there_are_always_some_x_ticks_and_never_many(seconds: float) -> None:
    ticks = x_ticks(Window(NOW - timedelta(seconds=seconds), NOW))
    assert len(ticks) <= 10
    if seconds > 600:
        assert ticks
