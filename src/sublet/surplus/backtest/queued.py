"""Pools whose demand is a batch queue: what runs and waits is known with its time limits, and gangs wait until all of them fit.

While a gang waits, what it waits for is idle and looks as if it could be sold. Everything follows from the seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import numpy as np

from sublet.demand.jobs import KNOWN_HOURS, KnownJob, need_ahead
from sublet.demand.model import HOUR_S
from sublet.surplus.backtest.scoring import Trace
from sublet.values.clock import EPOCH

DAYS = 60
WARMUP_HOURS = 14 * 24
SMALL = (0.02, 0.05, 0.1)
GANGS = (0.3, 0.6)
GANG_SHARE = 0.03
LOAD = 0.7


@dataclass
class _Job:
    size: int
    hours: int
    limit: int
    began: int = -1


def queued(seed: int, days: int = DAYS, warmup: int = WARMUP_HOURS) -> Trace:
    """The pool of one seed. Jobs begin in the order in which they came, each when all its accelerators are free, and end hours
    before their limits."""
    random = np.random.default_rng(seed)
    hours, capacity = days * 24, int(random.integers(64, 513))
    in_use, known = np.zeros(hours), np.zeros((hours, KNOWN_HOURS))
    waiting: list[_Job] = []
    running: list[_Job] = []
    sizes = [max(1, round(share * capacity)) for share in (*SMALL, *GANGS)]
    says = [(1 - GANG_SHARE) / len(SMALL)] * len(SMALL) + [GANG_SHARE / len(GANGS)] * len(GANGS)
    hourly = LOAD * capacity / (float(np.dot(sizes, says)) * 8)
    for t in range(hours):
        running = [job for job in running if t < job.began + job.hours]
        known[t] = _need([*running, *waiting], t, capacity)
        free = capacity - sum(job.size for job in running)
        while waiting and waiting[0].size <= free:
            waiting[0].began = t
            free -= waiting[0].size
            running.append(waiting.pop(0))
        in_use[t] = capacity - free
        for _ in range(random.poisson(hourly)):
            lasts = 1 + int(random.exponential(7))
            size = int(random.choice(sizes, p=says))
            waiting.append(_Job(size, lasts, lasts + int(random.integers(0, 2 * lasts + 1))))
    return Trace(f"queued-{seed}", 0, np.full(hours, float(capacity)), in_use, warmup, known=known)


def _need(jobs: list[_Job], t: int, capacity: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    told = [
        KnownJob(job.size, None if job.began < 0 else EPOCH + timedelta(hours=job.began), job.limit * HOUR_S)
        for job in jobs
    ]
    return need_ahead(told, EPOCH + timedelta(hours=t), capacity)
