"""Metrics of the control plane for Prometheus: loops, leaders, the books, nodes, and API latency."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sublet.control.loops import Loop
from sublet.fleet.nodes import Nodes
from sublet.leases import store as leases_sql
from sublet.ledger.proof.health import Lag, lag_of
from sublet.models.model import LIVE_STATES, LOST
from sublet.notifications import store as notifications_sql
from sublet.store import outbox
from sublet.wiring.system import Sublet

EDGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
DEADLINES_SINCE = timedelta(days=1)
DEADLINE_GRACE = timedelta(seconds=60)
"""What a teardown and its proof may take after access has closed."""
EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"


class Requests:
    """How long requests to the API took, by method and status class: an ASGI middleware."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], list[int]] = {}
        self.sums_s: dict[tuple[str, str], float] = {}

    def around(self, app: ASGIApp) -> ASGIApp:
        async def measured(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or not scope["path"].startswith("/v1/"):
                await app(scope, receive, send)
                return
            started, status = time.monotonic(), 500

            async def noted(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = int(message["status"])
                await send(message)

            try:
                await app(scope, receive, noted)
            finally:
                self.note(scope["method"], status, time.monotonic() - started)

        return measured

    def note(self, method: str, status: int, took_s: float) -> None:
        key = (method if method in METHODS else "other", f"{status // 100}xx")
        buckets = self.counts.setdefault(key, [0] * (len(EDGES_S) + 1))
        buckets[bisect_left(EDGES_S, took_s)] += 1
        self.sums_s[key] = self.sums_s.get(key, 0.0) + took_s


class ControlMetrics:
    """The metrics of `GET /metrics`. None of them names a customer."""

    def __init__(self, system: Sublet, loops: list[Loop], requests: Requests) -> None:
        self._system = system
        self._loops = loops
        self._requests = requests
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def exposition(self) -> bytes:
        """The metrics as text. Raises the errors of the database."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by prometheus_client."""
        yield from self._of_loops()
        yield self._of_requests()
        now = self._system.clock.now()
        with self._system.store.read() as connection:
            lag = lag_of(connection, now)
            met, late = leases_sql.deadlines_met(connection, now - DEADLINES_SINCE, now, DEADLINE_GRACE)
            ages = outbox.ages(connection, now)
            since = notifications_sql.oldest_due(connection, now)
            failing = notifications_sql.failing_count(connection)
        due = now - since if since is not None else None
        yield from self._of_books(lag, now)
        waiting = GaugeMetricFamily(
            "sublet_outbox_age_seconds",
            "Age of the oldest event that the reader has not dealt with",
            labels=["consumer"],
        )
        for consumer, age in ages.items():
            waiting.add_metric([consumer], _seconds(age))
        yield waiting
        yield GaugeMetricFamily(
            "sublet_deliveries_due_seconds",
            "Age of the oldest message that is due to a receiver that answers",
            _seconds(due),
        )
        yield GaugeMetricFamily("sublet_subscriptions_failing", "Subscriptions whose last delivery failed", failing)
        deadlines = GaugeMetricFamily(
            "sublet_reclaim_deadlines",
            "Leases to be given back within the last day, by whether they were",
            labels=["met"],
        )
        deadlines.add_metric(["yes"], met)
        deadlines.add_metric(["no"], late)
        yield deadlines
        yield self._of_nodes(now)
        yield self._of_replicas()

    def _of_loops(self) -> Iterator[Metric]:
        age = _gauge("loop_age_seconds", "Seconds since the loop's last round ended", "loop")
        interval = _gauge("loop_interval_seconds", "Seconds between two rounds", "loop")
        failing = _gauge("loop_failures", "Rounds that failed in a row", "loop")
        leads = _gauge("loop_leads", "1 where this control plane does the loop's work", "loop")
        for loop in self._loops:
            age.add_metric([loop.name], time.monotonic() - loop.ended_s)
            interval.add_metric([loop.name], loop.interval_s)
            failing.add_metric([loop.name], loop.failures_running)
            leads.add_metric([loop.name], int(loop.leads()))
        yield from (age, interval, failing, leads)

    def _of_requests(self) -> Metric:
        family = HistogramMetricFamily(
            "sublet_control_request_seconds",
            "Requests to the API, from the request to the answer",
            labels=["method", "status"],
        )
        for key, buckets in list(self._requests.counts.items()):
            sums = list(accumulate(buckets))
            edges = [*(str(edge) for edge in EDGES_S), "+Inf"]
            family.add_metric(list(key), list(zip(edges, sums, strict=True)), self._requests.sums_s.get(key, 0.0))
        return family

    def _of_books(self, lag: Lag, now: datetime) -> Iterator[Metric]:
        health = self._system.ledger.health()
        proved_at = self._system.ledger.proved_at()
        yield GaugeMetricFamily("sublet_ledger_unrated_events", "Usage events that are not rated", lag.unrated_events)
        yield GaugeMetricFamily(
            "sublet_ledger_waiting_events", "Usage events that can't be rated", health["waiting_events"]
        )
        yield GaugeMetricFamily(
            "sublet_ledger_unrated_seconds", "Age of the oldest event not rated", _seconds(lag.unrated)
        )
        yield GaugeMetricFamily(
            "sublet_ledger_usage_seconds",
            "The longest way of the newest events from usage to ledger",
            _seconds(lag.usage),
        )
        yield GaugeMetricFamily(
            "sublet_ledger_books_agree", "1 while the last proof found no difference", int(health["ok"])
        )
        if proved_at is not None:
            yield GaugeMetricFamily(
                "sublet_ledger_proof_seconds", "Age of the last proof of all books", (now - proved_at).total_seconds()
            )
        yield CounterMetricFamily("sublet_ledger_events", "Usage events in the ledger", health["events"])

    def _of_replicas(self) -> Metric:
        replicas = GaugeMetricFamily(
            "sublet_replicas", "Replicas of managed models, by state; lost: the node does not answer", labels=["state"]
        )
        rows = self._system.models.rows()
        states = Counter(row.state_of(replica) for row in rows for replica in row.replicas)
        for state in (*sorted(LIVE_STATES), LOST):
            replicas.add_metric([state], states[state])
        return replicas

    def _of_nodes(self, now: datetime) -> Metric:
        nodes = GaugeMetricFamily("sublet_node_reachable", "1 while the node sends heartbeats", labels=["node"])
        for node in Nodes(self._system.store).nodes():
            nodes.add_metric([node.id], int(node.reachable(now)))
        return nodes


def _gauge(name: str, text: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"sublet_control_{name}", text, labels=[label])


def _seconds(span: timedelta | None) -> float:
    return span.total_seconds() if span is not None else 0.0
