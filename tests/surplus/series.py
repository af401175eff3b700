"""Small demand series that tests make for themselves."""

from __future__ import annotations

import numpy as np

from sublet.demand.model import Floats, Sample, Series, assemble
from sublet.demand.service import Demand
from sublet.surplus.backtest.scoring import Trace
from sublet.values.clock import SimulatedClock, from_micros

START_HOUR = 490_896
"""2026-01-01T00:00Z, in hours since the epoch."""


def daily(days: int, capacity: int = 100, seed: int = 1) -> Floats:
    """Demand with a day's shape, noise, and now and then a burst."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    shape = 0.5 + 0.2 * np.sin(2 * np.pi * (hours % 24 - 6) / 24)
    noise = np.cumsum(random.normal(0, 0.01, hours.size)) * 0.2
    bursts = np.where(random.random(hours.size) < 0.01, random.random(hours.size) * 0.3, 0)
    return np.asarray(np.round(np.clip((shape + noise + bursts) * capacity, 0, 1.2 * capacity)), dtype=np.float64)


def trace(days: int = 40, capacity: int = 100, seed: int = 1, warmup_days: int = 14) -> Trace:
    demand = daily(days, capacity, seed)
    return Trace("made", START_HOUR, np.full(demand.size, float(capacity)), demand, warmup_days * 24)


def series(days: int = 40, capacity: int = 100, seed: int = 1, pool: str = "made") -> Series:
    demand = daily(days, capacity, seed)
    times = (START_HOUR + np.arange(demand.size, dtype=np.int64)) * 3_600_000_000
    return assemble(pool, times, np.full(demand.size, float(capacity)), demand, np.zeros(demand.size))


def remember(demand: Demand, series: Series) -> None:
    """Records the series as samples of the pool whose id `series.pool` is, at its end if the clock does not stand there yet."""
    columns = zip(series.times_us, series.capacity, series.in_use, series.pending, strict=True)
    samples = [Sample(from_micros(int(time)), *map(float, counts)) for time, *counts in columns]
    clock, now = demand.clock, demand.clock.now()
    assert isinstance(clock, SimulatedClock)
    if samples:
        clock.set(max(now, series.end))
    demand.record_samples(series.pool, samples)
    clock.set(now)
