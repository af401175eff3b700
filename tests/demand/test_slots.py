"""Samples on a grid: the slot that each was meant for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sublet.demand.model import Series, assemble

SECOND_US = 1_000_000
BEGIN_S = 490_896 * 3600


def at_seconds(seconds: list[int]) -> Series:
    """Samples at these seconds since BEGIN_S; the n-th needs n accelerators."""
    times = (BEGIN_S + np.array(seconds, dtype=np.int64)) * SECOND_US
    count = len(seconds)
    return assemble("p", times, np.full(count, 100.0), np.arange(count, dtype=np.float64), np.zeros(count))


@given(st.lists(st.integers(-30, 1500), min_size=1, max_size=50))
def test_an_hourly_series_whose_clock_wavers_has_no_holes(wavering: list[int]) -> None:
    slots = at_seconds([3600 * hour + off for hour, off in enumerate(wavering)]).slots()
    assert slots.start_s == BEGIN_S
    assert slots.in_use.tolist() == list(range(len(wavering)))


def test_a_sample_among_others_belongs_to_the_hour_that_it_was_taken_in() -> None:
    by_minute = at_seconds([60 * minute - 1 for minute in range(1, 121)])
    assert by_minute.slots().in_use.tolist() == [59, 119]
    # A pool that was seen once an hour, and by the minute since.
    mixed = at_seconds([0, 3599, 7199, *range(7259, 10800, 60)])
    assert mixed.slots().in_use.tolist() == [0, 1, len(mixed) - 1]


@pytest.mark.parametrize(("early_s", "slot"), [(1, 3), (36, 3), (37, 2), (600, 2)])
def test_only_what_is_a_moment_early_belongs_to_the_next_hour(early_s: int, slot: int) -> None:
    seen = at_seconds([0, 3600, 3 * 3600 - early_s]).slots()
    assert np.flatnonzero(np.isfinite(seen.in_use)).tolist() == [0, 1, slot]


def test_gaps_are_judged_by_how_often_samples_came_around_them() -> None:
    hourly, minutes = list(range(0, 40 * 3600, 3600)), list(range(40 * 3600, 50 * 3600, 60))
    assert at_seconds(hourly + minutes).findings.gaps == 0
    holed = [
        second for second in hourly + minutes if second not in (7200, 10800) and not 41 * 3600 < second < 42 * 3600
    ]
    findings = at_seconds(holed).findings
    assert (findings.gaps, findings.missing_slots) == (2, 2 + 59)
    assert at_seconds([0]).findings.gaps == at_seconds([0, 60]).findings.gaps == 0
    assert at_seconds([0, 3600, 7200, 4 * 3600]).findings.missing_slots == 1
