"""Keeps a pool's demand up to date from where it is measured, one round at a time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import SecretStr

from sublet.demand.feeds.feed import FeedSite
from sublet.demand.feeds.prometheus import POINTS_MAX, PoolQuery, PrometheusCollector, query_of
from sublet.demand.service import Demand
from sublet.values.clock import Clock, from_micros, to_micros
from sublet.values.errors import InvalidInputError

BACK = timedelta(days=28)


class PrometheusFeed:
    """Brings what Prometheus knows of a pool and Sublet does not yet, oldest first."""

    def __init__(
        self,
        demand: Demand,
        pool_id: str,
        collector: PrometheusCollector,
        query: Callable[[], PoolQuery],
        step_s: int,
        clock: Clock,
    ) -> None:
        """`query` is asked again each round: what tenants hold changes. Samples lie on whole multiples of `step_s`."""
        self._demand = demand
        self._pool_id = pool_id
        self._collector = collector
        self._query = query
        self._step = timedelta(seconds=step_s)
        self._clock = clock

    def collect(self) -> int:
        """Take what is new since the last sample, of the last 28 days at the first time; how many samples that was.

        One call asks for at most POINTS_MAX points, so that a long gap is made up over several rounds. A time without a
        value stays a gap. Raises PrometheusError.
        """
        now = self._clock.now()
        latest = self._demand.latest(self._pool_id)
        since = max(now - BACK, latest.time + timedelta(microseconds=1)) if latest else now - BACK
        first, last = self._grid(since + self._step - timedelta(microseconds=1)), self._grid(now)
        taken = 0
        while first <= last and not taken:
            until = min(last, first + (POINTS_MAX - 1) * self._step)
            step_s = int(self._step.total_seconds())
            samples = self._collector.samples(self._query(), first, until, step_s)
            taken = self._demand.record_samples(self._pool_id, samples).taken
            first = until + self._step
        return taken

    def _grid(self, moment: datetime) -> datetime:
        step_us = int(self._step.total_seconds() * 1_000_000)
        return from_micros(to_micros(moment) // step_us * step_us)


OPTIONS = frozenset({"url", "token", "exporter", "select", "in_use", "capacity", "pending"})


def make(site: FeedSite) -> PrometheusFeed:
    """The feed of the Prometheus at `url`. The query is rebuilt each round: what tenants hold changes."""
    options = {name: site.options.get(name, "") for name in OPTIONS}
    if not options["url"]:
        raise InvalidInputError("pools.prometheus.url: is missing; use the form http://127.0.0.1:9090")
    token = options["token"]
    secret = token.get_secret_value() if isinstance(token, SecretStr) else str(token)
    collector = PrometheusCollector(str(options["url"]), token=secret)

    def query() -> PoolQuery:
        exporter, select, in_use, capacity, pending = (
            str(options[name]) for name in ("exporter", "select", "in_use", "capacity", "pending")
        )
        return query_of(exporter, select, in_use, capacity, pending, site.accelerators, list(site.held()))

    return PrometheusFeed(site.demand, site.pool_id, collector, query, site.step_s, site.clock)
