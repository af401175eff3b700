"""Collects demand that is measured elsewhere, for each pool whose settings name a feed or whose engine knows the owner's
queue."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection

from sublet.control.engines import Engines
from sublet.demand.feeds.feed import Feed, FeedSite, FeedUnreachableError
from sublet.demand.feeds.registry import feed_of, kind_of
from sublet.fleet.model import Pool
from sublet.leases import store as leases_sql
from sublet.values.errors import SubletError
from sublet.wiring.system import Sublet

log = structlog.get_logger(__name__)


class Collecting:
    """The feeds of all pools. A feed that fails does not affect the others."""

    def __init__(self, system: Sublet) -> None:
        """Raises InvalidInputError if the settings name an unknown kind of feed."""
        self._system = system
        self._fed = {pool.name: pool.fed_by for pool in system.settings.pools if pool.fed_by is not None}
        for name, _, _ in self._fed.values():
            kind_of(name)
        self._engines = Engines(system)

    def feeds(self, pool_name: str) -> bool:
        """Whether that pool's demand is measured elsewhere, so that this machine's own load does not count."""
        return pool_name in self._fed

    def round(self) -> None:
        """Collect new samples of every pool that this process acts on. Raises the first error after all pools had their turn."""
        with self._system.store.read() as connection:
            mine = self._system.reach.pools(connection)
        errors: list[SubletError] = []
        silent: set[object] = set()
        for pool in self._system.fleet.pools():
            if pool.offline_at is not None or pool.id not in mine:
                continue
            if pool.name not in self._fed:
                try:
                    self._engines.collect(pool)
                except SubletError as error:
                    log.warning("demand_not_told", pool=pool.name, backend=pool.backend, error=error.message)
                    errors.append(error)
                continue
            kind, _, options = self._fed[pool.name]
            address = options.get(kind_of(kind).address)
            if address in silent:
                # Waiting for it again for each of its pools would keep those of others waiting.
                continue
            try:
                self._feed(pool).collect()
            except SubletError as error:
                if isinstance(error, FeedUnreachableError) and address is not None:
                    silent.add(address)
                log.warning("demand_not_collected", pool=pool.name, error=error.message)
                errors.append(error)
        if errors:
            raise errors[0]

    def _feed(self, pool: Pool) -> Feed:
        kind, step_s, options = self._fed[pool.name]
        site = FeedSite(
            self._system.demand,
            pool.id,
            pool.accelerators,
            self._system.clock,
            step_s,
            options,
            lambda: self._held(pool.id),
        )
        return feed_of(kind, site)

    def _held(self, pool_id: str) -> list[str]:
        with self._system.store.read() as connection:
            return _devices(connection, pool_id)


def _devices(connection: Connection, pool_id: str) -> list[str]:
    leases = leases_sql.live_leases(connection, pool_id)
    return [device for lease in leases if lease.active_at is not None for device in lease.devices]
