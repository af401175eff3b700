"""The depth of a promise: monotone, counted, and modest where little is known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.surplus import series as made

from sublet.demand.forecast import Futures, HourlyRises, PlainRises
from sublet.surplus.seller import Seller, deepest, margin

paths = st.integers(1, 30).flatmap(
    lambda rows: st.lists(st.lists(st.integers(-50, 50), min_size=3, max_size=3), min_size=rows, max_size=rows)
)


def futures(rows: list[list[int]], weights: list[float] | None = None) -> Futures:
    says = np.array(weights, dtype=np.float32) if weights else np.ones(len(rows), dtype=np.float32)
    return Futures(np.array(rows, dtype=np.float32), says, "test")


@given(paths, st.lists(st.integers(0, 80), min_size=3, max_size=3), st.floats(0, 1))
def test_the_depth_breaks_on_no_more_than_the_tail(rows: list[list[int]], room: list[int], share: float) -> None:
    known, left = futures(rows), np.array(room, dtype=np.float64)
    depth = deepest(known, left, share * len(rows), expect=True)
    broken = sum(any(rise + depth.count > free for rise, free in zip(row, room, strict=True)) for row in rows)
    if depth.count:
        assert broken <= share * len(rows) + 1e-6
        one_more = depth.count + 1
        breaks = sum(any(rise + one_more > free for rise, free in zip(row, room, strict=True)) for row in rows)
        assert breaks > share * len(rows) - 1e-6 or one_more > min(room)
    expected = np.mean(
        [min(depth.count, max(0, max(r + depth.count - f for r, f in zip(row, room, strict=True)))) for row in rows]
    )
    assert depth.broken == pytest.approx(expected, abs=1e-3)


@given(
    paths, st.lists(st.integers(0, 80), min_size=3, max_size=3), st.floats(0, 10), st.floats(0, 10), st.integers(0, 9)
)
def test_more_tail_is_never_shallower_and_less_room_never_deeper(
    rows: list[list[int]], room: list[int], one: float, other: float, taken: int
) -> None:
    known, left = futures(rows), np.array(room, dtype=np.float64)
    low, high = sorted((one, other))
    assert deepest(known, left, low).count <= deepest(known, left, high).count
    assert deepest(known, left - taken, low).count <= deepest(known, left, low).count


def test_too_little_evidence_sells_nothing() -> None:
    assert deepest(futures([[0, 0, 0]]), np.array([9.0, 9.0, 9.0]), -0.1).count == 0
    demand = made.daily(6)
    seller = Seller(24, HourlyRises(demand), 96)
    assert seller.tail(seller.forecaster.futures(demand.size, 24), 0.01) < 0


def test_the_forecast_knows_the_hour_of_the_day() -> None:
    hours = np.arange(60 * 24)
    demand = np.where(hours % 24 >= 10, 80.0, 20.0)
    known = HourlyRises(demand)
    evening, morning = known.futures(59 * 24 + 22, 2), known.futures(59 * 24 + 9, 2)
    assert float(np.average(evening.paths.max(axis=1), weights=evening.weights)) < 5
    assert float(np.average(morning.paths.max(axis=1), weights=morning.weights)) > 45
    assert PlainRises(demand).futures(59 * 24, 2).paths.max() == 60


def test_unseen_hours_are_no_evidence() -> None:
    demand = made.daily(30)
    demand[200:260] = np.nan
    for forecaster in (HourlyRises(demand), PlainRises(demand)):
        found = forecaster.futures(demand.size, 4)
        assert np.isfinite(found.paths).all()
        assert found.weights.size > 0


def test_jumpy_pools_are_forecast_by_level() -> None:
    random = np.random.default_rng(5)
    jumps = np.repeat(random.choice([10.0, 40.0, 70.0, 100.0], 40 * 12), 2)
    assert HourlyRises(jumps).futures(jumps.size, 4).method == "levels"
    assert HourlyRises(made.daily(40)).futures(40 * 24, 4).method == "hours"


def test_margins_lie_between_the_measured_points() -> None:
    assert margin(1) == 8
    assert margin(4) == pytest.approx(3.3)
    assert 3.3 < margin(2) < 8
    assert margin(1000) == margin(24)
