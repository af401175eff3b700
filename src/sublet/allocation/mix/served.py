"""The value of capacity for a managed model: concave, so what counts is the next replica, not the average one."""

from __future__ import annotations

import math
from collections.abc import Sequence

CORNERS = (0.7, 0.85, 1.0, 1.1, 1.2, 1.35, 1.5)
"""Capacity over load at which the concave value bends in the program. Four corners did no measurable harm; seven cost little."""

_ROOT_2 = math.sqrt(2)
_ROOT_2_PI = math.sqrt(2 * math.pi)


def served(capacity: float, load: float, spread: float) -> float:
    """The load that is served on average: E[min(L, capacity)] for L normal with mean `load` and deviation `spread * load`,
    in the unit of `load`. Never more than either of the two."""
    if capacity <= 0 or load <= 0:
        return 0.0
    deviation = spread * load
    if deviation < 1e-12:
        return min(capacity, load)
    z = (capacity - load) / deviation
    below = (1 + math.erf(z / _ROOT_2)) / 2
    density = math.exp(-z * z / 2) / _ROOT_2_PI
    expected = capacity - (capacity - load) * below - deviation * density
    return max(0.0, min(expected, capacity, load))


def pieces(load: float, spread: float, corners: Sequence[float] = CORNERS) -> list[tuple[float, float]]:
    """`served` as straight pieces: the capacity that each covers, and what is served per unit of it, never rising."""
    found, at, before, slope = [], 0.0, 0.0, 1.0
    for corner in corners:
        capacity = corner * load
        value = served(capacity, load, spread)
        width = capacity - at
        slope = min(slope, (value - before) / width) if width > 1e-12 else 0.0
        found.append((max(0.0, width), max(0.0, slope)))
        at, before = capacity, value
    return found
