"""What a cluster has and needs: nodes, which of them can take work, and the owner's jobs."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import replace

from sublet.leases.backends.base import BackendFailedError
from sublet.leases.backends.engine import Demand, Inventory, NodeHealth
from sublet.leases.backends.slurm.cluster import Cluster
from sublet.values.clock import Clock

HEALTH_KEPT_S = 10.0


class ClusterFacts:
    """The part of the backend that only reads."""

    def __init__(self, clock: Clock, cluster: Cluster) -> None:
        self._clock = clock
        self._cluster = cluster
        self._served: tuple[float, int | None] = (-HEALTH_KEPT_S, None)

    def served_max(self) -> int | None:
        """Accelerators of the nodes that can take work, as of the last look of HEALTH_KEPT_S; the last known while the controller
        is away, None where it never answered."""
        measured, served = self._served
        if time.monotonic() - measured > HEALTH_KEPT_S:
            with suppress(BackendFailedError):
                served = sum(line.accelerators for line in self._cluster.nodes() if line.health.usable)
            self._served = (time.monotonic(), served)
        return served

    def inventory(self) -> Inventory | None:
        watts = self._cluster.power()
        lines = self._cluster.nodes()
        return Inventory(tuple(replace(line.node, watts=watts.get(line.name)) for line in lines))

    def health(self) -> tuple[NodeHealth, ...]:
        return tuple(line.health for line in self._cluster.nodes())

    def demand(self) -> Demand | None:
        """Of the jobs on this pool's nodes, and of those that wait in any partition that has some of them."""
        here = frozenset(line.name for line in self._cluster.nodes())
        jobs = tuple(self._cluster.queue(here))
        reasons: dict[str, int] = {}
        for job in jobs:
            if not job.running:
                reasons[job.reason] = reasons.get(job.reason, 0) + job.accelerators
        return Demand(self._clock.now(), jobs, reasons)
