"""What a pool really had to spare, hour by hour, and what the forecast had said an hour before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from sublet.demand.forecast.forecaster import SHORT_METHOD, Futures, candidates
from sublet.demand.model import Floats, Slots
from sublet.demand.service import Demand
from sublet.desk.actuals import ForecastRecord
from sublet.fleet.model import Pool
from sublet.values.clock import from_micros
from sublet.values.windows import Window

HOUR_S = 3600
LEARNING = timedelta(days=60)
LEARNED_HOURS_MIN = 7 * 24
LOW, MIDDLE, HIGH = 0.05, 0.5, 0.95


def hours_of(demand: Demand, pool: Pool, window: Window) -> Slots:
    """Demand by the hour over `window` and the time before it that a forecast learns from."""
    return demand.history(pool.id, window.start - LEARNING, window.end).slots(HOUR_S)


def spare_hours(slots: Slots, window: Window) -> float:
    """Accelerator-hours that the owner left idle in `window`, by the highest need of each hour; unseen hours count nothing."""
    inside = _inside(slots, window)
    idle = np.maximum(slots.capacity[inside] - slots.in_use[inside], 0.0)
    return float(np.nansum(idle))


def forecasts(pool: Pool, slots: Slots, window: Window) -> Iterator[ForecastRecord]:
    """For each hour of `window` the surplus as it was foreseen at its beginning, from earlier hours alone, and as it was."""
    forecaster = candidates(slots.in_use, slots.start_s // HOUR_S)[SHORT_METHOD]
    for t in np.flatnonzero(_inside(slots, window)):
        if t < LEARNED_HOURS_MIN or not np.isfinite(slots.in_use[t - 1 : t + 1]).all():
            continue
        rises = _quantiles(forecaster.futures(int(t), 1))
        if rises is None:
            continue
        before = slots.capacity[t - 1] - slots.in_use[t - 1]
        low, middle, high = (float(max(0.0, before - rise)) for rise in rises[::-1])
        actual = float(max(0.0, slots.capacity[t] - slots.in_use[t]))
        moment = from_micros((slots.start_s + int(t) * HOUR_S) * 1_000_000)
        yield ForecastRecord(pool.name, moment, low, middle, high, actual)


def _inside(slots: Slots, window: Window) -> NDArray[np.bool_]:
    times = slots.start_s + np.arange(slots.in_use.size) * HOUR_S
    return np.asarray((times >= window.start.timestamp()) & (times < window.end.timestamp()))


def _quantiles(futures: Futures) -> Floats | None:
    """The LOW, MIDDLE and HIGH quantile of the rise within the hour; None where no past moment is known."""
    if not futures.paths.shape[0]:
        return None
    rises = futures.paths[:, 0].astype(np.float64)
    order = np.argsort(rises)
    weight = np.cumsum(futures.weights[order].astype(np.float64))
    places = np.searchsorted(weight, np.array([LOW, MIDDLE, HIGH]) * weight[-1])
    return np.asarray(rises[order][np.minimum(places, rises.size - 1)])
