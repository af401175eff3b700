"""What may be idle in the coming hours: what was idle after every past moment, moved towards what is idle now."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from sublet.demand.model import Floats

BACK_HOURS = 60 * 24
"""How far back moments are taken: two months of days like these."""

STEP_HOURS = 4
"""Hours between two moments (a quarter of the deadline for longer ones, for its cost)."""

STAYS = 0.8
"""How much of the distance from a past moment's level is still there an hour later: within a day the level comes back."""

MOMENTS_MIN = 8
"""Fewer past moments than these (two days of them) are no forecast."""


def comparable_idle(capacity: Floats, in_use: Floats) -> Floats:
    """What would have been idle in each past hour with the capacity of the last one, whole accelerators; NaN if not seen.

    Where the pool has grown since, demand is taken to grow with it; where it has shrunk, demand is taken as it was. An
    hour without capacity was an outage and not idle.
    """
    if capacity.size == 0:
        return np.empty(0)
    seen = np.flatnonzero(np.isfinite(capacity))
    now = float(capacity[seen[-1]]) if seen.size else math.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        grown = np.maximum(1.0, now / capacity)
    demand = np.where(capacity > 0, in_use * np.where(capacity > 0, grown, 1.0), now)
    demand = np.where(np.isfinite(capacity), demand, np.nan)
    idle: Floats = np.floor(np.maximum(now - demand, 0.0))
    return idle


def idle_paths(idle: Floats, now: float, capacity: float, hours: int) -> Floats:
    """Paths (moments, hours) that idle accelerators may take from now on, the latest moment first.

    `idle` is hourly up to the present hour, NaN where nothing was seen; `now` is what is idle at the moment. A path is
    what was idle from a past hour on, moved by STAYS for each hour of how far it is now from what was idle just
    before that hour; never below 0 or above `capacity`. Moments that touch an hour that was not seen are left out.
    """
    size = idle.size
    first = max(1, size - BACK_HOURS)
    if size - hours < first:
        return np.empty((0, hours))
    ahead = sliding_window_view(idle, hours)[size - hours : first - 1 : -step_of(hours)]
    before = idle[size - hours - 1 :: -step_of(hours)][: len(ahead)]
    paths: Floats = ahead + _decays(hours) * (now - before)[:, None]
    np.floor(paths, out=paths)
    np.clip(paths, 0.0, max(0.0, capacity), out=paths)
    whole = np.isfinite(paths.sum(axis=1))
    return paths if whole.all() else paths[whole]


def step_of(hours: int) -> int:
    """Hours between two moments for a deadline in so many hours."""
    return max(STEP_HOURS, hours // 4)


@cache
def _decays(hours: int) -> Floats:
    return np.multiply.accumulate(np.full(hours, STAYS))
