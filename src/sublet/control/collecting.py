"""Demand that is measured elsewhere: for each pool whose settings name a Prometheus, its samples are brought in."""

from __future__ import annotations

from functools import partial

import structlog

from sublet.config.pools import PoolSettings
from sublet.demand.feeds.prometheus import PoolQuery, PrometheusCollector, PrometheusUnreachableError, query_of
from sublet.demand.feeds.prometheus_feed import PrometheusFeed
from sublet.leases import store as leases_sql
from sublet.values.errors import SubletError
from sublet.wiring.system import Sublet

log = structlog.get_logger(__name__)


class Collecting:
    """The feeds of all pools. One that fails does not keep the others from theirs."""

    def __init__(self, system: Sublet) -> None:
        self._system = system
        self._stated = {pool.name: pool for pool in system.settings.pools if pool.prometheus is not None}

    def feeds(self, pool_name: str) -> bool:
        """Whether that pool's demand is measured elsewhere, so that this machine's own load is not it."""
        return pool_name in self._stated

    def round(self) -> None:
        """Bring what is new of every pool that this process acts on. Raises the first error after all had their turn."""
        with self._system.store.read() as connection:
            mine = self._system.reach.pools(connection)
        errors: list[SubletError] = []
        silent: set[str] = set()
        for pool in self._system.fleet.pools():
            stated = self._stated.get(pool.name)
            if stated is None or stated.prometheus is None or pool.offline_at is not None or pool.id not in mine:
                continue
            if stated.prometheus.url in silent:
                # Waiting for it again for each of its pools would keep those of others waiting.
                continue
            try:
                self._feed(stated, pool.id, pool.accelerators).collect()
            except SubletError as error:
                if isinstance(error, PrometheusUnreachableError):
                    silent.add(stated.prometheus.url)
                log.warning("demand_not_collected", pool=pool.name, error=error.message)
                errors.append(error)
        if errors:
            raise errors[0]

    def _feed(self, stated: PoolSettings, pool_id: str, accelerators: int) -> PrometheusFeed:
        wanted = stated.prometheus
        assert wanted is not None
        return PrometheusFeed(
            self._system.demand,
            pool_id,
            PrometheusCollector(wanted.url, token=wanted.token.get_secret_value()),
            partial(self._query, stated, pool_id, accelerators),
            wanted.step_s,
            self._system.clock,
        )

    def _query(self, stated: PoolSettings, pool_id: str, accelerators: int) -> PoolQuery:
        wanted = stated.prometheus
        assert wanted is not None
        with self._system.store.read() as connection:
            leases = leases_sql.live_leases(connection, pool_id)
        held = [device for lease in leases if lease.active_at is not None for device in lease.devices]
        return query_of(
            wanted.exporter, wanted.select, wanted.in_use, wanted.capacity, wanted.pending, accelerators, held
        )
