"""The forecast of a model's load."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.allocation.load import filled, forecast, spreads

NAN = float("nan")


def day(hour: int) -> float:
    return 100 + 50 * math.sin(hour / 24 * 2 * math.pi)


def test_a_steady_daily_wave_goes_on() -> None:
    past = [day(hour) for hour in range(7 * 24)]
    assert forecast(past, 6) == pytest.approx([day(hour) for hour in range(6)], rel=0.2)
    assert forecast(past, 24)[20] == pytest.approx(day(20), rel=0.05)


def test_a_level_twice_as_high_stays_high_and_fades_into_the_shape() -> None:
    past = [100.0] * 167 + [200.0]
    found = forecast(past, 24)
    assert found[0] > 190 and found == sorted(found, reverse=True) and found[-1] < 120


def test_a_single_gap_or_spike_in_a_week_does_not_move_the_shape() -> None:
    past = [100.0] * 168
    past[50] = 5_000.0
    assert forecast(past, 6) == pytest.approx([100.0] * 6)


def test_gaps_repeat_the_day_before() -> None:
    hours: list[float | None] = [float(hour) for hour in range(24)] + [None] * 24
    assert filled(hours)[24:] == filled(hours)[:24]
    assert filled([None, 3.0, NAN, -1.0]) == [0.0, 3.0, 3.0, 3.0]


def test_without_history_nothing_is_expected_and_less_than_a_day_continues() -> None:
    assert forecast([], 3) == [0.0] * 3
    assert forecast([5.0, 7.0], 3) == [7.0] * 3


@given(st.lists(st.none() | st.floats(0, 1e9), max_size=200), st.integers(1, 48))
def test_it_is_always_finite_and_never_below_zero(hours: list[float | None], count: int) -> None:
    found = forecast(filled(hours), count)
    assert len(found) == count and all(math.isfinite(item) and item >= 0 for item in found)
    assert all(0 < item <= 0.35 for item in spreads(count))
