"""The value of capacity for a model."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.allocation.mix.served import CORNERS, pieces, served

loads = st.floats(0.01, 1e6)
spreads = st.floats(0, 0.6)


def test_it_is_the_mean_of_the_smaller_of_load_and_capacity() -> None:
    drawn = np.random.default_rng(7).normal(100.0, 20.0, 400_000)
    for capacity in (60.0, 90.0, 100.0, 115.0, 150.0):
        assert served(capacity, 100.0, 0.2) == pytest.approx(float(np.minimum(drawn, capacity).mean()), abs=0.1)


@given(loads, spreads, st.floats(0, 3), st.floats(0, 3))
def test_more_capacity_never_serves_less_and_each_next_unit_serves_no_more(
    load: float, spread: float, one: float, other: float
) -> None:
    low, high = sorted((one * load, other * load))
    assert 0 <= served(low, load, spread) <= served(high, load, spread) + 1e-9 * load
    assert served(high, load, spread) <= min(high, load)
    middle = served((low + high) / 2, load, spread)
    assert middle >= (served(low, load, spread) + served(high, load, spread)) / 2 - 1e-9 * load


@given(loads, spreads)
def test_pieces_are_concave_and_reach_the_value_at_the_last_corner(load: float, spread: float) -> None:
    found = pieces(load, spread)
    slopes = [slope for _, slope in found]
    assert slopes == sorted(slopes, reverse=True)
    assert math.isclose(sum(width for width, _ in found), CORNERS[-1] * load, rel_tol=1e-9)
    total = sum(width * slope for width, slope in found)
    assert total <= served(CORNERS[-1] * load, load, spread) * (1 + 1e-9)


def test_nothing_is_served_without_load_or_capacity() -> None:
    assert served(0, 10, 0.2) == served(10, 0, 0.2) == 0
    assert pieces(0.0, 0.2) == [(0.0, 0.0)] * len(CORNERS)
    assert served(5, 10, 0) == 5 and served(20, 10, 0) == 10
