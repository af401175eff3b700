"""The owner's jobs, as reported by the engines of pools: a sample of demand, and the jobs that run and wait."""

from __future__ import annotations

from datetime import datetime, timedelta

from sublet.demand.jobs import JOBS_MAX, KnownJob
from sublet.demand.model import Sample
from sublet.fleet.model import Pool
from sublet.leases.backends.engine import Demand, Work
from sublet.wiring.system import Sublet

STEP = timedelta(seconds=30)
WAITS_FOR_ROOM = frozenset({"Resources", "Priority", "None", ""})
"""Why a job waits that starts as soon as there is room for it. Others wait for another job, a time, or a limit of their own."""


class Engines:
    """Pools whose engine knows the owner's queue need no other feed."""

    def __init__(self, system: Sublet) -> None:
        self._system = system
        self._asked: dict[str, datetime] = {}

    def collect(self, pool: Pool) -> bool:
        """Query the pool's engine, at most once in STEP. Returns whether it reported demand. Raises BackendFailedError."""
        backend, now = self._system.backends.get(pool.backend), self._system.clock.now()
        asked = self._asked.get(pool.id)
        if backend is None or (asked is not None and asked <= now < asked + STEP):
            return False
        demand = backend.demand()
        self._asked[pool.id] = now
        if demand is None:
            return False
        capacity = float(pool.capacity(now))
        self._system.demand.record_samples(
            pool.id, [Sample(demand.at, capacity, float(demand.in_use), float(demand.pending))]
        )
        self._system.demand.record_jobs(pool.id, demand.at, capacity, known_jobs(demand))
        return True


def known_jobs(demand: Demand) -> list[KnownJob]:
    """Running jobs, and those that take room as soon as there is some, in the order of the queue; at most JOBS_MAX, those that
    run first."""
    running = [_running(job, demand.at) for job in demand.jobs if job.running and job.accelerators > 0]
    waiting = [
        KnownJob(job.accelerators, None, job.limit_s or None)
        for job in demand.jobs
        if not job.running and job.accelerators > 0 and job.reason in WAITS_FOR_ROOM
    ]
    return [*running, *waiting][:JOBS_MAX]


def _running(job: Work, at: datetime) -> KnownJob:
    begun = min(job.begins_at or at, at)
    if job.ends_by is None:
        return KnownJob(job.accelerators, begun, job.limit_s or None)
    return KnownJob(job.accelerators, begun, max(1, int((job.ends_by - begun).total_seconds())))
