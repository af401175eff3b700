"""What a formula calculates over a list of numbers: net present value, rate of return, and a row's value by its key."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

RATE_MIN, RATE_MAX = -0.99, 10.0
"""A rate of return is sought between these; what lies outside is reported as having none."""

_STEPS = 200
"""Halvings are as many as a double has room for long before; each also narrows by Newton's step where that stays inside."""


def present_value(rate: Any, flows: Sequence[Any]) -> Any:
    """Sum of flow_k / (1 + rate)^k from k = 1, for numbers or arrays of one shape."""
    worth: Any = 0.0
    for flow in reversed(flows):
        worth = (worth + flow) / (1.0 + rate)
    return worth


def rate_of_return(flows: Sequence[Any]) -> Any:
    """The rate at which the flows, the first one now, come to zero; NaN where none or more than one is found.

    Newton's method inside a bracket that halves when a step would leave it, so it converges wherever the sign changes once.
    """
    columns = np.broadcast_arrays(*(np.asarray(flow, dtype=float) for flow in flows))
    matrix = np.stack([column.ravel() for column in columns])
    signs = np.sign(matrix)
    changes = np.zeros(matrix.shape[1], dtype=int)
    last = np.zeros(matrix.shape[1])
    for row in signs:
        changes += (row != 0) & (last != 0) & (row != last)
        last = np.where(row != 0, row, last)
    low, high = np.full(matrix.shape[1], RATE_MIN), np.full(matrix.shape[1], RATE_MAX)
    start = np.sign(_worth(matrix, low)[0])
    sound = (changes == 1) & (start * np.sign(_worth(matrix, high)[0]) <= 0)
    rate = np.full(matrix.shape[1], 0.1)
    for _ in range(_STEPS):
        worth, slope = _worth(matrix, rate)
        above = np.sign(worth) == start
        low, high = np.where(above, rate, low), np.where(above, high, rate)
        with np.errstate(all="ignore"):
            newton = rate - worth / slope
        inside = np.isfinite(newton) & (newton > low) & (newton < high)
        following = np.where(worth == 0, rate, np.where(inside, newton, (low + high) / 2))
        if np.all(np.abs(following - rate) <= 1e-15 * np.maximum(1.0, np.abs(rate))):
            break
        rate = following
    found = np.where(sound, rate, np.nan)
    return found.reshape(columns[0].shape) if columns[0].shape else float(found[0])


def row_of(sought: Any, keys: Sequence[Any], values: Sequence[Any]) -> Any:
    """The value of the last key that is not above `sought`; NaN below the first. Keys ascend."""
    found: Any = np.nan
    for key, value in zip(keys, values, strict=True):
        found = np.where(sought >= key, value, found)
    return found


def _worth(matrix: Any, rate: Any) -> tuple[Any, Any]:
    """What the flows are worth at `rate`, and the slope of that."""
    worth, slope = np.zeros_like(rate), np.zeros_like(rate)
    step = 1.0 / (1.0 + rate)
    for row in matrix[::-1]:
        slope = slope * step - worth * step * step
        worth = worth * step + row
    return worth, slope
