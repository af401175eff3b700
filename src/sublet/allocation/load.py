"""The load of a model in the next hours, from past hours: pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

DAY = 24
NEAR = 0.9
"""By how much an hour's distance lowers the weight of the latest level against the daily shape."""
SHAPE_WEIGHT = 0.5
SPREAD, SPREAD_PER_HOUR, SPREAD_MAX = 0.2, 0.015, 0.35
"""Relative error of a forecast hour: what the replayed series showed, fluctuation within the hour included."""


def filled(hours: Sequence[float | None]) -> list[float]:
    """The series without gaps: an unseen hour repeats the same hour of the day before, or else the hour before; 0 at first."""
    found: list[float] = []
    for place, value in enumerate(hours):
        if value is None or not math.isfinite(value) or value < 0:
            value = found[place - DAY] if place >= DAY else (found[-1] if found else 0.0)
        found.append(value)
    return found


def forecast(hours: Sequence[float], count: int) -> list[float]:
    """The next `count` hours: the last one times the root of the ratio of the daily shape (the median of each hour of the day), and
    fading into the shape. `hours` are whole past hours without gaps, the oldest first; with less than a day of them, the last one
    continues."""
    if not hours:
        return [0.0] * count
    last = hours[-1]
    if len(hours) < DAY:
        return [last] * count
    shape = [median(hours[-DAY + place :: -DAY][:7]) for place in range(DAY)]
    # shape[k] is the hour of the day that begins k hours after the last one ended.
    before = shape[DAY - 1]
    found = []
    for k in range(count):
        ahead = shape[k % DAY]
        moved = last * math.sqrt(ahead / before) ** (2 * SHAPE_WEIGHT) if before > 0 else last
        near = NEAR**k
        found.append(near * moved + (1 - near) * ahead)
    return found


def spreads(count: int) -> tuple[float, ...]:
    """The relative error of each of the next `count` hours."""
    return tuple(min(SPREAD_MAX, SPREAD + SPREAD_PER_HOUR * k) for k in range(count))
