"""Pools whose engine knows the owner's queue: samples and jobs come from it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from sublet.config.settings import Settings
from sublet.control.collecting import Collecting
from sublet.control.engines import STEP, known_jobs
from sublet.demand.jobs import JOBS_MAX, KnownJob
from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.engine import Demand, Work
from sublet.leases.backends.simulated import SimulatedBackend
from sublet.values.clock import SimulatedClock
from sublet.wiring.system import Sublet


class Queue(SimulatedBackend):
    """An engine with a queue."""

    jobs: tuple[Work, ...] = ()
    asked = 0
    away = False

    def demand(self) -> Demand:
        self.asked += 1
        if self.away:
            raise BackendFailedError("it is away")
        return Demand(self._clock.now(), self.jobs)


@pytest.fixture
def system(tmp_path: Path) -> Iterator[Sublet]:
    clock = SimulatedClock()
    pool = {"name": "h100", "backend": "simulated", "accelerators": 16, "generation": "H100", "watts": 700}
    settings = Settings.model_validate({"data_dir": tmp_path, "models": {"default": ""}, "pools": [pool]})
    made = Sublet(settings, clock, {"simulated": Queue(clock)})
    made.sync_fleet()
    yield made
    made.close()


def test_the_queue_is_the_pools_demand(system: Sublet) -> None:
    queue, clock = system.backends["simulated"], system.clock
    assert isinstance(queue, Queue) and isinstance(clock, SimulatedClock)
    now = clock.now()
    queue.jobs = (
        Work("1", True, 8, 1, now, now - timedelta(hours=1), now + timedelta(hours=5)),
        Work("2", False, 16, 2, now, None, None, 7200, "Resources"),
        Work("3", False, 4, 1, now, None, None, 60, "Dependency"),
    )
    collecting = Collecting(system)
    collecting.round()
    [pool] = system.fleet.pools()
    latest = system.demand.latest(pool.id)
    assert latest is not None and (latest.in_use, latest.pending, latest.capacity) == (8, 20, 16)
    [known] = system.demand.known_jobs(pool.id, now - timedelta(hours=1), now)
    # Until the running job's limit it may wait, and then it runs two hours: both together fill the pool.
    assert known.need[:8].tolist() == [16, 16, 16, 16, 16, 16, 16, 0]
    collecting.round()
    assert queue.asked == 1, "a large queue is not read every few seconds"
    clock.advance(STEP.total_seconds())
    collecting.round()
    assert queue.asked == 2


def test_an_engine_that_is_away_gives_no_sample(system: Sublet) -> None:
    queue = system.backends["simulated"]
    assert isinstance(queue, Queue)
    queue.away = True
    with pytest.raises(BackendFailedError):
        Collecting(system).round()
    assert system.demand.latest(system.fleet.pools()[0].id) is None


def test_of_too_many_jobs_those_that_run_are_known() -> None:
    now = SimulatedClock().now()
    jobs = [Work(str(number), False, 1, 1, reason="Priority") for number in range(JOBS_MAX)]
    found = known_jobs(Demand(now, (*jobs, Work("r", True, 8, 1))))
    assert len(found) == JOBS_MAX and found[0] == KnownJob(8, now)
