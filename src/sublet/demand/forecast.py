"""How far demand may rise: what it did after every comparable moment of the pool's own past."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from sublet.demand.model import Floats, Series

PATHS_MAX = 10_000

Grid = NDArray[np.float32]


@dataclass(frozen=True)
class Recent:
    """Demand on a grid of `slot_s` seconds that ends at the moment of decision; the last element is the newest slot.

    `capacity` and `in_use` have one element per slot, NaN where nothing was seen.
    """

    slot_s: int
    capacity: Floats
    in_use: Floats

    @property
    def newest(self) -> float:
        """Demand in the newest slot, NaN where it was not seen."""
        return float(self.in_use[-1]) if self.in_use.size else float("nan")

    def rises(self, slots: int) -> Grid:
        """What happened next, from every past moment: `(moments, slots)` rises above the demand just before it.

        Row u holds `in_use[u + h] - in_use[u - 1]` for h = 0 … slots-1, over the moments whose whole future is past
        already. Moments that touch a slot that was not seen are left out.
        """
        usable = self.in_use.size - slots
        if usable < 1:
            return np.empty((0, slots), dtype=np.float32)
        first = max(0, usable - PATHS_MAX)
        demand = self.in_use[first:].astype(np.float32)
        rises = sliding_window_view(demand[1:], slots) - demand[: usable - first, None]
        whole = np.isfinite(rises).all(axis=1)
        return rises if whole.all() else rises[whole]


def recent(series: Series, at_us: int, slot_s: int, slots_max: int) -> Recent:
    """`series` on a grid that ends at `at_us`: slot k before the last covers `(at - (k+1) slots, at - k slots]`.

    Samples after `at_us` are ignored, whatever the caller handed in.
    """
    step_us = slot_s * 1_000_000
    age = (at_us - series.times_us) // step_us
    keep = (series.times_us <= at_us) & (age < slots_max)
    if not keep.any():
        return Recent(slot_s, np.empty(0), np.empty(0))
    age = age[keep]
    count = int(age.max()) + 1
    place = count - 1 - age
    in_use = np.full(count, -np.inf)
    capacity = np.full(count, np.inf)
    np.maximum.at(in_use, place, series.in_use[keep])
    np.minimum.at(capacity, place, series.capacity[keep])
    unseen = np.isinf(capacity)
    in_use[unseen] = capacity[unseen] = np.nan
    return Recent(slot_s, capacity, in_use)
